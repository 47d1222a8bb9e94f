"""Rows for many requests at once, written with few statements.

Python's sqlite3 lets go of the interpreter lock around every step of a statement, and a busy event loop
takes up to a switch interval to give it back: one statement per row would cost far more in waiting than in
work. So a batch is written with a handful of statements that carry many rows each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

SqlValue = str | bytes | int | float | None
Row = tuple[SqlValue, ...]


@dataclass(slots=True)
class Rows:
    """What one request adds, replaces and removes."""

    messages: Sequence[Row] = ()
    """seq, id, received_at, data."""
    contents: Sequence[Row] = ()
    """seq, headers, body, file, digest, objects."""
    transfers: Sequence[Row] = ()
    """peer, transfer, until, data."""
    items: Sequence[Row] = ()
    """seq, number, state, rank, next_attempt_at, destination, data; replaces the row of the same key."""
    ended: Sequence[Row] = ()
    """seq, number of items that are done."""
    trail: Sequence[Row] = ()
    """seq, n, data."""
    finished: Sequence[Row] = ()
    """seq, at: the message is finished then if it has no item any more, and its content goes."""

    def join(self, other: Rows) -> None:
        """Add what another request-to-be wants: all of it will be stored, or nothing."""
        self.messages = (*self.messages, *other.messages)
        self.contents = (*self.contents, *other.contents)
        self.transfers = (*self.transfers, *other.transfers)
        self.items = (*self.items, *other.items)

    @property
    def octets(self) -> int:
        """About how much the log grows by this."""
        return sum(len(value) for row in self.contents for value in row if isinstance(value, bytes))


class Bulk:
    """One statement for any number of rows.

    It is prepared for powers of two, and rows of NULL fill the rest: so one execution does for a whole
    batch, and few texts are kept.
    """

    LARGEST = 512

    def __init__(self, before: str, width: int, after: str = "") -> None:
        """`before` and `after` stand around a table of the rows, whose columns are column1, column2, ..."""
        row = f"({','.join('?' * width)})"
        self._filler = (None,) * width
        self._texts: dict[int, str] = {}
        size = 1
        while size <= self.LARGEST:
            self._texts[size] = f"{before} (VALUES {','.join([row] * size)}) WHERE column1 IS NOT NULL{after}"
            size *= 2

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Execute for every row. Raises sqlite3.Error."""
        for start in range(0, len(rows), self.LARGEST):
            part = rows[start : start + self.LARGEST]
            size = 1 << (len(part) - 1).bit_length()
            values = list(chain.from_iterable(part))
            values += self._filler * (size - len(part))
            connection.execute(self._texts[size], values)


_MESSAGES = Bulk("INSERT INTO messages SELECT * FROM", 4)
_CONTENTS = Bulk("INSERT INTO contents SELECT * FROM", 6)
_TRANSFERS = Bulk("INSERT INTO transfers SELECT * FROM", 4)
_ITEMS = Bulk("REPLACE INTO items SELECT * FROM", 7)
_ENDED = Bulk("DELETE FROM items WHERE (seq, number) IN (SELECT column1, column2 FROM", 2, ")")
_TRAIL = Bulk("INSERT INTO trail SELECT * FROM", 3)
_FINISHED = Bulk(
    "INSERT OR IGNORE INTO finished SELECT column1, column2 FROM",
    2,
    " AND NOT EXISTS (SELECT 1 FROM items WHERE seq = column1)",
)
_EMPTIED = Bulk(
    "DELETE FROM contents WHERE seq IN (SELECT column1 FROM",
    1,
    ") AND NOT EXISTS (SELECT 1 FROM items WHERE items.seq = contents.seq)",
)


def write_rows(connection: sqlite3.Connection, all_rows: Sequence[Rows]) -> None:
    """Write what several requests want, in an order that suits them all. Raises sqlite3.Error."""
    _MESSAGES.run(connection, [row for rows in all_rows for row in rows.messages])
    _CONTENTS.run(connection, [row for rows in all_rows for row in rows.contents])
    _TRANSFERS.run(connection, [row for rows in all_rows for row in rows.transfers])
    _ENDED.run(connection, [row for rows in all_rows for row in rows.ended])
    _ITEMS.run(connection, [row for rows in all_rows for row in rows.items])
    _TRAIL.run(connection, [row for rows in all_rows for row in rows.trail])
    finished = [row for rows in all_rows for row in rows.finished]
    _FINISHED.run(connection, finished)
    _EMPTIED.run(connection, [(row[0],) for row in finished])
