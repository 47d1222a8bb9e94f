"""What one process may use of a lane when several deliver: workers of one machine, nodes on one database.

A destination's `concurrency` and `rate` are promises to the other side, so they hold over all processes. Each
lane asks here last, when all that it knows by itself allows a start.
"""

from __future__ import annotations

from typing import Protocol


class LaneSharing(Protocol):
    """Slots and rates of lanes over all processes that deliver. No method waits: an implementation that has
    to ask elsewhere keeps some in hand, and fetches more in the background while it says "later"."""

    @property
    def processes(self) -> int:
        """How many deliver, this one included: for limits that are simply divided."""
        ...

    def take(self, lane: str, running: int, limit: int, now: float) -> float | None:
        """Take a slot of a lane of which this process has `running` and all together may have `limit`. None
        when it is taken; else the moment at which to ask again (seconds since the epoch, after `now`)."""
        ...

    def give_back(self, lane: str, now: float) -> None:
        """One slot that `take` gave is free again."""
        ...

    def rate(self, lane: str, rate: float) -> float:
        """This process's part of a lane's `rate` (deliveries a second, > 0)."""
        ...


class SoleDeliverer:
    """The sharing of a process that delivers alone: it has all there is."""

    processes = 1

    def take(self, lane: str, running: int, limit: int, now: float) -> float | None:
        """Always: the lane itself counts against `limit`."""
        return None

    def give_back(self, lane: str, now: float) -> None:
        """Nothing was counted."""

    def rate(self, lane: str, rate: float) -> float:
        """All of it."""
        return rate
