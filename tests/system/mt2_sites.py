"""Sites that speak MT2 with each other: certificates and SRV; they are handed mail by SMTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks, SwaksResult
from tests.system.sites import CONTENT, Settings, queue_id, site

MT2_PORT = 10_126


def mt2_zone(address: str, *, port: int = MT2_PORT, srv: str = "mx") -> str:
    """A domain whose host `mx` takes mail by MT2 and SMTP."""
    return f"@ MX 10 mx\nmx A {address}\n_mt2._tcp SRV 10 1 {port} {srv}"


def mt2_site(
    name: str,
    address: str,
    authority: CertificateAuthority,
    names: BindServer,
    *,
    certificate: tuple[str, ...] = (),
    **tables: Any,
) -> Settings:
    """A site that listens by SMTP and MT2, and lets every proven host pipeline."""
    more_tls, mt2 = tables.pop("tls", {}), tables.pop("mt2", {})
    listener = tables.pop("mt2_listener", {})
    settings = site(
        name,
        address,
        tls=authority.issue(*(certificate or (f"mx.{name}", name))),
        dns={"servers": [f"{names.address}:{names.port}"]},
        **tables,
    )
    settings["tls"] = {**settings["tls"], **more_tls}
    settings["listeners"] = [*settings["listeners"], {"protocol": "mt2", "address": address, **listener}]
    settings["mt2"] = {"pipe": ["*"], **mt2}
    return settings


@contextmanager
def mt2_pair(
    alpha_address: str,
    beta_address: str,
    authority: CertificateAuthority,
    *,
    zones: Mapping[str, str] | None = None,
    alpha: Mapping[str, Any] | None = None,
    beta: Mapping[str, Any] | None = None,
) -> Iterator[tuple[OutriderServer, OutriderServer, BindServer]]:
    """Alpha, which sends, and beta."""
    every = {
        "alpha.example": mt2_zone(alpha_address),
        "beta.example": mt2_zone(beta_address),
        **(zones or {}),
    }
    with (
        BindServer({name: records for name, records in every.items() if records}) as names,
        OutriderServer(
            mt2_site("beta.example", beta_address, authority, names, **(beta or {})), title="beta"
        ) as far,
        OutriderServer(
            mt2_site("alpha.example", alpha_address, authority, names, **(alpha or {})), title="alpha"
        ) as near,
    ):
        yield near, far, names


def hand_over(
    swaks_client: Swaks, address: str, *recipients: str, content: bytes = CONTENT, sender: str = ""
) -> str:
    """Give a message to the site at `address` by SMTP; its id."""
    result: SwaksResult = swaks_client.send(
        address,
        25,
        sender=sender or "ann@alpha.example",
        recipients=list(recipients or ("bob@beta.example",)),
        content=content,
    )
    assert result.accepted, result.transcript
    return queue_id(result)
