"""What sites have in common that prove to each other who they are: certificates, records, and mail they are
handed by SMTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks, SwaksResult
from tests.system.sites import CONTENT, Settings, queue_id, site

SiteMaker = Callable[[str, str, BindServer, Mapping[str, Any]], Settings]
"""Settings from name, address, name server and further tables."""


def proving_site(
    name: str,
    address: str,
    authority: CertificateAuthority,
    names: BindServer,
    listener: Settings,
    *,
    certificate: tuple[str, ...] = (),
    **tables: Any,
) -> Settings:
    """A site that listens by SMTP and at `listener`, with a certificate for its host and domain."""
    more_tls = tables.pop("tls", {})
    settings = site(
        name,
        address,
        tls=authority.issue(*(certificate or (f"mx.{name}", name))),
        dns={"servers": [f"{names.address}:{names.port}"]},
        **tables,
    )
    settings["tls"] = {**settings["tls"], **more_tls}
    settings["listeners"] = [*settings["listeners"], {"address": address, **listener}]
    return settings


@contextmanager
def pair_of_sites(
    make: SiteMaker,
    zones: Mapping[str, str],
    alpha: tuple[str, Mapping[str, Any] | None],
    beta: tuple[str, Mapping[str, Any] | None],
) -> Iterator[tuple[OutriderServer, OutriderServer, BindServer]]:
    """Alpha, which sends, and beta, each as (address, further tables); a zone without records is left out."""
    with (
        BindServer({name: records for name, records in zones.items() if records}) as names,
        OutriderServer(make("beta.example", beta[0], names, beta[1] or {}), title="beta") as far,
        OutriderServer(make("alpha.example", alpha[0], names, alpha[1] or {}), title="alpha") as near,
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
