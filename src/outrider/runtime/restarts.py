"""When a dead worker is started again, and when it no longer is. No clock here: moments are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 30.0
GOOD_LIFE_S: Final = 60.0
"""A worker that lived this long had no trouble with starting: its next wait is the first again."""
MOST_EARLY_DEATHS: Final = 5
"""Deaths in a row before the worker had become ready; then it is given up."""


@dataclass(slots=True)
class Restarts:
    """What is remembered of one worker's deaths."""

    early_deaths: int = 0
    next_wait_s: float = FIRST_WAIT_S

    def wait_after(self, *, life_s: float, was_ready: bool, refused: bool) -> float | None:
        """Seconds until the next start after a death; None to give the worker up.

        `refused`: the worker said why it could not start (no room, the database away) and ended by itself.
        That mends itself or is for the operator to mend, so it is tried for ever; only crashes count.
        """
        if was_ready:
            self.early_deaths = 0
        elif not refused:
            self.early_deaths += 1
        if self.early_deaths >= MOST_EARLY_DEATHS:
            return None
        if life_s >= GOOD_LIFE_S:
            self.next_wait_s = FIRST_WAIT_S
        wait_s = self.next_wait_s
        self.next_wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        return wait_s
