"""Group commit on PostgreSQL: what is asked for while one transaction is under way shares the next one.

A batch is one transaction of few statements, each with arrays for all its rows, and one round trip. Leases
are checked first, by locking their items. If one is gone, which is rare, the transaction fails there and is
done again in two steps: a request whose lease is gone takes no part, and nothing of it is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from psycopg import errors

from outrider.model.message import Item, ItemKey, ItemState
from outrider.spool import codec
from outrider.spool.columns import state_number
from outrider.spool.interface import LeaseLost, SpoolError, SpoolUnavailable
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql.database import Database, concerns_one_request
from outrider.spool.postgresql.exchange import (
    Call,
    Connection,
    Statement,
    bigints,
    booleans,
    doubles,
    integers,
    octets,
    send_together,
    smallints,
    texts,
)

LARGEST_BATCH = 512

_HELD = """
SELECT i.message, i.number FROM outrider.items i
JOIN unnest(%b::text[], %b::integer[], %b::bigint[]) AS v(message, number, lease)
  ON i.message = v.message AND i.number = v.number AND i.lease = v.lease
WHERE i.state = 1 ORDER BY i.message, i.number FOR UPDATE OF i
"""
# Divides by zero, which ends the transaction, unless all of them hold.
_ALL_HELD = Statement(
    b"""
SELECT 1 / (count(*) = cardinality($1::text[]))::integer FROM (
  SELECT 1 FROM outrider.items i
  JOIN unnest($1::text[], $2::integer[], $3::bigint[]) AS v(message, number, lease)
    ON i.message = v.message AND i.number = v.number AND i.lease = v.lease
  WHERE i.state = 1 ORDER BY i.message, i.number FOR UPDATE OF i) AS held
""",
    (texts, integers, bigints),
)
_MESSAGES = Statement(
    b"INSERT INTO outrider.messages SELECT * FROM unnest($1::text[], $2::double precision[], $3::bytea[])",
    (texts, doubles, octets),
)
_CONTENTS = Statement(
    b"""
INSERT INTO outrider.contents
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])
""",
    (texts, octets, octets, octets, octets, octets),
)
_TRANSFERS = Statement(
    b"""
INSERT INTO outrider.transfers
SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::double precision[], $4::bytea[])
""",
    (octets, octets, doubles, octets),
)
_NAMED = Statement(b"UPDATE outrider.bodies SET named = true WHERE name = ANY($1::text[])", (texts,))
_ITEMS = Statement(
    b"""
INSERT INTO outrider.items SELECT * FROM unnest(
  $1::text[], $2::integer[], $3::smallint[], $4::smallint[], $5::double precision[], $6::bytea[], $7::bytea[],
  $8::bigint[], $9::double precision[], $10::text[], $11::boolean[], $12::double precision[])
""",
    (
        *(texts, integers, smallints, smallints, doubles, octets, octets),
        *(bigints, doubles, texts, booleans, doubles),
    ),
)
_CHANGED = Statement(
    b"""
UPDATE outrider.items AS i
SET state = v.state, next_attempt_at = v.next_attempt_at, destination = v.destination, data = v.data,
    owner = '', lease_until = 0, solo = v.solo
FROM unnest($1::text[], $2::integer[], $3::smallint[], $4::double precision[], $5::bytea[], $6::bytea[],
  $7::boolean[]) AS v(message, number, state, next_attempt_at, destination, data, solo)
WHERE i.message = v.message AND i.number = v.number
""",
    (texts, integers, smallints, doubles, octets, octets, booleans),
)
_ENDED = Statement(
    b"""
DELETE FROM outrider.items AS i USING unnest($1::text[], $2::integer[]) AS v(message, number)
WHERE i.message = v.message AND i.number = v.number
""",
    (texts, integers),
)
_TRAIL = Statement(
    b"INSERT INTO outrider.trail (message, data) SELECT * FROM unnest($1::text[], $2::bytea[])",
    (texts, octets),
)
# Two nodes may end the last two items of one message at once: the second waits here, and then sees the first.
_LOCK = Statement(
    b"SELECT 1 FROM outrider.messages WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE", (texts,)
)
_FINISHED = Statement(
    b"""
WITH ended AS (
    SELECT v.message, v.at FROM unnest($1::text[], $2::double precision[]) AS v(message, at)
    WHERE NOT EXISTS (SELECT 1 FROM outrider.items i WHERE i.message = v.message)),
  emptied AS (DELETE FROM outrider.contents c USING ended WHERE c.message = ended.message),
  unnamed AS (DELETE FROM outrider.bodies b USING ended WHERE b.message = ended.message)
INSERT INTO outrider.finished SELECT message, at FROM ended ON CONFLICT DO NOTHING
""",
    (texts, doubles),
)
_NOTIFY = Statement(b"NOTIFY outrider_spool", prepared=False)

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
    """Do it, as part of the transaction that is open. Raises psycopg.Error."""
    await send_together(connection, calls_of(writes))


def calls_of(writes: Writes) -> list[Call]:
    """The statements, in order. Raises ValueError, struct.error for what cannot be sent."""
    done = [item for item in writes.changed if item.state is ItemState.DONE]
    waiting = [item for item in writes.changed if item.state is not ItemState.DONE]
    ended = sorted({message for message, _ in writes.finished})
    calls = [
        statement.of_rows(rows)
        for statement, rows in (
            (_LOCK, [(message,) for message in ended]),
            (_MESSAGES, writes.messages),
            (_CONTENTS, writes.contents),
            (_TRANSFERS, writes.transfers),
            (_ITEMS, writes.items),
            (_CHANGED, [changed_row(item) for item in waiting]),
            (_ENDED, [(item.key.message, item.key.number) for item in done]),
            (_TRAIL, writes.trail),
            (_NAMED, [(name,) for name in writes.bodies]),
            (_FINISHED, writes.finished),
        )
        if rows
    ]
    return [*calls, _NOTIFY.with_parameters()] if writes.wake else calls


def calls_under_leases(writes: Writes, leases: Sequence[tuple[ItemKey, int]]) -> list[Call]:
    """The same, if all the leases still hold: otherwise the first statement fails; see `is_lease_lost`."""
    rows = [(key.message, key.number, token) for key, token in leases]
    calls = calls_of(writes)
    return [_ALL_HELD.of_rows(rows), *calls] if rows else calls


def is_lease_lost(error: BaseException) -> bool:
    """Whether a transaction failed for want of a lease."""
    return isinstance(error.__cause__, errors.DivisionByZero)


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
    found = await (await connection.execute(_HELD, columns(rows))).fetchall()
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
            await self._commit_at_once(batch)
        except Exception as error:
            if len(batch) == 1 or not concerns_one_request(error):
                raise
            for request in batch:
                request.error = None
                with contextlib.suppress(SpoolUnavailable):
                    await self._commit_one(request)

    async def _commit_at_once(self, batch: Sequence[Request]) -> None:
        together = Writes()
        for request in batch:
            together.join(request.writes)
        leases = [request.lease for request in batch if request.lease is not None]
        try:
            await self._database.transact_at_once(calls_under_leases(together, leases))
        except SpoolError as error:
            if not is_lease_lost(error):
                raise
            # Somebody's lease is gone. Now it is worth the time to find out whose.
            await self._database.transact(lambda connection: _write_together(connection, batch))

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
