"""The key with which a store seals what it gives out and has brought back: links in letters, say."""

from __future__ import annotations

import secrets

from outrider.tables.database import Database

KEY_OCTETS = 32


def keep_seal_key(database: Database, table: str) -> None:
    """Make the key, if there is none yet, in a table of names and values: whoever comes first makes it, and
    all workers and nodes then have the same. Within a transaction. Raises StoreUnavailable."""
    statement = f"INSERT INTO {table} VALUES ('seal', ?) ON CONFLICT DO NOTHING"  # noqa: S608 - our own tables
    database.execute(statement, (secrets.token_hex(KEY_OCTETS),))


def seal_key(database: Database, table: str) -> bytes:
    """The key that is kept there. Raises StoreUnavailable."""
    rows = database.execute(f"SELECT value FROM {table} WHERE name = 'seal'")  # noqa: S608 - our own tables
    return bytes.fromhex(str(rows[0][0]))
