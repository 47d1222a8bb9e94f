"""Netstrings: ``5:hello,`` (D. J. Bernstein, 1997), the only framing of QMTP.

One reader for all of them. A length is digits, without sign, blank or leading zero, and no more of them than
the caller's limit needs; nothing is ever allocated from it (SEC-176). What is malformed cannot be skipped,
because nobody knows where it ends: the connection is closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_HEAD: Final = re.compile(rb"(0|[1-9][0-9]*):")
_BEGUN: Final = re.compile(rb"0?|[1-9][0-9]*")


class NetstringError(ValueError):
    """Not a netstring, or one that is longer than may be; the text is ours alone."""


def encode_netstring(octets: bytes) -> bytes:
    """The netstring of these octets."""
    return b"%d:%b," % (len(octets), octets)


def _maybe_head(octets: bytes, position: int, limit: int) -> tuple[int, int] | None:
    """The length stated at `position`, and where its octets begin; None until more octets come."""
    digits = len(str(limit))
    head = octets[position : position + digits + 1]
    match = _HEAD.match(head)
    if match is None:
        if len(head) > digits or not _BEGUN.fullmatch(head):
            raise NetstringError("malformed length")
        return None
    length = int(match[1])
    if length > limit:
        raise NetstringError("netstring too long")
    return length, position + match.end()


def split_netstrings(octets: bytes, limit: int) -> Iterator[bytes]:
    """The netstrings of which `octets` is made, each of at most `limit` octets.

    Bounded by what holds them: nothing is read behind the end (SEC-177). Raises :class:`NetstringError`.
    """
    position = 0
    while position < len(octets):
        head = _maybe_head(octets, position, limit)
        if head is None:
            raise NetstringError("netstring ends in its length")
        length, start = head
        end = start + length
        if octets[end : end + 1] != b",":
            raise NetstringError("netstring not ended by a comma, or longer than what holds it")
        yield octets[start:end]
        position = end + 1


class NetstringReader:
    """Octets that have arrived, read as netstrings, whole or piece by piece.

    It keeps what it was given until it is read. A netstring that arrives octet by octet costs time linear in
    its length.
    """

    __slots__ = ("_missing", "_octets", "_partial", "_start")

    def __init__(self) -> None:
        self._octets = b""
        self._start = 0
        self._partial = bytearray()  # of a netstring that is read whole
        self._missing = -1  # of it, with its comma; -1 while none is begun

    def __len__(self) -> int:
        return len(self._octets) - self._start + len(self._partial)

    def append(self, octets: bytes) -> None:
        """Add what has arrived."""
        self._octets = self._octets[self._start :] + octets if self._start < len(self._octets) else octets
        self._start = 0

    def clear(self) -> None:
        """Forget everything."""
        self._octets, self._start = b"", 0
        self._partial.clear()
        self._missing = -1

    def maybe_length(self, limit: int) -> int | None:
        """The head of the next netstring: read its octets with `take`, and then `comma`.

        None until more octets come. Raises :class:`NetstringError` for anything but a plain number up to
        `limit` and a colon, as soon as that is certain.
        """
        head = _maybe_head(self._octets, self._start, limit)
        if head is None:
            return None
        self._start = head[1]
        return head[0]

    def take(self, count: int) -> bytes:
        """At most `count` octets, whatever is there."""
        octets = self._octets[self._start : self._start + count]
        self._start += len(octets)
        return octets

    def comma(self) -> None:
        """Read the end of a netstring; at least one octet must be there. Raises :class:`NetstringError`."""
        if self.take(1) != b",":
            raise NetstringError("netstring not ended by a comma")

    def maybe_whole(self, limit: int) -> bytes | None:
        """The next netstring of at most `limit` octets, None until it is here. Raises NetstringError."""
        if self._missing < 0:
            length = self.maybe_length(limit)
            if length is None:
                return None
            self._missing = length + 1
        piece = self.take(self._missing)
        self._missing -= len(piece)
        self._partial += piece
        if self._missing:
            return None
        octets = bytes(self._partial)
        self._partial.clear()
        self._missing = -1
        if octets[-1:] != b",":
            raise NetstringError("netstring not ended by a comma")
        return octets[:-1]
