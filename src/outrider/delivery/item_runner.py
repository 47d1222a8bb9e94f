"""One item from lease to settlement: carried way by way, the outcome recorded come what may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from outrider.config.schema import Delivery
from outrider.delivery.carrying import Carrier, Feedback, Outcome
from outrider.delivery.clock import Clock
from outrider.delivery.connections import Connections
from outrider.delivery.interface import EnvelopeWatch, Job, LocalTransport
from outrider.delivery.lanes import Entry
from outrider.delivery.mt2_departure import NOTHING_RIDES_ALONG, Departure
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.reports import Reporting
from outrider.delivery.settlement import Attempt, Settled, settle
from outrider.model.message import Event, Leased, RecipientState, RecipientStatus, Settlement
from outrider.model.result import Kind
from outrider.routing.routes import RouteTable
from outrider.routing.ways import MxWay, Way
from outrider.spool.interface import LeaseLost, Spool, SpoolUnavailable

T = TypeVar("T")
Leases = tuple[Leased, ...]
SETTLE_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""A spool that cannot record a result is asked again and again: giving up would send the message twice."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about delivery; made anew and exchanged as a whole by a reload."""

    delivery: Delivery
    routes: RouteTable
    reporting: Reporting
    planner: HopPlanner
    transports: Mapping[str, LocalTransport]
    departure: Departure = NOTHING_RIDES_ALONG
    envelopes: EnvelopeWatch | None = None
    """Who hears of AMDP's envelopes; None: nothing is held here."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An attempt that is settled, durably."""

    settled: Settled
    leased: Leases
    """Of the messages that came of it: what goes on from memory."""


class ItemRunner:
    """Carries and records items under one set of rules."""

    def __init__(
        self,
        spool: Spool,
        rules: Rules,
        connections: Connections,
        clock: Clock,
        chance: Callable[[], float],
        observer: DeliveryObserver,
    ) -> None:
        self.rules = rules
        self._spool = spool
        self._clock = clock
        self._chance = chance
        self._observer = observer
        self._carrier = Carrier(
            rules.planner,
            connections,
            rules.transports,
            rules.delivery,
            clock,
            observer,
            rules.departure,
        )

    async def carry(self, entry: Entry) -> Outcome:
        """Deliver to every pending recipient. Never raises but for cancellation."""
        leased = entry.leased
        started = self._clock.now()
        groups = self._by_way(entry)
        outcome = Outcome({})
        for way, indexes in groups:
            domain = leased.message.envelope.recipients[indexes[0]].address.domain
            self._observer.attempt_started(leased.item.key, entry.destination, str(way), len(indexes))
            part = await self._carrier.carry(Job(leased.message, tuple(indexes)), way, domain)
            outcome.results.update(part.results)
            outcome.notes += part.notes
            outcome.made += part.made
            outcome.schedule = part.schedule or outcome.schedule
            outcome.remote = part.remote or outcome.remote
            outcome.parallel = max(outcome.parallel, part.parallel)
            if part.feedback is not Feedback.NONE:
                outcome.feedback = part.feedback
        pending = sum(not result.is_final for result in outcome.results.values())
        self._observer.attempt_finished(
            leased.item.key,
            entry.destination,
            len(outcome.results),
            pending,
            self._clock.now() - started,
        )
        return outcome

    def _by_way(self, entry: Entry) -> list[tuple[Way, list[int]]]:
        """Recipients that go the same way. As a rule there is one group: that is what an item is."""
        recipients = entry.leased.message.envelope.recipients
        pending = [status.index for status in entry.leased.item.recipients if not status.state.is_final]
        ways = [self.rules.routes.find(recipients[index]).way for index in pending]
        if len(ways) == 1:
            return [(ways[0], pending)]
        groups: dict[tuple[Way, str], list[int]] = {}
        for index, way in zip(pending, ways, strict=True):
            domain = recipients[index].address.domain if isinstance(way, MxWay) else ""
            groups.setdefault((way, domain), []).append(index)
        return [(way, indexes) for (way, _), indexes in groups.items()]

    async def record(
        self, attempt: Attempt, *, not_before: float = 0.0, lease_until: float = 0.0
    ) -> Recorded | None:
        """Settle the attempt, however long the spool takes. None when that could not be: the lease was lost,
        or the item is held because of a fault. With `lease_until`, what is due of the messages that come of
        it is leased, to go on from memory."""
        try:
            settled = await self._settled(attempt, not_before)
            leased = await self._store(settled.settlement, lease_until)
        except Exception as error:
            self._observer.own_failure("recording a result", error, attempt.leased.message.id)
            await self._store_bare(attempt)
            return None
        if leased is None:
            return None
        self._tell(attempt, settled)
        return Recorded(settled, leased)

    async def _settled(self, attempt: Attempt, not_before: float) -> Settled:
        """What to record. A report may enclose a body that cannot be read just now: no descriptor is left."""
        tries = 0
        while True:
            try:
                delivery, reporting = self.rules.delivery, self.rules.reporting
                return settle(attempt, delivery, reporting, self._chance(), not_before=not_before)
            except SpoolUnavailable as error:
                tries = await self._later(error, tries)

    async def _store(self, settlement: Settlement, lease_until: float = 0.0) -> Leases | None:
        """What was leased of the messages that come of it; None: the lease was lost."""
        tries = 0
        while True:
            try:
                return await self._spool.settle(settlement, lease_until=lease_until)
            except LeaseLost:
                # After a commit of unknown outcome this is how a stored settlement shows.
                self._observer.lease_lost(settlement.key)
                return None
            except SpoolUnavailable as error:
                tries = await self._later(error, tries)

    async def _later(self, error: SpoolUnavailable, tries: int) -> int:
        """Wait until the spool is asked again, however often: giving up would send the message twice."""
        self._observer.spool_failed("recording a result", str(error))
        wait = SETTLE_RETRY_S[min(tries, len(SETTLE_RETRY_S) - 1)]
        await self._clock.wait(asyncio.Event(), self._clock.now() + wait)
        return tries + 1

    async def _store_bare(self, attempt: Attempt) -> None:
        """Recording failed for a reason nobody foresaw. What was delivered must not be sent again, and what
        was not must not vanish without a report: it is held for a person."""
        after = tuple(_bare(status, attempt) for status in attempt.leased.item.recipients)
        held = "a fault in this server while recording an attempt"
        item = attempt.leased.item
        settlement = Settlement(
            item.key,
            item.lease,
            after,
            next_attempt_at=attempt.now,
            hold_reason=held,
            events=(Event(attempt.now, "held", held),),
            at=attempt.now,
        )
        try:
            await self._store(settlement)
        except Exception as error:
            # The lease runs out by itself, and the item is tried again.
            self._observer.own_failure("recording a result", error, attempt.leased.message.id)

    def _tell(self, attempt: Attempt, settled: Settled) -> None:
        message = attempt.leased.message
        age = attempt.now - message.received_at
        attempts = attempt.leased.item.attempts + (1 if attempt.counts else 0)
        for recipient, result, text in settled.told:
            self._observer.recipient_settled(message.id, recipient, result, text, age, attempts)
            if message.envelope.link_token and self.rules.envelopes is not None:
                self.rules.envelopes.envelope_settled(message, result)
        report = settled.report
        if report.message is not None and report.event is not None:
            to = str(report.message.envelope.recipients[0].address)
            self._observer.report_made(message.id, report.message.id, to, report.event.text)
        elif report.withheld:
            self._observer.report_withheld(message.id, report.withheld)


def _bare(status: RecipientStatus, attempt: Attempt) -> RecipientStatus:
    result = attempt.results.get(status.index)
    if status.state.is_final or result is None or attempt.made:
        # What was to be made of the message is not stored either: it is not delivered yet.
        return status
    delivered = {
        Kind.DELIVERED: RecipientState.DELIVERED,
        Kind.RELAYED: RecipientState.RELAYED,
        Kind.DROPPED: RecipientState.DROPPED,
    }
    return replace(
        status, state=delivered.get(result.kind, status.state), attempts=status.attempts + 1, last=result
    )
