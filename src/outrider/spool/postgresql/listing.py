"""Lists of the queue from PostgreSQL: what matches a filter, all at once or page by page.

A page is a query of its own, which goes on behind the last row that the one before it looked at. So a list of
a million neither comes here whole nor keeps a transaction open for as long as somebody reads it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from psycopg import AsyncServerCursor
from psycopg.rows import TupleRow

from outrider.model.message import Item, ItemKey, ItemState, MessageId
from outrider.spool import codec
from outrider.spool.codec import Malformed
from outrider.spool.columns import STATE_NUMBERS, STATES
from outrider.spool.interface import Filter, QueueEntry
from outrider.spool.postgresql.exchange import Connection
from outrider.spool.selection import domain_octets, matches, wanted_states

FETCH = 200
STEP = 500
"""Items that one page looks at; messages, where finished ones are wanted."""

_SEARCH = b"""
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
# The queue, which may be short where there are many messages that have long been finished.
OPEN_PAGE = b"""
SELECT i.message, i.received_at, m.data, i.number, i.state, i.next_attempt_at, i.destination, i.data,
  0::float8
FROM (
  SELECT * FROM outrider.items
  WHERE (received_at, message, number) > (%(received_at)s, %(message)s, %(number)s)
    AND state = ANY(%(states)s::smallint[]) AND (%(older)s = 0 OR received_at < %(older)s)
  ORDER BY received_at, message, number LIMIT %(step)s) AS i
LEFT JOIN outrider.messages m ON m.id = i.message
  AND (%(sender)b::bytea IS NULL OR position(%(sender)b::bytea IN m.data) > 0)
  AND (%(recipient)b::bytea IS NULL OR position(%(recipient)b::bytea IN m.data) > 0)
ORDER BY 2, 1, 4
"""
WINDOW = b"""
SELECT id, received_at FROM outrider.messages
WHERE (received_at, id) > (%(received_at)s, %(message)s) AND (%(older)s = 0 OR received_at < %(older)s)
ORDER BY received_at, id LIMIT %(step)s
"""
# The times alone say the same to the planner, which cannot reckon how few rows lie between two pairs.
ANY_PAGE = b"""
WITH m AS (
  SELECT * FROM outrider.messages
  WHERE received_at BETWEEN %(received_at)s AND %(last_received_at)s
    AND (received_at, id) > (%(received_at)s, %(message)s)
    AND (received_at, id) <= (%(last_received_at)s, %(last_message)s)
    AND (%(sender)b::bytea IS NULL OR position(%(sender)b::bytea IN data) > 0)
    AND (%(recipient)b::bytea IS NULL OR position(%(recipient)b::bytea IN data) > 0))
SELECT m.id, m.received_at, m.data, i.number, i.state, i.next_attempt_at, i.destination, i.data, 0::float8
FROM m JOIN outrider.items i ON i.message = m.id WHERE i.state = ANY(%(states)s::smallint[])
UNION ALL
SELECT m.id, m.received_at, m.data, NULL, 3, 0, '', t.data, coalesce(f.at, 0)
FROM m JOIN outrider.trail t ON t.message = m.id LEFT JOIN outrider.finished f ON f.message = m.id
ORDER BY 2, 1, 4
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: behind this item, or with it all those of its message."""

    received_at: float = float("-inf")
    message: str = ""
    number: int = -1


@dataclass(frozen=True, slots=True)
class Page:
    """What one query found."""

    entries: tuple[QueueEntry, ...]
    end: Place | None
    """None: nothing follows."""


async def find(connection: Connection, wanted: Filter) -> tuple[QueueEntry, ...]:
    """See `Spool.find`: a server-side cursor, so that what does not match is not brought here whole."""
    entries: list[QueueEntry] = []
    async with connection.transaction():
        cursor: AsyncServerCursor[TupleRow] = AsyncServerCursor(connection, "outrider_find")
        async with cursor:
            await cursor.execute(_SEARCH, values_of(wanted), binary=True)
            while rows := await cursor.fetchmany(FETCH):
                for row in rows:
                    if (entry := _entry(row, wanted)) is not None:
                        entries.append(entry)
                        if len(entries) == wanted.limit:
                            return tuple(entries)
                await asyncio.sleep(0)
    return tuple(entries)


async def page(connection: Connection, wanted: Filter, behind: Place) -> Page:
    """The next entries that match, of the items (or messages) behind that place; there may be none of them
    and yet more to come. `ids` and `limit` are not looked at."""
    if ItemState.DONE in wanted_states(wanted):
        return await _any_page(connection, wanted, behind)
    values = {**values_of(wanted), **values_of_place(behind), "step": STEP}
    rows = await (await connection.execute(OPEN_PAGE, values, binary=True)).fetchall()
    end = Place(rows[-1][1], rows[-1][0], rows[-1][3]) if len(rows) == STEP else None
    return Page(_entries(rows, wanted), end)


async def _any_page(connection: Connection, wanted: Filter, behind: Place) -> Page:
    values = {**values_of(wanted), **values_of_place(behind), "step": STEP}
    window = await (await connection.execute(WINDOW, values)).fetchall()
    if not window:
        return Page((), None)
    last = Place(window[-1][1], window[-1][0])
    values |= {"last_received_at": last.received_at, "last_message": last.message}
    rows = await (await connection.execute(ANY_PAGE, values, binary=True)).fetchall()
    return Page(_entries(rows, wanted), last if len(window) == STEP else None)


def values_of(wanted: Filter) -> dict[str, object]:
    """What the statements want to know of a filter."""
    states = wanted_states(wanted)
    return {
        "states": [n for state in states for n in STATE_NUMBERS.get(state, ())],
        "done": ItemState.DONE in states,
        "ids": list(wanted.ids) or None,
        "older": wanted.older_than,
        "sender": domain_octets(wanted.sender),
        "recipient": domain_octets(wanted.recipient),
    }


def values_of_place(place: Place) -> dict[str, object]:
    """And of a place."""
    return {"received_at": place.received_at, "message": place.message, "number": place.number}


def _entries(rows: list[TupleRow], wanted: Filter) -> tuple[QueueEntry, ...]:
    found = (_entry(row, wanted) for row in rows)
    return tuple(entry for entry in found if entry is not None)


def _entry(row: TupleRow, wanted: Filter) -> QueueEntry | None:
    """The entry; None for what does not match or cannot be read, and for a row of the trail without item."""
    id_, received_at, record_data, number, state, at, destination, data, finished_at = row
    if record_data is None:
        return None
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
    if not matches(wanted, received_at, record.envelope, item):
        return None
    return QueueEntry(codec.assemble(id_, received_at, record, None, finished_at), item)
