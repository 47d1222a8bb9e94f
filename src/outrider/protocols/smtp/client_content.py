"""The guard that all content passes before a client sends it, what it needs for a given server, and DATA.

No octet leaves that a next hop could take for a line end where there is none: content with a stray CR, LF or
NUL is refused, unless it is BINARYMIME and goes by BDAT (SMTP-1, SEC-26). It was checked on reception;
status reports, pipes and an old spool were not, so it is checked again, whole, before the envelope is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from outrider.protocols.smtp.client_offers import Offers
from outrider.wire.line_ends import LineEndCheck

MAX_LINE: Final = 998
"""RFC 5322 section 2.1.1, RFC 5321 section 4.5.3.1.6: octets without CRLF."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What content is made of, as far as it matters for sending."""

    size: int
    stray: bool
    """CR, LF or NUL that is not part of a CRLF."""
    eight_bit: bool
    eight_bit_headers: bool
    long_lines: bool
    """A line of more than 998 octets."""
    ends_with_crlf: bool
    """True for no content at all, which needs no line end."""


def survey(pieces: Iterable[bytes], header_size: int) -> Survey:
    """Look once at everything; the first `header_size` octets are the header section."""
    check, ruler = LineEndCheck(), _Ruler()
    size, tail, eight_bit, eight_bit_headers = 0, b"\r\n", False, False
    for piece in pieces:
        check.feed(piece)
        ruler.feed(piece)
        if not piece.isascii():
            eight_bit = True
            if size < header_size and not piece[: header_size - size].isascii():
                eight_bit_headers = True
        size += len(piece)
        tail = (tail + piece[-2:])[-2:]
    return Survey(size, not check.finish(), eight_bit, eight_bit_headers, ruler.finish(), tail == b"\r\n")


class _Ruler:
    """Whether any line is too long: leaps from line end to line end, a thousand octets at a time."""

    __slots__ = ("_column", "_too_long")

    def __init__(self) -> None:
        self._column = 0  # octets of the unfinished line so far
        self._too_long = False

    def feed(self, piece: bytes) -> None:
        if self._too_long:
            return
        start, length = -self._column, len(piece)
        while start + MAX_LINE + 2 <= length:
            end = piece.rfind(b"\n", max(start, 0), start + MAX_LINE + 2)
            if end < 0:
                self._too_long = True
                return
            start = end + 1
        end = piece.rfind(b"\n", max(start, 0))
        self._column = length - (end + 1 if end >= 0 else start)

    def finish(self) -> bool:
        return self._too_long or self._column > MAX_LINE


class LongLines(Enum):
    """What is done with lines over 998 octets (`[delivery] long_lines`)."""

    ENCODE = "encode"
    BOUNCE = "bounce"


class Carriage(Enum):
    """How content can go to a server."""

    AS_IS = "as it is"
    ENCODE = "encoded anew where lines are too long or octets binary; 8-bit text stays"
    ENCODE_SEVEN_BIT = "encoded anew, in 7-bit form"


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Why content cannot go to this server at all: the status and sentence of the bounce."""

    status: str
    text: str


def carriage(
    found: Survey, *, binary: bool, smtputf8: bool, offers: Offers, long_lines: LongLines
) -> Carriage | Unsendable:
    """What to do with content for this server.

    `binary`: it came as BINARYMIME. `smtputf8`: its header section is UTF-8 by declaration; then the caller
    demands SMTPUTF8 of the server, which includes 8BITMIME (RFC 6531 section 3.1).
    """
    if found.stray and not binary:
        return Unsendable("5.6.0", "message holds a stray CR, LF or NUL and cannot be sent safely")
    if binary and offers.takes_binary:
        return Carriage.AS_IS
    eight_bit_taken = "8BITMIME" in offers
    if found.eight_bit_headers and not eight_bit_taken and not smtputf8:
        return Unsendable("5.6.3", "header section holds 8-bit text and the server takes 7-bit only")
    if found.long_lines and not binary and long_lines is LongLines.BOUNCE:
        return Unsendable("5.6.3", f"message holds a line of more than {MAX_LINE} octets")
    if found.eight_bit and not eight_bit_taken:
        return Carriage.ENCODE_SEVEN_BIT
    if found.stray or found.long_lines:
        return Carriage.ENCODE
    return Carriage.AS_IS


class DotStuffer:
    """Content on its way through DATA (RFC 5321 section 4.5.2), in pieces cut anywhere.

    Whole buffers are searched for CRLF and a dot; only where two pieces meet are octets looked at singly.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the first line begins as if behind a line end

    def feed(self, piece: bytes) -> bytes:
        """The piece with every dot at the start of a line doubled."""
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        if self._tail == b"\r\n" and piece.startswith(b"."):
            stuffed = b"." + stuffed
        elif self._tail.endswith(b"\r") and piece.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = (self._tail + piece[-2:])[-2:]
        return stuffed

    def finish(self) -> bytes:
        """The end of data, after a line end of our own where the content has none."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
