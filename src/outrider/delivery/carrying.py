"""Carries one message to some of its recipients by one way: plan, connect, send, and what came of it.

Every recipient gets a result, whatever happens. What was met on the way (hosts that did not answer, terms not
met, a second choice taken) is told in notes, which become part of the message's trail (ITP-7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from outrider.config.schema import Delivery
from outrider.delivery.clock import Clock
from outrider.delivery.connections import Connections, Failure, Opened, Unreached
from outrider.delivery.interface import Hop, Job, LocalTransport
from outrider.delivery.next_hops import HopPlanner, Plan
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.results import (
    complete,
    deferred,
    failed,
    own_failure,
    said_too_many,
    sentence,
    was_interrupted,
)
from outrider.model.result import DeliveryResult
from outrider.routing.ways import ErrorWay, LocalWay, Way
from outrider.spool.interface import ContentDamaged, SpoolUnavailable


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
    ) -> None:
        self._planner = planner
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
                    return await self._by_hops(job, await self._planner.plan(way, domain))
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
        results = await transport.deliver(job, way.instruction)
        return Outcome(complete(job.recipients, results))

    async def _by_hops(self, job: Job, plan: Plan) -> Outcome:
        if not plan.hops:
            result = plan.result or own_failure("choosing a host")
            feedback = Feedback.BAD if plan.unreachable else Feedback.NONE
            return Outcome(_for_all(job.recipients, result), feedback)
        run = _Run(job, plan.hops, Outcome({}), list(job.recipients))
        try:
            while run.waiting:
                await self._one_transaction(run)
        except BaseException:
            # Unforeseen, or the server stops: what is said on this connection now has no meaning any more.
            if run.opened is not None:
                run.opened.connection.abort()
                self._connections.discard(run.opened)
            raise
        if run.opened is not None:
            self._connections.give_back(run.opened, self._clock.now(), self._settings.idle_reuse)
        return run.outcome

    async def _one_transaction(self, run: _Run) -> None:
        opened = run.opened or await self._session(run)
        if isinstance(opened, Unreached):
            run.end(opened.result, Feedback.BAD)
            return
        run.opened = opened
        size = self._settings.recipients_per_message or len(run.waiting)
        chunk = tuple(run.waiting[:size])
        results = complete(chunk, await opened.connection.send(Job(run.job.message, chunk)))
        opened.carried += 1
        run.outcome.remote = opened.connection.description
        if was_interrupted(results.values()) and not opened.connection.usable:
            self._interrupted(run, opened, results)
            return
        run.take(results)
        if not opened.connection.usable or self._is_worn(opened):
            self._connections.discard(opened)
            run.opened = None

    def _is_worn(self, opened: Opened) -> bool:
        limit = self._settings.messages_per_connection
        return 0 < limit <= opened.carried

    async def _session(self, run: _Run) -> Opened | Unreached:
        lent = None if run.only_fresh else self._connections.lend(run.hops, self._clock.now())
        if lent is not None:
            return lent
        opened = await self._connections.open(run.hops, self._clock.now)
        for failure in opened.failures:
            run.outcome.notes.append(_note(failure))
        if isinstance(opened, Opened) and opened.failures:
            text = f"fell back to {opened.connection.description} by {opened.key[0]}"
            run.outcome.notes.append(text)
            self._observer.fell_back(run.job.message.id, text)
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
    hops: tuple[Hop, ...]
    outcome: Outcome
    waiting: list[int]
    opened: Opened | None = None
    only_fresh: bool = False

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
