"""The arrivals from an event loop: whatever is to be written while one transaction is being committed goes
into the next one together (group commit), so that a hundred call-backs cost one wait for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from outrider.holding.incoming.arrival_store import Arrival, ArrivalState, ArrivalStore, DroppedEnvelope
from outrider.model.message import MessageId
from outrider.tables.database import StoreUnavailable
from outrider.tables.serial_thread import SerialThread

MOST_AT_ONCE = 500
"""Things done in one transaction."""

T = TypeVar("T")
Work = Callable[[ArrivalStore], object]


class Arrivals:
    """Every method raises StoreUnavailable; nothing of it was written then."""

    def __init__(self, thread: SerialThread[ArrivalStore]) -> None:
        self._thread = thread
        self._waiting: list[tuple[Work, asyncio.Future[object]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def recall(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Arrival]:
        """What is remembered of these (holder, message id)."""
        return await self._thread.call(lambda store: store.find_all(keys))

    async def confirm(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Remember them, durably; see `ArrivalStore.confirm_all`."""
        return await self._write(lambda store: store.confirm_all(arrivals))

    async def move(self, arrival: Arrival, state: ArrivalState) -> None:
        """It has come that far."""
        await self._write(lambda store: store.move(arrival.holder, arrival.id, state))

    async def drop(self, dropped: DroppedEnvelope) -> None:
        """An envelope ended here."""
        await self._write(lambda store: store.drop(dropped))

    async def may_report(self, domain: str, why: str, message: MessageId, now: float) -> bool:
        """See `ArrivalStore.may_report`."""
        return await self._write(lambda store: store.may_report(domain, why, message, now))

    async def dropped(self, message: MessageId) -> DroppedEnvelope | None:
        """See `ArrivalStore.dropped`."""
        return await self._thread.call(lambda store: store.dropped(message))

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._thread.close()

    async def _write(self, work: Callable[[ArrivalStore], T]) -> T:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return cast(T, await done)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._write_together(batch)
        finally:
            self._writer = None
            _fail(self._waiting, StoreUnavailable("the server stops"))
            self._waiting.clear()

    async def _write_together(self, batch: list[tuple[Work, asyncio.Future[object]]]) -> None:
        works = [work for work, _ in batch]
        try:
            outcomes = await self._thread.call(lambda store: store.together(works))
        except Exception as error:
            _fail(batch, error)
            return
        except BaseException:
            _fail(batch, StoreUnavailable("the server stops"))
            raise
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if not done.done():
                done.set_result(outcome)


def _fail(batch: list[tuple[Work, asyncio.Future[object]]], error: Exception) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)
