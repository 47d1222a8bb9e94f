"""When a dead worker is started again."""

from __future__ import annotations

from outrider.runtime.restarts import GOOD_LIFE_S, Restarts


def waits(restarts: Restarts, count: int, *, life_s: float, ready: bool, refused: bool) -> list[float | None]:
    """The answers to so many deaths alike."""
    return [restarts.wait_after(life_s=life_s, was_ready=ready, refused=refused) for _ in range(count)]


def test_the_wait_doubles_up_to_half_a_minute() -> None:
    found = waits(Restarts(), 12, life_s=1.0, ready=True, refused=False)
    assert found[:9] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6]
    assert found[9:] == [30.0, 30.0, 30.0]


def test_a_good_life_makes_the_next_wait_short_again() -> None:
    restarts = Restarts()
    waits(restarts, 8, life_s=1.0, ready=True, refused=False)
    assert waits(restarts, 1, life_s=GOOD_LIFE_S, ready=True, refused=False) == [0.1]


def test_the_fifth_crash_before_it_was_ready_is_the_last() -> None:
    found = waits(Restarts(), 5, life_s=0.1, ready=False, refused=False)
    assert found == [0.1, 0.2, 0.4, 0.8, None]


def test_a_life_that_became_ready_begins_the_count_anew() -> None:
    restarts = Restarts()
    assert None not in waits(restarts, 4, life_s=0.1, ready=False, refused=False)
    assert None not in waits(restarts, 1, life_s=0.1, ready=True, refused=False)
    assert None not in waits(restarts, 4, life_s=0.1, ready=False, refused=False)
    assert waits(restarts, 1, life_s=0.1, ready=False, refused=False) == [None]


def test_one_that_says_why_it_cannot_start_is_tried_for_ever() -> None:
    assert waits(Restarts(), 50, life_s=0.1, ready=False, refused=True)[-1] == 30.0
