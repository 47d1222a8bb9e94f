"""`amdp-receipt:`: the holder is told that we have the message, verified, and may delete it (AMDP-13).

Told again until it has answered or the message expires; a holder takes the same receipt twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outrider.delivery.interface import Expansion, Job
from outrider.holding.incoming.arrival_store import Arrival, ArrivalState
from outrider.holding.incoming.callback_transport import PROTOCOL, SKEW_S
from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.messages import Making
from outrider.holding.incoming.observer import IncomingObserver
from outrider.holding.web import CallFailed, WebCaller
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.amdp.envelope import EnvelopeError, HeldEnvelope, read_envelope
from outrider.protocols.amdp.json_forms import FormError, decode, encode
from outrider.protocols.amdp.retrieval import MAX_ANSWER, RECEIPT_PATH, Receipt, ReceiptTaken
from outrider.tables.database import StoreUnavailable


@dataclass(frozen=True, slots=True)
class ReceiptParts:
    """What the transport works with."""

    caller: WebCaller
    arrivals: Arrivals
    making: Making
    observer: IncomingObserver
    clock: Callable[[], float]


class ReceiptTransport:
    """See the module."""

    def __init__(self, parts: ReceiptParts) -> None:
        self._parts = parts

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """One attempt."""
        del instruction
        parts, message = self._parts, job.message
        try:
            envelope = read_envelope(b"" if message.content is None else message.content.headers)
        except EnvelopeError as error:
            return _ended(job, "", f"the errand cannot be read: {error}")
        holder = str(envelope.holder)
        try:
            return await self._given(job, envelope)
        except (CallFailed, FormError) as error:
            parts.observer.holder_away(message.id, holder, str(error))
            words = str(error)
        except Exception as error:
            parts.observer.incoming_failed("confirming receipt", error, message.id)
            known = isinstance(error, StoreUnavailable)
            words = "what is known of envelopes cannot be read now" if known else "a fault in this server"
        if parts.clock() >= envelope.expires + SKEW_S:
            return _ended(job, holder, f"given up, the message has expired: {words}")
        result = DeliveryResult(Kind.DEFERRED, "4.4.1", words, remote=holder, protocol=PROTOCOL)
        schedule = parts.making.schedule(envelope.expires + SKEW_S)
        return Expansion(dict.fromkeys(job.recipients, result), (), schedule)

    async def _given(self, job: Job, envelope: HeldEnvelope) -> Expansion:
        parts = self._parts
        key = (str(envelope.holder), envelope.id)
        arrival = (await parts.arrivals.recall([key])).get(key)
        if arrival is None:
            return _ended(job, key[0], "this server has lost what the holder told it")
        taken = await self._told(arrival)
        await parts.arrivals.move(arrival, ArrivalState.RECEIVED)
        parts.observer.receipt_given(job.message.id, arrival.holder, taken)
        if not taken:
            return _ended(job, arrival.holder, "the holder knows nothing of it any more")
        text = f"{arrival.holder} knows that {arrival.fetched_as} was received"
        result = DeliveryResult(Kind.DELIVERED, "2.0.0", text, remote=arrival.holder, protocol=PROTOCOL)
        return Expansion(dict.fromkeys(job.recipients, result))

    async def _told(self, arrival: Arrival) -> bool:
        """Whether the holder took it. Raises CallFailed, FormError."""
        receipt = encode(Receipt(arrival.id, arrival.confirmation, arrival.digest))
        answer = await self._parts.caller.post(
            arrival.holder, arrival.port, RECEIPT_PATH, receipt, limit=MAX_ANSWER
        )
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise CallFailed(f"{arrival.holder} answers {answer.status}")
        return decode(answer.body, ReceiptTaken, MAX_ANSWER).done


def _ended(job: Job, holder: str, text: str) -> Expansion:
    """Nobody waits for it: a receipt that cannot be given leaves the message with its holder until it
    expires."""
    result = DeliveryResult(Kind.DROPPED, "2.0.0", text, remote=holder, protocol=PROTOCOL)
    return Expansion(dict.fromkeys(job.recipients, result))
