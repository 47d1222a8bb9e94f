"""What the writing thread does that needs to read first: leases, operators' changes, recovery, purging.

Every function runs within a transaction, takes the connection, and leaves nothing outside the database: the
transaction may be rolled back and the function called once more. What the event loop has to know (which
leases exist, how the counts moved) is in the result.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from outrider.model.content import Content
from outrider.model.message import Item, ItemKey, ItemState, Leased, MessageId, Settlement
from outrider.spool import codec, transitions
from outrider.spool.bodies import decode_reference
from outrider.spool.body_files import BodyFiles
from outrider.spool.codec import Malformed, MessageRecord
from outrider.spool.columns import ACTIVE, RANKS, STATES, state_number
from outrider.spool.interface import Change, Conflict, NotFound
from outrider.spool.observer import SpoolObserver
from outrider.spool.sqlite.rows import Row, Rows, write_rows

WINDOW = 1000
"""How many due items to avoided destinations are passed over before the search goes on by destination."""
DESTINATIONS = 200
"""Destinations looked at in one such search; the next one goes on from there, so that all have their turn."""
POSTPONE_STEP = 2000
"""Items of a destination put off in one transaction: there may be a million."""
PURGE_STEP = 500
"""Messages forgotten in one transaction, so that stores do not wait for a long purge."""

_DUE = """
SELECT queue.* FROM (
    SELECT seq, number FROM (
        SELECT seq, number, destination FROM items INDEXED BY items_due
        WHERE state = 0 AND rank = ?1 AND next_attempt_at <= ?2 ORDER BY next_attempt_at LIMIT ?3)
    WHERE destination NOT IN (SELECT value FROM json_each(?4)) LIMIT ?5) AS due
CROSS JOIN queue ON queue.seq = due.seq AND queue.number = due.number
"""
_WINDOW_IS_FULL = """
SELECT count(*) = ?3 FROM (
    SELECT 1 FROM items INDEXED BY items_due WHERE state = 0 AND rank = ?1 AND next_attempt_at <= ?2 LIMIT ?3)
"""
_NEXT_DESTINATION = "SELECT min(destination) FROM items WHERE state = 0 AND destination > CAST(? AS TEXT)"
_DUE_AT = """
SELECT * FROM queue
WHERE state = 0 AND destination = CAST(? AS TEXT) AND next_attempt_at <= ? ORDER BY next_attempt_at LIMIT ?
"""
_SUSPECT = "SELECT * FROM queue WHERE state = 4 AND next_attempt_at <= ? ORDER BY next_attempt_at LIMIT ?"
_BY_ID = "SELECT * FROM queue WHERE seq = (SELECT seq FROM messages WHERE id = ?) AND number = ?"
_ACTIVE = "SELECT * FROM queue WHERE state = 1 AND (seq, number) > (?, ?) ORDER BY seq, number LIMIT ?"
_IMPOSSIBLE = """
SELECT * FROM queue
WHERE state NOT IN (0, 1, 2, 4) OR rank NOT IN (0, 1, 2) OR typeof(next_attempt_at) <> 'real'
   OR abs(next_attempt_at) > 1e12 OR typeof(data) <> 'blob' OR id IS NULL
"""
_POSTPONE_READY = """
UPDATE items SET next_attempt_at = ?1 WHERE (seq, number) IN (
    SELECT seq, number FROM items INDEXED BY items_by_destination
    WHERE state = 0 AND destination = ?2 AND next_attempt_at < ?1 LIMIT ?3)
"""
_POSTPONE_SUSPECTS = """
UPDATE items SET next_attempt_at = ?1 WHERE state = 4 AND destination = ?2 AND next_attempt_at < ?1
"""
_PURGE = (
    "DELETE FROM trail WHERE seq IN (SELECT seq FROM finished WHERE at < ?1 ORDER BY at, seq LIMIT ?2)",
    "DELETE FROM contents WHERE seq IN (SELECT seq FROM finished WHERE at < ?1 ORDER BY at, seq LIMIT ?2)",
    "DELETE FROM messages WHERE seq IN (SELECT seq FROM finished WHERE at < ?1 ORDER BY at, seq LIMIT ?2)",
    "DELETE FROM finished WHERE seq IN (SELECT seq FROM finished WHERE at < ?1 ORDER BY at, seq LIMIT ?2)",
)

_PURGE_TRANSFERS = """
DELETE FROM transfers WHERE (peer, transfer) IN (
    SELECT peer, transfer FROM transfers INDEXED BY transfers_until WHERE until < ?1 ORDER BY until LIMIT ?2)
"""


class Found(NamedTuple):
    """A row of the queue with its message and content, as it came."""

    seq: int
    number: int
    state: int
    rank: int
    next_attempt_at: float
    destination: str
    data: bytes
    id: str | None
    received_at: float
    message: bytes
    headers: bytes | None
    body: bytes | None
    file: bytes | None
    digest: bytes | None
    objects: bytes | None


@dataclass(frozen=True, slots=True)
class NewLease:
    """A lease that the loop has to enter into its table once it is durable."""

    leased: Leased
    seq: int
    rank: int
    due_before: float
    """The next attempt as it stood, for giving the item back untouched."""


@dataclass(slots=True)
class Moves:
    """How many items entered (+) and left (-) each state."""

    ready: int = 0
    active: int = 0
    held: int = 0

    def add_all(self, other: Moves) -> None:
        """Count what another counted."""
        self.ready += other.ready
        self.active += other.active
        self.held += other.held

    def add(self, state: ItemState, number: int = 1) -> None:
        """Count; DONE is not counted."""
        if state is ItemState.READY:
            self.ready += number
        elif state is ItemState.ACTIVE:
            self.active += number
        elif state is ItemState.HELD:
            self.held += number


@dataclass(slots=True)
class Outcome:
    """What a call did."""

    moves: Moves = field(default_factory=Moves)
    leases: list[NewLease] = field(default_factory=list)
    refused: dict[ItemKey, str] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    """Bodies whose messages were settled for good."""
    dropped: list[str] = field(default_factory=list)
    """Bodies whose messages an operator has put an end to."""
    quarantined: int = 0
    released: int = 0
    poison: list[ItemKey] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Leasehold:
    """A leased item, from the loop's table."""

    item: Item
    seq: int
    rank: int


class Operations:
    """The calls, with what they all need."""

    def __init__(
        self,
        *,
        next_number: Callable[[], int],
        bodies: BodyFiles,
        damaged: Callable[[MessageId, str], None],
        observer: SpoolObserver,
        poison_after: int,
    ) -> None:
        self._next_number = next_number
        self._bodies = bodies
        self._damaged = damaged
        self._observer = observer
        self._poison_after = poison_after
        self._last_destination = ""

    # --- leases ---------------------------------------------------------------------------------------

    def lease_due(
        self,
        connection: sqlite3.Connection,
        *,
        now: float,
        until: float,
        limit: int,
        avoid: Sequence[str],
        solo: bool,
        expired: Sequence[Leasehold],
    ) -> Outcome:
        """See `Spool.lease_due`. Costs O(limit + WINDOW), whatever the length of the queue."""
        outcome = Outcome()
        self._abandon(connection, expired, outcome)
        rows: Iterable[Found]
        if solo:
            rows = map(Found._make, connection.execute(_SUSPECT, (now, min(limit, 1))).fetchall())
        else:
            rows = self._due(connection, now, limit, avoid)
        self._lease_rows(connection, rows, until, outcome)
        return outcome

    def _abandon(self, connection: sqlite3.Connection, gone: Sequence[Leasehold], outcome: Outcome) -> None:
        rows: list[Row] = []
        for lease in gone:
            after = transitions.abandoned(lease.item, self._poison_after)
            rows.append(item_row(lease.seq, lease.rank, after))
            outcome.moves.add(ItemState.ACTIVE, -1)
            outcome.moves.add(after.state)
        write_rows(connection, (Rows(items=rows),))

    def _due(
        self, connection: sqlite3.Connection, now: float, limit: int, avoid: Sequence[str]
    ) -> Iterator[Found]:
        names = json.dumps(list(avoid))
        left = limit
        for rank_ in RANKS:
            window = left + (WINDOW if avoid else 0)
            rows = connection.execute(_DUE, (rank_, now, window, names, left)).fetchall()
            yield from map(Found._make, rows)
            left -= len(rows)
            if left <= 0:
                return
            full = connection.execute(_WINDOW_IS_FULL, (rank_, now, window)).fetchone()[0]
            if avoid and full:
                # A crowd of due items to avoided places stands in front: look behind it.
                yield from self._due_elsewhere(connection, now, left, frozenset(avoid))
                return

    def _due_elsewhere(
        self, connection: sqlite3.Connection, now: float, limit: int, avoid: frozenset[str]
    ) -> Iterator[Found]:
        name, wrapped = self._last_destination, False
        for _ in range(DESTINATIONS):
            following = connection.execute(_NEXT_DESTINATION, (_octets(name),)).fetchone()[0]
            if following is None:
                if wrapped:
                    return
                name, wrapped = "", True
                continue
            name = self._last_destination = following
            if name not in avoid:
                rows = connection.execute(_DUE_AT, (_octets(name), now, limit)).fetchall()
                yield from map(Found._make, rows)
                limit -= len(rows)
            if limit <= 0:
                return

    def _lease_rows(
        self, connection: sqlite3.Connection, rows: Iterable[Found], until: float, outcome: Outcome
    ) -> None:
        leased: list[Row] = []
        seen: set[tuple[int, int]] = set()
        for row in rows:
            if (row.seq, row.number) in seen:
                continue
            seen.add((row.seq, row.number))
            lease = self._lease_row(connection, row, until, outcome)
            if lease is not None:
                outcome.leases.append(lease)
                leased.append(item_row(row.seq, row.rank, lease.leased.item))
        write_rows(connection, (Rows(items=leased),))

    def _lease_row(
        self, connection: sqlite3.Connection, row: Found, until: float, outcome: Outcome
    ) -> NewLease | None:
        """The lease; None where the row had to be set aside or held instead."""
        try:
            record, item = read_found(row)
        except Malformed as error:
            self.quarantine(connection, row, str(error), outcome)
            return None
        try:
            content = self.content_of(row, record)
            objects = codec.decode_objects(row.id or "", row.objects)
        except Malformed as error:
            self._hold_damaged(connection, row, item, str(error), outcome)
            return None
        active = transitions.leased(item, self._next_number(), until)
        outcome.moves.add(item.state, -1)
        outcome.moves.add(ItemState.ACTIVE)
        message = codec.assemble(row.id or "", row.received_at, record, content, objects=objects)
        return NewLease(Leased(active, message), row.seq, row.rank, item.next_attempt_at)

    def lease_one(self, connection: sqlite3.Connection, key: ItemKey, until: float) -> Outcome:
        """See `Spool.lease_one`."""
        outcome = Outcome()
        row = self._find(connection, key)
        if row.state == ACTIVE:
            raise Conflict("it is being delivered")
        self._lease_rows(connection, (row,), until, outcome)
        if not outcome.leases:
            # Nothing else may be raised here: what was set aside has to be committed.
            outcome.refused[key] = "its row or its content is damaged"
        return outcome

    def content_of(self, row: Found, record: MessageRecord) -> Content:
        """The content, checked unless it is in a file. Raises Malformed."""
        message = MessageId(row.id or "")
        if row.file is None:
            headers, body = codec.verified_body(row.headers, row.body, row.digest)
            return codec.assemble_content(record, headers, body)
        headers, _ = codec.verified_body(row.headers, b"", row.digest)
        reference = decode_reference(message, row.file)
        return codec.assemble_content(
            record, headers, self._bodies.open(reference, lambda why: self._damaged(message, why))
        )

    def _find(self, connection: sqlite3.Connection, key: ItemKey) -> Found:
        row = connection.execute(_BY_ID, (key.message, key.number)).fetchone()
        if row is not None:
            return Found._make(row)
        if self._is_done(connection, key):
            raise Conflict("it is finished")
        raise NotFound(f"{key.message}/{key.number}: no such item")

    def _is_done(self, connection: sqlite3.Connection, key: ItemKey) -> bool:
        return any(record.done is not None and record.done.key == key for record in trail_of(connection, key))

    # --- what is wrong is set aside -------------------------------------------------------------------

    def quarantine(self, connection: sqlite3.Connection, row: Found, why: str, outcome: Outcome) -> None:
        """Move an item that cannot be read, and its message if that is at fault, out of the runner's way."""
        name = (row.id or f"seq {row.seq}").encode("utf-8", "backslashreplace").decode()
        kept = msgspec.msgpack.encode([_octets(one) if isinstance(one, str) else one for one in row])
        connection.execute(
            "INSERT INTO quarantine (origin, name, why, data) VALUES ('items', ?, ?, ?)", (name, why, kept)
        )
        connection.execute("DELETE FROM items WHERE seq = ? AND number = ?", (row.seq, row.number))
        # Message and content stay for a person; `finished` is not set, so that no purge takes them.
        if row.state in STATES:
            outcome.moves.add(STATES[row.state], -1)
        outcome.quarantined += 1
        self._observer.row_quarantined("items", name, why)

    def _hold_damaged(
        self, connection: sqlite3.Connection, row: Found, item: Item, why: str, outcome: Outcome
    ) -> None:
        held = replace(item, state=ItemState.HELD, reason=f"content damaged: {why}")
        write_rows(connection, (Rows(items=(item_row(row.seq, row.rank, held),)),))
        outcome.moves.add(item.state, -1)
        outcome.moves.add(ItemState.HELD)
        self._observer.content_damaged(item.key.message, why)

    # --- recovery -------------------------------------------------------------------------------------

    def recover(self, connection: sqlite3.Connection) -> Outcome:
        """Take back what a dead owner had leased (FAULT-F11), set aside what cannot be read (SEC-212)."""
        outcome = Outcome()
        self._set_aside_impossible(connection, outcome)
        after = (-1, -1)
        while rows := connection.execute(_ACTIVE, (*after, 500)).fetchall():
            found = [Found._make(row) for row in rows]
            after = (found[-1].seq, found[-1].number)
            for row in found:
                self._recover_row(connection, row, outcome)
        return outcome

    def _recover_row(self, connection: sqlite3.Connection, row: Found, outcome: Outcome) -> None:
        try:
            _, item = read_found(row)
        except Malformed as error:
            self.quarantine(connection, row, str(error), outcome)
            return
        after = transitions.abandoned(item, self._poison_after)
        write_rows(connection, (Rows(items=(item_row(row.seq, row.rank, after),)),))
        if after.state is ItemState.HELD:
            outcome.poison.append(after.key)
        else:
            outcome.released += 1

    def _set_aside_impossible(self, connection: sqlite3.Connection, outcome: Outcome) -> None:
        """Rows that no index would ever bring to light: an unknown state, a number that is none."""
        rows = connection.execute(_IMPOSSIBLE).fetchall()
        for row in rows:
            self.quarantine(connection, Found._make(row), "impossible state, rank or time", outcome)

    # --- operators ------------------------------------------------------------------------------------

    def change(
        self,
        connection: sqlite3.Connection,
        keys: Sequence[ItemKey],
        change: Change,
        *,
        now: float,
        by: str,
        argument: str,
    ) -> Outcome:
        """See `Spool.change`."""
        outcome = Outcome()
        for key in keys:
            try:
                row = self._find(connection, key)
                self._change(connection, row, change, now=now, by=by, argument=argument, outcome=outcome)
            except (Conflict, NotFound) as error:
                outcome.refused[key] = str(error)
            except Malformed as error:
                outcome.refused[key] = f"its row is damaged: {error}"
        return outcome

    def _change(
        self,
        connection: sqlite3.Connection,
        row: Found,
        change: Change,
        *,
        now: float,
        by: str,
        argument: str,
        outcome: Outcome,
    ) -> None:
        record, item = read_found(row)
        after = transitions.changed(item, change, now, by, argument)
        event = transitions.change_event(record.envelope, item, change, now=now, by=by, argument=argument)
        if change is Change.REROUTE:
            envelope = transitions.rerouted(record.envelope, item, argument)
            data = codec.encode_record(item.key.message, replace(record, envelope=envelope))
            connection.execute("UPDATE messages SET data = ? WHERE seq = ?", (data, row.seq))
        rows = settled_rows(row.seq, row.rank, after, now)
        done = after if after.state is ItemState.DONE else None
        rows.trail = ((row.seq, self._next_number(), codec.encode_trail(item.key.message, (event,), done)),)
        write_rows(connection, (rows,))
        outcome.moves.add(item.state, -1)
        outcome.moves.add(after.state)
        if done is not None and row.file is not None and _is_finished(connection, row.seq):
            outcome.dropped.append(decode_reference(item.key.message, row.file).name)

    def settle(
        self,
        connection: sqlite3.Connection,
        lease: Leasehold,
        settlement: Settlement,
        rows: Rows,
        body_file: str,
    ) -> Outcome:
        """A settlement that splits items off, or may finish a message that has a file."""
        outcome = Outcome()
        extra: tuple[Item, ...] = ()
        if settlement.extra:
            number = _next_item_number(connection, lease.item.key.message, lease.seq)
            extra = transitions.split_off(lease.item, settlement, number)
        added = Rows(items=[item_row(lease.seq, lease.rank, item) for item in extra])
        write_rows(connection, (added, rows))
        for item in extra:
            outcome.moves.add(item.state)
        if body_file and _is_finished(connection, lease.seq):
            outcome.finished.append(body_file)
        return outcome


def _is_finished(connection: sqlite3.Connection, seq: int) -> bool:
    return connection.execute("SELECT 1 FROM finished WHERE seq = ?", (seq,)).fetchone() is not None


def _next_item_number(connection: sqlite3.Connection, message: MessageId, seq: int) -> int:
    """The number of the next item that an attempt splits off."""
    (open_,) = connection.execute("SELECT max(number) FROM items WHERE seq = ?", (seq,)).fetchone()
    done = (r.done.key.number for r in trail_of(connection, ItemKey(message, 0)) if r.done is not None)
    return max(-1 if open_ is None else int(open_), *done, -1) + 1


def postpone_some(connection: sqlite3.Connection, destination: str, until: float) -> int:
    """Move up to POSTPONE_STEP items of a destination; how many."""
    return connection.execute(_POSTPONE_READY, (until, destination, POSTPONE_STEP)).rowcount


def postpone_suspects(connection: sqlite3.Connection, destination: str, until: float) -> int:
    """Move those under suspicion, of which there are few; how many."""
    return connection.execute(_POSTPONE_SUSPECTS, (until, destination)).rowcount


def purge_some(connection: sqlite3.Connection, finished_before: float) -> int:
    """Forget up to PURGE_STEP messages; how many."""
    gone = 0
    for text in _PURGE:
        gone = connection.execute(text, (finished_before, PURGE_STEP)).rowcount
    return gone


def purge_transfers(connection: sqlite3.Connection, now: float) -> int:
    """Forget up to PURGE_STEP transfers that nobody repeats any more (MT2-18a); how many."""
    return connection.execute(_PURGE_TRANSFERS, (now, PURGE_STEP)).rowcount


def count_states(connection: sqlite3.Connection) -> Moves:
    """How many items are in each state: one pass over the queue, at start."""
    moves = Moves()
    for state, number in connection.execute("SELECT state, count(*) FROM items GROUP BY state").fetchall():
        moves.add(STATES[state], number)
    return moves


def named_bodies(connection: sqlite3.Connection) -> Iterator[str]:
    """Every body that a stored message names."""
    for id_, file in connection.execute(
        "SELECT m.id, c.file FROM contents c INDEXED BY contents_in_files JOIN messages m ON m.seq = c.seq "
        "WHERE c.file IS NOT NULL"
    ):
        yield decode_reference(id_, file).name


def trail_of(connection: sqlite3.Connection, key: ItemKey) -> Iterator[codec.TrailRecord]:
    """The trail of a message, in order; rows that cannot be read are passed over."""
    rows = connection.execute(
        "SELECT t.data FROM messages m JOIN trail t ON t.seq = m.seq WHERE m.id = ? ORDER BY t.n",
        (key.message,),
    ).fetchall()
    for (data,) in rows:
        try:
            yield codec.decode_trail(key.message, data)
        except Malformed:
            continue


def read_found(row: Found) -> tuple[MessageRecord, Item]:
    """Message and item of a row. Raises Malformed."""
    if row.id is None:
        raise Malformed("an item without its message")
    if row.state not in STATES or row.rank not in RANKS:
        raise Malformed("unknown state or rank")
    if not _is_unicode(row.id) or not _is_unicode(row.destination):
        raise Malformed("text that is not Unicode")
    record = codec.decode_message(row.id, row.message)
    key = ItemKey(MessageId(row.id), row.number)
    item = codec.decode_item(key, row.destination, STATES[row.state], row.next_attempt_at, row.data)
    codec.check_positions(record, item)
    return record, item


def _octets(text: str) -> bytes:
    """As it stands in the database, valid or not."""
    return text.encode("utf-8", "surrogateescape")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def item_row(seq: int, rank_: int, item: Item) -> Row:
    """The row of an item that is not done."""
    return (
        seq,
        item.key.number,
        state_number(item),
        rank_,
        item.next_attempt_at,
        item.destination,
        codec.encode_item(item),
    )


def settled_rows(seq: int, rank_: int, after: Item, at: float) -> Rows:
    """The rows of an item that was settled or changed; the trail is added by the caller."""
    if after.state is ItemState.DONE:
        return Rows(ended=((seq, after.key.number),), finished=((seq, at),))
    return Rows(items=(item_row(seq, rank_, after),))
