"""Leases, operators' changes, recovery and purging on PostgreSQL: each is the work of one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from outrider.model.layered import MessageObjects
from outrider.model.message import Event, Item, ItemKey, ItemState, MessageId
from outrider.spool import codec, transitions
from outrider.spool.bodies import BodyReference, decode_reference
from outrider.spool.codec import Malformed, MessageRecord
from outrider.spool.columns import ACTIVE, RANKS, STATES, state_number
from outrider.spool.interface import Change, Conflict, NotFound
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql.exchange import Connection
from outrider.spool.postgresql.presence import Note, Word, telling
from outrider.spool.postgresql.writing import Writes, columns, write

WINDOW = 1000
"""How many due items to avoided destinations, or in another node's hands, are passed over at most."""
DESTINATIONS = 200
"""Destinations looked at behind such a crowd; the next search goes on from there, so all have their turn."""
PURGE_STEP = 500
_SOLO_LOCK = 0x6F75_7473  # an advisory lock: one suspect at a time, on all nodes together

_FOUND = """
SELECT i.message, i.number, i.state, i.rank, i.next_attempt_at, i.destination, i.data, i.lease,
  m.received_at, m.data, c.headers, c.body, c.reference, c.digest, c.objects
FROM outrider.items i
LEFT JOIN outrider.messages m ON m.id = i.message LEFT JOIN outrider.contents c ON c.message = i.message
JOIN unnest(%b::text[], %b::integer[]) WITH ORDINALITY AS v(message, number, place)
  ON i.message = v.message AND i.number = v.number
ORDER BY v.place
"""
_DUE = """
SELECT i.message, i.number FROM outrider.items i
WHERE (i.message, i.number) IN (
    SELECT w.message, w.number FROM (
      SELECT message, number, destination FROM outrider.items
      WHERE state = 0 AND rank = %s AND next_attempt_at <= %s ORDER BY next_attempt_at LIMIT %s) AS w
    WHERE w.destination <> ALL(%b::bytea[]))
  AND i.state = 0
ORDER BY i.next_attempt_at LIMIT %s FOR UPDATE OF i SKIP LOCKED
"""
_IN_WINDOW = """
SELECT count(*) FROM (
  SELECT 1 FROM outrider.items WHERE state = 0 AND rank = %s AND next_attempt_at <= %s LIMIT %s) AS w
"""
_NEXT_DESTINATION = """
SELECT destination FROM outrider.items WHERE state = 0 AND destination > %b ORDER BY destination LIMIT 1
"""
_DUE_AT = """
SELECT message, number FROM outrider.items WHERE state = 0 AND destination = %b AND next_attempt_at <= %s
ORDER BY next_attempt_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_SUSPECT = """
SELECT message, number FROM outrider.items
WHERE state = 4 AND next_attempt_at <= %s AND destination <> ALL(%b::bytea[])
ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_EXPIRED = """
SELECT message, number FROM outrider.items WHERE state = 1 AND lease_until <= %s
ORDER BY lease_until LIMIT 500 FOR UPDATE SKIP LOCKED
"""
_OWN = """
SELECT message, number FROM outrider.items WHERE state = 1 AND owner = %s ORDER BY message, number FOR UPDATE
"""
_ONE = "SELECT message, number FROM outrider.items WHERE message = %s AND number = %s FOR UPDATE"
_LEASED = """
UPDATE outrider.items AS i
SET state = 1, lease = v.lease, lease_until = %s, next_attempt_at = %s, owner = %s, data = v.data
FROM unnest(%b::text[], %b::integer[], %b::bigint[], %b::bytea[]) AS v(message, number, lease, data)
WHERE i.message = v.message AND i.number = v.number
"""
_BACK = """
UPDATE outrider.items AS i
SET state = v.state, data = v.data, owner = '', lease_until = 0, solo = v.solo
FROM unnest(%b::text[], %b::integer[], %b::smallint[], %b::bytea[], %b::boolean[])
  AS v(message, number, state, data, solo)
WHERE i.message = v.message AND i.number = v.number
"""
_RENEW = """
UPDATE outrider.items AS i SET lease_until = %s
FROM unnest(%b::text[], %b::integer[], %b::bigint[]) AS v(message, number, lease)
WHERE i.message = v.message AND i.number = v.number AND i.lease = v.lease AND i.state = 1
RETURNING i.message, i.number
"""
_QUARANTINE = """
INSERT INTO outrider.quarantine (origin, name, why, item)
SELECT 'items', message, %s, to_jsonb(i) FROM outrider.items i WHERE message = %s AND number = %s
"""
_IMPOSSIBLE = """
SELECT i.message, i.number FROM outrider.items i LEFT JOIN outrider.messages m ON m.id = i.message
WHERE i.next_attempt_at > 1e12 OR i.next_attempt_at < -1e12 OR m.id IS NULL FOR UPDATE OF i SKIP LOCKED
"""
_PURGE = """
WITH old AS (SELECT message FROM outrider.finished WHERE at < %s ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED),
  t AS (DELETE FROM outrider.trail WHERE message IN (SELECT message FROM old)),
  c AS (DELETE FROM outrider.contents WHERE message IN (SELECT message FROM old)),
  f AS (DELETE FROM outrider.finished WHERE message IN (SELECT message FROM old))
DELETE FROM outrider.messages WHERE id IN (SELECT message FROM old)
"""

_PURGE_TRANSFERS = """
DELETE FROM outrider.transfers WHERE (peer, transfer) IN (
  SELECT peer, transfer FROM outrider.transfers WHERE until < %s ORDER BY until LIMIT %s
  FOR UPDATE SKIP LOCKED)
"""


class Found(NamedTuple):
    """A row of the queue with its message and content."""

    message: str
    number: int
    state: int
    rank: int
    next_attempt_at: float
    destination: bytes
    data: bytes
    lease: int
    received_at: float | None
    record: bytes | None
    headers: bytes | None
    body: bytes | None
    reference: bytes | None
    digest: bytes | None
    objects: bytes | None

    @property
    def key(self) -> ItemKey:
        """Its name."""
        return ItemKey(MessageId(self.message), self.number)


@dataclass(frozen=True, slots=True)
class Taken:
    """A leased item with all that was read; the body may still be in the database."""

    item: Item
    record: MessageRecord
    received_at: float
    headers: bytes
    body: bytes | None
    reference: BodyReference | None
    due_before: float
    objects: MessageObjects | None


@dataclass(slots=True)
class Outcome:
    """What a transaction did."""

    taken: list[Taken] = field(default_factory=list)
    refused: dict[ItemKey, str] = field(default_factory=dict)
    released: int = 0
    quarantined: int = 0
    poison: list[ItemKey] = field(default_factory=list)


class Leasing:
    """The transactions, with what they all need."""

    def __init__(self, owner: str, observer: SpoolObserver, poison_after: int) -> None:
        self._owner = owner
        self._observer = observer
        self._poison_after = poison_after
        self._last_destination = b""

    async def lease_due(
        self,
        connection: Connection,
        *,
        now: float,
        until: float,
        limit: int,
        avoid: Sequence[str],
        solo: bool,
        expire: bool,
    ) -> Outcome:
        """See `Spool.lease_due`. Without `expire`, leases that have run out are left alone."""
        outcome = Outcome()
        expired = await self._keys(connection, _EXPIRED, now) if expire else []
        for key in expired:
            self._observer.lease_expired(key.message, key.number)
        await self._abandon(connection, expired, outcome)
        names = [name.encode() for name in avoid]
        if solo:
            keys = await self._suspects(connection, now, names) if limit else []
        else:
            keys = await self._due(connection, now, limit, names)
        await self._lease(connection, keys, until, outcome)
        return outcome

    async def _suspects(self, connection: Connection, now: float, avoid: list[bytes]) -> list[ItemKey]:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SOLO_LOCK,))
        cursor = await connection.execute("SELECT 1 FROM outrider.items WHERE state = 1 AND solo LIMIT 1")
        if await cursor.fetchone() is not None:
            return []
        return await self._keys(connection, _SUSPECT, now, avoid)

    async def _due(self, connection: Connection, now: float, limit: int, avoid: list[bytes]) -> list[ItemKey]:
        keys: list[ItemKey] = []
        for rank in RANKS:
            left = limit - len(keys)
            if left <= 0:
                break
            window = left + WINDOW
            keys += await self._keys(connection, _DUE, rank, now, window, avoid, left)
            if avoid and len(keys) < limit:
                row = await (await connection.execute(_IN_WINDOW, (rank, now, window))).fetchone()
                if row is not None and row[0] >= window:
                    # A crowd of due items to avoided places stands in front: look behind it.
                    behind = await self._due_elsewhere(connection, now, limit - len(keys), frozenset(avoid))
                    return list(dict.fromkeys(keys + behind))
        return keys

    async def _due_elsewhere(
        self, connection: Connection, now: float, limit: int, avoid: frozenset[bytes]
    ) -> list[ItemKey]:
        keys: list[ItemKey] = []
        name, wrapped = self._last_destination, False
        for _ in range(DESTINATIONS):
            row = await (await connection.execute(_NEXT_DESTINATION, (name,))).fetchone()
            if row is None:
                if wrapped:
                    break
                name, wrapped = b"", True
                continue
            name = self._last_destination = bytes(row[0])
            if name not in avoid:
                keys += await self._keys(connection, _DUE_AT, name, now, limit - len(keys))
            if len(keys) >= limit:
                break
        return keys

    async def _keys(self, connection: Connection, statement: str, *values: object) -> list[ItemKey]:
        rows = await (await connection.execute(statement.encode(), values)).fetchall()
        return [ItemKey(MessageId(message), number) for message, number in rows]

    async def lease_one(self, connection: Connection, key: ItemKey, until: float) -> Outcome:
        """See `Spool.lease_one`."""
        outcome = Outcome()
        row = await self._locked(connection, key)
        if row.state == ACTIVE:
            raise Conflict("it is being delivered")
        await self._lease(connection, [key], until, outcome)
        if not outcome.taken:
            outcome.refused[key] = "its row or its content is damaged"
        return outcome

    async def _locked(self, connection: Connection, key: ItemKey) -> Found:
        if await self._keys(connection, _ONE, key.message, key.number):
            for row in await found(connection, [key]):
                return row
        if await is_done(connection, key):
            raise Conflict("it is finished")
        raise NotFound(f"{key.message}/{key.number}: no such item")

    async def _lease(
        self, connection: Connection, keys: Sequence[ItemKey], until: float, outcome: Outcome
    ) -> None:
        rows = []
        for row in await found(connection, keys):
            taken = await self._take(connection, row, until, outcome)
            if taken is not None:
                item = taken.item
                outcome.taken.append(taken)
                rows.append((item.key.message, item.key.number, item.lease, codec.encode_item(item)))
        if rows:
            await connection.execute(_LEASED, (until, until, self._owner, *columns(rows)))

    async def _take(self, connection: Connection, row: Found, until: float, outcome: Outcome) -> Taken | None:
        """The leased item; None where the row had to be set aside or held instead."""
        try:
            record, item = read_found(row)
        except Malformed as error:
            await self._quarantine(connection, row.key, str(error), outcome)
            return None
        try:
            objects = codec.decode_objects(row.message, row.objects)
            reference = None if row.reference is None else decode_reference(row.message, row.reference)
            body = row.body if reference is None else b""
            headers, _ = codec.verified_body(row.headers, body, row.digest)
        except Malformed as error:
            held = replace(item, state=ItemState.HELD, reason=f"content damaged: {error}")
            await write(connection, Writes(changed=[held]))
            self._observer.content_damaged(row.message, str(error))
            return None
        active = transitions.leased(item, row.lease + 1, until)
        received_at = row.received_at or 0.0
        return Taken(active, record, received_at, headers, body, reference, item.next_attempt_at, objects)

    async def _quarantine(self, connection: Connection, key: ItemKey, why: str, outcome: Outcome) -> None:
        await connection.execute(_QUARANTINE, (why, key.message, key.number))
        await connection.execute(
            "DELETE FROM outrider.items WHERE message = %s AND number = %s", (key.message, key.number)
        )
        outcome.quarantined += 1
        self._observer.row_quarantined("items", key.message, why)

    async def _abandon(self, connection: Connection, keys: Sequence[ItemKey], outcome: Outcome) -> None:
        rows = []
        for row in await found(connection, keys):
            try:
                _, item = read_found(row)
            except Malformed as error:
                await self._quarantine(connection, row.key, str(error), outcome)
                continue
            after = transitions.abandoned(item, self._poison_after)
            key = item.key
            data = codec.encode_item(after)
            rows.append((key.message, key.number, state_number(after), data, after.solo))
            if after.state is ItemState.HELD:
                outcome.poison.append(key)
            else:
                outcome.released += 1
        if rows:
            await connection.execute(_BACK, columns(rows))

    async def recover(self, connection: Connection) -> Outcome:
        """Take back what this owner's dead predecessor had leased (FAULT-F11), set aside the impossible."""
        outcome = Outcome()
        for key in await self._keys(connection, _IMPOSSIBLE):
            await self._quarantine(connection, key, "impossible time, or no message", outcome)
        await self._abandon(connection, await self._keys(connection, _OWN, self._owner), outcome)
        return outcome

    async def renew(
        self, connection: Connection, leases: Sequence[tuple[ItemKey, int]], until: float
    ) -> set[ItemKey]:
        """Extend; the keys that still hold."""
        rows = [(key.message, key.number, token) for key, token in leases]
        kept = await (await connection.execute(_RENEW, (until, *columns(rows)))).fetchall()
        return {ItemKey(MessageId(message), number) for message, number in kept}

    async def change(
        self,
        connection: Connection,
        keys: Iterable[ItemKey],
        change: Change,
        *,
        now: float,
        by: str,
        argument: str,
    ) -> Outcome:
        """See `Spool.change`. In the order of names, so that two operators cannot lock each other out."""
        outcome = Outcome()
        for key in sorted(set(keys), key=lambda key: (key.message, key.number)):
            try:
                row = await self._locked(connection, key)
                await self._change(connection, row, change, Order(now, by, argument))
            except (Conflict, NotFound) as error:
                outcome.refused[key] = str(error)
            except Malformed as error:
                outcome.refused[key] = f"its row is damaged: {error}"
        return outcome

    async def _change(self, connection: Connection, row: Found, change: Change, order: Order) -> None:
        record, item = read_found(row)
        after = transitions.changed(item, change, order.now, order.by, order.argument)
        event = transitions.change_event(
            record.envelope, item, change, now=order.now, by=order.by, argument=order.argument
        )
        if change is Change.REROUTE:
            envelope = transitions.rerouted(record.envelope, item, order.argument)
            data = codec.encode_record(item.key.message, replace(record, envelope=envelope))
            await connection.execute(
                "UPDATE outrider.messages SET data = %b WHERE id = %s", (data, row.message)
            )
        await write(connection, ending(after, [event], order.now))


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants a change, when, and with which argument."""

    now: float
    by: str
    argument: str


def ending(after: Item, events: Sequence[Event], at: float) -> Writes:
    """What a settled or changed item leaves."""
    message = after.key.message
    done = after if after.state is ItemState.DONE else None
    writes = Writes(changed=[after])
    if done is not None or events:
        writes.trail.append((message, codec.encode_trail(message, events, done)))
    if done is not None:
        writes.finished.append((message, at))
    return writes


async def found(connection: Connection, keys: Sequence[ItemKey]) -> list[Found]:
    """The rows of these items, in the order of the keys."""
    if not keys:
        return []
    values = columns([(key.message, key.number) for key in keys])
    rows = await (await connection.execute(_FOUND, values, binary=True)).fetchall()
    return [Found(*row) for row in rows]


def read_found(row: Found) -> tuple[MessageRecord, Item]:
    """Message and item of a row. Raises Malformed."""
    if row.record is None:
        raise Malformed("an item without its message")
    if row.state not in STATES:
        raise Malformed("unknown state")
    try:
        destination = row.destination.decode()
    except UnicodeDecodeError:
        raise Malformed("text that is not Unicode") from None
    record = codec.decode_message(row.message, row.record)
    item = codec.decode_item(row.key, destination, STATES[row.state], row.next_attempt_at, row.data)
    codec.check_positions(record, item)
    return record, item


async def is_done(connection: Connection, key: ItemKey) -> bool:
    """Whether the item has ended."""
    return any(
        record.done is not None and record.done.key == key
        for record in await trail_of(connection, key.message)
    )


async def trail_of(connection: Connection, message: str) -> list[codec.TrailRecord]:
    """The trail of a message, in order; rows that cannot be read are passed over."""
    statement = "SELECT data FROM outrider.trail WHERE message = %s ORDER BY n"
    records = []
    for (data,) in await (await connection.execute(statement, (message,), binary=True)).fetchall():
        try:
            records.append(codec.decode_trail(message, data))
        except Malformed:
            continue
    return records


async def next_number(connection: Connection, message: str) -> int:
    """The number of the next item that an attempt splits off."""
    cursor = await connection.execute("SELECT max(number) FROM outrider.items WHERE message = %s", (message,))
    row = await cursor.fetchone()
    numbers = [-1 if row is None or row[0] is None else int(row[0])]
    numbers += [one.done.key.number for one in await trail_of(connection, message) if one.done is not None]
    return max(numbers) + 1


async def postpone(connection: Connection, destination: str, until: float) -> int:
    """See `Spool.postpone`."""
    cursor = await connection.execute(
        "UPDATE outrider.items SET next_attempt_at = %s "
        "WHERE state IN (0, 4) AND destination = %b AND next_attempt_at < %s",
        (until, destination.encode(), until),
    )
    return cursor.rowcount


async def pause(connection: Connection, destination: str) -> None:
    """See `SharedQueue.pause`."""
    statement = "INSERT INTO outrider.pauses (destination) VALUES (%b) ON CONFLICT DO NOTHING"
    await connection.execute(statement, (destination.encode(),))
    await telling([Note(Word.PAUSES)])(connection)


async def resume(connection: Connection, destination: str) -> bool:
    """See `SharedQueue.resume`."""
    cursor = await connection.execute(
        "DELETE FROM outrider.pauses WHERE destination = %b", (destination.encode(),)
    )
    await telling([Note(Word.PAUSES)])(connection)
    return cursor.rowcount > 0


async def purge_transfers(connection: Connection, now: float) -> int:
    """Forget up to PURGE_STEP transfers that nobody repeats any more (MT2-18a); how many."""
    return (await connection.execute(_PURGE_TRANSFERS, (now, PURGE_STEP))).rowcount


async def purge_some(connection: Connection, finished_before: float) -> int:
    """Forget up to PURGE_STEP messages; how many."""
    return (await connection.execute(_PURGE, (finished_before, PURGE_STEP))).rowcount
