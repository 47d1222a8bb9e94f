"""How inbound work is shared between AMDP and SMTP when the server is nearly full (AMDP-5b).

`[90AMDP] [10SMTP]` says: of ten messages begun under stress, nine may be envelopes and one ordinary mail of
strangers. Who is over its share while the other kind is waiting is asked to come back (451); a kind that
nobody else competes with has all of it. Without stress nothing is weighed or counted.

Each worker weighs what it is given; all accept at the same sockets, so the whole keeps the shares as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WAITING_S: Final = 10.0
"""Who has not asked for so long does not compete."""


class WorkShares:
    """Counts what was begun under stress, each kind in units of its own share (stride scheduling)."""

    def __init__(self, amdp_share: int, is_stressed: Callable[[], bool], clock: Callable[[], float]) -> None:
        """`amdp_share` in percent; the rest is SMTP's."""
        self._shares = {True: amdp_share, False: 100 - amdp_share}
        self._is_stressed = is_stressed
        self._clock = clock
        self._served = {True: 0, False: 0}
        """Work done, in hundredths of a kind's share: what is lower is next."""
        self._asked_at = {True: float("-inf"), False: float("-inf")}

    @property
    def only_amdp(self) -> bool:
        """`[100AMDP] [0SMTP]`: ordinary mail of strangers is not taken at all."""
        return self._shares[False] == 0

    def admits(self, *, amdp: bool) -> bool:
        """Whether a message of this kind may begin now; if so it is counted."""
        if not self._is_stressed():
            return True
        now = self._clock()
        competes = now - self._asked_at[not amdp] < WAITING_S
        self._asked_at[amdp] = now
        if competes and self._served[amdp] > self._served[not amdp]:
            return False
        if not competes:
            # Nobody is owed for a time in which he did not ask.
            self._served[True] = self._served[False] = 0
        self._served[amdp] += 10_000 // max(self._shares[amdp], 1)
        return True
