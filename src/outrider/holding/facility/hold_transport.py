"""`amdp-hold:`: mail that is kept here until its receiver asks for it; what goes out is its envelope (AMDP-2
to AMDP-4).

A local transport, so that holding is an attempt of the queue: retried until it is done, and the envelopes
are stored with its settlement, each exactly once. What the store is told comes before that settlement. After
a crash between the two the message is held again under its queue id, and the store has the ids that were
drawn for it.

The instruction, if there is one, is the way of the envelopes (``amdp-hold:smtp:mx.example``); else they go
where the domain's mail goes, by MX where that would lead here again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from outrider.config.amdp_schema import AmdpHolding
from outrider.config.schema import Delivery
from outrider.delivery.interface import Expansion, Job
from outrider.delivery.results import deferred, failed
from outrider.delivery.schedule import Schedule, schedule_for
from outrider.holding.facility.held_bodies import Measured, keep_body, measure
from outrider.holding.facility.held_errands import write_postage
from outrider.holding.facility.held_records import CopyIds, CopyState, HeldCopy, HeldMessage, NewCopy
from outrider.holding.facility.held_store import HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.held_upkeep import refuse
from outrider.holding.facility.hold_case import PROTOCOL, Case, held_result, submitted_content
from outrider.holding.facility.hold_envelopes import EnvelopeWriter
from outrider.holding.facility.hold_policy import SHORTEST_WAIT_S, Policies, PolicyGate
from outrider.holding.facility.made_here import is_made_here, passed_on
from outrider.holding.facility.observer import FacilityObserver
from outrider.holding.outgoing.outgoing_terms import read_terms
from outrider.holding.outgoing.sender_fields import sender_fields
from outrider.holding.postage.provider_interface import Bill, Paid, Payer, PostageUnavailable
from outrider.lists.mailing import Mailing
from outrider.message.dates import format_date
from outrider.model.envelope import Notify
from outrider.model.result import DeliveryResult
from outrider.protocols.amdp.attachments import write_attachments
from outrider.protocols.amdp.mail_class import ClassError, parse_class
from outrider.protocols.amdp.values import EnvelopeError
from outrider.routing.routes import RouteTable
from outrider.spool.interface import SpoolFull
from outrider.tables.database import StoreUnavailable

PAYING_AT_ONCE = 8
YIELD_EVERY = 32
"""Envelopes written before others get a turn."""
LONGEST_WAIT_S = 3600.0
"""Between two tries of what a policy does not take now."""
SPACE_KNOWN_S = 30.0
"""How long a count of the octets held is gone by."""


@dataclass(frozen=True, slots=True)
class HoldParts:
    """What the transport works with; made anew by a reload, but for the store."""

    store: HeldThreads
    settings: AmdpHolding
    port: int
    """AMDP-Auth-Port."""
    delivery: Delivery
    mailing: Mailing
    routes: RouteTable
    policies: Policies
    observer: FacilityObserver
    clock: Callable[[], float]
    new_ids: Callable[[], CopyIds]
    check_room: Callable[[], None]
    """Raises SpoolFull when the disk has less than is reserved."""
    payer: Payer | None = None
    """None: nothing is paid for; mail that costs is refused."""
    vouched_by: frozenset[str] = frozenset()
    """Classification services that vouch for our classes."""


@dataclass(slots=True)
class _Copy:
    """A copy with the envelope that is written for it."""

    copy: NewCopy
    content: bytes


class HoldTransport:
    """See the module."""

    def __init__(self, parts: HoldParts) -> None:
        self._parts = parts
        self._gate = PolicyGate(
            parts.policies,
            parts.store,
            parts.observer,
            pays=parts.payer is not None,
            pushes=not parts.settings.unauthenticated,
            vouched_by=parts.vouched_by,
        )
        self._writer = EnvelopeWriter(parts.settings, parts.port, parts.mailing, parts.routes)
        self._turns: dict[str, asyncio.Lock] = {}
        self._space: tuple[float, int] = (0.0, 0)

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """Hold the message for each of the recipients."""
        if read_terms(job.message.facts) is None and is_made_here(job.message):
            parts = self._parts
            return passed_on(job, instruction, parts.mailing, parts.routes, parts.clock())
        refusal = await self._refusal(job)
        if refusal is not None:
            return Expansion(dict.fromkeys(job.recipients, refusal))
        # The items of one message come at the same time, and its body is kept once.
        turn = self._turns.setdefault(job.message.id, asyncio.Lock())
        try:
            async with turn:
                return await self._held(self._case(job, instruction), job.recipients)
        except (StoreUnavailable, PostageUnavailable) as error:
            self._parts.observer.facility_failed("holding a message", error)
            waits = deferred(
                "4.3.0", "the holding facility cannot work now; the mail waits", protocol=PROTOCOL
            )
            return Expansion(dict.fromkeys(job.recipients, waits))
        except (EnvelopeError, ClassError) as error:
            words = f"no envelope can be written for this message: {error}"
            return Expansion(dict.fromkeys(job.recipients, failed("5.6.0", words, protocol=PROTOCOL)))
        finally:
            if not turn.locked():
                self._turns.pop(job.message.id, None)

    async def _refusal(self, job: Job) -> DeliveryResult | None:
        terms = read_terms(job.message.facts)
        if terms is None:
            # AMDP-2: default deny. Whoever may hand mail in has its terms settled before it is stored.
            words = "only mail of this facility's own outgoing gateways is held"
            return failed("5.7.1", words, protocol=PROTOCOL)
        if terms.expires and terms.expires <= self._parts.clock():
            return failed("5.4.7", "the sender let it expire before it could be held", protocol=PROTOCOL)
        try:
            self._parts.check_room()
        except SpoolFull:
            return deferred("4.3.1", "there is no room to hold it now", protocol=PROTOCOL)
        return await self._space_refusal(job.message.size)

    async def _space_refusal(self, size: int) -> DeliveryResult | None:
        limit = self._parts.settings.space
        if not limit:
            return None
        now = self._parts.clock()
        counted_at, octets = self._space
        if now - counted_at > SPACE_KNOWN_S:
            try:
                octets = await self._parts.store.read(lambda store: store.octets_held())
            except StoreUnavailable as error:
                self._parts.observer.facility_failed("counting what is held", error)
                return deferred("4.3.0", "the holding facility cannot work now", protocol=PROTOCOL)
            counted_at = now
        if octets + size > limit:
            self._space = (counted_at, octets)
            words = "the holding facility is full ([amdp.holding] space)"
            return deferred("4.3.1", words, protocol=PROTOCOL)
        self._space = (counted_at, octets + size)
        return None

    def _case(self, job: Job, instruction: str) -> Case:
        message, now, settings = job.message, self._parts.clock(), self._parts.settings
        terms = read_terms(message.facts)
        assert terms is not None
        assert message.content is not None, "mail on its way has content"
        latest = now + settings.max_keep
        expires = min(terms.expires, latest) if terms.expires else now + min(settings.keep, settings.max_keep)
        addresses = [one.address for one in message.envelope.recipients]
        content = submitted_content(message.content)
        fields = sender_fields(content.headers, terms.sender, addresses, message.received_at)
        return Case(
            message,
            content,
            terms,
            parse_class(str(terms.mail_class)),
            fields,
            now,
            max(int(expires), int(now)),
            instruction,
        )

    async def _held(self, case: Case, numbers: Sequence[int]) -> Expansion:
        taken = await self._gate.judged(case, numbers)
        if taken:
            measured = await measure(case.message.trace, case.content)
            held = self._message(case, measured)
            drawn = await self._drawn(case, taken, measured)
            await self._kept(case, held, drawn, measured)
        case.made += [self._writer.pushed(case, number) for number in case.pushed]
        return Expansion(case.results, tuple(case.made), self._schedule(case))

    def _schedule(self, case: Case) -> Schedule | None:
        if not case.wait_s:
            return None
        usual = schedule_for(
            self._parts.delivery,
            received_at=case.message.received_at,
            hold_until=case.message.envelope.hold_until,
            is_bounce=False,
        )
        return replace(usual, waits=(min(max(case.wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S),), jitter=0.1)

    # --- what is kept ---------------------------------------------------------------------------------------

    def _message(self, case: Case, measured: Measured) -> HeldMessage:
        envelope = case.message.envelope
        return HeldMessage(
            id=case.message.id,
            sender=str(case.terms.sender),
            reports_to="" if envelope.sender is None else str(envelope.sender),
            subject=case.fields.subject,
            mail_class=str(case.mail_class),
            language=case.terms.language,
            attachments=write_attachments("AMDP-Attachments", measured.attachments),
            date=float(case.fields.date),
            size=measured.digest.length,
            digest=str(measured.digest),
            held_at=case.now,
            message_id=case.fields.message_id,
            references=case.fields.references,
            envelope_id=envelope.envelope_id,
        )

    async def _drawn(self, case: Case, numbers: Sequence[int], measured: Measured) -> dict[int, _Copy]:
        """New ids and envelopes for them."""
        drawn: dict[int, _Copy] = {}
        for count, number in enumerate(numbers):
            if count % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
            recipient = case.message.envelope.recipients[number]
            ids, envelope = self._parts.new_ids(), self._parts.mailing.new_id(case.now)
            timestamp, stated = int(case.now), case.expires
            content, fields = self._writer.written(case, number, ids, (timestamp, stated), envelope, measured)
            copy = NewCopy(
                number, ids, str(recipient.address), timestamp, stated, fields, envelope,
                case.terms.receipt or bool(recipient.notify & Notify.SUCCESS), recipient.original,
            )  # fmt: skip
            drawn[number] = _Copy(copy, content)
        return drawn

    async def _kept(
        self, case: Case, held: HeldMessage, drawn: Mapping[int, _Copy], measured: Measured
    ) -> None:
        """Everything durable: body, message, copies; then their envelopes are made."""
        body = await keep_body(
            self._parts.store, case.message, case.content, self._parts.new_ids().id, case.now
        )
        free = [one.copy for number, one in drawn.items() if number not in case.prices]
        costly = [one.copy for number, one in drawn.items() if number in case.prices]

        def work(store: HeldStore) -> dict[int, HeldCopy]:
            fresh = store.hold_message(held, body.name)
            if fresh and not body.written:
                raise StoreUnavailable("its content went a moment ago, with the last of its other copies")
            if fresh:
                for number, octets in enumerate(body.inline):
                    store.add_part(body.name, number, octets)
            known = store.add_copies(held.id, free)
            known |= store.add_copies(held.id, costly, CopyState.PREPARED)
            return known

        known = await self._parts.store.write(work)
        fresh = [number for number in drawn if number not in known and number not in case.prices]
        for number in fresh:
            self._go(case, number, drawn[number].copy.ids, drawn[number].copy.envelope, drawn[number].content)
        again = [number for number in drawn if number not in fresh]
        if again:
            await self._announced(case, again, drawn, known, measured)
        self._parts.observer.copies_held(
            case.message.id, held.sender, held.mail_class, held.size, len(case.made)
        )

    async def _announced(
        self,
        case: Case,
        numbers: Sequence[int],
        drawn: Mapping[int, _Copy],
        known: Mapping[int, HeldCopy],
        measured: Measured,
    ) -> None:
        """Copies that cost something, and those of an attempt that a crash cut off: their envelopes are
        written with what was drawn then."""
        turn = asyncio.Semaphore(PAYING_AT_ONCE)

        async def one(number: int) -> None:
            before = known.get(number)
            new = drawn[number].copy
            ids = new.ids if before is None else before.ids
            times = (new.timestamp, new.stated) if before is None else (before.timestamp, before.stated)
            envelope = new.envelope if before is None else before.envelope
            postage = noted = ""
            if number in case.prices and (before is None or not before.state.is_final):
                async with turn:
                    paid = await self._paid(case, number, ids)
                if isinstance(paid, DeliveryResult):
                    case.results[number] = paid
                    return
                postage, noted = paid
            content, fields = self._writer.written(case, number, ids, times, envelope, measured, postage)
            waits = await self._parts.store.write(
                lambda store: store.announce(case.message.id, number, fields, noted)
            )
            if waits:
                self._go(case, number, ids, envelope, content)
            else:
                case.results[number] = held_result(
                    "it was withdrawn, or had expired, before its envelope was sent"
                )

        await asyncio.gather(*(one(number) for number in numbers))

    async def _paid(self, case: Case, number: int, ids: CopyIds) -> tuple[str, str] | DeliveryResult:
        payer = self._parts.payer
        assert payer is not None, "without a payer nothing that costs is taken"
        price, report = case.prices[number]
        bill = Bill(
            ids.id, case.terms.sender.domain, case.address(number).domain, price, float(case.expires),
            report.pay_currency, report.pay_method, report.pay_account,
        )  # fmt: skip
        outcome = await payer.pay(bill, case.now)
        if isinstance(outcome, Paid):
            return outcome.receipt, write_postage(bill, outcome.receipt)
        words = f"postage: {outcome.words}"
        if outcome.temporary:
            return deferred("4.7.1", words, protocol=PROTOCOL)
        await self._parts.store.write(lambda store: refuse(store, case.message.id, number, case.now))
        return failed("5.7.1", words, protocol=PROTOCOL)

    def _go(self, case: Case, number: int, ids: CopyIds, envelope: str, octets: bytes) -> None:
        case.made.append(self._writer.message(case, number, ids, envelope, octets))
        words = f"held as {case.message.id} until {format_date(case.expires)}; its envelope is {envelope}"
        case.results[number] = held_result(words)
