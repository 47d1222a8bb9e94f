"""The one rule for stray CR, LF and NUL in message content, the same for DATA and BDAT.

In content that is text - everything but BODY=BINARYMIME - CR and LF occur as CRLF only (RFC 5321 2.3.8) and
NUL not at all (RFC 5322 4). What another host might read as a line end where we do not, or the other way
round, is how one message is made to look like two (SEC-1 to SEC-18). Outrider therefore refuses such content:
it is read to its true end, answered ``550 5.6.0``, and nothing of it is stored, mended or sent onward.
Mending (a blank for the stray octet, as others do) would change what may have been signed; passing it on
would make us the sending half of the attack.
"""

from __future__ import annotations

import re
from typing import Final

_WINDOW: Final = 262_144
"""Octets looked at in one go."""
_OTHERS: Final = bytes(octet for octet in range(256) if octet not in b"\r\n\0")
_ALTERNATING: Final = b"\r\n" * (_WINDOW // 2 + 1)
_CR_ALONE: Final = re.compile(rb"\r[^\n]")


class LineEndCheck:
    """Looks at content in pieces, cut anywhere, and remembers whether it met a stray octet.

    Whole pieces are looked at, not walked: what is left when all but CR, LF and NUL is taken away must be CR
    and LF in turn, and no CR may be followed by anything but LF. Together that says: every CR has its LF,
    every LF its CR, and there is no NUL. Two passes in C, which cost a third of counting CR, LF and CRLF.
    """

    __slots__ = ("_after_cr", "clean")

    def __init__(self) -> None:
        self.clean = True
        """No stray octet so far; a CR that ends the last piece is not judged yet."""
        self._after_cr = False

    def feed(self, octets: bytes) -> None:
        """Look at the next piece."""
        if len(octets) <= _WINDOW:
            self._look(octets)
            return
        for start in range(0, len(octets), _WINDOW):
            self._look(octets[start : start + _WINDOW])

    def _look(self, octets: bytes) -> None:
        if not octets or not self.clean:
            return
        marks = octets.translate(None, _OTHERS)
        first = 0
        if self._after_cr:
            # The LF that the last piece's CR waits for comes at once, or the CR was a stray one.
            self.clean = octets[0] == 10
            first = 1
        if marks != _ALTERNATING[first : first + len(marks)] or _CR_ALONE.search(octets) is not None:
            self.clean = False
        self._after_cr = octets[-1] == 13

    def finish(self) -> bool:
        """The content is whole: whether it is free of stray CR, LF and NUL."""
        return self.clean and not self._after_cr


def has_stray_octets(octets: bytes) -> bool:
    """Whether a whole text holds a CR, LF or NUL that is not part of a CRLF."""
    check = LineEndCheck()
    check.feed(octets)
    return not check.finish()
