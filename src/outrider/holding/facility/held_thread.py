"""The store from an event loop: what many ask for at one moment is one transaction, and one wait for the
disk.

Two threads, each with a connection of its own: one changes things, one only looks, so that a page or a
question does not wait for the disk. What a change has committed before it returns is seen by every look that
begins later.

A transaction is all or nothing for what shares it; where one part of it fails, each part is done again on
its own, so that nobody suffers for another's request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from outrider.holding.facility.held_store import HeldStore
from outrider.tables.serial_thread import ReopenedStore

T = TypeVar("T")
MOST_TOGETHER = 200
"""Requests in one transaction."""


@dataclass(frozen=True, slots=True)
class _Asked:
    work: Callable[[HeldStore], Any]
    answer: asyncio.Future[Any]


class HeldThreads:
    """Runs what is to be done with the store; belongs to one event loop."""

    def __init__(self, opener: Callable[[], HeldStore], name: str = "held") -> None:
        self._reads = _Lane(opener, f"{name}-read", together=False)
        self._writes = _Lane(opener, f"{name}-write", together=True)

    async def read(self, work: Callable[[HeldStore], T]) -> T:
        """What `work` gives; it changes nothing. Raises StoreUnavailable."""
        return await self._reads.call(work)

    async def write(self, work: Callable[[HeldStore], T]) -> T:
        """What `work` gives, in a transaction that is durable when this returns. `work` may be run again
        after a failure of others: it has no effects but on the store. Raises StoreUnavailable."""
        return await self._writes.call(work)

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._reads.close()
        self._writes.close()


class _Lane:
    def __init__(self, opener: Callable[[], HeldStore], name: str, *, together: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._together = together
        self._waiting: list[_Asked] = []
        self._busy = False
        self._store = ReopenedStore(opener)

    async def call(self, work: Callable[[HeldStore], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Asked(work, answer))
        if not self._busy:
            self._next(loop)
        return await answer

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting = [one for one in self._waiting if not one.answer.cancelled()]
        group, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        self._busy = bool(group)
        if not group:
            return
        done = loop.run_in_executor(self._pool, self._run, [one.work for one in group])
        done.add_done_callback(lambda future: self._answered(loop, group, future))

    def _answered(
        self, loop: asyncio.AbstractEventLoop, group: list[_Asked], done: asyncio.Future[list[Any]]
    ) -> None:
        results = [done.exception()] * len(group) if done.exception() else done.result()
        for one, result in zip(group, results, strict=True):
            if one.answer.done():
                continue  # cancelled meanwhile: whoever asked is gone
            if isinstance(result, BaseException):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)
        self._next(loop)

    # --- in the thread --------------------------------------------------------------------------------------

    def _run(self, works: list[Callable[[HeldStore], Any]]) -> list[Any]:
        if self._together:
            try:
                return self._transaction(works)
            except Exception as error:
                if len(works) == 1:
                    return [error]
        return [self._alone(work) for work in works]

    def _alone(self, work: Callable[[HeldStore], Any]) -> Any:
        try:
            return self._transaction([work])[0] if self._together else self._store.use(work)
        except Exception as error:
            return error

    def _transaction(self, works: list[Callable[[HeldStore], Any]]) -> list[Any]:
        def all_of_them(store: HeldStore) -> list[Any]:
            with store.transaction():
                return [work(store) for work in works]

        return self._store.use(all_of_them)

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._pool.submit(self._store.close)
        self._pool.shutdown(wait=True)
