"""Turns, windows, rates and back-off, with a clock that is a number."""

from __future__ import annotations

import pytest

from outrider.delivery.carrying import Feedback
from outrider.delivery.lanes import INITIAL_WINDOW, Entry, Lane, LaneBoard
from outrider.routing.routes import Routed
from outrider.routing.ways import LocalWay, MxWay, Way
from tests.delivery.support import leased, new_message

NOW = 1000.0
WAITS = (60.0, 300.0, 900.0)


class Board(LaneBoard):
    """A board with words for tests."""

    count = 0

    def put(
        self,
        lane: str,
        number: int = 1,
        *,
        priority: int = 0,
        limit: int = 20,
        rate: float = 0.0,
        way: Way | None = None,
    ) -> list[Entry]:
        entries = []
        for _ in range(number):
            Board.count += 1
            message = new_message(f"m{Board.count}", f"x@{lane}", priority=priority)
            entry = Entry(leased(message), Routed(way or MxWay(), lane, limit, rate))
            self.add(entry, NOW)
            entries.append(entry)
        return entries

    def start_all(self, now: float = NOW) -> list[Entry]:
        started = []
        while (entry := self.next(now)) is not None:
            started.append(entry)
        return started

    def end(self, entry: Entry, feedback: Feedback, now: float = NOW) -> tuple[Lane, bool, bool]:
        learnt = self.feed_back(entry, feedback, "refused", now, waits=WAITS, jitter=0.0, chance=0.5)
        self.finished(entry, now)
        return learnt


def lanes_of(entries: list[Entry]) -> list[str]:
    return [entry.routed.lane for entry in entries]


@pytest.mark.covers("SMTP-3")
def test_lanes_take_turns() -> None:
    board = Board()
    board.put("big.example", 100)
    board.put("small.example", 2)
    assert lanes_of(board.start_all())[:4] == ["big.example", "small.example", "big.example", "small.example"]


@pytest.mark.covers("SMTP-3")
def test_a_crowd_for_one_lane_does_not_hold_up_another() -> None:
    board = Board()
    board.put("big.example", 5000)
    board.start_all()
    board.put("late.example", 1)
    assert lanes_of(board.start_all()) == ["late.example"]
    assert board.waiting == 5000 - INITIAL_WINDOW


def test_high_priority_goes_first_and_bulk_last() -> None:
    board = Board()
    board.put("a", 1, priority=-1)
    board.put("b", 1)
    board.put("c", 1, priority=1)
    board.put("a", 1, priority=9)
    assert [(one.routed.lane, one.priority) for one in board.start_all()] == [
        ("c", 1),
        ("a", 1),
        ("b", 0),
        ("a", -1),
    ]


@pytest.mark.covers("SMTP-3")
def test_the_window_starts_small_grows_by_success_and_ends_at_the_limit() -> None:
    board = Board()
    board.put("a", 1000, limit=8)
    running = board.start_all()
    assert len(running) == INITIAL_WINDOW
    widest = 0
    for _ in range(200):
        board.end(running.pop(0), Feedback.GOOD)
        running += board.start_all()
        widest = max(widest, len(running))
    assert widest == 8


@pytest.mark.covers("SMTP-3")
def test_failures_narrow_the_window_and_answers_about_nobody_leave_it() -> None:
    board = Board()
    board.put("a", 100, limit=20)
    running = board.start_all()
    lane = board.lanes["a"]
    board.end(running.pop(), Feedback.BAD)
    assert lane.window == INITIAL_WINDOW - 1
    board.end(running.pop(), Feedback.NONE)
    assert lane.window == INITIAL_WINDOW - 1


def test_a_lane_on_this_machine_has_its_whole_limit_from_the_start() -> None:
    board = Board()
    board.put("alpha.example", 50, limit=20, way=LocalWay("maildir", "/m/{user}"))
    assert len(board.start_all()) == 20


@pytest.mark.covers("SEC-174")
def test_a_lane_dies_of_failures_in_a_row_and_is_then_left_alone() -> None:
    board = Board()
    board.put("a", 100)
    running = board.start_all()
    died = [board.end(entry, Feedback.BAD)[1] for entry in running]
    assert died == [False, False, True, False, False], "once, when as many failed as the window is wide"
    assert board.start_all() == []
    assert board.start_all(NOW + 59.9) == []
    assert board.wake_at() == NOW + 60.0


@pytest.mark.covers("SEC-174", "FAULT-F13")
def test_a_dead_lane_is_probed_by_one_and_waits_longer_each_time() -> None:
    board = Board()
    board.put("a", 100)
    for entry in board.start_all():
        board.end(entry, Feedback.BAD)
    lane = board.lanes["a"]
    now = NOW
    for wait in (60.0, 300.0, 900.0, 900.0):
        assert lane.dead_until == now + wait
        now = lane.dead_until
        (probe,) = board.start_all(now)
        assert board.end(probe, Feedback.BAD, now)[1]


def test_a_success_brings_a_lane_back_and_it_opens_step_by_step() -> None:
    board = Board()
    board.put("a", 100)
    for entry in board.start_all():
        board.end(entry, Feedback.BAD)
    (probe,) = board.start_all(NOW + 60)
    _, died, recovered = board.end(probe, Feedback.GOOD, NOW + 60)
    assert (died, recovered) == (False, True)
    assert len(board.start_all(NOW + 60)) == 2


@pytest.mark.covers("SMTP-3")
def test_a_rate_is_kept() -> None:
    board = Board()
    board.put("slow", 10, rate=0.5)
    assert len(board.start_all(NOW)) == 1
    assert board.wake_at() == NOW + 2.0
    assert board.start_all(NOW + 1.9) == []
    assert len(board.start_all(NOW + 2.0)) == 1
    assert len(board.start_all(NOW + 100.0)) == 1, "unused turns are not saved up"


@pytest.mark.covers("SMTP-3")
def test_a_rate_above_one_lets_a_seconds_worth_go_at_once() -> None:
    board = Board()
    board.put("slow", 20, rate=3.0)
    assert len(board.start_all(NOW)) == 3


def test_what_is_taken_out_does_not_start() -> None:
    board = Board()
    first, second = board.put("a", 2)
    assert board.take_out([first]) == [first]
    assert board.take_out([first]) == []
    assert board.start_all() == [second]
    assert board.waiting == 0


def test_crowded_lanes_are_named_and_dead_ones_sooner() -> None:
    board = Board()
    board.put("a", 30)
    board.put("b", 5)
    assert board.crowded(31) == []
    assert board.crowded(30) == ["b.example"], "destinations, as the spool knows them"
    board.lanes["a"].deaths = 1
    assert board.crowded(31) == ["b.example"]


def test_lanes_with_nothing_to_do_are_forgotten_and_dead_ones_kept_longer() -> None:
    board = Board()
    board.put("good")
    board.put("dead", 5)
    for entry in board.start_all():
        board.end(entry, Feedback.GOOD if entry.routed.lane == "good" else Feedback.BAD)
    for entry in board.start_all():
        board.end(entry, Feedback.BAD)
    board.prune(NOW + 200)
    assert set(board.lanes) == {"good", "dead"}
    board.prune(NOW + 1000)
    assert set(board.lanes) == {"dead"}
    board.prune(NOW + 100_000)
    assert not board.lanes


# --- many messages on one connection (MT2-18d) --------------------------------------------------------


@pytest.mark.covers("MT2-18d")
def test_a_connection_that_takes_many_at_once_widens_the_lane_beyond_its_connections() -> None:
    board = Board()
    board.put("b.example", 200, limit=20)
    first = board.start_all()
    assert len(first) == INITIAL_WINDOW
    lane, _, _ = board.feed_back(
        first[0], Feedback.GOOD, "", NOW, waits=WAITS, jitter=0.0, chance=0.5, parallel=100
    )
    board.finished(first[0], NOW)
    assert (lane.window, lane.limit) == (100.0, 20)
    board.start_all()
    assert lane.running == 100


@pytest.mark.covers("MT2-18d")
def test_where_that_is_over_the_limit_for_connections_holds_again() -> None:
    board = Board()
    entries = board.put("b.example", 60, limit=20)
    board.next(NOW)
    lane = board.lanes["b.example"]
    assert not lane.succeeded(50)
    assert lane.window == 50.0
    lane.failed("gone", NOW, WAITS, 0.0, 0.5)
    assert lane.window == 19.0
    lane.succeeded(50)
    lane.succeeded()
    board.lane_for(entries[0].routed, NOW)
    assert lane.window <= 20.0
