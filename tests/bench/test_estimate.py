"""How long it will take."""

from __future__ import annotations

import pytest
from bench.estimate import expected_s, time_left_s
from bench.records import Record
from bench.subjects import OutriderTwo, Postfix
from bench.work import SHAPES, Kind

from tests.bench.test_report import OURS, POSTFIX, figure, record

ACCEPT = next(shape for shape in SHAPES if shape.kind is Kind.ACCEPT)


def test_what_it_took_last_time_is_expected_again() -> None:
    known = record(*(figure(Kind.ACCEPT, name, 1.0) for name in (OURS, POSTFIX)), minutes=3.0)
    assert expected_s(ACCEPT, [OutriderTwo, Postfix], 1, 2.0, known) == 180
    assert expected_s(ACCEPT, [OutriderTwo], 5, 2.0, known) == 450


def test_without_that_it_goes_by_rule() -> None:
    one = expected_s(ACCEPT, [OutriderTwo], 5, 2.0, Record([]))
    assert expected_s(ACCEPT, [OutriderTwo, Postfix], 5, 2.0, Record([])) == 2 * one
    assert expected_s(ACCEPT, [OutriderTwo], 5, 4.0, Record([])) > one
    assert expected_s(ACCEPT, [], 5, 2.0, Record([])) == 0


@pytest.mark.parametrize(
    ("done", "total", "elapsed", "left"),
    [(0, 100, 0, 100), (10, 100, 20, 90), (50, 100, 100, 100), (100, 100, 70, 0), (120, 100, 90, 0)],
    ids=["begun", "too early to tell", "half the pace", "done", "more than expected"],
)
def test_the_pace_so_far_tells_what_is_left(done: float, total: float, elapsed: float, left: float) -> None:
    assert time_left_s(done, total, elapsed) == left
