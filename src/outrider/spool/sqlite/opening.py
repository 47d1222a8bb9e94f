"""Taking a directory over at start, and leaving it in order: all that is done once."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from outrider.spool.bodies import device_error
from outrider.spool.body_files import BodyFiles
from outrider.spool.codec import Malformed
from outrider.spool.interface import Recovery, SpoolError
from outrider.spool.observer import SpoolObserver
from outrider.spool.sqlite import operations, schema
from outrider.spool.sqlite.connection import open_database, spool_error
from outrider.spool.sqlite.operations import Moves, Operations
from outrider.spool.sqlite.place import (
    DATABASE,
    VOLATILE,
    DirectoryLock,
    check_own_file,
    prepare_directory,
    read_epoch,
    write_epoch,
)

QUICK_CHECK_LIMIT = 256 * 1024 * 1024
"""A database up to this size is checked whole at start; a larger one would hold it up."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A spool that is ours."""

    connection: sqlite3.Connection
    """For the writer."""
    reader: sqlite3.Connection
    epoch: int
    moves: Moves
    """The items in each state."""
    recovery: Recovery


class Opening:
    """Opens and closes one directory. Everything here blocks and is run in a thread."""

    def __init__(self, directory: Path, bodies: BodyFiles, observer: SpoolObserver) -> None:
        self._directory = directory
        self._bodies = bodies
        self._observer = observer
        self._lock = DirectoryLock(directory)

    @property
    def database(self) -> Path:
        """The database's file."""
        return self._directory / DATABASE

    def open(self, operations_: Operations) -> Opened:
        """See `Spool.start`."""
        file_system = prepare_directory(self._directory)
        self._lock.take()
        try:
            opened = self._open_locked(operations_)
        except sqlite3.Error as error:
            self._lock.release()
            raise spool_error(error) from error
        except OSError as error:
            self._lock.release()
            raise device_error(error) from error
        except BaseException:
            self._lock.release()
            raise
        if file_system in VOLATILE:
            self._observer.spool_warned(f"{self._directory} is on {file_system}: it is lost with the power")
        settings = f"sqlite {sqlite3.sqlite_version}, WAL, synchronous=FULL, {file_system or 'file system ?'}"
        self._observer.spool_opened(str(self._directory), settings)
        return opened

    def _open_locked(self, operations_: Operations) -> Opened:
        log = self._directory / (DATABASE + "-wal")
        for path in (self.database, log, self._directory / (DATABASE + "-shm")):
            check_own_file(path)
        had_log = log.exists()
        self._bodies.prepare()
        connection = open_database(self.database)
        try:
            schema.migrate(connection)
            epoch = self._begin_epoch(connection, had_log)
            outcome = _recover(connection, operations_)
            orphans = self._remove_orphans(connection)
            moves = operations.count_states(connection)
            reader = open_database(self.database, read_only=True)
        except BaseException:
            connection.close()
            raise
        recovery = Recovery(outcome.released, orphans, outcome.quarantined, tuple(outcome.poison))
        connection.execute("PRAGMA busy_timeout = 0")  # the event loop uses it from here on
        return Opened(connection, reader, epoch, moves, recovery)

    def _begin_epoch(self, connection: sqlite3.Connection, had_log: bool) -> int:
        """Take the database over under a new number, noticing what happened to it meanwhile (FAULT-F9)."""
        epoch, clean = connection.execute("SELECT epoch, clean FROM spool").fetchone()
        kept = read_epoch(self._directory)
        if kept > epoch:
            self._observer.spool_warned(
                f"the database is older than the spool (start {epoch} of {kept}), as if from a copy: "
                "what came in later is missing, what left later may leave again"
            )
        if not clean and not had_log:
            self._observer.spool_warned(
                f"the server ended abnormally and {DATABASE}-wal is gone: messages accepted last may be lost"
            )
        self._check_database(connection)
        epoch = max(int(epoch), kept) + 1
        connection.execute("UPDATE spool SET epoch = ?, clean = 0", (epoch,))
        # Into the database proper, so that a log that goes missing is noticed next time.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        write_epoch(self._directory, epoch)
        return epoch

    def _check_database(self, connection: sqlite3.Connection) -> None:
        """Refuse what is damaged (FAULT-F9): mail delivered from it could not be recorded as delivered."""
        if self.database.stat().st_size > QUICK_CHECK_LIMIT:
            return
        # A row that breaks a constraint is one malformed row, to be set aside when it is met.
        connection.execute("PRAGMA ignore_check_constraints = ON")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        connection.execute("PRAGMA ignore_check_constraints = OFF")
        if found != "ok":
            raise SpoolError(
                f"{self.database} is damaged ({found}): keep a copy of the directory, then recover with "
                f"`sqlite3 {DATABASE} .recover`, or put back a copy"
            )

    def _remove_orphans(self, connection: sqlite3.Connection) -> int:
        try:
            return self._bodies.remove_orphans(set(operations.named_bodies(connection)))
        except Malformed as error:
            # Who cannot read every name must not remove what seems to have none.
            self._observer.spool_warned(f"bodies without a message were not looked for: {error}")
            return 0

    def close(self, connection: sqlite3.Connection | None, epoch: int) -> None:
        """Mark the database as closed in order, and let go of it. Never raises.

        Should this fail, nothing is lost: all that was acknowledged is in the log, and the next start
        finds it there.
        """
        try:
            if connection is not None:
                connection.execute("UPDATE spool SET clean = 1 WHERE epoch = ?", (epoch,))
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.close()
        except sqlite3.Error as error:
            self._observer.spool_warned(f"the spool was not closed in order: {spool_error(error)}")
        finally:
            self._lock.release()


def _recover(connection: sqlite3.Connection, operations_: Operations) -> operations.Outcome:
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcome = operations_.recover(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return outcome
