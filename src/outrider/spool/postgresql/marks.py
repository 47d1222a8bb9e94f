"""What became of a transaction whose COMMIT got no answer (SEC-94).

Each transaction begins by writing its number, which its connection never used before, into a row of that
connection's. When the connection breaks, a new one asks for that row: the number is there when, and only
when, the transaction was committed. The server may still be at it, or may even still have all of it to read.
So the one who asks waits for the row, and where the number is not there puts `FENCE` into it: whatever
arrives late then fails at its first statement, and it is safe to do the work again.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from outrider.spool.postgresql.exchange import Call, Connection, Statement

FENCE = 2**63 - 1
ASK_SECONDS = 1
"""How long one question waits for a transaction that is still under way."""

# The column takes no NULL: that is how a transaction behind a fence fails.
_MARK = Statement(
    b"""
INSERT INTO outrider.commits AS c (connection, count) VALUES ($1::text, $2::bigint)
ON CONFLICT (connection) DO UPDATE
SET at = now(), count = CASE WHEN c.count < excluded.count THEN excluded.count END
"""
)
_ASK = """
INSERT INTO outrider.commits AS c (connection, count) VALUES (%s, %s)
ON CONFLICT (connection) DO UPDATE
SET at = now(), count = CASE WHEN c.count < %s THEN excluded.count ELSE c.count END
RETURNING count
"""
_FORGET = "DELETE FROM outrider.commits WHERE at < now() - interval '1 day'"


@dataclass(frozen=True, slots=True)
class Mark:
    """One transaction of one connection."""

    connection: str
    number: int

    def call(self) -> Call:
        """Leave it: the transaction's first statement."""
        return _MARK.with_parameters(self.connection.encode(), struct.pack(">q", self.number))


class Marks:
    """Gives every transaction of every connection a mark of its own."""

    def __init__(self) -> None:
        self._last: WeakKeyDictionary[Connection, Mark] = WeakKeyDictionary()

    def next(self, connection: Connection) -> Mark:
        """For a transaction that is about to begin."""
        last = self._last.get(connection) or Mark(secrets.token_hex(8), 0)
        mark = self._last[connection] = Mark(last.connection, last.number + 1)
        return mark


async def was_committed(connection: Connection, mark: Mark) -> bool:
    """Whether the transaction was; if not, it never will be. Only for one whose connection has ended.

    Raises psycopg.Error, LockNotAvailable where it is still under way.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{ASK_SECONDS:d}s'".encode())
        cursor = await connection.execute(_ASK, (mark.connection, FENCE, mark.number))
        row = await cursor.fetchone()
    assert row is not None  # RETURNING of a row that was written
    return int(row[0]) == mark.number


async def forget(connection: Connection) -> None:
    """Remove the marks of connections that are long gone."""
    await connection.execute(_FORGET)
