"""What this node says to the others that share the queue, and does when one of them has said something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence

from outrider.delivery.neighbours import Attendant
from outrider.model.message import ItemKey
from outrider.spool.interface import SpoolError
from outrider.spool.postgresql import leasing, reading
from outrider.spool.postgresql.database import Database
from outrider.spool.postgresql.presence import Note, Word, key_name, named_key, notes_of, telling

WITHDRAW_SECONDS = 1.0
"""For other nodes to give back what an operator here wants to change."""
WITHDRAW_STEP_SECONDS = 0.02


class Neighbours:
    """See `delivery.neighbours.SharedQueue`."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._attendant: Attendant | None = None
        self._wake: Callable[[], None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def on_wake(self, callback: Callable[[], None]) -> None:
        """`callback` runs when another node has stored what nobody holds."""
        self._wake = callback

    def attend(self, attendant: Attendant) -> None:
        """See `SharedQueue.attend`."""
        self._attendant = attendant

    def stop(self) -> None:
        """Do nothing more about what was heard."""
        for task in self._background:
            task.cancel()

    # --- hearing --------------------------------------------------------------------------------------

    def hear(self, note: Note) -> None:
        """Do what a note asks for."""
        attendant = self._attendant
        if note.word is Word.WAKE and self._wake is not None:
            self._wake()
        if attendant is None:
            return
        if note.word is Word.PAUSES:
            self._in_background(self._tell_pauses(attendant))
        elif note.word is Word.REVIVE:
            attendant.revive(note.names)
        elif note.word is Word.WITHDRAW:
            keys = [named_key(name) for name in note.names]
            self._in_background(attendant.withdraw([key for key in keys if key is not None]))

    async def _tell_pauses(self, attendant: Attendant) -> None:
        attendant.set_paused(await self.paused())

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        """What fails here is a database that is away: once it is back, all is looked up again."""

        async def guarded() -> None:
            with contextlib.suppress(SpoolError):
                await work

        task = asyncio.create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # --- saying ---------------------------------------------------------------------------------------

    async def paused(self) -> frozenset[str]:
        """See `SharedQueue.paused`."""
        return await self._database.query(reading.paused)

    async def pause(self, destination: str) -> None:
        """See `SharedQueue.pause`."""
        await self._database.transact(lambda connection: leasing.pause(connection, destination))

    async def resume(self, destination: str) -> bool:
        """See `SharedQueue.resume`."""
        return await self._database.transact(lambda connection: leasing.resume(connection, destination))

    async def revive(self, lanes: Iterable[str]) -> None:
        """See `SharedQueue.revive`."""
        notes = notes_of(Word.REVIVE, sorted(set(lanes)))
        if notes:
            await self._database.query(telling(notes))

    async def call_back(self, keys: Sequence[ItemKey]) -> None:
        """Have other nodes give back those of the items that only wait there; return when they have, or soon
        after: an item that is still held then is being delivered."""
        deadline = time.monotonic() + WITHDRAW_SECONDS
        told = False
        while True:
            held = await self._database.query(
                lambda connection: reading.held_elsewhere(connection, self._owner, keys)
            )
            if not held or time.monotonic() > deadline:
                return
            if not told:
                told = True
                notes = notes_of(Word.WITHDRAW, [key_name(key) for key in held])
                await self._database.query(telling(notes))
            await asyncio.sleep(WITHDRAW_STEP_SECONDS)
