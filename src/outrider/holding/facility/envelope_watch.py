"""What became of envelopes on their way: the exchanger took one, or it came to nothing (AMDP-6).

The queue tells it after its settlement, which is another transaction. What a crash, or a store that was away,
kept from being noted between the two stands in the spool all the same: it is looked for when a server starts,
and now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outrider.holding.facility.held_errands import ErrandMaker
from outrider.holding.facility.held_records import HeldCopy
from outrider.holding.facility.held_store import HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.held_upkeep import notified, on_their_way, refuse
from outrider.holding.facility.hold_envelopes import HELD_COPY
from outrider.holding.facility.observer import FacilityObserver
from outrider.model.facts import Provenance
from outrider.model.message import MessageId, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.spool.interface import NotFound, Spool
from outrider.tables.database import StoreUnavailable

PAGE = 200
"""Copies looked at together."""


class EnvelopeWatch:
    """Implements `delivery.interface.EnvelopeWatch`."""

    def __init__(
        self,
        store: HeldThreads,
        errands: ErrandMaker,
        observer: FacilityObserver,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._errands = errands
        self._observer = observer
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def envelope_settled(self, message: StoredMessage, result: DeliveryResult) -> None:
        """The result for the recipient of an envelope. Never raises, never waits."""
        copy = held_copy(message)
        if copy is None or result.kind is Kind.DEFERRED:
            return
        task = asyncio.get_running_loop().create_task(self._note(*copy, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until everything is noted."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def review(self, spool: Spool) -> int:
        """Note what the spool knows of envelopes that count as on their way; how many. What it does not know
        is another worker's. Raises StoreUnavailable, SpoolError."""
        found, after = 0, ("", -1)
        while page := await self._store.read(lambda store, after=after: on_their_way(store, after, PAGE)):  # type: ignore[misc]
            for copy in page:
                result = await _end_of(spool, MessageId(copy.envelope))
                if result is not None:
                    await self._note(copy.message, copy.number, result)
                    found += 1
            after = (page[-1].message, page[-1].number)
        return found

    async def _note(self, message: str, number: int, result: DeliveryResult) -> None:
        now, is_lost = self._clock(), result.kind not in (Kind.DELIVERED, Kind.RELAYED)

        def work(store: HeldStore) -> list[HeldCopy]:
            if not is_lost:
                one = notified(store, message, number, now)
                return [] if one is None else [one]
            refused = refuse(store, message, number, now)
            for one in refused:
                self._errands.after_refusal(store, one, now)
            return refused

        try:
            changed = await self._store.write(work)
        except StoreUnavailable as error:
            self._observer.facility_failed("noting what became of an envelope", error)
            return
        for one in changed:
            self._observer.copy_changed(message, number, one.recipient, one.state.value, result.text)
        if is_lost and changed:
            self._errands.wake()


async def _end_of(spool: Spool, envelope: MessageId) -> DeliveryResult | None:
    """What became of an envelope; None: it is still under way, or in no spool of ours."""
    try:
        items = await spool.items(envelope)
    except NotFound:
        return None
    ended = [one.last for item in items for one in item.recipients if one.state.is_final]
    return ended[0] if ended else None


def held_copy(message: StoredMessage) -> tuple[str, int] | None:
    """Whose envelope a message is: queue id of the held message, number of the copy; None for other mail."""
    for fact in message.facts:
        if fact.name == HELD_COPY and fact.provenance is Provenance.PROVEN:
            name, _, number = str(fact.value).rpartition("/")
            return name, int(number)
    return None
