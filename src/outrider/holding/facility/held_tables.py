"""The tables of the holding facility, and rows as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from outrider.holding.facility.held_records import CopyIds, CopyState, HeldCopy, HeldMessage
from outrider.tables.database import Database, Row, StoreUnavailable, make_missing

SCHEMA: Final = "1"
"""Version of the tables: another one is refused."""

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS held_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS held_messages (
        id TEXT PRIMARY KEY, body TEXT NOT NULL, sender TEXT NOT NULL, reports_to TEXT NOT NULL,
        subject TEXT NOT NULL, class TEXT NOT NULL, language TEXT NOT NULL, attachments TEXT NOT NULL,
        date DOUBLE PRECISION NOT NULL, size BIGINT NOT NULL, digest TEXT NOT NULL,
        held_at DOUBLE PRECISION NOT NULL, message_id TEXT NOT NULL, refs TEXT NOT NULL,
        envid TEXT NOT NULL, thread TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS held_messages_by_message_id ON held_messages (message_id)",
    "CREATE INDEX IF NOT EXISTS held_messages_by_thread ON held_messages (thread, held_at)",
    "CREATE INDEX IF NOT EXISTS held_messages_past ON held_messages (held_at) WHERE body = ''",
    # Threads that turned out to be one: the name that is not used any more, and the one that is (AMDP-21).
    "CREATE TABLE IF NOT EXISTS held_threads (name TEXT PRIMARY KEY, thread TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS held_parts (
        body TEXT NOT NULL, number BIGINT NOT NULL, octets {octets} NOT NULL, PRIMARY KEY (body, number))""",
    # Bodies that no message has: being written, left by a crash, or to be deleted.
    "CREATE TABLE IF NOT EXISTS held_bodies (body TEXT PRIMARY KEY, touched_at DOUBLE PRECISION NOT NULL)",
    """CREATE TABLE IF NOT EXISTS held_copies (
        hash {octets} PRIMARY KEY, message TEXT NOT NULL, number BIGINT NOT NULL, id TEXT NOT NULL,
        confirmation TEXT NOT NULL, token TEXT NOT NULL, recipient TEXT NOT NULL, state TEXT NOT NULL,
        timestamp BIGINT NOT NULL, stated BIGINT NOT NULL, expires DOUBLE PRECISION NOT NULL,
        fields TEXT NOT NULL, keys TEXT NOT NULL, envelope TEXT NOT NULL, wants_receipt BIGINT NOT NULL,
        original TEXT NOT NULL, postage TEXT NOT NULL, by_link BIGINT NOT NULL,
        notified_at DOUBLE PRECISION NOT NULL, proven_at DOUBLE PRECISION NOT NULL,
        proven_by TEXT NOT NULL, opened_at DOUBLE PRECISION NOT NULL,
        received_at DOUBLE PRECISION NOT NULL, ended_at DOUBLE PRECISION NOT NULL,
        UNIQUE (message, number))""",
    "CREATE INDEX IF NOT EXISTS held_copies_by_expiry ON held_copies (expires) WHERE ended_at = 0",
    """CREATE TABLE IF NOT EXISTS held_rates (
        domain TEXT PRIMARY KEY, since DOUBLE PRECISION NOT NULL, granted BIGINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS held_errands (
        message TEXT NOT NULL, number BIGINT NOT NULL, kind TEXT NOT NULL, mail TEXT NOT NULL,
        owner TEXT NOT NULL, due DOUBLE PRECISION NOT NULL, tries BIGINT NOT NULL,
        PRIMARY KEY (message, number, kind))""",
    "CREATE INDEX IF NOT EXISTS held_errands_by_time ON held_errands (due)",
)

COPY = (
    "message, number, id, confirmation, token, recipient, state, timestamp, stated, expires, fields, keys, "
    "envelope, wants_receipt, original, postage, by_link, notified_at, proven_at, proven_by, opened_at, "
    "received_at, ended_at"
)
"""Columns of `copy_of`."""
MESSAGE = (
    "id, sender, reports_to, subject, class, language, attachments, date, size, digest, held_at, "
    "message_id, refs, envid"
)
"""Columns of `message_of`."""
_NONE = b""
"""No hash: fills lists of them up."""


def make_tables(database: Database) -> None:
    """Make what is missing. Raises StoreUnavailable, also for tables of another version."""
    with database.transaction():
        make_missing(database, _TABLES)
        database.execute("INSERT INTO held_meta VALUES ('schema', ?) ON CONFLICT DO NOTHING", (SCHEMA,))
        found = str(database.execute("SELECT value FROM held_meta WHERE name = 'schema'")[0][0])
    if found != SCHEMA:
        raise StoreUnavailable(f"the tables of held mail are of version {found}; this is {SCHEMA}")


def hash_of(msg_id: str) -> bytes:
    """By what a message id is looked up: the time that a look-up takes says nothing about ids that exist
    (AMDP-12)."""
    return hashlib.sha256(msg_id.encode("utf-8", "surrogatepass")).digest()


def filled(hashes: Sequence[bytes]) -> tuple[str, list[bytes]]:
    """Placeholders and values for ``IN (...)``: few different numbers of them, so that few statements have
    to be prepared."""
    size = 1 << max(len(hashes) - 1, 0).bit_length()
    return ", ".join("?" * size), [*hashes, *[_NONE] * (size - len(hashes))]


def octets_of(value: object) -> bytes:
    """A column of octets, as either database gives it."""
    assert isinstance(value, bytes | memoryview), "a column of octets"
    return bytes(value)


def copy_of(row: Row) -> HeldCopy:
    """A row of `COPY`."""
    (message, number, msg_id, confirmation, token, recipient, state, timestamp, stated, expires, fields, keys,
     envelope, wants_receipt, original, postage, by_link, notified, proven, proven_by, opened, received,
     ended) = row  # fmt: skip
    return HeldCopy(
        str(message), int(number or 0), CopyIds(str(msg_id), str(confirmation), str(token)), str(recipient),
        CopyState(state), int(timestamp or 0), int(stated or 0), float(expires or 0), str(fields), str(keys),
        str(envelope), bool(wants_receipt), str(original), str(postage), bool(by_link), float(notified or 0),
        float(proven or 0), str(proven_by), float(opened or 0), float(received or 0), float(ended or 0),
    )  # fmt: skip


def message_of(row: Row) -> HeldMessage:
    """A row of `MESSAGE`."""
    (queue_id, sender, reports_to, subject, mail_class, language, attachments, date, size, digest, held_at,
     message_id, references, envid) = row  # fmt: skip
    return HeldMessage(
        str(queue_id), str(sender), str(reports_to), str(subject), str(mail_class), str(language),
        str(attachments), float(date or 0), int(size or 0), str(digest), float(held_at or 0), str(message_id),
        tuple(json.loads(str(references))), str(envid),
    )  # fmt: skip
