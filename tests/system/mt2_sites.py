"""Sites that speak MT2 with each other: certificates and SRV; they are handed mail by SMTP."""

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

MT2_PORT = 10_126


def mt2_zone(address: str, *, port: int = MT2_PORT, srv: str = "mx") -> str:
    """A domain whose host `mx` takes mail by MT2 and SMTP."""
    return f"@ MX 10 mx\nmx A {address}\n_mt2._tcp SRV 10 1 {port} {srv}"


def mt2_site(
    name: str, address: str, authority: CertificateAuthority, names: BindServer, **tables: Any
) -> Settings:
    """A site that listens by SMTP and MT2, and lets every proven host pipeline."""
    mt2, listener = tables.pop("mt2", {}), tables.pop("mt2_listener", {})
    settings = proving_site(name, address, authority, names, {"protocol": "mt2", **listener}, **tables)
    settings["mt2"] = {"pipe": ["*"], **mt2}
    return settings


def mt2_pair(
    alpha_address: str,
    beta_address: str,
    authority: CertificateAuthority,
    *,
    zones: Mapping[str, str] | None = None,
    alpha: Mapping[str, Any] | None = None,
    beta: Mapping[str, Any] | None = None,
) -> AbstractContextManager[tuple[OutriderServer, OutriderServer, BindServer]]:
    """Alpha, which sends, and beta."""
    every = {
        "alpha.example": mt2_zone(alpha_address),
        "beta.example": mt2_zone(beta_address),
        **(zones or {}),
    }
    return pair_of_sites(
        lambda name, address, names, tables: mt2_site(name, address, authority, names, **tables),
        every,
        (alpha_address, alpha),
        (beta_address, beta),
    )
