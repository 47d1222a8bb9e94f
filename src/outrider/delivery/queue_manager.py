"""The queue manager: takes what is due from the spool and what is fresh from reception, and has it delivered.

It brings together the leases (`leases`), whose turn it is (`lanes`), the connections that are kept
(`connections`), and the back-off of ways that are dead (`dead_ways`). Clock, chance, dialler and spool are
handed in. One task runs `run`; each delivery is a task.

What is in memory is bounded; the rest stays in the spool, and nothing is lost when memory is: every item here
is leased, and a lease that nobody renews ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from outrider.config.schema import Delivery
from outrider.delivery.background import Background
from outrider.delivery.carrying import Feedback, Outcome
from outrider.delivery.connections import Connections
from outrider.delivery.dead_ways import DeadWays
from outrider.delivery.item_runner import ItemRunner, Recorded, Rules
from outrider.delivery.lanes import Entry, LaneBoard
from outrider.delivery.leases import Leases
from outrider.delivery.queue_parts import QueueParts
from outrider.delivery.results import deferred, sentence
from outrider.delivery.settlement import Attempt, put_off
from outrider.delivery.sharing import SoleDeliverer
from outrider.model.envelope import Recipient
from outrider.model.message import ItemKey, Leased
from outrider.model.result import DeliveryResult
from outrider.spool.interface import SpoolUnavailable

LEASE_BATCH = 200
"""Items leased in one question to the spool."""
AVOID_LIMIT = 500
"""Destinations named in one question to the spool."""
POLL_S = 5.0
"""How often the spool is asked at least: others may have put something there, or paused ways may be open."""
PAUSED_S = 60.0
"""How long an item stays in the spool that was leased although its way is paused."""
CLEANUP_S = 5.0
"""How long `stop` waits for the spool to take back what was not delivered."""
SOLO_INTERVAL_S = 10.0
"""How often suspects are looked for when there were none (FAULT-F11)."""
HOUSEKEEPING_S = 30.0


@dataclass(frozen=True, slots=True)
class LaneReport:
    """One lane as `queue destinations` shows it."""

    destination: str
    active: int
    waiting: int
    """In memory; more may wait in the spool."""
    concurrency: int
    paused: bool
    backoff_s: float
    """Until the next probe; 0 = none."""
    last_error: str


class QueueManager:
    """See the module. Implements `delivery.interface.FreshMail`."""

    def __init__(self, parts: QueueParts, rules: Rules) -> None:
        self._spool = parts.spool
        self._clock = parts.clock
        self._chance = parts.chance
        self._observer = parts.observer
        self._capacity = parts.capacity
        self._paused = set(parts.paused)
        self._connections = Connections(parts.dialler, parts.observer)
        self._shared = parts.shared
        self._attending = False
        """The pauses of all nodes are known, and what becomes of them is heard."""
        self._sharing = parts.sharing or SoleDeliverer()
        self._board = LaneBoard(self._sharing)
        self._background = Background(parts.observer)
        self._leases = Leases(parts, self._background, self._due_again)
        self._running: dict[ItemKey, asyncio.Task[None]] = {}
        self._dead_ways = DeadWays(parts, self._leases, self._board, self._record, self._delivery_settings)
        self._suspect: Entry | None = None
        self._suspect_since = 0.0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._full = False
        """The spool has more that is due than there was room for."""
        self._look_at = 0.0
        """When to ask the spool for what is due."""
        self._until = 0.0
        """The end of the round's wait."""
        self._seen_at = 0.0
        """What the clock showed last."""
        self._solo_at = self._housekeep_at = 0.0
        self._runner = self._make_runner(rules)

    def _make_runner(self, rules: Rules) -> ItemRunner:
        return ItemRunner(self._spool, rules, self._connections, self._clock, self._chance, self._observer)

    # --- life ---------------------------------------------------------------------------------------

    def reconfigure(self, rules: Rules) -> None:
        """Use other rules from now on; deliveries under way end under the old ones."""
        self._runner = self._make_runner(rules)
        self._wake.set()

    async def run(self) -> None:
        """Until `stop`. A fault in one round is recorded, and the next round goes on (SMTP-6)."""
        while not self._stopping:
            self._wake.clear()
            self._until = self._clock.now() + POLL_S
            try:
                self._until = await self._round()
            except SpoolUnavailable as error:
                self._observer.spool_failed("looking for mail that is due", str(error))
                self._look_at = self._until
            except Exception as error:
                self._observer.own_failure("managing the queue", error, None)
                self._look_at = self._until
            await self._clock.wait(self._wake, self._until)

    async def _round(self) -> float:
        """What is to do now; the moment at which there is something to do again."""
        if self._shared is not None and not self._attending:
            self._shared.attend(self)
            self.set_paused(await self._shared.paused())
            self._attending = True
        now = self._present()
        if now >= self._leases.renewal_due_at:
            for entry in await self._leases.renew(now):
                self._lose(entry)
        await self._lease(now)
        await self._find_suspect(now)
        self._connections.close_idle(now)
        if now >= self._housekeep_at:
            self._housekeep_at = now + HOUSEKEEPING_S
            self._board.prune(now)
            self._observer.queue_counted(self._board.waiting, len(self._running), len(self._board.lanes))
        self._pump()
        renew_at = self._leases.renewal_due_at
        return min(renew_at, self._housekeep_at, self._solo_at, self._look_at, self._next_timer())

    def _present(self) -> float:
        """The moment. A clock that was set back is noticed here."""
        now = self._clock.now()
        if now < self._seen_at:
            self._clock_was_set_back(now)
        self._seen_at = now
        return now

    def _clock_was_set_back(self, now: float) -> None:
        """Moments noted by the old time would keep everything waiting for as long as the clock was set back:
        all that this process had put off may be tried now. What the spool has keeps its moments (SEC-95)."""
        self._look_at = self._solo_at = self._housekeep_at = now
        self._leases.renew_soon(now)
        self._board.clock_was_set_back(now)

    def _next_timer(self) -> float:
        """When a lane that waits for time may go on, or an idle connection is to be closed."""
        moments = (self._board.wake_at(), self._connections.deadline())
        return min((moment for moment in moments if moment is not None), default=float("inf"))

    async def stop(self, grace_s: float) -> None:
        """Start nothing more, let deliveries end for at most `grace_s`, give the rest back, close."""
        self._stopping = True
        self._leases.close()
        self._wake.set()
        now = self._clock.now()
        # What is neither waiting for its turn nor being delivered is being given back already.
        waiting = self._board.take_out(list(self._leases.held.values()))
        if self._suspect is not None and self._suspect.key not in self._running:
            waiting.append(self._suspect)
        self._suspect = None
        await self._leases.release(waiting, now)
        await self._clock.wait(self._idle, now + grace_s)
        unfinished = [self._leases.held[key] for key in self._running]
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What may have been taken in this moment comes again: a duplicate, never a loss.
        await self._leases.release(unfinished, self._clock.now() + self._runner.rules.delivery.retry[0])
        await self._background.finish(CLEANUP_S)
        await self._connections.close()

    # --- taking mail in -----------------------------------------------------------------------------

    def take(self, leased: Sequence[Leased]) -> None:
        """Fresh mail, leased, from memory. What there is no room for goes back to the spool, due at once."""
        try:
            now = self._present()
            room = 0 if self._stopping else max(0, self._capacity - len(self._leases.held))
            for one in leased[:room]:
                self._admit(one, now)
            if leased[room:]:
                self._background.start(self._leases.give_back(leased[room:], now))
                self._full = True
            self._pump()
            self._wake_in_time()
        except Exception as error:
            # The leases run out and the items become due again: nothing is lost.
            self._observer.own_failure("taking fresh mail", error, leased[0].message.id if leased else None)

    async def _lease(self, now: float) -> None:
        """Lease what is due, as far as there is room."""
        if now < self._look_at:
            return
        room = self._capacity // 2 - len(self._leases.held)  # the other half is for fresh mail
        if room <= 0 or self._suspect is not None:
            self._full = True
            self._look_at = now + POLL_S
            return
        wanted = min(room, LEASE_BATCH)
        self._full = False
        self._look_at = now + POLL_S
        found = await self._spool.lease_due(now, now + self._leases.length_s, wanted, avoid=self._avoided())
        if self._stopping:
            await self._leases.give_back(found, now)
            return
        for one in found:
            self._admit(one, now)
        if len(found) == wanted:
            self._look_at = now
            return
        due = await self._spool.next_due()
        # What is due and was not given is paused or crowded: it is asked for again, but not at once.
        if due is not None and due > now:
            self._look_at = min(self._look_at, due)

    def wake(self) -> None:
        """Ask the spool at once: something was put there, or changed."""
        self._look_at = 0.0
        self._wake.set()

    def _avoided(self) -> list[str]:
        crowded = self._board.crowded(max(1, self._capacity // 5))
        return [*self._paused, *self._dead_ways.postponing, *crowded][:AVOID_LIMIT]

    def _admit(self, leased: Leased, now: float) -> None:
        """Give an item its place; or none, when its destination is paused or its way is dead."""
        entry = self._entry(leased)
        self._leases.held[entry.key] = entry
        if self._is_paused(entry):
            # It stays due, so that it goes at once when the way is open again, if the spool can leave it out.
            is_avoided = entry.destination in self._avoided()
            self._background.start(self._leases.release([entry], now if is_avoided else now + PAUSED_S))
            return
        lane = self._board.lane_for(entry.routed, now)
        if lane.is_dead(now):
            self._background.start(self._dead_ways.put_off(entry, lane))
            return
        self._board.add(entry, now)

    def _entry(self, leased: Leased, *, solo: bool = False) -> Entry:
        recipients = leased.message.envelope.recipients
        pending = [status.index for status in leased.item.recipients if not status.state.is_final]
        first = pending[0] if pending else leased.item.recipients[0].index
        return Entry(leased, self._runner.rules.routes.find(recipients[first]), solo)

    def _is_paused(self, entry: Entry) -> bool:
        return entry.destination in self._paused or entry.routed.lane in self._paused

    # --- suspects (FAULT-F11) -----------------------------------------------------------------------

    async def _find_suspect(self, now: float) -> None:
        """A message under which the server has died is delivered while nothing else is, so that a further
        death is laid to it and to nothing else."""
        if self._suspect is not None or now < self._solo_at:
            return
        self._solo_at = now + SOLO_INTERVAL_S
        until = now + self._leases.length_s
        found = await self._spool.lease_due(now, until, 1, avoid=self._avoided(), solo=True)
        if self._stopping:
            await self._leases.give_back(found, now)
        elif found:
            self._suspect = self._entry(found[0], solo=True)
            self._suspect_since = now
            self._leases.held[self._suspect.key] = self._suspect

    # --- delivering ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start what may be started."""
        if self._suspect is not None:
            self._start_suspect(self._suspect)
            return
        now = self._clock.now()
        if self._leases.is_renewal_overdue(now):
            self._wake.set()
            return
        total = max(1, -(-self._runner.rules.delivery.total // self._sharing.processes))
        while not self._stopping and len(self._running) < total:
            entry = self._board.next(now)
            if entry is None:
                break
            self._start(entry)

    def _start_suspect(self, suspect: Entry) -> None:
        if self._running or self._stopping or self._leases.is_renewal_overdue(self._clock.now()):
            return
        self._board.start_alone(suspect, self._clock.now())
        self._start(suspect)

    def _start(self, entry: Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(entry))
        self._running[entry.key] = task
        self._idle.clear()

    async def _deliver(self, entry: Entry) -> None:
        runner = self._runner
        try:
            if entry.leased.message.content is None:
                await self._defer_without_content(entry, runner)
                return
            outcome = await runner.carry(entry)
            not_before = self._learn(entry, outcome)
            attempt = Attempt(
                entry.leased,
                outcome.results,
                self._clock.now(),
                outcome.notes,
                made=outcome.made,
                schedule=outcome.schedule,
            )
            lease_until = self._lease_for(len(outcome.made))
            self._note(await runner.record(attempt, not_before=not_before, lease_until=lease_until))
        finally:
            self._ended(entry)

    def _lease_for(self, made: int) -> float:
        """Until when what an attempt has made is leased, so that it goes on from memory; 0.0 = not at all:
        there is no room for it."""
        if self._stopping or made > self._capacity // 2 - len(self._leases.held):
            return 0.0
        return self._clock.now() + self._leases.length_s

    async def _defer_without_content(self, entry: Entry, runner: ItemRunner) -> None:
        reason = deferred("4.3.0", "the message's content is missing from the spool")
        self._observer.own_failure("reading content", LookupError(reason.text), entry.key.message)
        attempt = put_off(entry.leased, reason, self._clock.now())
        self._note(await runner.record(replace(attempt, counts=True)))

    def _ended(self, entry: Entry) -> None:
        self._running.pop(entry.key, None)
        self._leases.held.pop(entry.key, None)
        self._board.finished(entry, self._clock.now())
        if self._suspect is entry:
            self._end_suspect()
        if not self._running:
            self._idle.set()
        if self._full and len(self._leases.held) < self._capacity // 4:
            self.wake()
        self._pump()
        self._wake_in_time()

    def _wake_in_time(self) -> None:
        """End the round's wait if something has to be done before it."""
        if min(self._next_timer(), self._solo_at) < self._until:
            self._wake.set()

    def _end_suspect(self) -> None:
        """The next one follows when the others have had as long as this one kept them waiting: a crash may
        leave thousands of suspects, and neither they nor all other mail may stand for hours."""
        now = self._clock.now()
        self._suspect = None
        self._solo_at = now + (now - self._suspect_since)

    async def _record(self, attempt: Attempt, not_before: float) -> None:
        self._note(await self._runner.record(attempt, not_before=not_before))

    def _delivery_settings(self) -> Delivery:
        return self._runner.rules.delivery

    def _note(self, recorded: Recorded | None) -> None:
        """Go on with what a settlement has leased, and look at the spool in time for the rest."""
        if recorded is None:
            return
        settlement = recorded.settled.settlement
        if recorded.leased:
            self.take(recorded.leased)
        taken = {one.item.key.message for one in recorded.leased}
        for message in settlement.new_messages:
            for item in message.items:
                if message.id not in taken or item.next_attempt_at > message.received_at:
                    self._due_again(item.next_attempt_at)
        due = settlement.next_attempt_at
        if 0 < due < self._look_at:
            self._look_at = due
            if due < self._until:
                self._wake.set()

    def _learn(self, entry: Entry, outcome: Outcome) -> float:
        """Tell the lane what came of it; the moment before which nothing more is to be tried on it."""
        delivery = self._runner.rules.delivery
        now = self._clock.now()
        reason = _worst(outcome)
        lane, died, recovered = self._board.feed_back(
            entry,
            outcome.feedback,
            reason,
            now,
            waits=delivery.retry or (60.0,),
            jitter=delivery.jitter,
            chance=self._chance(),
            parallel=outcome.parallel,
        )
        if recovered:
            self._observer.destination_recovered(lane.name)
        if died:
            self._observer.destination_backed_off(lane.name, lane.dead_until, reason)
            self._background.start(self._dead_ways.back_off(lane, entry.destination))
        return lane.dead_until if outcome.feedback is Feedback.BAD else 0.0

    # --- leases -------------------------------------------------------------------------------------

    def _lose(self, entry: Entry) -> None:
        """Another has the item: stop at once, record nothing (SEC-213)."""
        self._observer.lease_lost(entry.key)
        self._board.take_out([entry])
        if self._suspect is entry and entry.key not in self._running:
            self._suspect = None
        task = self._running.get(entry.key)
        if task is not None:
            task.cancel()

    def _due_again(self, at: float) -> None:
        """The spool has something back that is due at that moment."""
        if at < self._look_at:
            self._look_at = at
            self._wake.set()

    # --- for the operator ---------------------------------------------------------------------------

    @property
    def paused(self) -> tuple[str, ...]:
        """Destinations that are paused: to be kept over a restart by whoever made the manager."""
        return tuple(sorted(self._paused))

    async def pause(self, destination: str) -> None:
        """Start nothing more to a destination (a domain or a route, as `queue list` shows it)."""
        if self._shared is not None:
            await self._shared.pause(destination)
        self._pause_here(destination)
        await self._give_back_paused()

    def _pause_here(self, destination: str) -> None:
        if destination not in self._paused:
            self._paused.add(destination)
            self._observer.destination_paused(destination, True)

    async def _give_back_paused(self) -> None:
        waiting = [entry for entry in self._leases.held.values() if self._is_paused(entry)]
        await self._leases.release(self._board.take_out(waiting), self._clock.now())

    async def resume(self, destination: str) -> bool:
        """Let it go on; False when it was not paused."""
        was_paused = self._shared is not None and await self._shared.resume(destination)
        return self._resume_here(destination) or was_paused

    def _resume_here(self, destination: str) -> bool:
        was_paused = destination in self._paused
        self._paused.discard(destination)
        if was_paused:
            self._observer.destination_paused(destination, False)
        self.wake()
        return was_paused

    def set_paused(self, destinations: Iterable[str]) -> None:
        """See `neighbours.Attendant`."""
        wanted = set(destinations)
        for destination in self._paused - wanted:
            self._resume_here(destination)
        for destination in wanted - self._paused:
            self._pause_here(destination)
        self._background.start(self._give_back_paused())

    def revive(self, lanes: Iterable[str]) -> None:
        """See `neighbours.Attendant`."""
        self._board.revive(lanes)
        self.wake()

    def is_waiting(self, key: ItemKey) -> bool:
        """Whether the item is leased here and not being delivered: `withdraw` can give it back."""
        return key in self._leases.held and key not in self._running

    async def withdraw(self, keys: Iterable[ItemKey]) -> None:
        """Give back to the spool those of the items that wait here, so that they can be changed there."""
        held = self._leases.held
        entries = [held[key] for key in keys if key in held and key not in self._running]
        await self._leases.release(self._board.take_out(entries), self._clock.now() + POLL_S)

    def retry_soon(self, recipients: Iterable[Recipient]) -> None:
        """Forget the back-offs of the ways to these recipients, and look at the spool at once."""
        lanes = {self._runner.rules.routes.find(one).lane for one in recipients}
        self.revive(lanes)
        if self._shared is not None:
            self._background.start(self._shared.revive(lanes))

    def lanes(self) -> tuple[LaneReport, ...]:
        """The ways in use, dead or paused."""
        now = self._clock.now()
        known = [
            LaneReport(
                lane.name,
                lane.running,
                lane.backlog,
                1 if lane.deaths else int(lane.window),
                lane.name in self._paused,
                max(0.0, round(lane.dead_until - now, 3)),
                lane.last_error,
            )
            for lane in self._board.lanes.values()
        ]
        unknown = self._paused - set(self._board.lanes)
        return (*known, *(LaneReport(name, 0, 0, 0, True, 0.0, "") for name in sorted(unknown)))

    @property
    def counts(self) -> tuple[int, int]:
        """(waiting in memory, being delivered)."""
        return self._board.waiting, len(self._running)


def _worst(outcome: Outcome) -> str:
    """What to say of a way that failed."""
    waiting: list[DeliveryResult] = [one for one in outcome.results.values() if not one.is_final]
    return sentence(waiting[0]) if waiting else ""
