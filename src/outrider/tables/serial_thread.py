"""A store from an event loop: one thread of its own, opened when it is first needed, opened anew after
trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from outrider.tables.database import StoreUnavailable


class Closeable(Protocol):
    """A store, as far as the thread is concerned."""

    def close(self) -> None:
        """Give the database up."""
        ...


T = TypeVar("T")
S = TypeVar("S", bound=Closeable)


class ReopenedStore(Generic[S]):
    """A store opened when it is first needed, and anew after trouble; belongs to one thread."""

    def __init__(self, opener: Callable[[], S]) -> None:
        self._opener = opener
        self._store: S | None = None

    def use(self, work: Callable[[S], T]) -> T:
        """What `work` gives. Raises StoreUnavailable."""
        if self._store is None:
            self._store = self._opener()
        try:
            return work(self._store)
        except StoreUnavailable:
            # A connection that was lost does not come back; the next call makes another.
            self.close()
            raise

    def close(self) -> None:
        """Give the database up."""
        if self._store is not None:
            self._store.close()
            self._store = None


class SerialThread(Generic[S]):
    """Runs what is to be done with a store, one thing after the other."""

    def __init__(self, opener: Callable[[], S], name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._store = ReopenedStore(opener)

    async def call(self, work: Callable[[S], T]) -> T:
        """What `work` gives. Raises StoreUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._store.use, work)

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._pool.submit(self._store.close)
        self._pool.shutdown(wait=True)
