"""Opening the database so that a commit is a promise, and naming what goes wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from outrider.spool.interface import SpoolError, SpoolFull, SpoolUnavailable, UnsafeSettings

OLDEST_SQLITE = (3, 37, 0)
"""STRICT tables; RETURNING and UPDATE FROM are older."""

PAGE_SIZE = 4096
CACHE_KIB = 32_768
BUSY_SECONDS = 5.0
"""How long a reader waits for a stranger that holds the database exclusively."""
WAL_SIZE_LIMIT = 64 * 1024 * 1024
"""A write-ahead log that grew in a burst is cut back to this when it begins anew."""


def open_database(path: Path, *, read_only: bool = False, busy_s: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open and set what must be set, then read it back (FAULT-F5). Raises UnsafeSettings, sqlite3.Error."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise UnsafeSettings(f"SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed")
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.text_factory = _text  # text that is not UTF-8 is a malformed row, not an error of the database
    try:
        _set(connection, read_only)
        assert_safe(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _set(connection: sqlite3.Connection, read_only: bool) -> None:
    for setting in (
        f"page_size = {PAGE_SIZE}",  # has effect while the database is empty
        "journal_mode = WAL",
        "synchronous = FULL",
        "fullfsync = ON",  # macOS: fsync alone does not reach the medium there
        "checkpoint_fullfsync = ON",
        "wal_autocheckpoint = 0",  # `writer` chooses the moment
        f"journal_size_limit = {WAL_SIZE_LIMIT}",
        f"cache_size = -{CACHE_KIB}",
        "temp_store = MEMORY",
        "foreign_keys = OFF",
        "trusted_schema = OFF",
        f"query_only = {'ON' if read_only else 'OFF'}",
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()


def assert_safe(connection: sqlite3.Connection) -> None:
    """Read back what durability rests on, never believing that a setting took (FAULT-F5).

    Raises UnsafeSettings.
    """
    journal = str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower()
    synchronous = int(connection.execute("PRAGMA synchronous").fetchone()[0])
    if journal != "wal":
        raise UnsafeSettings(f"SQLite keeps journal_mode {journal!r} here, not WAL: unfit file system?")
    if synchronous < 2:
        raise UnsafeSettings(f"SQLite keeps synchronous at {synchronous}, not FULL: a commit could be lost")


_FULL = (sqlite3.SQLITE_FULL,)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ONE_REQUEST = (
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where Python raised the error itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the database is no longer whole."""
    return primary_code(error) in _DAMAGED


def concerns_one_request(error: sqlite3.Error) -> bool:
    """Whether the rows were at fault rather than the database: then the others of the batch can go on."""
    code = primary_code(error)
    return code in _ONE_REQUEST or (code == 0 and not isinstance(error, sqlite3.OperationalError))


def spool_error(error: sqlite3.Error) -> SpoolError:
    """The error in the spool's words; nothing of any row is in its text."""
    code = primary_code(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in _FULL:
        return SpoolFull(f"no room on the spool's device ({name})")
    if code in _DAMAGED:
        return SpoolUnavailable(f"the spool's database is damaged ({name}): restore a copy, or salvage it")
    return SpoolUnavailable(f"the spool's database cannot be used now ({name})")
