"""Where such tables are: a SQLite file of their own, or the database that a cluster's spool is in.

Every statement of a store runs on both; here is what differs. Objects of this module belong to one thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

from outrider.config.schema import Config

BUSY_S = 10.0
"""How long one worker waits for another's transaction, which takes milliseconds."""
WAL_TRIES = 100

S = TypeVar("S")
Value = str | int | float | bytes | None
Row = tuple[Value, ...]


class StoreUnavailable(Exception):
    """Not now: disk full, locked, database away. Nothing was changed; mail waits."""


class Database(Protocol):
    """Statements in transactions; placeholders are ``?``."""

    octets: str
    """The column type of octets."""
    serial: str
    """The column type of a key that counts up and is never used twice."""
    alone: tuple[str, ...]
    """What to begin the transaction with that makes the tables, as several processes may do so at once."""

    def execute(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run one statement inside a transaction; its rows. Raises StoreUnavailable."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All or nothing, durable at its end. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Give it up."""
        ...


class SqliteDatabase:
    """A file in the data folder; the server's workers and the command line open it side by side."""

    octets = "BLOB"
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"
    alone: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        """Raises StoreUnavailable."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(path)
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{path}: {error}") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        """Settings under which a commit is a promise (SMTP-5)."""
        self._to_wal()
        self.execute("PRAGMA synchronous = FULL")
        self.execute("PRAGMA trusted_schema = OFF")
        if self.execute("PRAGMA journal_mode") != [("wal",)] or self.execute("PRAGMA synchronous") != [(2,)]:
            raise StoreUnavailable("SQLite refuses WAL with synchronous = FULL here: unfit file system?")

    def _to_wal(self) -> None:
        """The one change for which SQLite does not wait while another worker makes it too."""
        for _ in range(WAL_TRIES):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    break  # said properly by what follows
                time.sleep(BUSY_S / WAL_TRIES)
            else:
                break

    def execute(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        """See `Database`."""
        try:
            return cast(list[Row], self._connection.execute(statement, values).fetchall())
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise StoreUnavailable(f"the database cannot be used now ({name})") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Database`."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def close(self) -> None:
        """See `Database`."""
        self._connection.close()


def _make_private(path: Path) -> None:
    """Make the file so that nobody else can ever read it; SQLite gives its other files the same mode.

    One that is there is not even opened: to close it would undo the locks of this process's connections.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


class PostgresDatabase:
    """The spool's database, so that every node of a cluster sees the same."""

    octets = "BYTEA"
    serial = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    alone: tuple[str, ...] = (
        "SELECT pg_advisory_xact_lock(7283001)::text",
        "CREATE SCHEMA IF NOT EXISTS outrider",
    )

    def __init__(self, dsn: str) -> None:
        """Raises StoreUnavailable."""
        import psycopg

        self._error = psycopg.Error
        try:
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
            self._connection.execute("SET search_path TO outrider")
        except psycopg.Error as error:
            raise StoreUnavailable(f"the database cannot be reached ({type(error).__name__})") from error

    def execute(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        """See `Database`."""
        try:
            cursor = self._connection.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []
        except self._error as error:
            raise StoreUnavailable(f"the database cannot be used now ({type(error).__name__})") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Database`."""
        try:
            with self._connection.transaction():
                yield
        except self._error as error:
            raise StoreUnavailable(f"the database cannot be used now ({type(error).__name__})") from error

    def close(self) -> None:
        """See `Database`."""
        self._connection.close()


def make_missing(database: Database, statements: Sequence[str]) -> None:
    """Make the tables, inside a transaction; ``{serial}`` and ``{octets}`` stand for the column types of this
    database. Several processes may do so at once. Raises StoreUnavailable."""
    for statement in database.alone:
        database.execute(statement)
    for table in statements:
        database.execute(table.replace("{serial}", database.serial).replace("{octets}", database.octets))


def open_store(make: Callable[[Database], S], config: Config, data_dir: Path, file: Path) -> S:
    """A store over the database that the settings mean; `file`, below the data folder, is SQLite's. Raises
    StoreUnavailable."""
    database: Database
    if config.spool.backend == "postgresql":
        database = PostgresDatabase(config.spool.dsn)
    else:
        database = SqliteDatabase(data_dir / file)
    try:
        return make(database)
    except BaseException:
        database.close()
        raise
