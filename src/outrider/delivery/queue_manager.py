"""The queue manager: takes what is due from the spool and what is fresh from reception, and has it delivered.

It owns the leases, whose turn it is (`lanes`), the connections that are kept, and the back-off of ways that
are dead. Clock, chance, dialler and spool are handed in. One task runs `run`; each delivery is a task.

What is in memory is bounded; the rest stays in the spool, and nothing is lost when memory is: every item here
is leased, and a lease that nobody renews ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outrider.delivery.carrying import Feedback, Outcome
from outrider.delivery.clock import Clock
from outrider.delivery.connections import Connections
from outrider.delivery.interface import Dialler
from outrider.delivery.item_runner import ItemRunner, Rules
from outrider.delivery.lanes import Entry, Lane, LaneBoard
from outrider.delivery.neighbours import SharedQueue
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.results import deferred, sentence
from outrider.delivery.settlement import Attempt, Settled, put_off, schedule_of
from outrider.delivery.sharing import LaneSharing, SoleDeliverer
from outrider.model.envelope import Recipient
from outrider.model.message import ItemKey, ItemState, Leased
from outrider.model.result import DeliveryResult
from outrider.spool.interface import Conflict, Filter, NotFound, Spool, SpoolError, SpoolUnavailable

CAPACITY = 10_000
"""Items in memory, waiting or being delivered: some 40 MiB of envelopes; bodies above the inline limit stay
in their files."""
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
RENEW_RETRY_S = 1.0
"""Before leases are renewed again that the spool could not renew."""
RELEASE_RETRY_S = 5.0
"""Before items are given back again that the spool could not take back."""
SOLO_INTERVAL_S = 10.0
"""How often suspects are looked for when there were none (FAULT-F11)."""
HOUSEKEEPING_S = 30.0
OVERDUE_BATCH = 500
"""Expired items settled at once when their way has died."""


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

    def __init__(
        self,
        spool: Spool,
        rules: Rules,
        dialler: Dialler,
        clock: Clock,
        chance: Callable[[], float],
        observer: DeliveryObserver,
        *,
        lease_s: float = 300.0,
        capacity: int = CAPACITY,
        paused: Iterable[str] = (),
        sharing: LaneSharing | None = None,
        shared: SharedQueue | None = None,
    ) -> None:
        """`lease_s` is [spool] lease. `paused` are destinations that the operator had paused before.
        `sharing` is what other processes that deliver use too; None when there are none. `shared` is the
        spool where other nodes deliver from it too: it keeps the pauses, and their word is heard."""
        self._spool = spool
        self._clock = clock
        self._chance = chance
        self._observer = observer
        self._lease_s = lease_s
        self._capacity = capacity
        self._paused = set(paused)
        self._connections = Connections(dialler, observer)
        self._shared = shared
        self._attending = False
        """The pauses of all nodes are known, and what becomes of them is heard."""
        self._sharing = sharing or SoleDeliverer()
        self._board = LaneBoard(self._sharing)
        self._held: dict[ItemKey, Entry] = {}
        """Every item leased to us."""
        self._running: dict[ItemKey, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._postponing: set[str] = set()
        """Destinations whose items are being put off in the spool: a million take a while."""
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
        self._retry_renewal_at = self._solo_at = self._housekeep_at = 0.0
        self._renew_at = clock.now() + lease_s / 3
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
        if now >= self._renew_at and now >= self._retry_renewal_at:
            await self._renew(now)
        await self._lease(now)
        await self._find_suspect(now)
        self._connections.close_idle(now)
        if now >= self._housekeep_at:
            self._housekeep_at = now + HOUSEKEEPING_S
            self._board.prune(now)
            self._observer.queue_counted(self._board.waiting, len(self._running), len(self._board.lanes))
        self._pump()
        renew_at = max(self._renew_at, self._retry_renewal_at)
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
        self._renew_at = self._retry_renewal_at = now
        self._board.clock_was_set_back(now)

    def _next_timer(self) -> float:
        """When a lane that waits for time may go on, or an idle connection is to be closed."""
        moments = (self._board.wake_at(), self._connections.deadline())
        return min((moment for moment in moments if moment is not None), default=float("inf"))

    async def stop(self, grace_s: float) -> None:
        """Start nothing more, let deliveries end for at most `grace_s`, give the rest back, close."""
        self._stopping = True
        self._wake.set()
        now = self._clock.now()
        # What is neither waiting for its turn nor being delivered is being given back already.
        waiting = self._board.take_out(list(self._held.values()))
        if self._suspect is not None and self._suspect.key not in self._running:
            waiting.append(self._suspect)
        self._suspect = None
        await self._release(waiting, now)
        await self._clock.wait(self._idle, now + grace_s)
        unfinished = [self._held[key] for key in self._running]
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What may have been taken in this moment comes again: a duplicate, never a loss.
        await self._release(unfinished, self._clock.now() + self._runner.rules.delivery.retry[0])
        await self._finish_background()
        await self._connections.close()

    async def _finish_background(self) -> None:
        if self._background:
            await asyncio.wait(self._background, timeout=CLEANUP_S)
        for task in self._background:
            task.cancel()

    # --- taking mail in -----------------------------------------------------------------------------

    def take(self, leased: Sequence[Leased]) -> None:
        """Fresh mail, leased, from memory. What there is no room for goes back to the spool, due at once."""
        try:
            now = self._present()
            room = 0 if self._stopping else max(0, self._capacity - len(self._held))
            for one in leased[:room]:
                self._admit(one, now)
            if leased[room:]:
                self._in_background(self._release_leased(leased[room:], now))
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
        room = self._capacity // 2 - len(self._held)  # the other half is for fresh mail
        if room <= 0 or self._suspect is not None:
            self._full = True
            self._look_at = now + POLL_S
            return
        wanted = min(room, LEASE_BATCH)
        self._full = False
        self._look_at = now + POLL_S
        found = await self._spool.lease_due(now, now + self._lease_s, wanted, avoid=self._avoided())
        if self._stopping:
            await self._release_leased(found, now)
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
        return [*self._paused, *self._postponing, *crowded][:AVOID_LIMIT]

    def _admit(self, leased: Leased, now: float) -> None:
        """Give an item its place; or none, when its destination is paused or its way is dead."""
        entry = self._entry(leased)
        self._held[entry.key] = entry
        if self._is_paused(entry):
            # It stays due, so that it goes at once when the way is open again, if the spool can leave it out.
            is_avoided = entry.destination in self._avoided()
            self._in_background(self._release([entry], now if is_avoided else now + PAUSED_S))
            return
        lane = self._board.lane_for(entry.routed, now)
        if lane.is_dead(now):
            self._in_background(self._put_off(entry, lane))
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
        found = await self._spool.lease_due(now, now + self._lease_s, 1, avoid=self._avoided(), solo=True)
        if self._stopping:
            await self._release_leased(found, now)
        elif found:
            self._suspect = self._entry(found[0], solo=True)
            self._suspect_since = now
            self._held[self._suspect.key] = self._suspect

    # --- delivering ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start what may be started."""
        if self._suspect is not None:
            self._start_suspect(self._suspect)
            return
        now = self._clock.now()
        if self._is_renewal_overdue(now):
            self._wake.set()
            return
        total = max(1, -(-self._runner.rules.delivery.total // self._sharing.processes))
        while not self._stopping and len(self._running) < total:
            entry = self._board.next(now)
            if entry is None:
                break
            self._start(entry)

    def _start_suspect(self, suspect: Entry) -> None:
        if self._running or self._stopping or self._is_renewal_overdue(self._clock.now()):
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
            attempt = Attempt(entry.leased, outcome.results, self._clock.now(), outcome.notes)
            self._note(await runner.record(attempt, not_before=not_before))
        finally:
            self._ended(entry)

    async def _defer_without_content(self, entry: Entry, runner: ItemRunner) -> None:
        reason = deferred("4.3.0", "the message's content is missing from the spool")
        self._observer.own_failure("reading content", LookupError(reason.text), entry.key.message)
        attempt = put_off(entry.leased, reason, self._clock.now())
        self._note(await runner.record(replace(attempt, counts=True)))

    def _ended(self, entry: Entry) -> None:
        self._running.pop(entry.key, None)
        self._held.pop(entry.key, None)
        self._board.finished(entry, self._clock.now())
        if self._suspect is entry:
            self._end_suspect()
        if not self._running:
            self._idle.set()
        if self._full and len(self._held) < self._capacity // 4:
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

    def _note(self, settled: Settled | None) -> None:
        """Look at the spool in time for what a settlement has put there."""
        if settled is None:
            return
        if settled.report.message is not None:
            self.wake()
        due = settled.settlement.next_attempt_at
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
        )
        if recovered:
            self._observer.destination_recovered(lane.name)
        if died:
            self._observer.destination_backed_off(lane.name, lane.dead_until, reason)
            self._in_background(self._back_off(lane, entry.destination))
        return lane.dead_until if outcome.feedback is Feedback.BAD else 0.0

    # --- ways that are dead (SEC-174, FAULT-F13) ----------------------------------------------------

    async def _back_off(self, lane: Lane, destination: str) -> None:
        """Nothing more is tried on the lane: what waits in memory and in the spool waits for the probe."""
        entries = self._board.empty(lane)
        try:
            for one in sorted({destination, *(entry.destination for entry in entries)}):
                await self._postpone(one, lane.dead_until)
        except SpoolError as error:
            # What waits in the spool comes up by itself, and is put off then; what waits here must not be
            # forgotten over it.
            self._observer.spool_failed("postponing mail", str(error))
        # All at once, so that they share a commit.
        await asyncio.gather(*(self._put_off(entry, lane) for entry in entries))
        await self._expire_overdue(destination)

    async def _postpone(self, destination: str, until: float) -> None:
        """Nothing of it is leased meanwhile: there would be no end of putting off one by one."""
        self._postponing.add(destination)
        try:
            await self._spool.postpone(destination, until)
        finally:
            self._postponing.discard(destination)

    async def _put_off(self, entry: Entry, lane: Lane) -> None:
        """Give an item back until the way is open. Who has not been told why, or has waited too long, is
        told (ITP-7); all others cost the spool as little as can be."""
        now = self._clock.now()
        if self._must_be_told(entry, now):
            reason = deferred("4.4.1", _back_off_text(lane))
            attempt = put_off(entry.leased, reason, now)
            try:
                self._note(await self._runner.record(attempt, not_before=lane.dead_until))
            finally:
                self._held.pop(entry.key, None)  # never renew the lease of what nobody carries any more
        else:
            # A little after the others, so that the next round brings up those that were not reached in this.
            await self._release([entry], lane.dead_until + self._chance() * 60.0)

    def _must_be_told(self, entry: Entry, now: float) -> bool:
        schedule = schedule_of(entry.leased, self._runner.rules.delivery)
        statuses = [one for one in entry.leased.item.recipients if not one.state.is_final]
        if schedule.is_expired(now) or any(one.last is None for one in statuses):
            return True
        return schedule.warning_due(now) and not all(one.delay_reported for one in statuses)

    async def _expire_overdue(self, destination: str) -> None:
        """Items postponed again and again would never be tried, and never returned: those past their
        lifetime are returned now."""
        delivery = self._runner.rules.delivery
        now = self._clock.now()
        oldest = now - min(delivery.max_age, delivery.bounce_max_age)
        if (await self._spool.counts()).oldest_received_at > oldest:
            return
        wanted = Filter(
            states=(ItemState.READY,), destination=destination, older_than=oldest, limit=OVERDUE_BATCH
        )
        for entry in await self._spool.find(wanted):
            try:
                leased = await self._spool.lease_one(entry.item.key, now, now + self._lease_s)
            except (Conflict, NotFound):
                continue
            reason = next((one.last for one in leased.item.recipients if one.last is not None), None)
            attempt = put_off(leased, reason or deferred("4.4.1", "no host could be reached"), now)
            self._note(await self._runner.record(attempt))

    # --- leases -------------------------------------------------------------------------------------

    async def _renew(self, now: float) -> None:
        """Extend all leases. One that could not be is tried again soon: the next third of its time is left
        for that, and in the last nothing is started any more."""
        leases = [(key, entry.leased.item.lease) for key, entry in self._held.items()]
        if leases:
            try:
                lost = await self._spool.renew(leases, now + self._lease_s)
            except SpoolUnavailable:
                self._retry_renewal_at = now + RENEW_RETRY_S
                raise
            for key in lost:
                self._lose(key)
        self._renew_at = self._retry_renewal_at = now + self._lease_s / 3

    def _is_renewal_overdue(self, now: float) -> bool:
        """A process that was stopped, or cut off from the spool, may hold leases that have run out: what it
        starts under them another may be sending as well (SEC-213)."""
        return bool(self._held) and now >= self._renew_at + self._lease_s / 3

    def _lose(self, key: ItemKey) -> None:
        """Another has the item: stop at once, record nothing (SEC-213)."""
        entry = self._held.pop(key, None)
        if entry is None:
            return
        self._observer.lease_lost(key)
        self._board.take_out([entry])
        if self._suspect is entry and key not in self._running:
            self._suspect = None
        task = self._running.get(key)
        if task is not None:
            task.cancel()

    async def _release(self, entries: Sequence[Entry], next_attempt_at: float) -> None:
        for entry in entries:
            self._held.pop(entry.key, None)
        await self._release_leased([entry.leased for entry in entries], next_attempt_at)

    async def _release_leased(self, leased: Sequence[Leased], next_attempt_at: float) -> None:
        if not leased:
            return
        try:
            await self._spool.release([(one.item.key, one.item.lease) for one in leased], next_attempt_at)
        except SpoolError as error:
            self._observer.spool_failed("giving items back", str(error))
            if not self._stopping:
                self._in_background(self._release_later(leased, next_attempt_at))
        if next_attempt_at < self._look_at:
            self._look_at = next_attempt_at
            self._wake.set()

    async def _release_later(self, leased: Sequence[Leased], next_attempt_at: float) -> None:
        """A full disk passes: a lease that ran out meanwhile would look like a death of the server, and mail
        that is under suspicion for that would be held in the end."""
        await self._clock.wait(asyncio.Event(), self._clock.now() + RELEASE_RETRY_S)
        await self._release_leased(leased, next_attempt_at)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SpoolError as error:
            self._observer.spool_failed("putting items off", str(error))
        except Exception as error:
            self._observer.own_failure("putting items off", error, None)

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
        waiting = [entry for entry in self._held.values() if self._is_paused(entry)]
        await self._release(self._board.take_out(waiting), self._clock.now())

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
        self._in_background(self._give_back_paused())

    def revive(self, lanes: Iterable[str]) -> None:
        """See `neighbours.Attendant`."""
        self._board.revive(lanes)
        self.wake()

    def is_waiting(self, key: ItemKey) -> bool:
        """Whether the item is leased here and not being delivered: `withdraw` can give it back."""
        return key in self._held and key not in self._running

    async def withdraw(self, keys: Iterable[ItemKey]) -> None:
        """Give back to the spool those of the items that wait here, so that they can be changed there."""
        entries = [self._held[key] for key in keys if key in self._held and key not in self._running]
        await self._release(self._board.take_out(entries), self._clock.now() + POLL_S)

    def retry_soon(self, recipients: Iterable[Recipient]) -> None:
        """Forget the back-offs of the ways to these recipients, and look at the spool at once."""
        lanes = {self._runner.rules.routes.find(one).lane for one in recipients}
        self.revive(lanes)
        if self._shared is not None:
            self._in_background(self._shared.revive(lanes))

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


def _back_off_text(lane: Lane) -> str:
    return f"not tried: the last attempts by {lane.name} reached nobody ({lane.last_error})"
