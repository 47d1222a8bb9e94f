"""Which of several workers takes the next connection: roughly the one that has fewest.

All workers wait at the same listening socket, and the kernel wakes them all. The quickest takes what is
there, which spreads new connections badly and leaves connections that stay open where they fell. So a worker
that has more than its share leaves a new connection to the others for a moment, and then takes it after all:
a sibling that is dead, busy or at its limits must keep nobody waiting.

While connections come one after the other, there is nothing to spread: a worker that has none, and was woken
for one that another had taken, rests for a while. Whoever took it takes the next ones too, nobody is woken in
vain, and the record of a delivery shares the commit of the message that follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BATCH: Final = 4
"""Connections that one of several workers takes before its open sessions get their turn."""
LEAVE_S: Final = 0.001
"""For how long connections are left to the others: what an idle one needs many times over."""
LEAVES: Final = 3
"""So often in a row; if there are still some then, the others are busy."""
REST_S: Final = 0.01
"""For how long an idle worker that came too late lets others accept: a burst waits no longer for its help."""


class AcceptTurns:
    """One worker's view."""

    def __init__(self, own: Callable[[], int], everybody: Callable[[], int], workers: int) -> None:
        """`own` and `everybody` tell how many connections are open, here and in all workers."""
        self._own = own
        self._everybody = everybody
        self._workers = workers

    def is_others(self) -> bool:
        """Whether the next connection should rather be another's: we have over one more than the average."""
        return (self._own() - 1) * self._workers > self._everybody()

    def may_rest(self) -> bool:
        """Whether one worker will do: nothing is open here, and at most one connection in all."""
        return not self._own() and self._everybody() <= 1
