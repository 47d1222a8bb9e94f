"""Workers and one destination: its concurrency holds over all of them, and each gets its part."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.delivery.support import leased, new_message

from outrider.delivery.carrying import Feedback
from outrider.delivery.lanes import Entry, LaneBoard
from outrider.net.shared_counts import SharedCounts
from outrider.routing.routes import Routed
from outrider.routing.ways import MxWay
from outrider.runtime.sharing import ASK_AGAIN_S, MANY, WorkerLanes

LANE = "b.example"
_numbers = itertools.count()


class Worker:
    """One worker's lanes, with a backlog that does not end."""

    def __init__(self, counts: SharedCounts, number: int, limit: int, rate: float = 0.0) -> None:
        self.sharing = WorkerLanes(counts.row(number), random.Random(number).random)
        self.board = LaneBoard(self.sharing)
        self.limit = limit
        self.rate = rate
        self.running: list[Entry] = []
        self.done = 0

    def offer(self, number: int, now: float) -> None:
        """More mail for the destination."""
        for _ in range(number):
            message = new_message(f"m{next(_numbers)}", f"x@{LANE}")
            self.board.add(Entry(leased(message), Routed(MxWay(), LANE, self.limit, self.rate)), now)

    def widen(self, now: float) -> None:
        """Let the lane's own window be as wide as the limit."""
        lane = self.board.lane_for(Routed(MxWay(), LANE, self.limit, self.rate), now)
        lane.window = float(self.limit)

    def start(self, now: float) -> None:
        """Start what may be started."""
        while (entry := self.board.next(now)) is not None:
            self.running.append(entry)

    def end(self, entry: Entry, now: float) -> None:
        """A delivery has gone well."""
        self.running.remove(entry)
        self.done += 1
        self.board.feed_back(entry, Feedback.GOOD, "", now, waits=(60.0,), jitter=0.0, chance=0.5)
        self.board.finished(entry, now)


def workers(number: int, limit: int, rate: float = 0.0) -> list[Worker]:
    """Forked in thought: each with a row of the same counts."""
    counts = SharedCounts(number)
    made = [Worker(counts, row, limit, rate) for row in range(number)]
    for one in made:
        one.widen(0.0)
    return made


def run(group: list[Worker], seconds: float, *, chance: random.Random, start: float = 0.0) -> int:
    """Deliveries of 20 ms or so for so long; the most that ran at once."""
    most, now = 0, start
    while now < start + seconds:
        now += 0.01
        for one in group:
            one.start(now)
            most = max(most, sum(len(each.running) for each in group))
            for entry in [entry for entry in one.running if chance.random() < 0.5]:
                one.end(entry, now)
    return most


@pytest.mark.covers("SMTP-3")
@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 24), st.integers(0, 1000))
def test_a_destination_never_has_more_than_its_limit(number: int, limit: int, seed: int) -> None:
    group = workers(number, limit)
    for one in group:
        one.offer(400, 0.0)
    assert run(group, 0.5, chance=random.Random(seed)) <= limit


@pytest.mark.parametrize(("number", "limit"), [(2, 20), (2, 2), (2, 1), (4, 3), (3, 20), (4, 5)])
def test_every_worker_gets_its_part(number: int, limit: int) -> None:
    group = workers(number, limit)
    for one in group:
        one.offer(3000, 0.0)
    run(group, 5.0, chance=random.Random(7))
    done = [one.done for one in group]
    assert min(done) > sum(done) / number * 0.4, done


def test_one_that_came_later_gets_its_part_too() -> None:
    first, second = group = workers(2, 20)
    first.offer(8000, 0.0)
    chance = random.Random(3)
    run(group, 1.0, chance=chance)
    assert len(first.running) >= 10
    second.offer(8000, 1.0)
    first.done = second.done = 0
    run(group, 5.0, chance=chance, start=1.0)
    assert second.done > 0.6 * first.done


def test_what_others_do_not_use_is_not_left_lying() -> None:
    first, _ = group = workers(2, 20)
    first.offer(2000, 0.0)
    assert run(group, 2.0, chance=random.Random(1)) == 19  # one stays free for whoever comes


def test_a_worker_that_died_gives_its_slots_back() -> None:
    counts = SharedCounts(2)
    first, second = (Worker(counts, number, 4) for number in (0, 1))
    for one in (first, second):
        one.widen(0.0)
        one.offer(10, 0.0)
    first.start(0.0)
    assert len(first.running) == 3
    second.start(0.0)
    assert len(second.running) == 1
    counts.clear(0)
    second.start(1.0)
    assert len(second.running) == 3


def test_a_refused_worker_asks_again_soon() -> None:
    first, second = workers(2, 2)
    first.offer(5, 0.0)
    second.offer(5, 0.0)
    first.start(0.0)
    second.start(0.0)
    assert (len(first.running), len(second.running)) == (1, 1)
    wake = second.board.wake_at()
    assert wake is None or 0 < wake <= 2 * ASK_AGAIN_S
    first.end(first.running[0], 0.01)
    second.offer(1, 0.02)
    second.start(0.02)
    assert len(second.running) == 1  # more than its part only with one left over


def test_a_rate_is_divided() -> None:
    group = workers(2, 20, rate=10.0)
    for one in group:
        one.offer(1000, 0.0)
    run(group, 10.0, chance=random.Random(1))
    assert 90 <= sum(one.done + len(one.running) for one in group) <= 2 * 5 + 100


@pytest.mark.covers("FAULT-F11")
def test_a_suspect_goes_even_when_all_slots_are_taken() -> None:
    first, second = workers(2, 1)
    first.offer(1, 0.0)
    first.start(0.0)
    suspect = Entry(leased(new_message("s", f"x@{LANE}")), Routed(MxWay(), LANE, 1, 0.0), solo=True)
    second.board.start_alone(suspect, 0.0)
    assert not suspect.holds_slot
    second.board.finished(suspect, 0.1)
    first.end(first.running[0], 0.2)
    second.offer(1, 1.0)
    second.start(1.0)
    assert len(second.running) == 1


def test_lanes_long_gone_are_not_remembered() -> None:
    sharing = WorkerLanes(SharedCounts(3).row(0), random.Random(1).random)
    for number in range(3 * MANY):
        assert sharing.take(f"{number}.example", 0, 1, float(number)) is None
        sharing.give_back(f"{number}.example", float(number))
    assert len(sharing._resting) <= MANY


def test_a_clock_set_back_does_not_make_a_lane_wait() -> None:
    sharing = WorkerLanes(SharedCounts(3).row(0), random.Random(1).random)
    assert sharing.take(LANE, 0, 1, 5000.0) is None
    sharing.give_back(LANE, 5000.0)
    assert sharing.take(LANE, 0, 1, 5000.01) is not None
    assert sharing.take(LANE, 0, 1, 1000.0) is None
