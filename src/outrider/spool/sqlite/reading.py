"""What only reads: on a connection and a thread of its own; no writer holds it up, and it holds up none."""

from __future__ import annotations

import heapq
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from outrider.model.message import Event, Item, ItemKey, ItemState, MessageId, StoredMessage
from outrider.spool import codec
from outrider.spool.bodies import decode_reference
from outrider.spool.body_files import BodyFiles
from outrider.spool.codec import Malformed, MessageRecord
from outrider.spool.columns import STATE_NUMBERS, STATES
from outrider.spool.interface import Filter, NotFound, QueueEntry, SpoolError
from outrider.spool.selection import domain_octets, matches, wanted_states
from outrider.spool.sqlite.rows import SqlValue

_MESSAGE = """
SELECT m.id, m.received_at, m.data, c.headers, c.body, c.file, c.digest, c.objects, coalesce(f.at, 0.0)
FROM messages m LEFT JOIN contents c ON c.seq = m.seq LEFT JOIN finished f ON f.seq = m.seq WHERE m.id = ?
"""
_ITEMS = """
SELECT i.number, i.state, i.next_attempt_at, i.destination, i.data
FROM messages m JOIN items i ON i.seq = m.seq WHERE m.id = ? ORDER BY i.number
"""
_TRAIL = "SELECT t.data FROM messages m JOIN trail t ON t.seq = m.seq WHERE m.id = ? ORDER BY t.n"
_SEARCH_QUEUE = """
SELECT i.seq, i.number, i.state, i.next_attempt_at, i.destination, i.data, m.id, m.received_at, m.data, 0.0
FROM items i CROSS JOIN messages m ON m.seq = i.seq
WHERE i.seq > :after AND i.state IN (SELECT value FROM json_each(:states))
  AND (:older = 0 OR m.received_at < :older)
  AND (:sender IS NULL OR instr(m.data, :sender))
  AND (:recipient IS NULL OR instr(m.data, :recipient))
ORDER BY i.seq, i.number
"""
_SEARCH_IDS = """
SELECT i.seq, i.number, i.state, i.next_attempt_at, i.destination, i.data, m.id, m.received_at, m.data, 0.0
FROM messages m CROSS JOIN items i ON i.seq = m.seq
WHERE m.id IN (SELECT value FROM json_each(:ids)) AND m.seq > :after
  AND i.state IN (SELECT value FROM json_each(:states))
  AND (:older = 0 OR m.received_at < :older)
  AND (:sender IS NULL OR instr(m.data, :sender))
  AND (:recipient IS NULL OR instr(m.data, :recipient))
ORDER BY m.seq, i.number
"""
_SEARCH_DESTINATION = """
WITH found AS MATERIALIZED (
    SELECT seq, number FROM items INDEXED BY items_by_destination
    WHERE state = 0 AND destination IN (SELECT value FROM json_each(:destinations))
    UNION ALL SELECT seq, number FROM items WHERE state = 4)
SELECT i.seq, i.number, i.state, i.next_attempt_at, i.destination, i.data, m.id, m.received_at, m.data, 0.0
FROM found CROSS JOIN items i ON i.seq = found.seq AND i.number = found.number
CROSS JOIN messages m ON m.seq = i.seq
WHERE (:older = 0 OR m.received_at < :older)
  AND (:sender IS NULL OR instr(m.data, :sender))
  AND (:recipient IS NULL OR instr(m.data, :recipient))
ORDER BY i.seq, i.number
"""
_NEXT_DESTINATION = "SELECT min(destination) FROM items WHERE state = 0 AND destination > CAST(? AS TEXT)"
_SEARCH_DONE = """
SELECT t.seq, t.n, 3, 0.0, '', t.data, m.id, m.received_at, m.data, coalesce(f.at, 0.0)
FROM messages m JOIN trail t ON t.seq = m.seq LEFT JOIN finished f ON f.seq = m.seq
WHERE m.seq > :after AND (:ids IS NULL OR m.id IN (SELECT value FROM json_each(:ids)))
  AND (:older = 0 OR m.received_at < :older)
  AND (:sender IS NULL OR instr(m.data, :sender))
  AND (:recipient IS NULL OR instr(m.data, :recipient))
ORDER BY m.seq, t.n
"""
_OLDEST = "SELECT received_at FROM messages WHERE seq = (SELECT min(seq) FROM items)"
_NEXT_DUE = """
SELECT min(at) FROM (
    SELECT min(next_attempt_at) AS at FROM items WHERE state = 0 AND rank = 0 UNION ALL
    SELECT min(next_attempt_at) FROM items WHERE state = 0 AND rank = 1 UNION ALL
    SELECT min(next_attempt_at) FROM items WHERE state = 0 AND rank = 2 UNION ALL
    SELECT min(next_attempt_at) FROM items WHERE state = 4)
"""

_FoundRow = tuple[int, int, int, float, str, bytes, str, float, bytes, float]


def read(
    connection: sqlite3.Connection,
    message: MessageId,
    bodies: BodyFiles,
    damaged: Callable[[MessageId, str], None],
) -> StoredMessage:
    """See `Spool.read`. Content that is damaged is not given; its item is or will be held."""
    row = connection.execute(_MESSAGE, (message,)).fetchone()
    if row is None:
        raise NotFound(f"{message}: no such message")
    id_, received_at, data, headers, body, file, digest, kept, finished_at = row
    record = _record(id_, data)
    content = objects = None
    if headers is not None:
        try:
            objects = codec.decode_objects(id_, kept)
            if file is None:
                headers, inline = codec.verified_body(headers, body, digest)
                content = codec.assemble_content(record, headers, inline)
            else:
                headers, _ = codec.verified_body(headers, b"", digest)
                opened = bodies.open(decode_reference(id_, file), lambda why: damaged(message, why))
                content = codec.assemble_content(record, headers, opened)
        except Malformed as error:
            damaged(message, str(error))
    return codec.assemble(id_, received_at, record, content, finished_at, objects)


def _record(message: str, data: object) -> MessageRecord:
    try:
        return codec.decode_message(message, data)
    except Malformed as error:
        raise SpoolError(f"{message}: its row is damaged: {error}") from None


def _check_exists(connection: sqlite3.Connection, message: MessageId) -> None:
    if connection.execute("SELECT 1 FROM messages WHERE id = ?", (message,)).fetchone() is None:
        raise NotFound(f"{message}: no such message")


def items(connection: sqlite3.Connection, message: MessageId) -> tuple[Item, ...]:
    """See `Spool.items`."""
    _check_exists(connection, message)
    found = [record.done for record in _trail(connection, message) if record.done is not None]
    for number, state, at, destination, data in connection.execute(_ITEMS, (message,)).fetchall():
        try:
            found.append(codec.decode_item(ItemKey(message, number), destination, STATES[state], at, data))
        except (Malformed, KeyError):
            continue  # set aside when it is leased or at the next start
    return tuple(sorted(found, key=lambda item: item.key.number))


def events(connection: sqlite3.Connection, message: MessageId) -> tuple[Event, ...]:
    """See `Spool.events`."""
    row = connection.execute("SELECT data FROM messages WHERE id = ?", (message,)).fetchone()
    if row is None:
        raise NotFound(f"{message}: no such message")
    first = _record(message, row[0]).events
    return first + tuple(event for record in _trail(connection, message) for event in record.events)


def _trail(connection: sqlite3.Connection, message: MessageId) -> list[codec.TrailRecord]:
    found = []
    for (data,) in connection.execute(_TRAIL, (message,)).fetchall():
        try:
            found.append(codec.decode_trail(message, data))
        except Malformed:
            continue
    return found


class Page(NamedTuple):
    """A part of what matches."""

    entries: tuple[QueueEntry, ...]
    last: int
    """Where it ends: the next one is to be looked for behind it."""
    is_last: bool


BEFORE_ALL = -1


def find(connection: sqlite3.Connection, wanted: Filter) -> tuple[QueueEntry, ...]:
    """See `Spool.find`."""
    found = _matching(connection, wanted, BEFORE_ALL, in_parts=False)
    return tuple(entry for _, entry in itertools.islice(found, wanted.limit or None))


def page(connection: sqlite3.Connection, wanted: Filter, after: int) -> Page:
    """Entries of messages behind `after`: `wanted.limit` of them, or more if the last message has more."""
    found: list[QueueEntry] = []
    last = after
    for seq, entry in _matching(connection, wanted, after, in_parts=True):
        if wanted.limit and len(found) >= wanted.limit and seq != last:
            return Page(tuple(found), last, False)
        found.append(entry)
        last = seq
    return Page(tuple(found), last, True)


def _matching(
    connection: sqlite3.Connection, wanted: Filter, after: int, *, in_parts: bool
) -> Iterator[tuple[int, QueueEntry]]:
    """Entries with the place of their message, oldest first.

    The database narrows down by bytes that must occur, the rest is compared here. `in_parts` says that the
    search will go on behind where it ended: then no index is of use that would have to be sorted each time.
    """
    states = wanted_states(wanted)
    values: dict[str, SqlValue] = {
        "after": after,
        "states": json.dumps([n for state in states for n in STATE_NUMBERS.get(state, ())]),
        "ids": json.dumps(list(wanted.ids)) if wanted.ids else None,
        "older": wanted.older_than,
        "sender": domain_octets(wanted.sender),
        "recipient": domain_octets(wanted.recipient),
    }
    searches: list[Iterator[tuple[int, QueueEntry]]] = []
    if wanted.ids:
        searches.append(_search(connection, _SEARCH_IDS, values, wanted))
    elif wanted.destination and states == (ItemState.READY,) and not in_parts:
        values["destinations"] = json.dumps(_destinations_like(connection, wanted.destination))
        searches.append(_search(connection, _SEARCH_DESTINATION, values, wanted))
    elif any(state is not ItemState.DONE for state in states):
        searches.append(_search(connection, _SEARCH_QUEUE, values, wanted))
    if ItemState.DONE in states:
        searches.append(_search(connection, _SEARCH_DONE, values, wanted))
    return heapq.merge(*searches, key=itemgetter(0))


def _destinations_like(connection: sqlite3.Connection, name: str) -> list[str]:
    """Destinations of READY items that are `name` but for case: one seek for each destination there is."""
    found: list[str] = []
    wanted, last = name.casefold(), ""
    while True:
        last = connection.execute(_NEXT_DESTINATION, (last.encode("utf-8", "surrogateescape"),)).fetchone()[0]
        if last is None:
            return found
        if last.casefold() == wanted:
            found.append(last)


def _search(
    connection: sqlite3.Connection, text: str, values: Mapping[str, SqlValue], wanted: Filter
) -> Iterator[tuple[int, QueueEntry]]:
    cursor = connection.execute(text, values)
    while rows := cursor.fetchmany(200):
        for row in rows:
            entry = _entry(row)
            if entry is not None and matches(
                wanted, entry.message.received_at, entry.message.envelope, entry.item
            ):
                yield row[0], entry


def _entry(row: _FoundRow) -> QueueEntry | None:
    """The entry; None for a row of the trail without an item, and for what cannot be read."""
    _, number, state, at, destination, data, id_, received_at, message_data, finished_at = row
    try:
        record = codec.decode_message(id_, message_data)
        item: Item | None
        if state in STATES:
            item = codec.decode_item(ItemKey(MessageId(id_), number), destination, STATES[state], at, data)
        else:
            item = codec.decode_trail(id_, data).done
        if item is None:
            return None
        codec.check_positions(record, item)
    except Malformed:
        return None
    return QueueEntry(codec.assemble(id_, received_at, record, None, finished_at), item)


def oldest_received_at(connection: sqlite3.Connection) -> float:
    """Of the messages that are still in the queue; 0 when it is empty."""
    row = connection.execute(_OLDEST).fetchone()
    return float(row[0]) if row is not None else 0.0


def next_due(connection: sqlite3.Connection) -> float | None:
    """See `Spool.next_due`: four seeks, whatever the length of the queue."""
    found = connection.execute(_NEXT_DUE).fetchone()[0]
    return None if found is None else float(found)
