r"""Where the data of DATA end, and what they were before dots were stuffed (RFC 5321 section 4.5.2).

**The end** is the five octets CR LF ``.`` CR LF, the first two of which may be those that ended the
DATA command line; nothing else ends the data, at any time, in any split, in any state (SEC-1 to SEC-21).
There is no line in this module that knows another line end. In particular none of these is an end:
``LF . LF``, ``LF . CRLF``, ``CRLF . LF``, ``CR . CR``, ``CRLF . CR CRLF``, ``CRLF NUL . CRLF``.

**Dots.** A line that begins with a dot and is not the end loses that dot, exactly one. As CRLF is the only
line end, a line begins after CRLF and at the very start, and nowhere else.

**Stray octets** are not this module's business: it delivers them, byte for byte, and `line_ends` tells the
caller that the message is to be refused. So a message with a bare LF before a dot is read to its true end,
like any other.

**Method.** Whole buffers are searched, never lines: the virtual CRLF before the first line is put in
front of the first octets, so that one search finds every end and one replacement unstuffs every line. What
could be the beginning of an end (at most four octets) is held back until the next octets decide. A delivered
piece therefore never ends in CR, and never in CRLF before the data's end.
"""

from __future__ import annotations

from typing import Final

_END: Final = b"\r\n.\r\n"
_LINE_WITH_DOT: Final = b"\r\n."
_BEGINNINGS: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
"""What may become `_END`, longest first."""


class DotReader:
    """Reads one message's data; made anew for the next."""

    __slots__ = ("_held", "_virtual", "finished", "rest")

    def __init__(self) -> None:
        self._held = b"\r\n"
        self._virtual = 2  # octets at the front of `_held` that the DATA line's CRLF stands for
        self.finished = False
        """The end has been read."""
        self.rest = b""
        """What followed the end, once `finished`: the next command."""

    def read(self, octets: bytes) -> bytes:
        """Content of what has arrived, unstuffed; perhaps b"". Not to be called once `finished`.

        The content's last line keeps its CRLF; empty data (``.`` at once) are b"".
        """
        buffer = self._held + octets
        dot = buffer.find(_LINE_WITH_DOT)
        # The first dot that begins a line is mostly the end itself, and then there is nothing to unstuff.
        end = dot if dot < 0 or buffer.startswith(_END, dot) else buffer.find(_END, dot)
        if end >= 0:
            stop = end + 2
            self.finished = True
            self.rest = buffer[end + 5 :]
        else:
            stop = len(buffer) - self._hold_back(buffer)
        if not stop:
            return b""
        content = buffer[self._virtual : stop] if dot == end else self._unstuffed(buffer[:stop])
        self._virtual = 0
        return content

    def _unstuffed(self, lines: bytes) -> bytes:
        # RFC 5321 4.5.2: strip one leading dot. Occurrences cannot overlap, so one pass finds them all.
        return lines.replace(_LINE_WITH_DOT, b"\r\n")[self._virtual :]

    def _hold_back(self, buffer: bytes) -> int:
        for beginning in _BEGINNINGS:
            if buffer.endswith(beginning):
                self._held = beginning
                return len(beginning)
        self._held = b""
        return 0
