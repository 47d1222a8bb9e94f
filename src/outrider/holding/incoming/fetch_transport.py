"""`amdp-fetch:`: this server pulls a message from its holder and takes it in like any other mail (AMDP-11,
AMDP-22, AMDP-23).

The message is stored under a queue id that was chosen, and remembered, when the holder confirmed the
envelope: an attempt that is made again after a crash looks for that id first, so that it is stored once.
Pulled mail passes the same policy as pushed mail, in a session of its own, whose facts say what the
call-back has proven. A holder that is away is tried until the envelope expires; then, or where the message
is gone or is not the one that was told of, its reader hears so: nothing is lost in silence (SEC-189).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from outrider.delivery.interface import Expansion, Job
from outrider.holding.incoming.abuse import AbuseDesk
from outrider.holding.incoming.arrival_store import Arrival, ArrivalState
from outrider.holding.incoming.callback_transport import PROTOCOL, SKEW_S
from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.messages import Making, amdp_facts, connecting_address
from outrider.holding.incoming.observer import IncomingObserver
from outrider.holding.incoming.pulled_content import NotTaken, PulledContent, Unfit, Untrue, settled
from outrider.holding.incoming.questions import HolderAway
from outrider.holding.incoming.reports import Evidence
from outrider.holding.pages.attachment_list import attachments_of
from outrider.holding.web import CallFailed, StreamedAnswer, WebCaller
from outrider.model.content import Content
from outrider.model.envelope import BodyType
from outrider.model.facts import Facts, Provenance
from outrider.model.message import MessageId, NewMessage, StoredMessage
from outrider.model.reply import Reply
from outrider.model.result import DeliveryResult, Kind
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.protocols.amdp.attachments import differences
from outrider.protocols.amdp.digest import DigestError
from outrider.protocols.amdp.envelope import EnvelopeError, HeldEnvelope, read_envelope
from outrider.protocols.amdp.json_forms import encode
from outrider.protocols.amdp.retrieval import MESSAGE_PATH, MessageAsked
from outrider.reception.interface import Decision, Reception, Session, TlsSummary, Transaction
from outrider.spool.interface import NotFound, Spool, SpoolError
from outrider.tables.database import StoreUnavailable

MOST_WAITING: Final = 40
"""Fetches from one holder that wait here at once; others wait in the queue."""
CONTENT_AWAITED: Final = 354
REFUSED: Final = "refused"
"""Why a message is lost that a rule of ours does not take."""
CALLED_OVER: Final = TlsSummary("TLSv1.2", "or later, by HTTPS")
"""What is known of the TLS of a call: nothing older is spoken."""


class Lost(Exception):
    """The message cannot be had, now or ever. `why` is a word for counters, the words are for its reader."""

    def __init__(self, why: str, words: str, *, lie: bool = False) -> None:
        super().__init__(words)
        self.why = why
        self.words = words
        self.lie = lie
        """It is not what the envelope told of: worth a report."""


@dataclass(frozen=True, slots=True)
class FetchParts:
    """What the transport works with."""

    caller: WebCaller
    arrivals: Arrivals
    spool: Spool
    reception: Callable[[], Reception]
    """The one in use, after a reload too."""
    making: Making
    abuse: AbuseDesk
    observer: IncomingObserver
    clock: Callable[[], float]
    hostname: str
    new_session_id: Callable[[], str]
    refund: Callable[[str, MessageId], Awaitable[None]]
    """Pays back what an envelope's postage has cost; see `Questions.refund`."""
    concurrency: int = 4
    """Fetches at once from one holder (SEC-187)."""


class Turns:
    """So many at once from one holder, and so many that wait for it."""

    def __init__(self, at_once: int) -> None:
        self._at_once = max(1, at_once)
        self._present: dict[str, tuple[asyncio.Semaphore, list[int]]] = {}

    @asynccontextmanager
    async def turn(self, holder: str) -> AsyncIterator[None]:
        """Wait for it. Raises HolderAway where many wait already."""
        gate, count = self._present.setdefault(holder, (asyncio.Semaphore(self._at_once), [0]))
        if count[0] >= self._at_once + MOST_WAITING:
            raise HolderAway(f"many messages are being fetched from {holder}")
        count[0] += 1
        try:
            async with gate:
                yield
        finally:
            count[0] -= 1
            if not count[0]:
                self._present.pop(holder, None)


class FetchTransport:
    """See the module."""

    def __init__(self, parts: FetchParts) -> None:
        self._parts = parts
        self._turns = Turns(parts.concurrency)

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """One attempt."""
        parts, message = self._parts, job.message
        content = message.content
        try:
            envelope = read_envelope(b"" if content is None else content.headers)
        except EnvelopeError as error:
            return self._expansion(job, "", Kind.DROPPED, "2.7.1", f"the errand cannot be read: {error}")
        holder = str(envelope.holder)
        try:
            return await self._fetched(job, envelope, instruction)
        except (HolderAway, CallFailed, NotTaken) as error:
            parts.observer.holder_away(message.id, holder, str(error))
            return self._waits(job, envelope, "4.4.1", str(error))
        except (StoreUnavailable, SpoolError) as error:
            parts.observer.incoming_failed("fetching a message", error, message.id)
            return self._waits(job, envelope, "4.3.0", "the message cannot be stored now")
        except Exception as error:
            parts.observer.incoming_failed("fetching a message", error, message.id)
            return self._waits(job, envelope, "4.3.0", "a fault in this server; the fetch waits")

    async def _fetched(self, job: Job, envelope: HeldEnvelope, route: str) -> Expansion:
        parts = self._parts
        key = (str(envelope.holder), envelope.id)
        arrival = (await parts.arrivals.recall([key])).get(key)
        try:
            if arrival is None:
                raise Lost("forgotten", "this server has lost what the holder told it")
            if not await self._is_stored(arrival):
                if parts.clock() >= envelope.expires + SKEW_S:
                    raise Lost("expired", "its holder could not be reached before the message expired")
                await self._fetch(job, envelope, arrival, route)
            return await self._done(job, envelope, arrival)
        except Lost as lost:
            return await self._lost(job, envelope, arrival, lost)

    async def _is_stored(self, arrival: Arrival) -> bool:
        """Whether an earlier attempt came as far as the commit."""
        if arrival.state in (ArrivalState.STORED, ArrivalState.RECEIVED):
            return True
        try:
            await self._parts.spool.items(arrival.fetched_as)
        except NotFound:
            return False
        return True

    # --- fetching -------------------------------------------------------------------------------------------

    async def _fetch(self, job: Job, envelope: HeldEnvelope, arrival: Arrival, route: str) -> None:
        """Pull it, check it, and have it stored. Raises Lost, HolderAway, CallFailed, NotTaken."""
        parts = self._parts
        asked = encode(MessageAsked(arrival.id, arrival.confirmation))
        async with self._turns.turn(arrival.holder):
            try:
                async with parts.caller.stream(
                    arrival.holder, arrival.port, MESSAGE_PATH, asked, limit=envelope.size
                ) as answer:
                    self._check_answer(answer, envelope)
                    await self._take_in(job, envelope, arrival, answer, route)
            except CallFailed as error:
                if error.temporary:
                    raise
                raise Lost("unreachable", f"its holder cannot be called: {error}") from error

    @staticmethod
    def _check_answer(answer: StreamedAnswer, envelope: HeldEnvelope) -> None:
        if answer.status == 404:
            raise Lost("gone", "its sender has withdrawn it, or its holder has lost it")
        if answer.status != 200:
            raise HolderAway(f"{envelope.holder} answers {answer.status}")
        if answer.length < 0:
            raise HolderAway(f"{envelope.holder} does not say how long its answer is")
        if answer.length != envelope.size:
            raise Lost("swapped", "what its holder has now is of another size than was told", lie=True)

    async def _take_in(
        self, job: Job, envelope: HeldEnvelope, arrival: Arrival, answer: StreamedAnswer, route: str
    ) -> None:
        untrue: list[str] = []

        async def inspect(content: Content) -> None:
            came = await asyncio.to_thread(attachments_of, content.chunks)
            untrue.extend(differences(envelope.attachments, came))

        try:
            transaction = await self._begun(job.message, envelope, arrival, answer)
            transaction.route = transaction.route or route
            reply = await self._pull(envelope, transaction, answer, inspect)
        except (DigestError, Untrue) as error:
            raise Lost("swapped", f"what its holder has is not what was told: {error}", lie=True) from error
        except Unfit as error:
            raise Lost("unfit", f"it cannot be taken as mail here: {error}") from error
        except NotTaken as error:
            raise _refusal(error.reply) from error
        if not reply.is_positive:
            raise _refusal(reply)
        await self._arrived(job.message, envelope, arrival, untrue)

    async def _pull(
        self,
        envelope: HeldEnvelope,
        transaction: Transaction,
        answer: StreamedAnswer,
        inspect: Callable[[Content], Awaitable[None]],
    ) -> Reply:
        reception = self._parts.reception()
        pulled = PulledContent(envelope.digest, reception, transaction, inspect)
        reply: Reply | None = None
        try:
            async for piece in answer.pieces():
                await pulled.feed(piece)
            reply = await pulled.finish()
            return reply
        finally:
            if reply is None:
                await pulled.abandon()
                reception.abandoned(transaction, "the fetch broke off")

    async def _begun(
        self, message: StoredMessage, envelope: HeldEnvelope, arrival: Arrival, answer: StreamedAnswer
    ) -> Transaction:
        """A session like any client's, so that pulled mail meets the same rules (AMDP-23). Raises
        NotTaken."""
        parts = self._parts
        reception, now = parts.reception(), parts.clock()
        session = Session(
            id=parts.new_session_id(),
            protocol="amdp",
            client_address=answer.address,
            client_port=arrival.port,
            server_address=None,
            server_port=0,
            listener=f"amdp {arrival.holder}:{arrival.port}",
            hostname=parts.hostname,
            started_at=now,
            facts=Facts(amdp_facts(message.facts)),
            tls=CALLED_OVER,
        )
        await _accepted(reception.connected(session))
        session.extended = True
        await _accepted(reception.greeted(session, "EHLO", arrival.holder))
        request = MailRequest(
            message.envelope.sender, envelope.size, BodyType.EIGHT_BIT, message.envelope.smtputf8
        )
        transaction, decision = reception.sender(session, request, now)
        await _accepted(decision)
        assert transaction is not None, "the reply was positive"
        transaction.id = arrival.fetched_as
        asked = RecipientRequest(envelope.recipient)
        await _accepted(reception.recipient(transaction, asked))
        await _accepted(reception.content_begins(transaction))
        return transaction

    async def _arrived(
        self, message: StoredMessage, envelope: HeldEnvelope, arrival: Arrival, untrue: list[str]
    ) -> None:
        parts = self._parts
        await parts.arrivals.move(arrival, ArrivalState.STORED)
        parts.observer.message_fetched(message.id, arrival.fetched_as, arrival.holder, envelope.size)
        if untrue:
            parts.observer.announcement_untrue(message.id, arrival.domain, "; ".join(untrue)[:1000])

    # --- ends -----------------------------------------------------------------------------------------------

    async def _done(self, job: Job, envelope: HeldEnvelope, arrival: Arrival) -> Expansion:
        receipt = self._parts.making.receipt(job.message, self._parts.clock())
        text = f"fetched as {arrival.fetched_as}, {envelope.size} octets as told; {receipt.id} confirms it"
        return self._expansion(job, arrival.holder, Kind.DELIVERED, "2.0.0", text, (receipt,))

    async def _lost(self, job: Job, envelope: HeldEnvelope, arrival: Arrival | None, lost: Lost) -> Expansion:
        parts, message = self._parts, job.message
        made: list[NewMessage] = []
        if arrival is not None:
            if lost.why == REFUSED:
                # Paid is what reaches a reader, if only as a letter about it. Of this nothing does (AMDP-20).
                await parts.refund(envelope.postage, arrival.message)
            await parts.arrivals.move(arrival, ArrivalState.LOST)
            if lost.lie:
                made += await parts.abuse.report(*_lie(message, envelope, arrival, lost))
        text = lost.words
        if lost.why != REFUSED:  # mail that a rule refuses is not announced to its reader either
            letter = parts.making.lost(envelope, lost.words, parts.clock())
            made.insert(0, letter)
            text = f"{lost.words}; its reader is told by {letter.id}"
        parts.observer.message_lost(message.id, str(envelope.holder), lost.why, lost.words)
        return self._expansion(job, str(envelope.holder), Kind.DROPPED, "2.7.1", text, tuple(made))

    def _waits(self, job: Job, envelope: HeldEnvelope, status: str, text: str) -> Expansion:
        schedule = self._parts.making.schedule(envelope.expires + SKEW_S)
        result = DeliveryResult(Kind.DEFERRED, status, text, remote=str(envelope.holder), protocol=PROTOCOL)
        return Expansion(dict.fromkeys(job.recipients, result), (), schedule)

    @staticmethod
    def _expansion(
        job: Job, holder: str, kind: Kind, status: str, text: str, made: tuple[NewMessage, ...] = ()
    ) -> Expansion:
        result = DeliveryResult(kind, status, text, remote=holder, protocol=PROTOCOL)
        return Expansion(dict.fromkeys(job.recipients, result), made)


async def _accepted(decision: Decision) -> None:
    reply = await settled(decision)
    if not reply.is_positive and reply.code != CONTENT_AWAITED:
        raise NotTaken(reply)


def _refusal(reply: Reply) -> Lost | HolderAway:
    """A refusal of ours: by a rule for good, or for want of room for now."""
    words = f"{reply.code} {reply.status} {reply.text}"
    if reply.code >= 500:
        return Lost(REFUSED, f"this server does not take it: {words}")
    return HolderAway(f"this server cannot take it now: {words}")


def _lie(
    message: StoredMessage, envelope: HeldEnvelope, arrival: Arrival, lost: Lost
) -> tuple[Evidence, str, str]:
    """What is reported of a message that is not what its envelope told."""
    headers = b"" if message.content is None else message.content.headers
    evidence = Evidence(
        message.id, arrival.domain, lost.words, arrival.how, headers, connecting_address(message),
        str(envelope.sender), str(envelope.recipient), message.received_at,
    )  # fmt: skip
    vouched = Facts(message.facts).get("amdp.class", Provenance.VOUCHED)
    return evidence, lost.why, "" if vouched is None else str(envelope.mail_class)
