"""What the workers of one machine use together of the lanes of delivery: slots in shared memory."""

from __future__ import annotations

from collections.abc import Callable

from outrider.net.shared_counts import CountRow

ASK_AGAIN_S = 0.05
"""Before a worker looks again whether another has given a slot back; nobody tells it."""
MANY = 1000
"""Lanes remembered as resting before those that no longer do are forgotten."""


class WorkerLanes:
    """Implements `delivery.sharing.LaneSharing` for workers that were forked with one `SharedCounts`.

    A limit is cut into equal parts. A worker that has less than its part takes any slot that is free; one
    that has more leaves the last free slot to the others, so that parts even out as deliveries end. Where the
    limit is smaller than the number of workers, whoever asks first has the slot, and who had it asks later.
    """

    def __init__(self, row: CountRow, chance: Callable[[], float]) -> None:
        """`row` counts nothing but slots of lanes. `chance` is random in [0, 1)."""
        self._row = row
        self._chance = chance
        self._scarce: set[str] = set()
        """Lanes with fewer slots than there are workers, of which this one has had some."""
        self._resting: dict[str, float] = {}
        """Such lanes that were given back: when this worker may ask again."""

    @property
    def processes(self) -> int:
        """The number of workers."""
        return self._row.processes

    def take(self, lane: str, running: int, limit: int, now: float) -> float | None:
        """See `LaneSharing.take`."""
        rest = self._resting.get(lane, 0.0)
        if now < rest <= now + 2 * ASK_AGAIN_S:  # unless the clock was set back
            return rest
        key = lane.encode("utf-8", "backslashreplace")
        # Counted first and looked at then: two at the same moment may both turn back, never both go on.
        self._row.add(key)
        reserve = 0 if running * self.processes < limit else 1
        if self._row.total(key) + reserve <= limit:
            if limit < self.processes:
                self._scarce.add(lane)
            return None
        self._row.remove(key)
        return now + ASK_AGAIN_S * (0.5 + self._chance())

    def give_back(self, lane: str, now: float) -> None:
        """See `LaneSharing.give_back`."""
        self._row.remove(lane.encode("utf-8", "backslashreplace"))
        if lane in self._scarce:
            self._scarce.discard(lane)
            self._rest(lane, now)

    def _rest(self, lane: str, now: float) -> None:
        if len(self._resting) >= MANY:
            self._resting = {name: end for name, end in self._resting.items() if end > now}
        self._resting[lane] = now + ASK_AGAIN_S * (1.0 + self._chance())

    def rate(self, lane: str, rate: float) -> float:
        """An equal part: a worker without mail for the lane leaves its part unused."""
        return rate / self.processes
