"""Whose turn is it: fairness, concurrency, rate and back-off for each way mail can take (SMTP-3, SEC-174).

A *lane* is what shares one host's patience: a domain by its MX, or one named host for all that goes through
it. Lanes take turns, one item each, high priority before the rest, so that ten thousand items for one
destination do not delay a single item for another.

A lane begins with a few deliveries at once. Every success widens its window by a part of one (by one for a
round of successes), or to what one connection to the host takes at once (MT2-18d); every failure to get a
session narrows it by one; when as many failures follow each other as the window is wide, the lane is *dead*:
nothing is tried until its back-off ends, and then one item, as a probe.

Where several processes deliver, a lane that could start by itself asks `sharing` for one of the slots that
all have together.

No I/O and no waiting here; the moment comes as an argument.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from outrider.delivery.carrying import Feedback
from outrider.delivery.schedule import wait_after
from outrider.delivery.sharing import LaneSharing, SoleDeliverer
from outrider.model.message import ItemKey, Leased
from outrider.routing.routes import Routed
from outrider.routing.ways import ErrorWay, LocalWay

INITIAL_WINDOW = 5.0
"""Deliveries at once to a host of which nothing is known (Postfix begins with as many)."""
PRIORITIES = (1, 0, -1)
IDLE_LANE_S = 300.0
"""How long a lane's window is remembered when it has nothing to do."""
DEAD_LANE_S = 86_400.0
"""The same for a lane that is backed off, after the back-off."""
PROBE_BACKLOG = 20
"""Items kept in memory for a lane that is being probed: should it live again, more are leased at once."""


@dataclass(slots=True, eq=False)
class Entry:
    """One leased item in memory."""

    leased: Leased
    routed: Routed
    solo: bool = False
    holds_slot: bool = False
    """It was given one of the slots that all processes share."""

    @property
    def key(self) -> ItemKey:
        """Its name."""
        return self.leased.item.key

    @property
    def destination(self) -> str:
        """Its destination in the spool."""
        return self.leased.item.destination

    @property
    def priority(self) -> int:
        """One of `PRIORITIES`."""
        return max(-1, min(1, self.leased.message.priority))


@dataclass(slots=True)
class Lane:
    """One lane's state."""

    name: str
    limit: int
    rate: float
    window: float
    parallel: int = 1
    """How many messages one connection to the host takes at once: there the peer says how much it wants
    (MT2-18c), and `limit`, which is for connections, does not count."""
    waiting: dict[int, deque[Entry]] = field(default_factory=lambda: {one: deque() for one in PRIORITIES})
    running: int = 0
    failures: int = 0
    """Since the last success."""
    deaths: int = 0
    """Back-offs since the last success: each waits longer."""
    dead_until: float = 0.0
    last_error: str = ""
    used_at: float = 0.0
    tokens: float = 1.0
    refilled_at: float = 0.0

    @property
    def backlog(self) -> int:
        """Items waiting in memory."""
        return sum(map(len, self.waiting.values()))

    def destinations(self) -> set[str]:
        """Destinations in the spool of what waits in memory."""
        return {entry.destination for entries in self.waiting.values() for entry in entries}

    def is_dead(self, now: float) -> bool:
        """Whether nothing may be tried yet."""
        return now < self.dead_until

    def _has_slot(self) -> bool:
        return self.running < (1 if self.deaths else max(1, int(self.window)))

    def blocked_until(self, now: float) -> float | None:
        """None when a delivery may start; inf when one must end first; else the moment to ask again."""
        if self.is_dead(now):
            return self.dead_until
        if not self._has_slot():
            return float("inf")
        if self.rate <= 0:
            return None
        room = max(1.0, self.rate)  # a second's worth may go at once
        self.tokens = min(room, self.tokens + (now - self.refilled_at) * self.rate)
        self.refilled_at = now
        return None if self.tokens >= 1.0 else now + (1.0 - self.tokens) / self.rate

    def start(self, now: float) -> None:
        """A delivery begins."""
        self.running += 1
        self.used_at = now
        self.tokens -= 1.0 if self.rate > 0 else 0.0

    @property
    def most(self) -> int:
        """Deliveries at once that it may come to."""
        return max(self.limit, self.parallel)

    def succeeded(self, parallel: int = 1) -> bool:
        """The host answers, on a connection that takes so many messages at once. True when that ends a
        back-off."""
        recovered = self.deaths > 0
        self.failures = self.deaths = 0
        self.dead_until = 0.0
        self.last_error = ""
        self.parallel = parallel
        widened = float(parallel) if parallel > 1 else self.window + 1.0 / self.window
        self.window = min(float(self.most), widened)
        return recovered

    def failed(self, reason: str, now: float, waits: tuple[float, ...], jitter: float, chance: float) -> bool:
        """No session came about. True when that is the lane's death."""
        self.last_error = reason
        if self.is_dead(now):
            return False  # deliveries that had begun before it died
        self.failures += 1
        self.parallel = 1
        self.window = max(1.0, min(self.window, self.limit) - 1.0)
        if not self.deaths and self.failures < self.window:
            return False
        self.deaths += 1
        self.window = 1.0
        self.dead_until = now + wait_after(waits, self.deaths, jitter, chance)
        return True

    def clock_was_set_back(self, now: float) -> None:
        """No moment that was noted before may lie ahead."""
        self.dead_until = min(self.dead_until, now)
        self.used_at = min(self.used_at, now)
        self.refilled_at = min(self.refilled_at, now)


class LaneBoard:
    """All lanes, and whose turn it is."""

    def __init__(self, sharing: LaneSharing | None = None) -> None:
        self.lanes: dict[str, Lane] = {}
        self._sharing = sharing or SoleDeliverer()
        self._turns: dict[int, dict[str, None]] = {one: {} for one in PRIORITIES}
        """Lanes that may have something to start, by priority, in the order of their turns."""
        self._timers: list[tuple[float, str]] = []
        self.waiting = 0

    def lane_for(self, routed: Routed, now: float) -> Lane:
        """The lane of a way, made when it is new; its limits follow the configuration."""
        lane = self.lanes.get(routed.lane)
        limit = max(1, routed.concurrency)
        rate = self._sharing.rate(routed.lane, routed.rate) if routed.rate > 0 else 0.0
        if lane is None:
            # On this machine there is no stranger to spare: the whole limit from the start.
            is_local = isinstance(routed.way, LocalWay | ErrorWay)
            window = float(limit) if is_local else min(float(limit), INITIAL_WINDOW)
            lane = Lane(
                routed.lane, limit, rate, window,
                tokens=max(1.0, rate), refilled_at=now, used_at=now,
            )  # fmt: skip
            self.lanes[routed.lane] = lane
        lane.limit, lane.rate = limit, rate
        lane.window = min(lane.window, float(lane.most))
        return lane

    def add(self, entry: Entry, now: float) -> None:
        """Put an item in its lane's queue."""
        lane = self.lanes.get(entry.routed.lane) or self.lane_for(entry.routed, now)
        priority = entry.priority
        lane.waiting[priority].append(entry)
        lane.used_at = now
        self.waiting += 1
        self._turns[priority].setdefault(lane.name)

    def next(self, now: float) -> Entry | None:
        """The next item to start, counted as running; None when no lane may start one."""
        while self._timers and self._timers[0][0] <= now:
            self._arm(heapq.heappop(self._timers)[1])
        for priority in PRIORITIES:
            turns = self._turns[priority]
            while turns:
                name = next(iter(turns))
                del turns[name]
                entry = self._start_from(self.lanes.get(name), priority, now)
                if entry is not None:
                    return entry
        return None

    def _start_from(self, lane: Lane | None, priority: int, now: float) -> Entry | None:
        if lane is None or not lane.waiting[priority]:
            return None
        blocked = lane.blocked_until(now)
        if blocked is None:
            blocked = self._sharing.take(lane.name, lane.running, lane.most, now)
        if blocked is not None:
            if blocked != float("inf"):
                heapq.heappush(self._timers, (blocked, lane.name))
            return None
        lane.start(now)
        entry = lane.waiting[priority].popleft()
        entry.holds_slot = True
        self.waiting -= 1
        if lane.waiting[priority]:
            self._turns[priority][lane.name] = None  # behind all others
        return entry

    def _arm(self, name: str) -> None:
        lane = self.lanes.get(name)
        if lane is not None:
            for priority, entries in lane.waiting.items():
                if entries:
                    self._turns[priority].setdefault(name)

    def wake_at(self) -> float | None:
        """When a lane that waits for time may go on."""
        return self._timers[0][0] if self._timers else None

    def start_alone(self, entry: Entry, now: float) -> None:
        """Count an item as running that was never added: it goes whatever the lane's limits say."""
        lane = self.lane_for(entry.routed, now)
        entry.holds_slot = self._sharing.take(lane.name, lane.running, lane.most, now) is None
        lane.start(now)

    def finished(self, entry: Entry, now: float) -> None:
        """A delivery that `next` or `start_alone` started has ended."""
        lane = self.lanes[entry.routed.lane]
        if entry.holds_slot:
            entry.holds_slot = False
            self._sharing.give_back(lane.name, now)
        lane.running = max(0, lane.running - 1)
        lane.used_at = now
        self._arm(lane.name)

    def feed_back(
        self,
        entry: Entry,
        feedback: Feedback,
        reason: str,
        now: float,
        *,
        waits: tuple[float, ...],
        jitter: float,
        chance: float,
        parallel: int = 1,
    ) -> tuple[Lane, bool, bool]:
        """Learn from an attempt: (its lane, whether it died of it, whether it came back to life)."""
        lane = self.lanes[entry.routed.lane]  # of a delivery that runs: it is not forgotten before its end
        if feedback is Feedback.NONE:
            return lane, False, False
        if feedback is Feedback.GOOD:
            recovered = lane.succeeded(parallel)
            self._arm(lane.name)
            return lane, False, recovered
        died = feedback is Feedback.BAD and lane.failed(reason, now, waits, jitter, chance)
        return lane, died, False

    def revive(self, names: Iterable[str]) -> None:
        """Forget back-offs: the operator says that it may work again."""
        for name in names:
            lane = self.lanes.get(name)
            if lane is not None:
                lane.dead_until, lane.deaths, lane.failures = 0.0, 0, 0
                self._arm(name)

    def take_out(self, entries: Iterable[Entry]) -> list[Entry]:
        """Remove waiting items; those that were there."""
        gone: list[Entry] = []
        for entry in entries:
            lane = self.lanes.get(entry.routed.lane)
            if lane is not None and entry in lane.waiting[entry.priority]:
                lane.waiting[entry.priority].remove(entry)
                gone.append(entry)
        self.waiting -= len(gone)
        return gone

    def empty(self, lane: Lane) -> list[Entry]:
        """Remove and give all that waits in a lane."""
        entries = [entry for one in PRIORITIES for entry in lane.waiting[one]]
        for one in PRIORITIES:
            lane.waiting[one].clear()
        self.waiting -= len(entries)
        return entries

    def crowded(self, share: int) -> list[str]:
        """Destinations of lanes that have enough in memory: no more of them is leased for now."""
        found: dict[str, None] = {}
        for lane in self.lanes.values():
            if lane.backlog >= (PROBE_BACKLOG if lane.deaths else share):
                found.update(dict.fromkeys(lane.destinations()))
        return list(found)

    def clock_was_set_back(self, now: float) -> None:
        """Let no lane wait for a moment of the old time."""
        for lane in self.lanes.values():
            lane.clock_was_set_back(now)
        self._timers = [(now, name) for _, name in self._timers]

    def prune(self, now: float) -> None:
        """Forget lanes that have had nothing to do and nothing to remember for a while."""
        for lane in [one for one in self.lanes.values() if not one.running and not one.backlog]:
            memory = DEAD_LANE_S if lane.deaths else IDLE_LANE_S
            if now >= max(lane.used_at, lane.dead_until) + memory:
                del self.lanes[lane.name]
