"""Header section and body as separate objects whose concatenation is every octet that came (ITP-6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


class Body(Protocol):
    """Octets after the header section, in memory or in a file of the spool."""

    @property
    def size(self) -> int:
        """Octets."""
        ...

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        """The octets in order, in pieces of about `size`; may be called any number of times."""
        ...


@dataclass(frozen=True, slots=True)
class InlineBody:
    """A body that is small enough to stay in memory."""

    octets: bytes

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.octets)

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        """One piece: it is in memory already."""
        del size
        if self.octets:
            yield self.octets


@dataclass(frozen=True, slots=True)
class Content:
    """A message's content.

    `headers` runs up to and with the empty line that ends the header section (or to the end, where
    there is none), so that ``headers + body`` is lossless whatever was sent.
    """

    headers: bytes
    body: Body
    is_ascii: bool = True
    """False when any octet is above 127 (decides 8BITMIME)."""
    is_binary: bool = False
    """True when it holds NUL or lines not ended by CRLF and came as BINARYMIME."""

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self.headers) + self.body.size

    def chunks(self) -> Iterator[bytes]:
        """Every octet, in order."""
        if self.headers:
            yield self.headers
        yield from self.body.chunks()


def split_content(octets: bytes) -> tuple[bytes, bytes]:
    """Header section (with its closing empty line) and body of a whole message."""
    if octets.startswith(b"\r\n"):
        return octets[:2], octets[2:]
    end = octets.find(b"\r\n\r\n")
    return (octets, b"") if end < 0 else (octets[: end + 4], octets[end + 4 :])


def inline_content(octets: bytes, *, is_binary: bool = False) -> Content:
    """A message held whole in memory."""
    headers, body = split_content(octets)
    return Content(headers, InlineBody(body), octets.isascii(), is_binary)
