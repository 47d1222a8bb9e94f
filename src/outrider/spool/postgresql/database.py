"""Connections to PostgreSQL: opened, checked, replaced - and what a commit came to when one breaks amid it.

A transaction whose COMMIT got no answer is neither done nor undone as far as this side knows. So each one
leaves a mark, and when its connection breaks a new one asks what became of it before anybody is answered: see
`marks`. Only when that cannot be learnt in time, `CommitUnknown` is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection, conninfo, errors
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from outrider.spool.interface import (
    CommitUnknown,
    Conflict,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
    UnsafeSettings,
)
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql import marks
from outrider.spool.postgresql.exchange import Call, Connection, NotBegun, Statement, send_together
from outrider.spool.postgresql.marks import Mark, Marks

WAIT_SECONDS = 5.0
"""For a connection: a client is better told 451 than kept waiting."""
RESOLVE_SECONDS = 15.0
"""For learning what became of a commit; a client waits ten minutes for this answer (RFC 5321 4.5.3.2.6)."""
STATEMENT_SECONDS = 30
PATIENCE_SECONDS = 40.0
"""For one use of a connection: a server that has frozen answers nothing, not even that it is slow."""
KEEPALIVE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 2"
"""For the database's end: a node that died with its machine is noticed after 11 s, and its locks go."""
CONNECTIONS = 6
RECONNECT_SECONDS = 4.0
"""How long the pool itself goes on trying, at growing intervals, before it waits to be asked again: it must
not still be pausing when the database has long come back."""

_DEFAULTS = {
    "application_name": "outrider",
    "connect_timeout": "5",
    # A database behind a cable that was cut must be noticed before the clients' patience ends.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # Of several hosts in the connection string, the one that is the primary now.
    "target_session_attrs": "read-write",
}
_SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')
"""

# The pool reports lost connections there; ours are told to the observer.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

Work = Callable[[Connection], Awaitable["T"]]
T = TypeVar("T")


_BEGIN = Statement(b"BEGIN", prepared=False).with_parameters()
_COMMIT = Statement(b"COMMIT", prepared=False).with_parameters()


class Database:
    """A pool of checked connections. Its repr and its errors never show the connection string."""

    def __init__(self, dsn: str, observer: SpoolObserver) -> None:
        """Raises SpoolError for what is not a connection string."""
        try:
            given = conninfo.conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # Not chained: the library's text quotes the string, and a password stands in it.
            raise SpoolError("[spool] dsn is not a PostgreSQL connection string") from None
        self._conninfo = conninfo.make_conninfo(
            "", **{**_DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
        )
        self._observer = observer
        self._unsafe = ""
        self._lost = False
        self._regained_at = float("-inf")
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._marks = Marks()
        self.found = ""
        """The settings that the last connection was checked for."""

    def __repr__(self) -> str:
        return "Database(...)"

    async def open(self) -> None:
        """Connect. Raises UnsafeSettings, SpoolUnavailable."""
        # Once without the pool, which would go on trying and keep the reason to itself.
        try:
            async with await self.new_connection() as connection:
                await self._check(connection)
        except psycopg.Error as error:
            raise SpoolUnavailable(
                f"the spool's database cannot be reached ({type(error).__name__})"
            ) from None
        self._pool = AsyncConnectionPool(
            self._conninfo,
            connection_class=AsyncConnection[TupleRow],
            kwargs={"autocommit": True},
            min_size=1,
            max_size=CONNECTIONS,
            timeout=WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            configure=self._check,
            open=False,
            name="outrider-spool",
        )
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=2.0)

    async def _check(self, connection: Connection) -> None:
        """Of every new connection, those after a reconnection too: the server may be another (FAULT-F6)."""
        rows = await (await connection.execute(_SETTINGS)).fetchall()
        found = {str(name): str(value) for name, value in rows}
        bad = {name: value for name, value in found.items() if value == "off"}
        if bad or len(found) < 3:
            text = ", ".join(f"{name}={value}" for name, value in sorted(bad.items())) or "settings unknown"
            self._unsafe = f"PostgreSQL runs with {text}: what it acknowledges could be lost; switch it on"
            raise UnsafeSettings(self._unsafe)
        self._unsafe = ""
        self.found = ", ".join(f"{name}={value}" for name, value in sorted(found.items()))
        await connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS:d}s'; {KEEPALIVE}")

    async def new_connection(self) -> Connection:
        """One that is not of the pool, for listening. Raises psycopg.Error."""
        return await AsyncConnection[TupleRow].connect(self._conninfo, autocommit=True)

    # --- use ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection. Raises SpoolUnavailable and its kin for all that the database may raise."""
        if self._pool is None:
            raise SpoolUnavailable("the spool is closed")
        try:
            async with self._pool.connection() as connection:
                async with _patience(connection):
                    yield connection
                self.note_available()
        except (PoolTimeout, PoolClosed):
            self.note_lost(self._unsafe or "no connection")
            raise SpoolUnavailable(self._unsafe or "the spool's database cannot be reached") from None
        except psycopg.Error as error:
            if is_lost(error):
                self.note_lost(type(error).__name__)
            raise spool_error(error) from error

    async def query(self, work: Work[T]) -> T:
        """Read; once more when the connection turns out to be gone."""
        try:
            async with self.connection() as connection:
                return await work(connection)
        except SpoolUnavailable as error:
            if not is_lost(error.__cause__):
                raise
        await self.replace_lost()
        async with self.connection() as connection:
            return await work(connection)

    async def transact(self, work: Work[T]) -> T:
        """Do the work in a transaction; when this returns, it is committed.

        A connection lost before the COMMIT means that nothing was done, and the work is tried once more.
        """
        return await self._twice(lambda: self._transact(work))

    async def transact_at_once(self, calls: Sequence[Call]) -> None:
        """The same for statements whose answers nobody needs: BEGIN to COMMIT in one round trip."""
        await self._twice(lambda: self._transact_at_once(calls))

    async def _twice(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What was not committed because the connection was lost is tried once more."""
        try:
            return await attempt()
        except SpoolError as error:
            if isinstance(error, CommitUnknown) or not may_be_repeated(error.__cause__):
                raise
        await self.replace_lost()
        return await attempt()

    async def note(self, work: Work[T]) -> T:
        """A transaction of which nothing is lost when a crash undoes it: its commit waits for no disk.

        Raises SpoolUnavailable and its kin; what became of it is then not asked.
        """
        async with self.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            return await work(connection)

    async def forget_marks(self) -> None:
        """Remove the marks of connections that are long gone. Raises SpoolError."""
        await self.query(marks.forget)

    async def _transact(self, work: Work[T]) -> T:
        mark: Mark | None = None
        try:
            async with self.connection() as connection, _undone(connection):
                begun = self._marks.next(connection)
                await send_together(connection, [_BEGIN, begun.call()])
                result = await work(connection)
                mark = begun
                await send_together(connection, [_COMMIT])
                return result
        except SpoolUnavailable as error:
            if mark is None or not is_lost(error.__cause__) or not await self._was_committed(mark, error):
                raise
        return result

    async def _transact_at_once(self, calls: Sequence[Call]) -> None:
        mark: Mark | None = None
        try:
            async with self.connection() as connection, _undone(connection):
                mark = self._marks.next(connection)
                await send_together(connection, [_BEGIN, mark.call(), *calls, _COMMIT])
        except SpoolUnavailable as error:
            if mark is None or not is_lost(error.__cause__) or not await self._was_committed(mark, error):
                raise

    async def _was_committed(self, mark: Mark, error: SpoolUnavailable) -> bool:
        """What became of a transaction that ended with the error. Raises CommitUnknown when that cannot be
        learnt."""
        if isinstance(error.__cause__, NotBegun):
            return False
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + RESOLVE_SECONDS, 0.05
        while loop.time() < deadline:
            with contextlib.suppress(SpoolUnavailable):
                async with self.connection() as connection:
                    return await marks.was_committed(connection, mark)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
        why = "the database went away during a commit and has not said what became of it"
        raise CommitUnknown(f"{why}; {self._unsafe}" if self._unsafe else why)

    async def replace_lost(self) -> None:
        """Where one connection is gone, others are likely to be."""
        if self._pool is not None:
            with contextlib.suppress(psycopg.Error, PoolTimeout, PoolClosed):
                await self._pool.check()

    def note_lost(self, why: str) -> None:
        """It cannot be reached: nothing is taken until it can."""
        if not self._lost:
            self._lost = True
            self._observer.became_unavailable(f"PostgreSQL: {why}")

    def note_available(self) -> None:
        """It answers."""
        if self._lost:
            self._lost = False
            self._regained_at = time.monotonic()
            self._observer.became_available()

    @property
    def lost(self) -> bool:
        """Whether the last use failed for want of a connection."""
        return self._lost

    @property
    def settled_s(self) -> float:
        """How long the database has been there since it was last away, in seconds; inf when it never was."""
        return 0.0 if self._lost else time.monotonic() - self._regained_at


@asynccontextmanager
async def _patience(connection: Connection) -> AsyncIterator[None]:
    """Bounds one use of a connection. Raises psycopg.OperationalError, and the connection is closed."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError:
        await connection.close()
        raise psycopg.OperationalError("the server does not answer") from None


@asynccontextmanager
async def _undone(connection: Connection) -> AsyncIterator[None]:
    """Rolls back what fails. When we leave while the server is still at it, the connection is closed: what it
    was told last may yet come to pass, and nothing else must be taken for that."""
    try:
        yield
    except Exception as error:
        if is_lost(error):
            await connection.close()
        else:
            await _roll_back(connection)
        raise
    except BaseException:
        await connection.close()
        raise


async def _roll_back(connection: Connection) -> None:
    if not connection.closed and not connection.broken:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await connection.execute("ROLLBACK")
        except (psycopg.Error, TimeoutError):
            await connection.close()


def is_lost(error: BaseException | None) -> bool:
    """Whether the connection is gone, as opposed to a statement that was refused."""
    if isinstance(error, errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow):
        return True
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None


def may_be_repeated(error: BaseException | None) -> bool:
    """Whether a transaction that was undone by this error may succeed when it is tried again."""
    return is_lost(error) or isinstance(error, errors.InvalidSqlStatementName)


def concerns_one_request(error: BaseException) -> bool:
    """Whether a row was at fault, or a deadlock: the others of the batch may go on."""
    cause = error.__cause__ if isinstance(error, SpoolError) else error
    return isinstance(
        cause,
        psycopg.IntegrityError
        | psycopg.DataError
        | psycopg.ProgrammingError
        | errors.DeadlockDetected
        | ValueError
        | struct.error,
    )


def spool_error(error: psycopg.Error) -> SpoolError:
    """The error in the spool's words; neither rows nor the connection string are in its text."""
    name = type(error).__name__
    if isinstance(error, errors.UniqueViolation):
        return Conflict("a message or a transfer of that id exists")
    if isinstance(error, errors.DiskFull | errors.OutOfMemory | errors.InsufficientResources):
        return SpoolFull(f"no room in the spool's database ({name})")
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError | psycopg.ProgrammingError):
        return SpoolError(f"the database refused a statement ({name})")
    return SpoolUnavailable(f"the spool's database cannot be used now ({name})")
