"""What the parts of the core share: the octets to send, the events to tell, the moment it is."""

from __future__ import annotations

from collections import deque
from typing import Final

from outrider.protocols.mt2.codes import MESSAGE_TAKEN, Result, Word
from outrider.protocols.mt2.events import Mt2Event
from outrider.protocols.mt2.lines import format_response

_MOST_TAILS: Final = 512


class Wire:
    """One connection's way out. Everything is appended as whole frames, so frames never mix."""

    __slots__ = ("_tails", "events", "now", "out")

    def __init__(self, now: float) -> None:
        self.out: list[bytes] = []
        self.events: deque[Mt2Event] = deque()
        self.now = now
        self._tails: dict[tuple[str, str], tuple[Word, bytes]] = {}

    def respond(self, tag: int, result: Result) -> None:
        """A response; one without extensions is put together from a tail written before."""
        if result.extensions:
            self.out.append(format_response(tag, result))
            return
        known = self._tails.get((result.code, result.text))
        if known is None or known[0] is not result.word:
            frame = format_response(1, result)
            known = (result.word, frame[2:])
            # What is said of one message alone is not said again.
            if result.code != MESSAGE_TAKEN and len(self._tails) < _MOST_TAILS:
                self._tails[result.code, result.text] = known
        self.out.append(b"[%d%b" % (tag, known[1]) if tag else b"[*%b" % known[1])
