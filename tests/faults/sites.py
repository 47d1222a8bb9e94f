"""The configuration that the servers of these tests have in common."""

from __future__ import annotations

from collections.abc import Mapping

PORT = 2525


def relay(address: str, next_hop: str, **more: object) -> dict[str, object]:
    """A server at `address` that takes mail from loopback for anywhere; `far.example` is at `next_hop`.

    Small bodies are kept in the database, those of the load's two largest sizes in files. `more` are
    sections; a section that is here already is filled up.
    """
    settings: dict[str, object] = {
        "hostname": "mx.alpha.example",
        "listeners": [{"protocol": "smtp", "address": address, "port": PORT}],
        "dns": {"servers": []},
        "tls": {"public_ca": []},
        "relay": {"networks": ["127.0.0.0/8"]},
        "net": {"private_destinations": ["127.0.0.0/8"]},
        "routes": {"far.example": f"smtp:[{next_hop}]:{PORT}"},
        "delivery": {"retry": [1], "concurrency": 8},
        # What was under way in a crash is tried again at the end of its lease.
        "spool": {"reserve": 0, "inline_limit": 8192, "lease": 3},
    }
    for name, value in more.items():
        present = settings.get(name)
        merged = (
            {**present, **value} if isinstance(present, Mapping) and isinstance(value, Mapping) else value
        )
        settings[name] = merged
    return settings
