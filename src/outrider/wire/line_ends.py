"""The one rule for stray CR, LF and NUL in message content, the same for DATA and BDAT.

In content that is text - everything but BODY=BINARYMIME - CR and LF occur as CRLF only (RFC 5321 2.3.8) and
NUL not at all (RFC 5322 4). What another host might read as a line end where we do not, or the other way
round, is how one message is made to look like two (SEC-1 to SEC-18). Outrider therefore refuses such content:
it is read to its true end, answered ``550 5.6.0``, and nothing of it is stored, mended or sent onward.
Mending (a blank for the stray octet, as others do) would change what may have been signed; passing it on
would make us the sending half of the attack.
"""

from __future__ import annotations

from typing import Final

_LF: Final = 10


class LineEndCheck:
    """Looks at content in pieces, cut anywhere, and remembers whether it met a stray octet.

    Whole pieces are looked at, not walked: once every CRLF is taken away, a CR or LF that is left is a stray
    one, also where taking away has brought the two together. Each step is one pass in C, and those for what
    is not there are the quickest; with lines of ordinary length all of them together take half of what it
    takes to tell CR and LF from other octets.
    """

    __slots__ = ("_after_cr", "clean")

    def __init__(self) -> None:
        self.clean = True
        """No stray octet so far; a CR that ends the last piece is not judged yet."""
        self._after_cr = False

    def feed(self, octets: bytes) -> None:
        """Look at the next piece."""
        if not octets or not self.clean:
            return
        if self._after_cr:
            # The LF that the last piece's CR waits for comes at once, or the CR was a stray one.
            if octets[0] != _LF:
                self.clean = False
                return
            octets = octets[1:]
        strays = octets.replace(b"\r\n", b"")
        self._after_cr = octets[-1:] == b"\r"
        first_cr = len(strays) - 1 if self._after_cr else -1
        self.clean = strays.find(b"\r") == first_cr and b"\n" not in strays and b"\0" not in strays

    def finish(self) -> bool:
        """The content is whole: whether it is free of stray CR, LF and NUL."""
        return self.clean and not self._after_cr


def has_stray_octets(octets: bytes) -> bool:
    """Whether a whole text holds a CR, LF or NUL that is not part of a CRLF."""
    check = LineEndCheck()
    check.feed(octets)
    return not check.finish()
