"""Shares of a plan, outcomes taken together, percentiles."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.benchmark.plan import Outcome, Plan, merged, percentile


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 64))
def test_shares_add_up_and_none_is_idle(messages: int, sessions: int, processes: int) -> None:
    shares = Plan("127.0.0.1", 25, messages=messages, sessions=sessions, rate=80.0).shares(processes)
    assert len(shares) <= processes
    assert sum(share.messages for share in shares) == messages
    assert sum(share.sessions for share in shares) == sessions
    assert all(share.messages and share.sessions for share in shares)
    assert sum(share.rate for share in shares) == pytest.approx(80.0)


def test_outcomes_of_generators_are_one() -> None:
    one = Outcome(began=10.0, ended=12.0, times=array("d", [0.1, 0.2]), failures={"a": 1}, cpu=0.5)
    two = Outcome(began=10.5, ended=14.0, times=array("d", [0.3]), failures={"a": 1, "b": 2}, cpu=0.25)
    whole = merged([one, two])
    assert (whole.began, whole.ended, whole.cpu) == (10.0, 14.0, 0.75)
    assert (whole.accepted, whole.failed, whole.failures) == (3, 4, {"a": 2, "b": 2})
    assert whole.rate == 0.75


def test_no_message_has_no_rate() -> None:
    assert Outcome().rate == 0.0


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.51, 6), (0.9, 9), (0.99, 10), (1.0, 10)])
def test_percentiles_are_of_the_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], share) == value


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
