"""Carries one message to some of its recipients by one way: plan, connect, send, and what came of it.

Every recipient gets a result, whatever happens. What was met on the way (hosts that did not answer, terms not
met, a second choice taken) is told in notes, which become part of the message's trail (ITP-7).

From one protocol to the next there is one step, and it is taken for one reason: no host could be reached. Who
answered - with a denial, with 504, under a wrong name - has answered for every protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from outrider.config.schema import Delivery
from outrider.delivery.clock import Clock
from outrider.delivery.connections import Connections, Failure, Opened, Unreached
from outrider.delivery.interface import Expansion, Hop, Job, LocalTransport
from outrider.delivery.mt2_departure import NOTHING_RIDES_ALONG, Departure, goes_by_mt2_only
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.plan import PassedOver, Plan
from outrider.delivery.results import (
    complete,
    deferred,
    failed,
    own_failure,
    said_too_many,
    sentence,
    was_interrupted,
)
from outrider.delivery.schedule import Schedule
from outrider.model.message import NewMessage
from outrider.model.result import DeliveryResult
from outrider.routing.ways import ErrorWay, HostWay, LocalWay, MxWay, Way
from outrider.spool.interface import ContentDamaged, SpoolUnavailable

BACKUP_DENIED = "4.7.1"
"""The status under which a backup's denial waits for the servers before it."""
UNREACHED = ("4.4.1", "4.4.2")
"""No connection, or none that lasted."""


class Feedback(Enum):
    """What an attempt says about the way as a whole, for its concurrency and back-off."""

    GOOD = "good"
    """It carries mail, or at least answers about recipients."""
    BAD = "bad"
    """Nobody answered, or the conversation broke."""
    NONE = "none"
    """Nothing: the outcome did not depend on a host."""


@dataclass(slots=True)
class Outcome:
    """What came of one job."""

    results: dict[int, DeliveryResult]
    feedback: Feedback = Feedback.NONE
    notes: list[str] = field(default_factory=list)
    remote: str = ""
    parallel: int = 1
    """How many messages the connection takes at once."""
    made: list[NewMessage] = field(default_factory=list)
    """To be stored with the settlement, see `interface.Expansion`."""
    schedule: Schedule | None = None
    """See there."""


class Carrier:
    """Carries jobs; one for the whole queue manager."""

    def __init__(
        self,
        planner: HopPlanner,
        connections: Connections,
        transports: Mapping[str, LocalTransport],
        settings: Delivery,
        clock: Clock,
        observer: DeliveryObserver,
        departure: Departure = NOTHING_RIDES_ALONG,
    ) -> None:
        self._planner = planner
        self._departure = departure
        self._connections = connections
        self._transports = transports
        self._settings = settings
        self._clock = clock
        self._observer = observer

    async def carry(self, job: Job, way: Way, domain: str) -> Outcome:
        """Never raises (but for cancellation): an unforeseen failure of ours makes the mail wait (SMTP-6)."""
        try:
            match way:
                case ErrorWay():
                    return _refused(job, way)
                case LocalWay():
                    return await self._locally(job, way)
                case _:
                    return await self._by_hops(job, way, domain)
        except (ContentDamaged, SpoolUnavailable) as error:
            # Damaged content is held by the spool itself when this attempt is recorded.
            self._observer.spool_failed("reading a message", str(error))
            result = deferred("4.3.0", "the stored message cannot be read now")
            return Outcome(_for_all(job.recipients, result))
        except Exception as error:
            self._observer.own_failure("delivering", error, job.message.id)
            return Outcome(_for_all(job.recipients, own_failure("delivering")))

    async def _locally(self, job: Job, way: LocalWay) -> Outcome:
        transport = self._transports.get(way.transport)
        if transport is None:
            result = deferred("4.3.5", f"this server has no transport {way.transport!r}")
            return Outcome(_for_all(job.recipients, result))
        outcome = Outcome({})
        for part in self._departure.for_transport(job, way.transport):
            done = await transport.deliver(part, way.instruction)
            if isinstance(done, Expansion):
                outcome.made += done.messages
                outcome.schedule = done.schedule or outcome.schedule
                done = done.results
            outcome.results.update(complete(part.recipients, done))
        return outcome

    async def _by_hops(self, job: Job, way: HostWay | MxWay, domain: str) -> Outcome:
        only_mt2 = goes_by_mt2_only(job.message)
        plan = await self._planner.plan(way, domain, job.message.envelope, only_mt2)
        run = _Run(job, way, domain, plan, Outcome({}), list(job.recipients))
        self._tell_passed_over(run)
        if not plan.hops and not await self._next_protocol(run, plan.result, unreachable=plan.unreachable):
            run.end(plan.result or own_failure("choosing a host"), run.blame(reached=not plan.unreachable))
            return run.outcome
        try:
            while run.waiting:
                await self._one_transaction(run)
            await self._ask_the_better(run)
        except BaseException:
            # Unforeseen, or the server stops: what is said on this connection now has no meaning any more.
            if run.opened is not None:
                self._connections.abandon(run.opened)
            raise
        if run.opened is not None:
            self._connections.give_back(run.opened, self._clock.now(), self._settings.idle_reuse)
        return run.outcome

    async def _ask_the_better(self, run: _Run) -> None:
        """AMTP-21: what a backup has denied is for the servers before it to decide.

        Where they were passed over, for a kept connection or because they were silent a moment ago, they are
        asked now.
        """
        denials, better = run.denied_by_backup(), run.better_hops()
        if not denials or not better:
            return
        if run.opened is not None:
            self._connections.give_back(run.opened, self._clock.now(), self._settings.idle_reuse)
            run.opened = None
        feedback = run.outcome.feedback
        run.plan, run.hops = replace(run.plan, then=()), better
        run.only_fresh, run.waiting = True, list(denials)
        while run.waiting:
            await self._one_transaction(run)
        silent = {index for index in denials if run.outcome.results[index].status in UNREACHED}
        if silent:
            run.outcome.results.update({index: denials[index] for index in silent})
            run.outcome.feedback = feedback

    async def _next_protocol(self, run: _Run, result: DeliveryResult | None, *, unreachable: bool) -> bool:
        """Go on with the next protocol where nobody could be reached and another may be used; False: no more.

        Where that one leads nowhere, its "no such host" is not the last word: the first choice may come back.
        """
        if not unreachable or not run.plan.then or not isinstance(run.way, MxWay):
            return False
        before = run.protocol
        plan = await self._planner.follow(run.way, run.domain, run.plan.then)
        if not plan.hops:
            return False
        text = sentence(result) if result is not None else "no host"
        run.plan, run.hops, run.only_fresh = plan, plan.hops, False
        self._passed_over(run, PassedOver(before, plan.hops[0].protocol, "unreachable", text))
        self._tell_passed_over(run)
        return True

    def _tell_passed_over(self, run: _Run) -> None:
        for one in run.plan.passed_over:
            self._passed_over(run, one)

    def _passed_over(self, run: _Run, one: PassedOver) -> None:
        """ITP-7: a fallback is an event, a counter, and a line in the trail."""
        text = f"{one.used} is used instead of {one.protocol} for {run.domain}: {one.text}"
        run.outcome.notes.append(text)
        self._observer.fell_back(run.job.message.id, one.protocol, one.used, one.why, text)

    async def _one_transaction(self, run: _Run) -> None:
        opened = run.opened or await self._session(run)
        if isinstance(opened, Unreached):
            if not await self._next_protocol(run, opened.result, unreachable=opened.is_unreachable):
                run.end(opened.result, run.blame(reached=False))
            return
        run.opened, run.last = opened, opened
        size = self._settings.recipients_per_message or len(run.waiting)
        chunk = tuple(run.waiting[:size])
        going = self._departure.dressed(Job(run.job.message, chunk), *opened.key[:2])
        results = complete(chunk, await opened.connection.send(going))
        opened.carried += 1
        run.outcome.remote = opened.connection.description
        run.outcome.parallel = opened.parallel
        if was_interrupted(results.values()) and not opened.connection.usable:
            self._interrupted(run, opened, results)
            return
        run.take(results)
        if not opened.connection.usable or self._is_worn(opened):
            self._connections.discard(opened)
            run.opened = None

    def _is_worn(self, opened: Opened) -> bool:
        limit = self._settings.messages_per_connection
        return opened.line is None and 0 < limit <= opened.carried

    async def _session(self, run: _Run) -> Opened | Unreached:
        lent = None if run.only_fresh else self._connections.lend(run.hops, self._clock.now())
        if lent is not None:
            return lent
        if run.plan.then and (silent := self._connections.recently_silent(run.hops, self._clock.now())):
            # Each message would wait for the same time-outs before it may go by the next protocol.
            return silent
        opened = await self._connections.open(run.hops, self._clock.now)
        for failure in opened.failures:
            run.outcome.notes.append(_note(failure))
        if isinstance(opened, Opened) and opened.failures:
            text = f"fell back to {opened.connection.description} by {opened.key[0]}"
            run.outcome.notes.append(text)
            first, why = opened.failures[0][0].protocol, "terms" if opened.unmet else "unreachable"
            self._observer.fell_back(run.job.message.id, first, opened.key[0], why, text)
        return opened

    def _interrupted(self, run: _Run, opened: Opened, results: Mapping[int, DeliveryResult]) -> None:
        """The peer may close an idle connection at any moment: then a fresh one is tried, once and at once.

        A fresh one that breaks leaves the mail waiting: no other host is asked, as the broken one may have
        taken the message (and QMTP-2 forbids to turn to SMTP there).
        """
        self._connections.discard(opened)
        run.opened = None
        if opened.reused and not run.only_fresh:
            run.only_fresh = True
            run.hops = tuple(hop for hop in run.hops if not _is_smtp_beside_qmtp(hop, opened))
            return
        run.outcome.results.update(results)
        run.waiting = [index for index in run.waiting if index not in results]
        run.end(next(iter(results.values())), Feedback.BAD)


@dataclass(slots=True)
class _Run:
    job: Job
    way: HostWay | MxWay
    domain: str
    plan: Plan
    outcome: Outcome
    waiting: list[int]
    opened: Opened | None = None
    last: Opened | None = None
    """Where the last transaction was, whether or not it can take another."""
    only_fresh: bool = False
    hops: tuple[Hop, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.hops = self.plan.hops

    @property
    def protocol(self) -> str:
        """What is being tried."""
        return self.plan.hops[0].protocol if self.plan.hops else self.plan.protocol

    def blame(self, *, reached: bool) -> Feedback:
        """What it says of the way as a whole that there is no session. AMTP and MT2 servers that are away, or
        do not believe us, say nothing of the mail for the same domain that goes by SMTP."""
        if reached:
            return Feedback.NONE
        also_by_smtp = isinstance(self.way, MxWay) and "smtp" in self.way.channel.protocols
        return Feedback.NONE if self.protocol in ("amtp", "mt2") and also_by_smtp else Feedback.BAD

    def denied_by_backup(self) -> dict[int, DeliveryResult]:
        """What the server that was asked has put off only because it is a backup."""
        if self.last is None or not self.last.is_backup:
            return {}
        return {i: result for i, result in self.outcome.results.items() if result.status == BACKUP_DENIED}

    def better_hops(self) -> tuple[Hop, ...]:
        """The hops before the backups, unless this very run has tried them all."""
        better = tuple(hop for hop in self.plan.hops if hop.terms is not None and not hop.terms.backup)
        tried = {hop for hop, _, _ in self.last.failures} if self.last is not None else set()
        return () if tried.issuperset(better) else better

    def take(self, results: Mapping[int, DeliveryResult]) -> None:
        """Note the results; who got "too many recipients" goes into the next transaction, as long as each
        one makes progress."""
        again = [index for index, result in results.items() if said_too_many(result)]
        if len(again) == len(results):
            again = []
        self.outcome.results.update({i: result for i, result in results.items() if i not in again})
        self.waiting = again + [index for index in self.waiting if index not in results]
        self.outcome.feedback = Feedback.GOOD

    def end(self, result: DeliveryResult, feedback: Feedback) -> None:
        """The same result for all that wait."""
        self.outcome.results.update(_for_all(self.waiting, result))
        self.outcome.feedback = feedback
        self.waiting = []


def _for_all(recipients: Iterable[int], result: DeliveryResult) -> dict[int, DeliveryResult]:
    return dict.fromkeys(recipients, result)


def _refused(job: Job, way: ErrorWay) -> Outcome:
    result = deferred(way.status, way.text) if way.status[0] == "4" else failed(way.status, way.text)
    return Outcome(_for_all(job.recipients, result))


def _is_smtp_beside_qmtp(hop: Hop, opened: Opened) -> bool:
    """QMTP-2: what failed through a QMTP connection is not retried by SMTP at that host."""
    return opened.key[:2] == ("qmtp", hop.host) and hop.protocol == "smtp"


def _note(failure: Failure) -> str:
    hop, address, result = failure
    where = result.remote or f"{hop.host} [{address}]:{hop.port}"
    return f"{hop.protocol} {where}: {sentence(result)}"
