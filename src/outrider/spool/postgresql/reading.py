"""What only reads from PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from psycopg import AsyncServerCursor
from psycopg.rows import TupleRow

from outrider.model.message import Event, Item, ItemKey, ItemState, MessageId
from outrider.spool import codec
from outrider.spool.codec import Malformed, MessageRecord
from outrider.spool.columns import STATE_NUMBERS, STATES
from outrider.spool.interface import Counts, Filter, NotFound, QueueEntry, SpoolError
from outrider.spool.postgresql.database import Connection
from outrider.spool.postgresql.leasing import trail_of
from outrider.spool.selection import domain_octets, matches, wanted_states

FETCH = 200

_MESSAGE = """
SELECT m.received_at, m.data, c.headers, c.body, c.reference, c.digest, c.objects,
  coalesce(f.at, 0)
FROM outrider.messages m LEFT JOIN outrider.contents c ON c.message = m.id
LEFT JOIN outrider.finished f ON f.message = m.id WHERE m.id = %s
"""
_ITEMS = """
SELECT number, state, next_attempt_at, destination, data, lease FROM outrider.items
WHERE message = %s ORDER BY number
"""
_SEARCH = """
SELECT m.id, m.received_at, m.data, i.number, i.state, i.next_attempt_at, i.destination, i.data, 0::float8
FROM outrider.messages m JOIN outrider.items i ON i.message = m.id
WHERE i.state = ANY(%(states)s::smallint[])
  AND (%(ids)s::text[] IS NULL OR m.id = ANY(%(ids)s::text[]))
  AND (%(older)s = 0 OR m.received_at < %(older)s)
  AND (%(sender)b::bytea IS NULL OR position(%(sender)b::bytea IN m.data) > 0)
  AND (%(recipient)b::bytea IS NULL OR position(%(recipient)b::bytea IN m.data) > 0)
UNION ALL
SELECT m.id, m.received_at, m.data, NULL, 3, 0, '', t.data, coalesce(f.at, 0)
FROM outrider.messages m JOIN outrider.trail t ON t.message = m.id
LEFT JOIN outrider.finished f ON f.message = m.id
WHERE %(done)s
  AND (%(ids)s::text[] IS NULL OR m.id = ANY(%(ids)s::text[]))
  AND (%(older)s = 0 OR m.received_at < %(older)s)
  AND (%(sender)b::bytea IS NULL OR position(%(sender)b::bytea IN m.data) > 0)
  AND (%(recipient)b::bytea IS NULL OR position(%(recipient)b::bytea IN m.data) > 0)
ORDER BY 2, 1, 4
"""
_NEXT_DUE = """
SELECT min(at) FROM (
  (SELECT next_attempt_at AS at FROM outrider.items WHERE state = 0 AND rank = 0 ORDER BY 1 LIMIT 1) UNION ALL
  (SELECT next_attempt_at FROM outrider.items WHERE state = 0 AND rank = 1 ORDER BY 1 LIMIT 1) UNION ALL
  (SELECT next_attempt_at FROM outrider.items WHERE state = 0 AND rank = 2 ORDER BY 1 LIMIT 1) UNION ALL
  (SELECT next_attempt_at FROM outrider.items WHERE state = 4 ORDER BY 1 LIMIT 1)) AS firsts
"""
_COUNTS = """
SELECT coalesce(sum(ready), 0)::bigint, coalesce(sum(active), 0)::bigint, coalesce(sum(held), 0)::bigint,
  coalesce((SELECT min(received_at) FROM outrider.items), 0)
FROM outrider.counters
"""

_HELD_ELSEWHERE = """
SELECT i.message, i.number FROM outrider.items i
JOIN unnest(%b::text[], %b::integer[]) AS v(message, number) ON i.message = v.message AND i.number = v.number
WHERE i.state = 1 AND i.owner <> %s
"""

_Bytes = bytes | None
MessageRow = tuple[float, bytes, _Bytes, _Bytes, _Bytes, _Bytes, _Bytes, float]


async def message_row(connection: Connection, message: MessageId) -> MessageRow:
    """received_at, record, headers, body, reference, digest, objects, finished_at. Raises NotFound."""
    row = await (await connection.execute(_MESSAGE, (message,), binary=True)).fetchone()
    if row is None:
        raise NotFound(f"{message}: no such message")
    return (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])


async def transfer_row(connection: Connection, key: tuple[bytes, bytes]) -> bytes | None:
    """The record of a transfer; None = it is not known."""
    statement = "SELECT data FROM outrider.transfers WHERE peer = %b AND transfer = %b"
    row = await (await connection.execute(statement, key, binary=True)).fetchone()
    return None if row is None else bytes(row[0])


def decoded(message: str, data: object) -> MessageRecord:
    """The record. Raises SpoolError with the message's name."""
    try:
        return codec.decode_message(message, data)
    except Malformed as error:
        raise SpoolError(f"{message}: its row is damaged: {error}") from None


async def items(connection: Connection, message: MessageId) -> tuple[Item, ...]:
    """See `Spool.items`."""
    await message_row(connection, message)
    found = [record.done for record in await trail_of(connection, message) if record.done is not None]
    for row in await (await connection.execute(_ITEMS, (message,), binary=True)).fetchall():
        number, state, at, destination, data, _ = row
        try:
            key = ItemKey(message, number)
            found.append(codec.decode_item(key, bytes(destination).decode(), STATES[state], at, data))
        except (Malformed, UnicodeDecodeError, KeyError):
            continue  # set aside when it is leased
    return tuple(sorted(found, key=lambda item: item.key.number))


async def events(connection: Connection, message: MessageId) -> tuple[Event, ...]:
    """See `Spool.events`."""
    row = await message_row(connection, message)
    first = decoded(message, row[1]).events
    return first + tuple(event for record in await trail_of(connection, message) for event in record.events)


async def find(connection: Connection, wanted: Filter) -> tuple[QueueEntry, ...]:
    """See `Spool.find`: a server-side cursor, so that a long queue is not brought here whole."""
    states = wanted_states(wanted)
    values = {
        "states": [n for state in states for n in STATE_NUMBERS.get(state, ())],
        "done": ItemState.DONE in states,
        "ids": list(wanted.ids) or None,
        "older": wanted.older_than,
        "sender": domain_octets(wanted.sender),
        "recipient": domain_octets(wanted.recipient),
    }
    entries: list[QueueEntry] = []
    async with connection.transaction():
        cursor: AsyncServerCursor[TupleRow] = AsyncServerCursor(connection, "outrider_find")
        async with cursor:
            await cursor.execute(_SEARCH, values, binary=True)
            while rows := await cursor.fetchmany(FETCH):
                for row in rows:
                    entry = _entry(row)
                    if entry is not None and matches(
                        wanted, entry.message.received_at, entry.message.envelope, entry.item
                    ):
                        entries.append(entry)
                        if len(entries) == wanted.limit:
                            return tuple(entries)
                await asyncio.sleep(0)
    return tuple(entries)


def _entry(row: TupleRow) -> QueueEntry | None:
    """The entry; None for a row of the trail without an item, and for what cannot be read."""
    id_, received_at, record_data, number, state, at, destination, data, finished_at = row
    try:
        record = codec.decode_message(id_, record_data)
        item: Item | None
        if number is None:
            item = codec.decode_trail(id_, data).done
        else:
            key = ItemKey(MessageId(id_), number)
            item = codec.decode_item(key, bytes(destination).decode(), STATES[state], at, data)
        if item is None:
            return None
        codec.check_positions(record, item)
    except (Malformed, UnicodeDecodeError, KeyError):
        return None
    return QueueEntry(codec.assemble(id_, received_at, record, None, finished_at), item)


async def next_due(connection: Connection) -> float | None:
    """See `Spool.next_due`."""
    row = await (await connection.execute(_NEXT_DUE)).fetchone()
    return None if row is None or row[0] is None else float(row[0])


async def counts(connection: Connection) -> Counts:
    """See `Spool.counts`: one row for each session, however long the queue."""
    row = await (await connection.execute(_COUNTS)).fetchone()
    assert row is not None  # an aggregate always has one
    return Counts(int(row[0]), int(row[1]), int(row[2]), float(row[3]))


async def clock(connection: Connection) -> float:
    """What time it is for the database, seconds since the epoch."""
    row = await (await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")).fetchone()
    assert row is not None
    return float(row[0])


async def paused(connection: Connection) -> frozenset[str]:
    """See `SharedQueue.paused`."""
    cursor = await connection.execute("SELECT destination FROM outrider.pauses", binary=True)
    return frozenset(bytes(name).decode(errors="replace") for (name,) in await cursor.fetchall())


async def held_elsewhere(connection: Connection, owner: str, keys: Sequence[ItemKey]) -> list[ItemKey]:
    """Those of the items that other nodes have leased."""
    if not keys:
        return []
    messages, numbers = [key.message for key in keys], [key.number for key in keys]
    cursor = await connection.execute(_HELD_ELSEWHERE, (messages, numbers, owner))
    return [ItemKey(MessageId(message), number) for message, number in await cursor.fetchall()]
