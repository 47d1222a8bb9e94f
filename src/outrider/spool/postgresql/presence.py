"""A node among nodes: it keeps its name, hears what the others say, notices when the database goes away, and
ends what a node that was cut off has left open there.

One connection of its own, open as long as the node runs, does all that. It holds an advisory lock on the
node's name, so that no second process can start under that name and take the first one's leases for those
of its own dead predecessor. It listens to `CHANNEL`. And because something always waits on it, it is the
first to break: if it cannot be opened anew at once, mail is refused with 451 until it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

import psycopg

from outrider.delivery.background import ended
from outrider.model.message import ItemKey, MessageId
from outrider.spool.interface import SpoolError, SpoolUnavailable
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql.database import KEEPALIVE, Database, Work
from outrider.spool.postgresql.exchange import Connection

CHANNEL = "outrider_spool"
LARGEST_NOTE = 7000
"""PostgreSQL takes payloads of fewer than 8000 octets."""
OWNER_WAIT_SECONDS = 15.0
"""For the session of a node that died with its machine: the database notices after 11 s (`KEEPALIVE`)."""
HEARTBEAT_SECONDS = 10.0
HEARTBEAT_PATIENCE_SECONDS = 10.0
STUCK_SECONDS = 15.0
"""For how long a session may wait for its client amid a transaction that has written. A transaction travels
in one piece, so its client is gone, and has locked what others are to take over (FAULT-F14): no timeout of
the database's own runs between the statements of one piece, and a cut cable tells it nothing."""
LISTEN_SECONDS = 1.0
"""How often the listening is interrupted to look after a database that is away."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 3.0

_OWNER_LOCKS = 0x6F75_7474
"""The class of the advisory locks on nodes' names."""
_CLAIM = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
_END_STUCK = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
AND application_name = current_setting('application_name') AND backend_xid IS NOT NULL
AND wait_event = 'ClientRead' AND query_start < clock_timestamp() - %s * interval '1 second'
"""
_TELL = "SELECT pg_notify(%s, %s)"


class Word(Enum):
    """What nodes say to each other."""

    WAKE = ""
    """Something is due that nobody holds."""
    PAUSES = "pauses"
    """Destinations were paused or resumed."""
    WITHDRAW = "withdraw"
    """An operator elsewhere wants to change these items: give back those that only wait."""
    REVIVE = "revive"
    """An operator says that these lanes may work again."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing said."""

    word: Word
    names: tuple[str, ...] = ()


class Presence:
    """See the module. `hear` is called in the event loop for each note, of this node too."""

    def __init__(
        self, database: Database, owner: str, hear: Callable[[Note], None], observer: SpoolObserver
    ) -> None:
        self._database = database
        self._observer = observer
        self._owner = owner
        self._hear = hear
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Claim the name. Raises SpoolUnavailable, SpoolError when another process has it."""
        deadline = time.monotonic() + OWNER_WAIT_SECONDS
        warned = False
        while True:
            try:
                self._connection = await self._open()
                break
            except psycopg.Error as error:
                text = f"the spool's database cannot be reached ({type(error).__name__})"
                raise SpoolUnavailable(text) from None
            except _NameTaken as error:
                if time.monotonic() > deadline:
                    raise SpoolError(str(error)) from None
                if not warned:
                    warned = True
                    self._observer.spool_warned(f"{error}; waiting, in case it has just died")
            await asyncio.sleep(_varied(0.5))
        self._task = asyncio.create_task(self._attend(self._connection), name="outrider-spool-presence")

    async def stop(self) -> None:
        """Give the name back."""
        task, self._task = self._task, None
        if task is not None:
            await ended([task])
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _open(self) -> Connection:
        connection = await self._database.new_connection()
        try:
            await connection.execute(KEEPALIVE)
            row = await (await connection.execute(_CLAIM, (_OWNER_LOCKS, self._owner))).fetchone()
            if row is None or not row[0]:
                raise _NameTaken(
                    f"another process uses this spool as {self._owner}: each node needs a hostname of its own"
                )
            await connection.execute(f"LISTEN {CHANNEL}".encode())
        except BaseException:
            await connection.close()
            raise
        return connection

    # --- attending ------------------------------------------------------------------------------------

    async def _attend(self, connection: Connection) -> None:
        """For ever: listen, and open anew what breaks."""
        while True:
            with contextlib.suppress(psycopg.Error, TimeoutError):
                await self._listen(connection)
            await connection.close()
            connection = self._connection = await self._reopen()
            # What was said meanwhile was not heard.
            for word in (Word.WAKE, Word.PAUSES):
                self._hear(Note(word))

    async def _listen(self, connection: Connection) -> None:
        """Raises psycopg.Error or TimeoutError when the connection is no use any more."""
        beat_at = time.monotonic() + HEARTBEAT_SECONDS
        while True:
            async for notice in connection.notifies(timeout=LISTEN_SECONDS):
                note = read_note(notice.payload)
                if note is not None:
                    self._hear(note)
            if self._database.lost:
                await self._probe()
            if time.monotonic() >= beat_at:
                async with asyncio.timeout(HEARTBEAT_PATIENCE_SECONDS):
                    await _beat(connection)
                beat_at = time.monotonic() + HEARTBEAT_SECONDS

    async def _reopen(self) -> Connection:
        """Try at growing, uneven intervals: when a database comes back, not all fall upon it at once."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                connection = await self._open()
            except psycopg.Error as error:
                self._database.note_lost(type(error).__name__)
            except _NameTaken as error:
                self._database.note_lost(str(error))
            else:
                await self._probe()
                return connection
            await asyncio.sleep(_varied(pause))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _probe(self) -> None:
        """Use the pool, which notes whether that went well; its dead connections are replaced."""
        await self._database.replace_lost()
        with contextlib.suppress(SpoolError):
            await self._database.query(_nothing)


class _NameTaken(Exception):
    """Another session holds the lock on our name."""


def _varied(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing


async def _beat(connection: Connection) -> None:
    """A question, to hear whether the database lives, that does some good. Raises psycopg.Error."""
    try:
        await connection.execute(_END_STUCK, (STUCK_SECONDS,))
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        await _nothing(connection)  # an engine that is only like PostgreSQL, or forbids it


async def _nothing(connection: Connection) -> None:
    await connection.execute("SELECT 1")


# --- notes --------------------------------------------------------------------------------------------


def telling(notes: Sequence[Note]) -> Work[None]:
    """The work of saying something to all nodes; as part of a transaction it is heard when that commits."""

    async def work(connection: Connection) -> None:
        for note in notes:
            await connection.execute(_TELL, (CHANNEL, write_note(note)))

    return work


def notes_of(word: Word, names: Sequence[str]) -> list[Note]:
    """Notes about many names, each small enough to be sent. A name too long for a note is left out."""
    notes: list[Note] = []
    part: list[str] = []
    for name in names:
        if len(write_note(Note(word, (*part, name)))) > LARGEST_NOTE:
            notes.append(Note(word, tuple(part)))
            part = []
        if len(write_note(Note(word, (name,)))) <= LARGEST_NOTE:
            part.append(name)
    return [note for note in (*notes, Note(word, tuple(part))) if note.names]


def write_note(note: Note) -> str:
    """The payload: ASCII."""
    return json.dumps([note.word.value, *note.names]) if note.word is not Word.WAKE else ""


def read_note(payload: str) -> Note | None:
    """The note; None for what no node of this release says."""
    if not payload:
        return Note(Word.WAKE)
    try:
        found: object = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        return None
    first, *names = cast("list[str]", found)
    if first not in {word.value for word in Word}:
        return None
    return Note(Word(first), tuple(names))


def key_name(key: ItemKey) -> str:
    """An item's name in a note."""
    return f"{key.number}/{key.message}"


def named_key(name: str) -> ItemKey | None:
    """The item that a note names; None for nonsense."""
    number, slash, message = name.partition("/")
    if not slash or not (number.isascii() and number.isdecimal() and len(number) <= 9):
        return None
    return ItemKey(MessageId(message), int(number))
