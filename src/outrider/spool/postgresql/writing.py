"""Group commit on PostgreSQL: what is asked for while one transaction is under way shares the next one.

A batch is one transaction of few statements, each with arrays for all its rows. Leases are checked first, by
locking their items: a request whose lease is gone takes no part, and nothing of it is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from outrider.model.message import Item, ItemKey, ItemState
from outrider.spool import codec
from outrider.spool.columns import state_number
from outrider.spool.interface import LeaseLost, SpoolError, SpoolUnavailable
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql.database import Connection, Database, concerns_one_request

LARGEST_BATCH = 512

_CHECK = """
SELECT i.message, i.number FROM outrider.items i
JOIN unnest(%b::text[], %b::integer[], %b::bigint[]) AS v(message, number, lease)
  ON i.message = v.message AND i.number = v.number AND i.lease = v.lease
WHERE i.state = 1 ORDER BY i.message, i.number FOR UPDATE OF i
"""
_MESSAGES = """
INSERT INTO outrider.messages SELECT * FROM unnest(%b::text[], %b::double precision[], %b::bytea[])
"""
_CONTENTS = """
INSERT INTO outrider.contents
SELECT * FROM unnest(%b::text[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[])
"""
_TRANSFERS = """
INSERT INTO outrider.transfers
SELECT * FROM unnest(%b::bytea[], %b::bytea[], %b::double precision[], %b::bytea[])
"""
_NAMED = "UPDATE outrider.bodies SET named = true WHERE name = ANY(%b::text[])"
_ITEMS = """
INSERT INTO outrider.items SELECT * FROM unnest(
  %b::text[], %b::integer[], %b::smallint[], %b::smallint[], %b::double precision[], %b::bytea[], %b::bytea[],
  %b::bigint[], %b::double precision[], %b::text[], %b::boolean[], %b::double precision[])
"""
_CHANGED = """
UPDATE outrider.items AS i
SET state = v.state, next_attempt_at = v.next_attempt_at, destination = v.destination, data = v.data,
    owner = '', lease_until = 0, solo = v.solo
FROM unnest(%b::text[], %b::integer[], %b::smallint[], %b::double precision[], %b::bytea[], %b::bytea[],
  %b::boolean[]) AS v(message, number, state, next_attempt_at, destination, data, solo)
WHERE i.message = v.message AND i.number = v.number
"""
_ENDED = """
DELETE FROM outrider.items AS i USING unnest(%b::text[], %b::integer[]) AS v(message, number)
WHERE i.message = v.message AND i.number = v.number
"""
_TRAIL = "INSERT INTO outrider.trail (message, data) SELECT * FROM unnest(%b::text[], %b::bytea[])"
# Two nodes may end the last two items of one message at once: the second waits here, and then sees the first.
_LOCK = "SELECT 1 FROM outrider.messages WHERE id = ANY(%b::text[]) ORDER BY id FOR UPDATE"
_FINISHED = """
INSERT INTO outrider.finished
SELECT v.message, v.at FROM unnest(%b::text[], %b::double precision[]) AS v(message, at)
WHERE NOT EXISTS (SELECT 1 FROM outrider.items i WHERE i.message = v.message) ON CONFLICT DO NOTHING
"""
_EMPTIED = """
DELETE FROM outrider.contents AS c USING unnest(%b::text[]) AS v(message)
WHERE c.message = v.message AND NOT EXISTS (SELECT 1 FROM outrider.items i WHERE i.message = v.message)
"""
_UNNAMED = """
DELETE FROM outrider.bodies AS b USING unnest(%b::text[]) AS v(message)
WHERE b.message = v.message AND NOT EXISTS (SELECT 1 FROM outrider.items i WHERE i.message = v.message)
"""
_NOTIFY = "NOTIFY outrider_spool"

MessageRow = tuple[str, float, bytes]
ContentRow = tuple[str, bytes, bytes | None, bytes | None, bytes, bytes | None]
TransferRow = tuple[bytes, bytes, float, bytes]
ItemRow = tuple[str, int, int, int, float, bytes, bytes, int, float, str, bool, float]
TrailRow = tuple[str, bytes]


@dataclass(slots=True)
class Writes:
    """What one request, or one operator's change, adds, replaces and removes."""

    messages: list[MessageRow] = field(default_factory=list)
    contents: list[ContentRow] = field(default_factory=list)
    transfers: list[TransferRow] = field(default_factory=list)
    items: list[ItemRow] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    """Names of bodies that belong to a stored message from now on."""
    changed: list[Item] = field(default_factory=list)
    """Items that are no longer leased; those that are DONE leave the queue."""
    trail: list[TrailRow] = field(default_factory=list)
    finished: list[tuple[str, float]] = field(default_factory=list)
    """Messages that may have ended, and when."""
    wake: bool = False
    """Something is due that nobody holds: other nodes are told."""

    def join(self, other: Writes) -> None:
        """Add what another has."""
        self.messages += other.messages
        self.contents += other.contents
        self.transfers += other.transfers
        self.items += other.items
        self.bodies += other.bodies
        self.changed += other.changed
        self.trail += other.trail
        self.finished += other.finished
        self.wake = self.wake or other.wake


@dataclass(slots=True)
class Request:
    """One thing to be written. `lease` is what must still hold for it."""

    future: asyncio.Future[object]
    writes: Writes
    lease: tuple[ItemKey, int] | None = None
    committed: Callable[[], object] | None = None
    failed: Callable[[Exception], None] | None = None
    error: Exception | None = None


async def write(connection: Connection, writes: Writes) -> None:
    """All rows, in an order that suits them. Raises psycopg.Error."""
    done = [item for item in writes.changed if item.state is ItemState.DONE]
    waiting = [item for item in writes.changed if item.state is not ItemState.DONE]
    ended = sorted({message for message, _ in writes.finished})
    async with connection.pipeline():
        if ended:
            await connection.execute(_LOCK, (ended,))
        for statement, rows in (
            (_MESSAGES, writes.messages),
            (_CONTENTS, writes.contents),
            (_TRANSFERS, writes.transfers),
            (_ITEMS, writes.items),
            (_CHANGED, [changed_row(item) for item in waiting]),
            (_ENDED, [(item.key.message, item.key.number) for item in done]),
            (_TRAIL, writes.trail),
            (_FINISHED, writes.finished),
        ):
            if rows:
                await connection.execute(statement, columns(rows))
        if writes.bodies:
            await connection.execute(_NAMED, (writes.bodies,))
        if ended:
            await connection.execute(_EMPTIED, (ended,))
            await connection.execute(_UNNAMED, (ended,))
        if writes.wake:
            await connection.execute(_NOTIFY)


def columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    """Rows turned into one list for each column."""
    return [list(column) for column in zip(*rows, strict=True)]


def changed_row(item: Item) -> tuple[str, int, int, float, bytes, bytes, bool]:
    """The columns of an item that nobody holds."""
    return (
        item.key.message,
        item.key.number,
        state_number(item),
        item.next_attempt_at,
        item.destination.encode(),
        codec.encode_item(item),
        item.solo,
    )


async def held_of(connection: Connection, leases: Sequence[tuple[ItemKey, int]]) -> set[ItemKey]:
    """Which of the leases still hold; their items are locked until the transaction ends."""
    if not leases:
        return set()
    rows = [(key.message, key.number, token) for key, token in leases]
    found = await (await connection.execute(_CHECK, columns(rows))).fetchall()
    return {ItemKey(message, number) for message, number in found}


class Batches:
    """Collects requests and commits them, one batch at a time."""

    def __init__(self, database: Database, observer: SpoolObserver) -> None:
        self._database = database
        self._observer = observer
        self._waiting: list[Request] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="outrider-spool-batches")

    async def stop(self) -> None:
        """Write what was submitted, then end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def submit(self, request: Request) -> None:
        """Take one request. Raises SpoolUnavailable when closed."""
        if self._closing:
            raise SpoolUnavailable("the spool is closed")
        self._waiting.append(request)
        self._wake.set()

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                await asyncio.sleep(0)  # what the same tick still brings travels along
            batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
            if batch:
                await self._serve(batch)

    async def _serve(self, batch: list[Request]) -> None:
        began = time.monotonic()
        try:
            await self._commit(batch)
        except Exception as error:
            why = (
                error
                if isinstance(error, SpoolError)
                else SpoolUnavailable(f"unforeseen: {type(error).__name__}")
            )
            for request in batch:
                request.error = request.error or type(why)(str(why))
            self._observer.commit_failed(len(batch), str(why))
        else:
            self._observer.batch_committed(len(batch), time.monotonic() - began)
        for request in batch:
            _answer(request)

    async def _commit(self, batch: list[Request]) -> None:
        try:
            await self._database.transact(lambda connection: _write_together(connection, batch))
        except Exception as error:
            if len(batch) == 1 or not concerns_one_request(error):
                raise
            for request in batch:
                request.error = None
                with contextlib.suppress(SpoolUnavailable):
                    await self._commit_one(request)

    async def _commit_one(self, request: Request) -> None:
        try:
            await self._database.transact(lambda connection: _write_together(connection, [request]))
        except SpoolError as error:
            request.error = error


async def _write_together(connection: Connection, batch: Sequence[Request]) -> None:
    for request in batch:
        request.error = None
    held = await held_of(connection, [request.lease for request in batch if request.lease is not None])
    together = Writes()
    for request in batch:
        if request.lease is not None and request.lease[0] not in held:
            key = request.lease[0]
            request.error = LeaseLost(f"{key.message}/{key.number}: the lease is no longer held")
            continue
        together.join(request.writes)
    await write(connection, together)


def _answer(request: Request) -> None:
    if request.error is not None:
        if request.failed is not None:
            request.failed(request.error)
        if not request.future.done():
            request.future.set_exception(request.error)
        return
    value = request.committed() if request.committed is not None else None
    if not request.future.done():
        request.future.set_result(value)
