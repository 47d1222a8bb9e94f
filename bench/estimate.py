"""How long measurements take: from what they took last time, or by rule."""

from __future__ import annotations

from collections.abc import Sequence

from bench.choosing import taking_part
from bench.records import Record
from bench.subjects import Subject
from bench.work import Kind, Shape

BESIDE_LOAD_S = 2.0
"""A server's start and end, and the emptying of its queue."""
_EACH_S = {
    Kind.DEAD_MX: 6.0,
    Kind.IDLE: 3.0,
    Kind.MILLION: 60.0,
    Kind.CLUSTER: 8.0,
    Kind.SPOOL: 6.0,
    Kind.ENVELOPES: 3.0,
}
"""What takes longer than that."""
WARM_UPS = 1.3
"""Rounds that do not count."""
_SURE_AFTER_S = 30.0
"""Of measurements, before their pace says more than the rule."""


def expected_s(
    shape: Shape, kinds: Sequence[type[Subject]], rounds: int, seconds: float, known: Record
) -> float:
    """Seconds that a shape takes with these servers, warming up included."""
    measurements = len(taking_part(shape, kinds)) * min(rounds, shape.most_rounds)
    row = known.row(shape.name)
    if row is not None and row.minutes and row.figures:
        return 60 * row.minutes / len(row.figures) * measurements
    share = 1 + WARM_UPS / min(rounds, shape.most_rounds)
    return measurements * share * (_EACH_S.get(shape.kind, BESIDE_LOAD_S) + seconds)


class Progress:
    """How far a run has come."""

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._done_s = 0.0

    def advance(self, expected: float) -> None:
        """Something is done that was expected to take so many seconds."""
        self._done_s += expected

    def left_s(self, elapsed_s: float) -> float:
        """Seconds to go, at the pace so far."""
        return time_left_s(self._done_s, self._total_s, elapsed_s)


def time_left_s(done_s: float, total_s: float, elapsed_s: float) -> float:
    """Seconds to go when what was expected to take `done_s` of `total_s` has taken `elapsed_s`."""
    pace = elapsed_s / done_s if done_s and elapsed_s >= _SURE_AFTER_S else 1.0
    return max(0.0, (total_s - done_s) * pace)
