"""Tables of the SQLite spool, and the steps from one version of them to the next.

Hot path: a message that is accepted, delivered at once and forgotten later costs appends only. `seq` grows
for ever, so rows of all tables are added at their ends; an item that is leased from the start (ACTIVE) stands
in no index; an item that is done leaves `items`, which thereby holds the queue and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from outrider.spool.interface import SpoolError

VERSION_1 = """
CREATE TABLE spool (                   -- one row: who owns it
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL,              -- counts starts; the upper part of every seq and lease token
  clean INTEGER NOT NULL               -- 1 = closed in order
) STRICT;
INSERT INTO spool VALUES (1, 0, 1);

CREATE TABLE messages (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  received_at REAL NOT NULL,
  data BLOB NOT NULL                   -- codec.encode_message
) STRICT;

CREATE TABLE contents (                -- gone when every recipient is final
  seq INTEGER PRIMARY KEY,
  headers BLOB NOT NULL,
  body BLOB,                           -- or NULL, and then
  file BLOB,                           -- bodies.BodyReference
  digest BLOB NOT NULL                 -- of headers, and of body if it is here
) STRICT;

CREATE TABLE items (                   -- the queue: unfinished items only
  seq INTEGER NOT NULL,
  number INTEGER NOT NULL,
  state INTEGER NOT NULL CHECK (state IN (0, 1, 2, 4)),
  rank INTEGER NOT NULL CHECK (rank IN (0, 1, 2)),
  next_attempt_at REAL NOT NULL,
  destination TEXT NOT NULL,
  data BLOB NOT NULL,                  -- codec.encode_item
  PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX items_due ON items (rank, next_attempt_at, destination) WHERE state = 0;
CREATE INDEX items_by_destination ON items (destination, next_attempt_at) WHERE state = 0;
CREATE INDEX items_suspect ON items (next_attempt_at) WHERE state = 4;

CREATE VIEW queue AS                   -- an item with its message and content: what a lease hands out
  SELECT i.seq, i.number, i.state, i.rank, i.next_attempt_at, i.destination, i.data,
    m.id, m.received_at, m.data AS message, c.headers, c.body, c.file, c.digest
  FROM items i LEFT JOIN messages m ON m.seq = i.seq LEFT JOIN contents c ON c.seq = i.seq;

CREATE TABLE trail (                   -- events after the first, and items that are done
  seq INTEGER NOT NULL,
  n INTEGER NOT NULL,
  data BLOB NOT NULL,                  -- codec.encode_trail
  PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE finished (
  seq INTEGER PRIMARY KEY,
  at REAL NOT NULL
) STRICT;
CREATE INDEX finished_at ON finished (at);

CREATE TABLE quarantine (              -- malformed rows, kept for a person to look at
  number INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,                -- the table
  name TEXT NOT NULL,                  -- message id, or key where there is none
  why TEXT NOT NULL,
  data BLOB NOT NULL                   -- the row's columns as MessagePack
) STRICT;
"""

VERSION_2 = """
CREATE INDEX contents_in_files ON contents (file) WHERE file IS NOT NULL;  -- few; all are read at a start
"""

VERSION_3 = """
ALTER TABLE contents ADD COLUMN objects BLOB;  -- codec.encode_objects: the MT2 form, where it came in one
DROP VIEW queue;
CREATE VIEW queue AS                   -- an item with its message and content: what a lease hands out
  SELECT i.seq, i.number, i.state, i.rank, i.next_attempt_at, i.destination, i.data,
    m.id, m.received_at, m.data AS message, c.headers, c.body, c.file, c.digest, c.objects
  FROM items i LEFT JOIN messages m ON m.seq = i.seq LEFT JOIN contents c ON c.seq = i.seq;

CREATE TABLE transfers (               -- MT2 transfers that were taken; outlive their messages
  peer TEXT NOT NULL,                  -- the proven identity
  transfer TEXT NOT NULL,
  until REAL NOT NULL,
  data BLOB NOT NULL,                  -- codec.encode_transfer
  PRIMARY KEY (peer, transfer)
) STRICT, WITHOUT ROWID;
CREATE INDEX transfers_until ON transfers (until);
"""

Migration = str | Callable[[sqlite3.Connection], None]

MIGRATIONS: tuple[Migration, ...] = (VERSION_1, VERSION_2, VERSION_3)
"""Entry n leads from version n to n + 1; each runs in a transaction of its own. Never edit, only append."""


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the schema up to date; the version it had before.

    Raises SpoolError where the database was made by a newer program.
    """
    before = version(connection)
    if before > len(migrations):
        raise SpoolError(
            f"the spool has schema {before}, this program knows up to {len(migrations)}: "
            "it was used by a newer release; install that release again or restore a copy made before"
        )
    for number in range(before, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            _apply(connection, migrations[number])
            connection.execute(f"PRAGMA user_version = {number + 1:d}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    return before


def version(connection: sqlite3.Connection) -> int:
    """The version of the schema; 0 for an empty database."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    if callable(migration):
        migration(connection)
        return
    # Not executescript: it would commit the transaction before it begins.
    for statement in _statements(migration):
        connection.execute(statement)


def _statements(script: str) -> list[str]:
    found, current = [], ""
    for line in script.split("\n"):
        current += line + "\n"
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found
