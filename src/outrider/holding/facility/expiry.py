"""What happens to held mail by itself: its time runs out, contents nobody needs go, errands are done (AMDP-6,
AMDP-23)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from outrider.delivery.background import ended
from outrider.holding.facility.held_errands import ErrandMaker, ErrandRunner
from outrider.holding.facility.held_store import Changed, HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.held_upkeep import delete_parts, doomed_bodies, expire, forget
from outrider.holding.facility.observer import FacilityObserver
from outrider.spool.interface import SpoolError
from outrider.tables.database import StoreUnavailable

SWEEP_S = 60.0
"""Between two sweeps."""
ERRANDS_S = 15.0
"""Between two looks for errands, when nobody calls."""
EXPIRED_AT_ONCE = 100
BODIES_AT_ONCE = 20
PARTS_AT_ONCE = 16
"""Rows of `PART` octets deleted in one transaction."""
FORGOTTEN_AT_ONCE = 100
REVIEW_S = 3600.0
"""Between two looks for what became of envelopes; the first is at the start."""
MOST_ROUNDS = 100
"""Transactions of one kind in a sweep: what is left waits for the next."""


async def never_reviewed() -> int:
    """Nothing is on its way."""
    return 0


@dataclass(frozen=True, slots=True)
class Caretaking:
    """What the caretaker works with."""

    store: HeldThreads
    errands: ErrandMaker
    runner: ErrandRunner
    observer: FacilityObserver
    clock: Callable[[], float]
    review: Callable[[], Awaitable[int]] = never_reviewed
    """Notes what became of envelopes and was not told; see `EnvelopeWatch.review`."""


class Caretaker:
    """A task of the server; several workers and nodes may each have one."""

    def __init__(self, parts: Caretaking) -> None:
        self._parts = parts
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        parts.errands.wake = self._called.set

    def start(self) -> None:
        """Begin, with what a crash may have left."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End after the transaction that is under way."""
        if self._task is not None:
            await ended([self._task])
            self._task = None

    async def _run(self) -> None:
        swept_at = reviewed_at = 0.0
        is_resumed = False
        while True:
            try:
                if not is_resumed:
                    await self._parts.runner.resume()
                    is_resumed = True
                if self._parts.clock() - reviewed_at >= REVIEW_S:
                    reviewed_at = self._parts.clock()
                    await self._parts.review()
                if self._parts.clock() - swept_at >= SWEEP_S:
                    swept_at = self._parts.clock()
                    await self.sweep()
                await self._parts.runner.run_due()
            except (StoreUnavailable, SpoolError) as error:
                self._parts.observer.facility_failed("looking after held mail", error)
            except Exception as error:  # a fault of ours must not end the task
                self._parts.observer.facility_failed("looking after held mail", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ERRANDS_S):
                    await self._called.wait()
            self._called.clear()

    async def sweep(self) -> None:
        """Once over everything. Raises StoreUnavailable."""
        expired = await self._expired()
        bodies = await self._bodies()
        now = self._parts.clock()
        forgotten = await self._parts.store.write(lambda store: forget(store, now, FORGOTTEN_AT_ONCE))
        if expired or bodies or forgotten:
            self._parts.observer.facility_swept(expired, bodies, forgotten)

    async def _expired(self) -> int:
        count = 0
        for _ in range(MOST_ROUNDS):
            ended = await self._parts.store.write(self._expire)
            for changed in ended:
                copy = changed.copy
                self._parts.observer.copy_changed(
                    copy.message, copy.number, copy.recipient, copy.state.value, "its time is over"
                )
            count += len(ended)
            if len(ended) < EXPIRED_AT_ONCE:
                break
        return count

    def _expire(self, store: HeldStore) -> list[Changed]:
        now = self._parts.clock()
        ended = expire(store, now, EXPIRED_AT_ONCE)
        for changed in ended:
            self._parts.errands.after_expiry(store, changed.copy, now)
        return ended

    async def _bodies(self) -> int:
        now = self._parts.clock()
        doomed = await self._parts.store.read(lambda store: doomed_bodies(store, now, BODIES_AT_ONCE))
        for body in doomed:
            while not await self._parts.store.write(
                lambda store, body=body: delete_parts(store, body, now, PARTS_AT_ONCE)  # type: ignore[misc]
            ):
                pass
        return len(doomed)
