"""`amdp-callback:`: an envelope was taken; is it genuine, and what becomes of it? (AMDP-8 to AMDP-11)

An attempt of the queue, so that it is made again until it has an outcome, and what comes of it is stored in
one transaction with its end. What an attempt finds, in this order: whether the envelope can be read; whether
the address that brought it and the name that is to be called are facilities of the sender's domain; what
classification services say; what we publish; what the holder answers. The first that speaks against it ends
it: dropped, as a state that is counted and explained, and nobody is told (AMDP-10).

A route behind the colon is a policy rule's: it holds for what comes out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from outrider.config.amdp_schema import AmdpIncoming
from outrider.delivery.interface import Expansion, Job
from outrider.holding.incoming.abuse import AbuseDesk
from outrider.holding.incoming.arrival_store import Arrival, ArrivalState, DroppedEnvelope, Why
from outrider.holding.incoming.deciding import (
    Decider,
    Decision,
    Fate,
    IncomingRules,
    Standing,
    Vouching,
    is_mass_mail,
)
from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.messages import (
    FETCH,
    Making,
    call_back_facts,
    connecting_address,
)
from outrider.holding.incoming.mhf_check import CannotTell, Claim, HolderCheck, plain
from outrider.holding.incoming.observer import IncomingObserver
from outrider.holding.incoming.questions import HolderAway, Question, Questions, Refusal
from outrider.holding.incoming.reports import Evidence
from outrider.holding.subscriptions.wishes import Standing as Wish
from outrider.holding.subscriptions.wishes import Wishes
from outrider.holding.web import IPAddress
from outrider.model.address import Domain
from outrider.model.envelope import Notify, Recipient
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.amdp.callback import Query
from outrider.protocols.amdp.envelope import EnvelopeError, HeldEnvelope, fields_digest, read_envelope
from outrider.protocols.amdp.report import PolicyReport
from outrider.tables.database import StoreUnavailable

PROTOCOL: Final = "amdp"
SKEW_S: Final = 300.0
"""How much longer an envelope is good here than its holder says: clocks differ."""
AHEAD_S: Final = 86_400.0
"""How far a holder's clock may be ahead of ours."""
GIVE_UP_S: Final = 5 * 86_400.0
"""How long a fault of our own keeps an envelope waiting that cannot even be read."""
BURST: Final = 20
"""Fetches from one holder within the window that go at once; more are spread."""
MOST_HOLDERS: Final = 10_000


class Classes(Protocol):
    """What classification services say; see `classification.Classes`."""

    async def vouched(self, domain: Domain) -> Vouching:
        """Never raises for their reasons."""
        ...


class Gate(Protocol):
    """Who has passed, for AMDP-7; see `holders.Holders`."""

    async def passed(self, address: IPAddress | None) -> None:
        """An envelope of this address has been through its call-back. Raises StoreUnavailable."""
        ...

    async def failed(self, address: IPAddress | None) -> None:
        """An envelope of this address was dropped. Raises StoreUnavailable."""
        ...


class Spreading:
    """When fetches are due: at once, or spread over a window where many come of one holder (AMDP-22)."""

    def __init__(self, window_s: float, chance: Callable[[], float]) -> None:
        self._window_s = window_s
        self._chance = chance
        self._recent: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def due(self, holder: str, now: float, *, mass: bool) -> float:
        """The moment of one fetch."""
        began, count = self._recent.get(holder, (now, 0))
        if not began <= now < began + self._window_s:
            began, count = now, 0
        self._recent[holder] = (began, count + 1)
        self._recent.move_to_end(holder)
        if len(self._recent) > MOST_HOLDERS:
            self._recent.popitem(last=False)
        return now + self._chance() * self._window_s if mass or count >= BURST else now


@dataclass(frozen=True, slots=True)
class CallbackParts:
    """What the transport works with; made anew by a reload, all but what it asks."""

    settings: AmdpIncoming
    rules: IncomingRules
    report: PolicyReport
    """What we publish."""
    check: HolderCheck
    questions: Questions
    arrivals: Arrivals
    gate: Gate
    making: Making
    abuse: AbuseDesk
    spreading: Spreading
    observer: IncomingObserver
    clock: Callable[[], float]
    classes: Classes | None = None
    """None: no service was chosen."""
    wishes: Wishes | None = None
    """What people here have said about whose mail they want; None: nobody keeps that."""


@dataclass(slots=True)
class _Case:
    """One envelope."""

    message: StoredMessage
    recipients: tuple[int, ...]
    now: float
    route: str
    address: IPAddress | None
    envelope: HeldEnvelope | None = None
    how: str = ""
    """By what its holder was found genuine; "" = it was not, yet."""
    decision: Decision | None = None
    reports: list[NewMessage] = field(default_factory=list)

    @property
    def expires(self) -> float:
        known = self.envelope
        return self.message.received_at + GIVE_UP_S if known is None else known.expires + SKEW_S


class CallbackTransport:
    """See the module."""

    def __init__(self, parts: CallbackParts) -> None:
        self._parts = parts
        self._decider = Decider(parts.rules, parts.report)

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """One attempt."""
        message = job.message
        address = connecting_address(message)
        case = _Case(message, job.recipients, self._parts.clock(), instruction, address)
        try:
            try:
                return await self._called_back(case)
            except Refusal as refusal:
                return await self._dropped(case, refusal)
        except (HolderAway, CannotTell) as error:
            self._parts.observer.holder_away(message.id, _holder(case), str(error))
            return self._waits(case, "4.4.1", str(error))
        except StoreUnavailable as error:
            self._parts.observer.incoming_failed("asking about an envelope", error, message.id)
            return self._waits(case, "4.3.0", "what is known of envelopes cannot be read or written now")
        except Exception as error:
            # It must never become a failure of the queue, which tells senders.
            self._parts.observer.incoming_failed("asking about an envelope", error, message.id)
            return self._waits(case, "4.3.0", "a fault in this server; the envelope waits")

    # --- one attempt ----------------------------------------------------------------------------------------

    async def _called_back(self, case: _Case) -> Expansion:
        envelope = self._read(case)
        claim = Claim(plain(_known(case.address)), str(envelope.holder), envelope.domain, envelope.holder_id)
        finding = await self._parts.check.find(claim)
        if not finding.genuine:
            raise Refusal(Why.NOT_GENUINE, f"its holder is not genuine: {finding.words}")
        case.how = finding.words
        decision = await self._decided(case, envelope)
        arrival = await self._parts.questions.ask(self._question(case, envelope, decision))
        await self._parts.gate.passed(case.address)
        return self._goes_on(case, envelope, decision, arrival)

    def _read(self, case: _Case) -> HeldEnvelope:
        content = case.message.content
        try:
            case.envelope = envelope = read_envelope(b"" if content is None else content.headers)
        except EnvelopeError as error:
            raise Refusal(Why.MALFORMED, f"it is no envelope: {error}") from error
        if case.address is None:
            raise Refusal(
                Why.NO_ADDRESS, "it did not come over the network, so that nobody can be held to it"
            )
        if case.now >= case.expires:
            raise Refusal(Why.EXPIRED, "it expired before its holder could be asked")
        if envelope.timestamp > case.message.received_at + AHEAD_S:
            raise Refusal(Why.TIME, "it is dated far ahead")
        return envelope

    async def _decided(self, case: _Case, envelope: HeldEnvelope) -> Decision:
        parts = self._parts
        is_stranger = parts.rules.standing(envelope.domain) is Standing.UNCLASSIFIED
        vouching = None
        if parts.classes is not None and is_stranger:
            vouching = await parts.classes.vouched(envelope.domain)
        wish = await self._wish(envelope, vouching)
        decision = self._decider.decide(envelope, vouching, case.message.received_at, wish)
        case.decision = decision
        if decision.fate is Fate.DROP:
            raise Refusal(_why(decision), decision.words)
        return decision

    async def _wish(self, envelope: HeldEnvelope, vouching: Vouching | None) -> Wish | None:
        """What the recipient has said of such mail."""
        if self._parts.wishes is None:
            return None
        mail_class = str(envelope.mail_class)
        vouched = vouching is not None and vouching.covers(mail_class)
        return await self._parts.wishes.standing(
            envelope.recipient, envelope.sender, mail_class, vouched=vouched
        )

    def _question(self, case: _Case, envelope: HeldEnvelope, decision: Decision) -> Question:
        assert case.message.content is not None, "the envelope has been read"
        fetches = decision.fate is Fate.FETCH
        query = Query(
            envelope.id,
            envelope.timestamp,
            envelope.expires,
            fields_digest(case.message.content.headers),
            envelope.keys,
        )
        arrival = Arrival(
            holder=str(envelope.holder),
            port=envelope.port,
            id=envelope.id,
            message=case.message.id,
            domain=str(envelope.domain),
            recipient=str(envelope.recipient),
            confirmation="",
            digest=str(envelope.digest),
            how=case.how,
            fetched_as=self._parts.making.mailing.new_id(case.now),
            state=ArrivalState.FETCHING if fetches else ArrivalState.DELIVERED,
            expires=envelope.expires,
            at=case.now,
        )
        return Question(query, envelope.recipient, arrival, decision.price, envelope.postage)

    def _goes_on(
        self, case: _Case, envelope: HeldEnvelope, decision: Decision, arrival: Arrival
    ) -> Expansion:
        """What was remembered with the answer counts, also where settings have changed since."""
        parts, now = self._parts, self._parts.clock()
        facts = call_back_facts(envelope, arrival, decision, now)
        if arrival.state is ArrivalState.DELIVERED:
            recipients = self._recipients(case, case.route)
            made = parts.making.handed_over(case.message, recipients, envelope, arrival, now, facts)
            words = f"{decision.words}; its envelope goes on as {made.id}"
        else:
            recipients = self._recipients(case, FETCH + case.route)
            mass = is_mass_mail(envelope)
            due = parts.spreading.due(arrival.holder, now, mass=mass)
            made = parts.making.fetching(case.message, recipients, now, due, facts, mass=mass)
            words = f"{decision.words}; {made.id} fetches it"
        fate = "hand over" if arrival.state is ArrivalState.DELIVERED else "fetch"
        parts.observer.envelope_confirmed(
            case.message.id, made.id, arrival.domain, arrival.holder, arrival.how, fate
        )
        text = f"called back: {arrival.how}; {words}"
        return Expansion(self._all(case, Kind.DELIVERED, "2.0.0", text), (made,))

    @staticmethod
    def _recipients(case: _Case, route: str) -> tuple[Recipient, ...]:
        named = [case.message.envelope.recipients[index] for index in case.recipients]
        return tuple([Recipient(one.address, Notify.NEVER, one.original, route) for one in named])

    # --- ends -----------------------------------------------------------------------------------------------

    async def _dropped(self, case: _Case, refusal: Refusal) -> Expansion:
        """AMDP-10: a state that is counted and explained; silence toward the holder, who may be forged."""
        parts, envelope, message = self._parts, case.envelope, case.message
        domain = "" if envelope is None else str(envelope.domain)
        if envelope is not None:
            await parts.questions.refund(envelope.postage, message.id)
        dropped = DroppedEnvelope(message.id, refusal.why, refusal.words, domain, _holder(case), case.now)
        await parts.arrivals.drop(dropped)
        if case.how and refusal.why not in (Why.UNKNOWN, Why.RECIPIENT):
            await parts.gate.passed(case.address)
        else:
            await parts.gate.failed(case.address)
        made: list[NewMessage] = []
        if case.decision is not None and case.decision.breaks_policy:
            made += await parts.abuse.report(self._evidence(case, refusal.words), refusal.why.value)
        parts.observer.envelope_dropped(message.id, refusal.why.value, domain, _holder(case), refusal.words)
        return Expansion(self._all(case, Kind.DROPPED, "2.7.1", refusal.words), tuple(made))

    def _evidence(self, case: _Case, words: str) -> Evidence:
        envelope, message = case.envelope, case.message
        assert envelope is not None, "a decision was taken on it"
        assert message.content is not None, "it has been read"
        return Evidence(
            message.id, str(envelope.domain), words, case.how, message.content.headers, case.address,
            str(envelope.sender), str(envelope.recipient), message.received_at,
        )  # fmt: skip

    def _waits(self, case: _Case, status: str, text: str) -> Expansion:
        return Expansion(
            self._all(case, Kind.DEFERRED, status, text), (), self._parts.making.schedule(case.expires)
        )

    @staticmethod
    def _all(case: _Case, kind: Kind, status: str, text: str) -> dict[int, DeliveryResult]:
        result = DeliveryResult(kind, status, text, remote=_holder(case), protocol=PROTOCOL)
        return dict.fromkeys(case.recipients, result)


def _holder(case: _Case) -> str:
    return "" if case.envelope is None else str(case.envelope.holder)


def _known(address: IPAddress | None) -> IPAddress:
    if address is None:
        raise AssertionError("an envelope without a connecting address is dropped before")
    return address


def _why(decision: Decision) -> Why:
    if decision.standing is Standing.DENIED:
        return Why.DENIED
    return Why.CLASS if decision.lacks_voucher else Why.POLICY
