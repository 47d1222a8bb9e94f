"""Other servers as the operator names them: ``https://HOST[:PORT]``."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.model.address import AddressError, parse_domain


@dataclass(frozen=True, slots=True)
class Peer:
    """A subscription or classification server."""

    host: str
    port: int = 443


def parse_peer(url: str) -> Peer:
    """``https://HOST[:PORT]``. Raises ValueError."""
    rest = url.removeprefix("https://").rstrip("/")
    host, colon, port = rest.partition(":")
    if rest == url or "/" in rest or (colon and not (port.isascii() and port.isdigit() and len(port) <= 5)):
        raise ValueError(f"{url!r} is not of the form https://HOST[:PORT]")
    try:
        return Peer(str(parse_domain(host)), int(port) if colon else 443)
    except AddressError as error:
        raise ValueError(f"{url!r}: {error}") from error
