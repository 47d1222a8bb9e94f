"""Sites that speak AMTP with each other: certificates, SRV, PTR, and a code for what they are handed by
SMTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks, SwaksResult
from tests.system.sites import CONTENT, Settings, queue_id, site

AMTP_PORT = 10_125
CODE = "com/individual"


def reverse_zone(hosts: Mapping[str, str]) -> dict[str, str]:
    """The zone of 127/8 with a PTR record for each address."""
    records = [f"{'.'.join(reversed(address.split('.')[1:]))} PTR {name}." for address, name in hosts.items()]
    return {"127.in-addr.arpa": "\n".join(records)}


def amtp_zone(address: str, *, srv: str = "mx") -> str:
    """A domain whose host `mx` takes mail by AMTP and SMTP."""
    return f"@ MX 10 mx\nmx A {address}\n_amtp._tcp SRV 10 1 {AMTP_PORT} {srv}"


def amtp_site(
    name: str,
    address: str,
    authority: CertificateAuthority,
    names: BindServer,
    *,
    certificate: tuple[str, ...] = (),
    code: str = CODE,
    **tables: Any,
) -> Settings:
    """A site that listens by SMTP and AMTP, and gives `code` to what it is handed by SMTP ("" for none)."""
    more_tls = tables.pop("tls", {})
    settings = site(
        name,
        address,
        tls=authority.issue(*(certificate or (f"mx.{name}", name))),
        dns={"servers": [f"{names.address}:{names.port}"]},
        **tables,
    )
    settings["tls"] = {**settings["tls"], **more_tls}
    settings["listeners"] = [*settings["listeners"], {"protocol": "amtp", "address": address}]
    if code:
        settings["mpc"] = {"assigned": [{"value": code, "networks": ["127.0.0.0/8"]}]}
    return settings


@contextmanager
def amtp_pair(
    alpha_address: str,
    beta_address: str,
    authority: CertificateAuthority,
    *,
    zones: Mapping[str, str] | None = None,
    alpha: Mapping[str, Any] | None = None,
    beta: Mapping[str, Any] | None = None,
) -> Iterator[tuple[OutriderServer, OutriderServer, BindServer]]:
    """Alpha, which sends, and beta; with their names both ways unless `zones` says otherwise."""
    every = {
        "alpha.example": amtp_zone(alpha_address),
        "beta.example": amtp_zone(beta_address),
        **reverse_zone({alpha_address: "mx.alpha.example", beta_address: "mx.beta.example"}),
        **(zones or {}),
    }
    with (
        BindServer({name: records for name, records in every.items() if records}) as names,
        OutriderServer(
            amtp_site("beta.example", beta_address, authority, names, **(beta or {})), title="beta"
        ) as far,
        OutriderServer(
            amtp_site("alpha.example", alpha_address, authority, names, **(alpha or {})), title="alpha"
        ) as near,
    ):
        yield near, far, names


def hand_over(swaks_client: Swaks, address: str, recipient: str = "bob@beta.example") -> str:
    """Give a message to the site at `address` by SMTP; its id."""
    result: SwaksResult = swaks_client.send(
        address, 25, sender="ann@alpha.example", recipients=[recipient], content=CONTENT
    )
    assert result.accepted, result.transcript
    return queue_id(result)
