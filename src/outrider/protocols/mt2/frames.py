"""The stream cut into frames (MT2-6).

A frame is a line, ``[...]`` CRLF, or data, ``{tag length}`` CRLF and exactly so many octets. Nothing stands
between two frames. The reader hands on octets as they arrive and keeps only what it cannot judge yet: a line
that has not ended, or a data frame so small that its receiver is better served with it whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from outrider.protocols.mt2.codes import MALFORMED
from outrider.protocols.mt2.lines import MAX_LINE

SMALL_DATA: Final = 16384
"""Octets of a data frame up to which it is handed on in one piece."""
_HEAD: Final = re.compile(rb"\{([1-9][0-9]{0,9}) ([1-9][0-9]{0,9})\}\r\n")
_MAX_HEAD: Final = 25
_BRACKET: Final = 0x5B
_CLOSING_BRACKET: Final = 0x5D
_BRACE: Final = 0x7B


class ProtocolViolation(Exception):
    """The other side broke a rule that ends the session; its text is ours."""

    def __init__(self, reason: str, code: str = MALFORMED) -> None:
        super().__init__(reason)
        self.code = code


class Sink(Protocol):
    """Where the octets of a data frame go."""

    def take(self, octets: bytes) -> None:
        """The next octets of the frame."""


class FrameReader:
    """The reader: give it what arrives (`feed`); it calls `line` with what stands between brackets, and asks
    `data(tag, length)` at the head of a data frame where its octets go.

    Either may raise `ProtocolViolation`; the reader raises it too.
    """

    def __init__(self, line: Callable[[bytes], None], data: Callable[[int, int], Sink]) -> None:
        self._line = line
        self._data = data
        self._rest = b""
        self._left = 0  # octets of the data frame that have not been handed on
        self._whole = False  # hand them on together
        self._sink: Sink | None = None
        self.stopped = False
        """Set by a callback: what follows is not read (TLS begins, or the session has ended)."""

    @property
    def held(self) -> int:
        """Octets kept here."""
        return len(self._rest)

    @property
    def inside_frame(self) -> bool:
        """The stream stands within a frame."""
        return bool(self._rest or self._left)

    @property
    def inside_line(self) -> bool:
        """The stream stands within a line frame or the head of a data frame."""
        return bool(self._rest) and not self._left

    def restart(self) -> None:
        """Forget everything: another stream begins (inside TLS)."""
        self._rest, self._left, self._sink, self.stopped = b"", 0, None, False

    def feed(self, data: bytes) -> None:
        """Octets from the other side.

        Raises `ProtocolViolation`.
        """
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        position, end = 0, len(buffer)
        while position < end and not self.stopped:
            if self._left:
                after = self._pass_on(buffer, position, end)
            elif buffer[position] == _BRACKET:
                after = self._read_line(buffer, position, end)
            elif buffer[position] == _BRACE:
                after = self._read_head(buffer, position, end)
            else:
                raise ProtocolViolation("octets between two frames")
            if after == position:
                break
            position = after
        self._rest = buffer[position:]

    def _read_line(self, buffer: bytes, position: int, end: int) -> int:
        at = buffer.find(b"\r\n", position, position + MAX_LINE)
        if at < 0:
            if end - position >= MAX_LINE:
                raise ProtocolViolation("a line that is too long")
            return position
        if buffer[at - 1] != _CLOSING_BRACKET:
            raise ProtocolViolation("a line that does not end with its bracket")
        self._line(buffer[position + 1 : at - 1])
        return at + 2

    def _read_head(self, buffer: bytes, position: int, end: int) -> int:
        match = _HEAD.match(buffer, position)
        if match is None:
            if end - position >= _MAX_HEAD or buffer.find(b"\n", position) >= 0:
                raise ProtocolViolation("a data frame without a proper head")
            return position
        self._left = length = int(match[2])
        self._whole = length <= SMALL_DATA
        self._sink = self._data(int(match[1]), length)
        return match.end()

    def _pass_on(self, buffer: bytes, position: int, end: int) -> int:
        after = position + self._left
        if after > end:
            if self._whole:
                return position
            after = end
        self._left -= after - position
        assert self._sink is not None  # set with the head
        self._sink.take(buffer[position:after])
        return after


def data_head(tag: int, length: int) -> bytes:
    """The head of a data frame."""
    return b"{%d %d}\r\n" % (tag, length)
