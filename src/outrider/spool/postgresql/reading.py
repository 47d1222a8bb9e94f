"""What only reads from PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.model.message import Event, Item, ItemKey, MessageId
from outrider.spool import codec
from outrider.spool.codec import Malformed, MessageRecord
from outrider.spool.columns import STATES
from outrider.spool.interface import Counts, NotFound, SpoolError
from outrider.spool.postgresql.exchange import Connection
from outrider.spool.postgresql.leasing import trail_of

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
