"""The store as the desk and the extensions see it: from an event loop, by a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from outrider.config.schema import Config
from outrider.extension_state.store import ExtensionStore
from outrider.extensions.choices import Chosen, Waiting
from outrider.extensions.interface import Consent, ExtensionUnavailable
from outrider.tables.database import StoreUnavailable, open_store
from outrider.tables.serial_thread import SerialThread

T = TypeVar("T")
FILE: Final = Path("extensions") / "extensions.sqlite"
"""Below data_dir."""

ExtensionStoreThread = SerialThread[ExtensionStore]


def open_extension_store(config: Config, data_dir: Path) -> ExtensionStore:
    """The store that the settings mean. Raises StoreUnavailable."""
    return open_store(ExtensionStore, config, data_dir, FILE)


class StoredChoices:
    """Implements `extensions.choices.Choices`."""

    def __init__(
        self, thread: ExtensionStoreThread, clock: Callable[[], float], allowed_from_start: frozenset[str]
    ) -> None:
        self._thread = thread
        self._clock = clock
        self._from_start = allowed_from_start

    async def chosen(self) -> Chosen:
        """See `Choices`."""
        return await self.call(lambda store: store.chosen(self._from_start))

    async def consent(self, extension: str, user: str, sender: str) -> Consent:
        """See `Choices`."""
        return await self.call(lambda store: store.consent(extension, user, sender))

    async def wants_errors(self, extension: str, user: str) -> bool:
        """See `Choices`."""
        return await self.call(lambda store: store.wants_errors(extension, user))

    async def ask(self, request: Waiting) -> bool:
        """See `Choices`."""
        return await self.call(lambda store: store.ask(request))

    async def waiting_one(self, number: int) -> Waiting | None:
        """The request of that number, if it waits."""
        now = self._clock()
        return await self.call(lambda store: store.waiting_one(number, now))

    async def answered(self, number: int, word: Consent) -> bool:
        """It waits no more; False when it did not."""
        return await self.call(lambda store: store.answered(number, word))

    def memory(self, oid: str) -> StoredMemory:
        """See `Choices`."""
        return StoredMemory(self, oid, self._clock)

    async def call(self, work: Callable[[ExtensionStore], T]) -> T:
        """What `work` gives. Raises ExtensionUnavailable."""
        try:
            return await self._thread.call(work)
        except StoreUnavailable as error:
            raise ExtensionUnavailable(str(error)) from error


class StoredMemory:
    """Implements `extensions.interface.Memory` for one extension."""

    def __init__(self, choices: StoredChoices, oid: str, clock: Callable[[], float]) -> None:
        self._choices = choices
        self._oid = oid
        self._clock = clock

    async def get(self, key: str) -> str | None:
        """See `Memory`."""
        now = self._clock()
        return await self._choices.call(lambda store: store.recall(self._oid, key, now))

    async def put(self, key: str, value: str, expires: float) -> None:
        """See `Memory`."""
        now = self._clock()
        await self._choices.call(lambda store: store.remember(self._oid, key, value, expires, now))

    async def add(self, key: str, value: str, expires: float) -> str:
        """See `Memory`."""
        now = self._clock()
        return await self._choices.call(
            lambda store: store.remember_first(self._oid, key, value, expires, now)
        )

    async def replace(self, key: str, old: str, new: str, expires: float) -> bool:
        """See `Memory`."""
        now = self._clock()
        return await self._choices.call(lambda store: store.exchange(self._oid, key, old, new, expires, now))

    async def drop(self, key: str) -> bool:
        """See `Memory`."""
        return await self._choices.call(lambda store: store.forget(self._oid, key))

    async def find(self, prefix: str, limit: int = 100) -> list[tuple[str, str]]:
        """See `Memory`."""
        now = self._clock()
        return await self._choices.call(lambda store: store.recall_all(self._oid, prefix, limit, now))
