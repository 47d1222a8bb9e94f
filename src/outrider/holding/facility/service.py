"""The holding facility on the web: answers call-backs, hands messages out (AMDP-9, AMDP-12, AMDP-13).

`Facility` implements `WebService` for ``/amdp/v1/``. What is wrong, used up, expired, withdrawn or never was
is answered alike, and after the same work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from outrider.holding.facility.exchangers import Exchangers, ExchangersUnknown
from outrider.holding.facility.guesses import Guesses
from outrider.holding.facility.held_errands import ErrandMaker
from outrider.holding.facility.held_records import Known, Question
from outrider.holding.facility.held_store import PART, Changed, HeldStore, Unlocked
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.observer import FacilityObserver
from outrider.holding.web import JSON, GoneMeanwhile, IPAddress, WebRequest, WebResponse
from outrider.protocols.amdp.callback import (
    ACKNOWLEDGE_PATH,
    QUERY_PATH,
    AcknowledgementAnswers,
    Acknowledgements,
    Answer,
    Answers,
    Done,
    Queries,
)
from outrider.protocols.amdp.json_forms import FormError, decode, encode
from outrider.protocols.amdp.retrieval import (
    MESSAGE_PATH,
    RECEIPT_PATH,
    MessageAsked,
    Receipt,
    ReceiptTaken,
)
from outrider.tables.database import StoreUnavailable

NOT_NOW_S = 30
"""Retry-After of a 503."""
NOT_FOUND = WebResponse(404, b"not found\n")
"""The one answer about all that is not to be had."""
_UNKNOWN = Answer(known=False)
_NOT_DONE = Done(done=False)


@dataclass(frozen=True, slots=True)
class FacilityParts:
    """What the facility works with."""

    store: HeldThreads
    errands: ErrandMaker
    guesses: Guesses
    observer: FacilityObserver
    hosts: Callable[[str], bool]
    """Whether a name is one of the facility's."""
    clock: Callable[[], float]
    """While a message is handed out its time may run out."""
    exchangers: Exchangers | None = None
    """Set: questions are answered only to addresses of the exchangers that were sent the envelope."""


class Facility:
    """See the module."""

    def __init__(self, parts: FacilityParts) -> None:
        self._parts = parts
        self._handlers = {
            QUERY_PATH: self._query,
            ACKNOWLEDGE_PATH: self._acknowledge,
            MESSAGE_PATH: self._message,
            RECEIPT_PATH: self._receipt,
        }

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return path in self._handlers and self._parts.hosts(host)

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        if request.method != "POST":
            return WebResponse(405, b"POST only\n", headers={"Allow": "POST"})
        wait = self._parts.guesses.wait_s(request.client, request.now)
        if wait:
            return WebResponse(429, b"too many unknown ids\n", headers={"Retry-After": str(wait)})
        try:
            return await self._handlers[request.path](request)
        except FormError as error:
            return WebResponse(400, f"{error}\n".encode())
        except (StoreUnavailable, ExchangersUnknown) as error:
            self._parts.observer.facility_failed(request.path, error)
            return WebResponse(503, b"not now\n", headers={"Retry-After": str(NOT_NOW_S)})

    def _count(self, what: str, request: WebRequest, good: int, bad: int) -> None:
        count(self._parts.guesses, self._parts.observer, what, request.client, good, bad, request.now)

    # --- the call-back --------------------------------------------------------------------------------------

    async def _query(self, request: WebRequest) -> WebResponse:
        asked = decode(request.body, Queries).queries
        questions = [Question(one.id, one.timestamp, one.expires, one.fields, one.keys) for one in asked]
        found: Sequence[Known | None] = await self._parts.store.read(
            lambda store: store.query(questions, request.now)
        )
        found = await self._for_contacted(found, request.client)
        known = sum(one is not None for one in found)
        self._count("query", request, known, len(found) - known)
        answers = tuple(
            _UNKNOWN if one is None else Answer(True, one.recipient, one.confirmation, one.thread)
            for one in found
        )
        return WebResponse(200, encode(Answers(answers)), JSON)

    async def _for_contacted(
        self, found: Sequence[Known | None], client: IPAddress
    ) -> Sequence[Known | None]:
        """AMDP-12: who was sent no envelope learns nothing."""
        exchangers = self._parts.exchangers
        if exchangers is None:
            return found
        domains = sorted({one.recipient.rpartition("@")[2] for one in found if one is not None})
        addresses = dict(zip(domains, await asyncio.gather(*map(exchangers.addresses, domains)), strict=True))
        return [
            one if one is not None and client in addresses[one.recipient.rpartition("@")[2]] else None
            for one in found
        ]

    async def _acknowledge(self, request: WebRequest) -> WebResponse:
        asked = decode(request.body, Acknowledgements).acknowledgements
        pairs = [(one.id, one.confirmation) for one in asked]
        done = await self._parts.store.write(
            lambda store: store.acknowledge(pairs, str(request.client), request.now)
        )
        self._count("acknowledge", request, sum(done), len(done) - sum(done))
        answers = tuple(
            Done(True, number) if is_done else _NOT_DONE
            for (_, number), is_done in zip(pairs, done, strict=True)
        )
        return WebResponse(200, encode(AcknowledgementAnswers(answers)), JSON)

    # --- retrieval by programs ------------------------------------------------------------------------------

    async def _message(self, request: WebRequest) -> WebResponse:
        asked = decode(request.body, MessageAsked)
        found = await self._unlocked(asked, request)
        self._count("message", request, int(found is not None), int(found is None))
        if found is None:
            return NOT_FOUND
        if found.size <= PART:
            return WebResponse(200, found.first, "message/rfc822")
        stream = pieces(self._parts.store, found, self._parts.clock)
        return WebResponse(200, b"", "message/rfc822", stream=stream, length=found.size)

    async def _unlocked(self, asked: MessageAsked, request: WebRequest) -> Unlocked | None:
        store, now = self._parts.store, request.now

        def look(one: HeldStore) -> tuple[Unlocked | None, Changed | None]:
            unlocked = one.unlocked(asked.id, asked.confirmation, now)
            return unlocked, None if unlocked else one.find(asked.id, asked.confirmation, now)

        unlocked, found = await store.read(look)
        if unlocked is not None or found is None or found.copy.state.is_final:
            return unlocked
        # A program of a receiver without AMDP has the token of the link: its first POST unlocks (AMDP-5a).
        await store.write(lambda one: opened(one, self._parts.errands, asked.id, asked.confirmation, now))
        self._parts.errands.wake()
        return await store.read(lambda one: one.unlocked(asked.id, asked.confirmation, now))

    async def _receipt(self, request: WebRequest) -> WebResponse:
        asked = decode(request.body, Receipt)
        errands, now = self._parts.errands, request.now
        changed = await self._parts.store.write(
            lambda store: received(store, errands, asked.id, asked.confirmation, asked.digest, now)
        )
        self._count("receipt", request, int(changed is not None), int(changed is None))
        if changed is None:
            return NOT_FOUND
        told(self._parts.observer, errands, changed, "fetched")
        return WebResponse(200, encode(ReceiptTaken(done=True)), JSON)


def count(
    guesses: Guesses,
    observer: FacilityObserver,
    what: str,
    client: IPAddress,
    good: int,
    bad: int,
    now: float,
) -> None:
    """Note how many of what was asked were to be had."""
    observer.questions_answered(what, str(client), good, bad)
    if guesses.missed(client, bad, now):
        observer.guessing_stopped(str(client))


def told(observer: FacilityObserver, errands: ErrandMaker, changed: Changed, how: str) -> None:
    """Log a copy that has gone into another state, and have done what follows of it."""
    if changed.first:
        copy = changed.copy
        observer.copy_changed(copy.message, copy.number, copy.recipient, copy.state.value, how)
        errands.wake()


def opened(store: HeldStore, errands: ErrandMaker, msg_id: str, secret: str, now: float) -> Changed | None:
    """`HeldStore.open`, with what follows of it in the same transaction."""
    changed = store.open(msg_id, secret, now)
    if changed is not None and changed.first:
        errands.after_opening(store, changed.copy, now)
    return changed


def received(
    store: HeldStore, errands: ErrandMaker, msg_id: str, secret: str, digest: str | None, now: float
) -> Changed | None:
    """`HeldStore.receive`, with what follows of it in the same transaction."""
    changed = store.receive(msg_id, secret, digest, now)
    if changed is not None and changed.first:
        errands.after_retrieval(store, changed.copy, now)
    return changed


async def pieces(
    store: HeldThreads, found: Unlocked, clock: Callable[[], float], start: int = 0
) -> AsyncIterator[bytes]:
    """The octets of a message from `start` on. Raises GoneMeanwhile when it is not to be had any more:
    withdrawn, expired, or confirmed by somebody else. What came until then is a piece, and the digest says
    so."""
    offset = start // PART * PART
    while offset < found.size:
        number = offset // PART
        octets: bytes | None = found.first
        if number:
            octets = await store.read(lambda one, number=number: one.part(found, number, clock()))  # type: ignore[misc]
        if octets is None:
            raise GoneMeanwhile("the message is not to be had any more")
        yield octets[max(start - offset, 0) :]
        offset += PART
