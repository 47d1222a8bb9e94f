"""Sites that speak AMTP with each other: certificates, SRV, PTR, and a code for what they are handed by
SMTP."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.system.proving_sites import hand_over as hand_over
from tests.system.proving_sites import pair_of_sites, proving_site
from tests.system.sites import Settings

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
    code: str = CODE,
    **tables: Any,
) -> Settings:
    """A site that listens by SMTP and AMTP, and gives `code` to what it is handed by SMTP ("" for none)."""
    settings = proving_site(name, address, authority, names, {"protocol": "amtp"}, **tables)
    if code:
        settings["mpc"] = {"assigned": [{"value": code, "networks": ["127.0.0.0/8"]}]}
    return settings


def amtp_pair(
    alpha_address: str,
    beta_address: str,
    authority: CertificateAuthority,
    *,
    zones: Mapping[str, str] | None = None,
    alpha: Mapping[str, Any] | None = None,
    beta: Mapping[str, Any] | None = None,
) -> AbstractContextManager[tuple[OutriderServer, OutriderServer, BindServer]]:
    """Alpha, which sends, and beta; with their names both ways unless `zones` says otherwise."""
    every = {
        "alpha.example": amtp_zone(alpha_address),
        "beta.example": amtp_zone(beta_address),
        **reverse_zone({alpha_address: "mx.alpha.example", beta_address: "mx.beta.example"}),
        **(zones or {}),
    }
    return pair_of_sites(
        lambda name, address, names, tables: amtp_site(name, address, authority, names, **tables),
        every,
        (alpha_address, alpha),
        (beta_address, beta),
    )
