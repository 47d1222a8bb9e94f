"""Octets that have arrived and wait to be read, as lines or by count; both ends of SMTP use it.

A line ends with CRLF. What ends with a bare LF is no line: nobody can know whether the next hop would take it
for one (SEC-24), so the reader says so and leaves the decision to its caller. A lone CR is an octet like
any other and stays in the line, where a parser will object to it.
"""

from __future__ import annotations

from typing import Final

CR: Final = 13
LF: Final = 10


class LineError(ValueError):
    """What arrived is not a line; the buffer stands where it stood before the call."""


class LineTooLong(LineError):
    """The limit is reached and no line has ended; see :meth:`LineBuffer.skip_line`."""


class BareLineFeed(LineError):
    """A LF without its CR. `line` is what stood before it; it is still in the buffer."""

    def __init__(self, line: bytes) -> None:
        super().__init__("line ended by a bare LF")
        self.line = line


class LineBuffer:
    """A queue of octets with one reader.

    It keeps what it was given until it is taken, and no more: the caller bounds it by not reading from the
    peer while a line waits. Feeding it in small pieces costs time linear in the longest line allowed, not
    in what has passed through.
    """

    __slots__ = ("_octets", "_searched", "_start")

    def __init__(self) -> None:
        self._octets = b""
        self._start = 0
        self._searched = 0  # no LF before this position

    def __len__(self) -> int:
        return len(self._octets) - self._start

    def append(self, octets: bytes) -> None:
        """Add what has arrived."""
        if self._start == len(self._octets):
            self._octets, self._start, self._searched = octets, 0, 0
        else:
            self._octets = self._octets[self._start :] + octets
            self._searched = max(0, self._searched - self._start)
            self._start = 0

    def maybe_line(self, limit: int) -> bytes | None:
        """The next line without its CRLF, or None until more octets come.

        `limit` counts the CRLF. Raises :class:`LineTooLong` when the line cannot end within it, however
        it will end; :class:`BareLineFeed` when it ends by LF alone.
        """
        start = self._start
        end = self._octets.find(b"\n", max(start, self._searched))
        if end < 0:
            self._searched = len(self._octets)
            if self._searched - start >= limit:
                raise LineTooLong
            return None
        if end - start >= limit:
            raise LineTooLong
        if end == start or self._octets[end - 1] != CR:
            raise BareLineFeed(self._octets[start:end])
        self._start = self._searched = end + 1
        return self._octets[start : end - 1]

    def skip_line(self) -> tuple[int, bool]:
        """Throw away the rest of a line that was too long: how many octets went, and whether its end was
        among them. A bare LF does not end it: the line is bad anyway and nothing in it may be run."""
        start = self._start
        end = self._octets.find(b"\r\n", start)
        if end >= 0:
            self._start = self._searched = end + 2
            return end + 2 - start, True
        # A last CR may be half of the line's end.
        stop = len(self._octets)
        if stop > start and self._octets[-1] == CR:
            stop -= 1
        self._start = self._searched = stop
        return stop - start, False

    def starts_with(self, octets: bytes) -> bool:
        """Whether the next octets are these; nothing is taken."""
        return self._octets.startswith(octets, self._start)

    def take(self, count: int) -> bytes:
        """At most `count` octets, whatever is there."""
        start = self._start
        if start == 0 and count >= len(self._octets):
            return self.take_all()
        octets = self._octets[start : start + count]
        self._start = self._searched = start + len(octets)
        return octets

    def take_all(self) -> bytes:
        """Everything that is there, in one piece."""
        octets = self._octets[self._start :] if self._start else self._octets
        self.clear()
        return octets

    def put_back(self, octets: bytes) -> None:
        """Return to the front what was taken and is not the caller's after all."""
        self._octets = octets + self._octets[self._start :]
        self._start = self._searched = 0

    def clear(self) -> None:
        """Forget everything (TLS-1: what came in the clear is not read after the handshake)."""
        self._octets, self._start, self._searched = b"", 0, 0
