"""Several nodes on one database, for the tests of clusters."""

from __future__ import annotations

from tests.faults.sites import relay
from tests.peers.outrider_server import OutriderServer

LEASE_S = 3


def node(name: str, address: str, next_hop: str, dsn: str, **more: object) -> OutriderServer:
    """A server called `name`.example at `address` that relays for loopback, its spool in that database."""
    settings = relay(address, next_hop, **more)
    spool = {"backend": "postgresql", "dsn": dsn, "reserve": 0, "inline_limit": 8192, "lease": LEASE_S}
    return OutriderServer({**settings, "hostname": f"{name}.example", "spool": spool}, title=name)
