"""Group commit: what is asked for while one commit is under way shares the next one.

Between event loop and disk there is one connection, and it is used by one side at a time. The loop writes
the rows of a batch itself - a handful of statements, some ten microseconds for a message - and hands the
transaction to a thread, which commits it (that is where the disk is waited for), and wakes the loop once.
Requests that read before they write are made in the thread altogether.

Why the rows are not written in the thread: sqlite3 gives the interpreter lock away around every statement,
and a thread gets it back from a busy event loop only by luck, since a loop that lets go for each of its own
system calls never lets the waiting thread's switch interval run out. Measured with a loop that was never
idle, a batch of 100 messages took between 80 and 740 ms in the thread and takes between 8 and 45 ms so.

What can go wrong, and what then happens:

- a body in a file cannot be synced, which is done right before the commit: its message fails alone;
- a row is at fault (a duplicate id): the transaction is rolled back and the batch is written again, each
  request within a savepoint, so that only the one at fault fails (in the thread, like all that follows);
- the disk is full, or a stranger holds the lock: all fail with SpoolFull or SpoolUnavailable, and the next
  batch is tried as if nothing had been;
- an I/O error, above all from fsync: all fail, the connection is closed, and nothing is accepted until the
  database has been opened anew and a probe has been committed. The fsync is never asked again for the same
  pages: after a failure the kernel may call lost pages clean (FAULT-F7);
- the database is damaged, or belongs to another process by now (someone removed the lock file): nothing is
  accepted again.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from outrider.spool.bodies import FileBody, Steps
from outrider.spool.interface import Conflict, SpoolError, SpoolUnavailable
from outrider.spool.observer import SpoolObserver
from outrider.spool.sqlite.connection import (
    concerns_one_request,
    is_damage,
    open_database,
    primary_code,
    spool_error,
)
from outrider.spool.sqlite.rows import Rows, write_rows

LARGEST_BATCH = 256
"""Requests in one transaction: more would hold up the loop, and save nothing worth it."""
LARGEST_OCTETS = 4 * 1024 * 1024
"""Content that the loop writes into one transaction by itself; a larger batch is the thread's."""
LINGER_S = 0.003
"""How long what can wait - the record of a delivery - waits for a message to share its commit. A message that
comes ends the wait, so nothing that a peer waits for is delayed; a crash in these milliseconds repeats a
delivery, as it does at any moment between the delivery and its record."""
FLOW_S = 0.012
"""While messages come at least this often it waits for the next one so long: a sender that sends one after
the other then pays for one commit a message, not for two."""
ENOUGH = 16
"""So many requests are worth a commit of their own."""
BUSY_SECONDS = 5.0
"""How long to wait for a stranger (a backup, a shell) that holds the database."""
REOPEN_SECONDS = 1.0
"""Between two tries to open a database that failed."""
CHECKPOINT_OCTETS = 16 * 1024 * 1024
"""About how much the log grows before its pages are copied into the database."""
BATCH_OCTETS = 24 * 4096
"""What the log grows by in every commit beside the content: one page for each tree that is touched."""

_PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM)
"""Errors after which the same connection can go on."""

Call = Callable[[sqlite3.Connection], object]


@dataclass(slots=True)
class Request:
    """One thing to be written: rows, or a call that reads and writes for itself.

    The call may be made twice (see above), so it keeps nothing outside the transaction. `committed` and
    `failed` run on the event loop; what the future gives is what `committed` makes of the call's result.
    """

    future: asyncio.Future[object]
    rows: Rows | None = None
    call: Call | None = None
    can_wait: bool = False
    """Nobody outside waits for it: it may go with a commit that comes soon (see `LINGER_S`, `FLOW_S`)."""
    committed: Callable[[object], object] | None = None
    failed: Callable[[], None] | None = None
    bodies: Sequence[FileBody] = ()
    """Named by the rows, and to be made durable before they are."""
    result: object = None
    error: Exception | None = None


@dataclass(slots=True)
class Batch:
    """Requests that share a commit."""

    requests: list[Request]
    begun_at: float
    written: bool = False
    """Their rows are in the open transaction: only the commit is missing."""


class Writer:
    """Owns the writing connection. `submit` and `stop` belong to the event loop."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        epoch: int,
        *,
        keeper: Executor,
        file_threads: Executor,
        observer: SpoolObserver,
        steps: Steps,
    ) -> None:
        self._path = path
        self._file_threads = file_threads
        self._connection: sqlite3.Connection | None = connection
        self.epoch = epoch
        self._observer = observer
        self._steps = steps
        self._loop = asyncio.get_running_loop()
        self._collected: list[Request] = []
        self._urgent = False
        self._linger_s = LINGER_S
        self._came_at = 0.0
        """When the last request came that somebody waits for."""
        self._planned: asyncio.Handle | None = None
        self._busy = False
        self._quiet = asyncio.Event()
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outrider-spool-writer", daemon=True)
        self._reopen_at = 0.0
        self._log_octets = 0
        """About what the log has grown by since it was last looked after."""
        self._checkpoint = Checkpoint(path, keeper)
        self.unavailable = ""
        """Why nothing can be written now; "" = it can."""

    @property
    def connection(self) -> sqlite3.Connection | None:
        """The connection; to be touched by others only once the thread has ended."""
        return self._connection

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Take one request; those of one tick of the loop travel together."""
        self._collected.append(request)
        if not request.can_wait:
            now = self._loop.time()
            self._linger_s = FLOW_S if now - self._came_at <= FLOW_S else LINGER_S
            self._came_at = now
        if not self._urgent and (not request.can_wait or len(self._collected) >= ENOUGH):
            self._urgent = True
            self._plan()
        elif self._planned is None:
            self._plan()

    async def stop(self) -> None:
        """Write what was submitted and end the thread."""
        while self._collected or self._busy:
            self._urgent = True
            self._quiet.clear()
            self._plan()
            await self._quiet.wait()
        self._batches.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def close_checkpoint(self) -> None:
        """Close the keeper's connection, in the keeper's thread."""
        self._checkpoint.close()

    # --- on the loop ----------------------------------------------------------------------------------

    def _plan(self) -> None:
        """See that what is collected is written: at the end of the tick, or a little later if it can wait."""
        if self._busy or not self._collected:
            return
        if self._planned is not None:
            self._planned.cancel()
        if self._urgent:
            self._planned = self._loop.call_soon(self._begin)
        else:
            self._planned = self._loop.call_later(self._linger_s, self._begin)

    def _begin(self) -> None:
        self._planned = None
        requests, self._collected = self._collected[:LARGEST_BATCH], self._collected[LARGEST_BATCH:]
        self._urgent = len(self._collected) >= ENOUGH or not all(one.can_wait for one in self._collected)
        self._busy = True
        batch = Batch(requests, time.monotonic())
        octets = sum(one.rows.octets for one in requests if one.rows is not None)
        batch.written = octets <= LARGEST_OCTETS and self._write_here(requests)
        self._log_octets += BATCH_OCTETS + octets
        self._batches.put(batch)

    def _write_here(self, requests: Sequence[Request]) -> bool:
        """Write the rows into a transaction; False when that is for the thread to do, from the start."""
        connection = self._connection
        rows = [request.rows for request in requests if request.rows is not None]
        if connection is None or self.unavailable or len(rows) < len(requests):
            return False
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._check_epoch(connection)
            write_rows(connection, rows)
            self._steps("rows written")
        except Exception:
            # Whatever it was, the thread meets it again and knows what to do about it.
            _roll_back(connection)
            return False
        return True

    def _done(self, batch: Batch) -> None:
        """The connection is the loop's again. Those who are answered now may join the next batch."""
        _answer(batch.requests)
        self._released()

    def _released(self) -> None:
        self._busy = False
        self._quiet.set()
        self._plan()

    # --- in the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._serve(batch)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                if self._log_octets < CHECKPOINT_OCTETS:
                    self._loop.call_soon_threadsafe(self._done, batch)
                    continue
                self._loop.call_soon_threadsafe(_answer, batch.requests)
                self._tend_log()
                self._loop.call_soon_threadsafe(self._released)

    def _serve(self, batch: Batch) -> None:
        requests = batch.requests
        try:
            requests = self._with_durable_bodies(batch)
            if not requests:
                return
            if batch.written:
                self._commit_written()
            else:
                self._commit_batch(self._usable_connection(), requests)
        except SpoolError as error:
            self._fail_all(requests, error)
        except sqlite3.Error as error:
            self._give_up(requests, error)
        except Exception as error:  # a fault of ours must not end the thread and leave all waiting
            if self._connection is not None:
                _roll_back(self._connection)
            self._fail_all(requests, SpoolUnavailable(f"unforeseen: {type(error).__name__}"))
        else:
            self._observer.batch_committed(len(requests), time.monotonic() - batch.begun_at)
            self._steps("committed")

    def _with_durable_bodies(self, batch: Batch) -> list[Request]:
        """Those whose bodies, if any, are durable by now; the others have their errors."""
        waiting = [(one, body) for one in batch.requests for body in one.bodies]
        if not waiting:
            return batch.requests
        (_, first), others = waiting[0], waiting[1:]
        syncs = [self._file_threads.submit(body.make_durable) for _, body in others]
        for (request, _), sync in zip(
            waiting, (first.make_durable, *(one.result for one in syncs)), strict=True
        ):
            try:
                sync()
            except SpoolError as error:
                request.error = error
                self._observer.commit_failed(1, str(error))
        durable = [one for one in batch.requests if one.error is None]
        if len(durable) < len(batch.requests) and batch.written:
            assert self._connection is not None
            _roll_back(self._connection)
            batch.written = False
        return durable

    def _commit_written(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _commit_batch(self, connection: sqlite3.Connection, batch: Sequence[Request]) -> None:
        try:
            self._transact(connection, batch, _write_together)
        except Exception as error:
            if isinstance(error, SpoolError) or not _one_is_at_fault(error):
                raise
            self._transact(connection, batch, _write_each)

    def _transact(
        self,
        connection: sqlite3.Connection,
        batch: Sequence[Request],
        write: Callable[[sqlite3.Connection, Sequence[Request]], None],
    ) -> None:
        try:
            _begin_patiently(connection)
            self._check_epoch(connection)
            write(connection, batch)
            self._steps("rows written")
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _check_epoch(self, connection: sqlite3.Connection) -> None:
        (epoch,) = connection.execute("SELECT epoch FROM spool").fetchone()
        if epoch != self.epoch:
            self.unavailable = "another process has taken this spool over: was the lock file removed?"
            self._reopen_at = float("inf")
            self._observer.became_unavailable(self.unavailable)
            raise SpoolUnavailable(self.unavailable)

    def _fail_all(self, batch: Sequence[Request], error: Exception) -> None:
        for request in batch:
            request.error = type(error)(str(error))
        self._observer.commit_failed(len(batch), str(error))

    def _give_up(self, batch: Sequence[Request], error: sqlite3.Error) -> None:
        self._fail_all(batch, spool_error(error))
        if primary_code(error) in _PASSING:
            return
        if not self.unavailable:
            self._observer.became_unavailable(str(spool_error(error)))
        self.unavailable = str(spool_error(error))
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        # A damaged database is not written to again, which would spoil more of it; the next start says more.
        wait = float("inf") if is_damage(error) else REOPEN_SECONDS
        self._reopen_at = time.monotonic() + wait

    def _usable_connection(self) -> sqlite3.Connection:
        if self._connection is not None and not self.unavailable:
            return self._connection
        if time.monotonic() < self._reopen_at:
            raise SpoolUnavailable(self.unavailable)
        self._reopen_at = time.monotonic() + REOPEN_SECONDS
        self._connection = self._reopened()
        self.unavailable = ""
        self._observer.became_available()
        return self._connection

    def _reopened(self) -> sqlite3.Connection:
        connection = open_database(self._path, busy_s=0.0)
        try:
            # The probe writes over what the failed commit may have left in the log, and must become durable.
            _begin_patiently(connection)
            self._check_epoch(connection)
            connection.execute("UPDATE spool SET clean = 0")
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            connection.close()
            raise
        return connection

    def _tend_log(self) -> None:
        if self._connection is not None:
            self._log_octets = self._checkpoint.tend(self._connection, self._log_octets)


class Checkpoint:
    """Copies the log into the database without holding up commits.

    The bulk is copied by the keeper's thread while commits go on. When it is through, little is left; the
    writer copies that itself between two batches, after which the log begins anew instead of growing.
    """

    def __init__(self, path: Path, keeper: Executor) -> None:
        self._path = path
        self._keeper = keeper
        self._connection: sqlite3.Connection | None = None
        self._under_way = False
        self._copied = False

    def tend(self, writing: sqlite3.Connection, octets: int) -> int:
        """Go one step on; how large the log is thought to be after it."""
        if self._copied:
            self._copied = False
            with contextlib.suppress(sqlite3.Error):
                _, in_log, copied = writing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                return 0 if in_log == copied else octets
        if not self._under_way:
            self._under_way = True
            with contextlib.suppress(RuntimeError):  # the keeper has been shut down: so are we, soon
                self._keeper.submit(self._copy)
        return octets

    def _copy(self) -> None:
        try:
            if self._connection is None:
                self._connection = open_database(self._path)
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._copied = True
        except (sqlite3.Error, SpoolError):
            # Nothing is lost: the log keeps what the database has not. The writer meets the fault itself.
            self.close()
        finally:
            self._under_way = False

    def close(self) -> None:
        """Close the connection; only when no copy is under way."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _write_together(connection: sqlite3.Connection, batch: Sequence[Request]) -> None:
    rows: list[Rows] = []
    for request in batch:
        if request.rows is not None:
            rows.append(request.rows)
        else:
            write_rows(connection, rows)
            rows = []
            _make_call(connection, request)
    write_rows(connection, rows)


def _make_call(connection: sqlite3.Connection, request: Request) -> None:
    assert request.call is not None
    connection.execute("SAVEPOINT call")
    try:
        request.result = request.call(connection)
    except SpoolError as error:
        connection.execute("ROLLBACK TO call")
        request.error = error
    connection.execute("RELEASE call")


def _write_each(connection: sqlite3.Connection, batch: Sequence[Request]) -> None:
    for request in batch:
        request.error = None
        connection.execute("SAVEPOINT request")
        try:
            _write_together(connection, (request,))
        except Exception as error:
            if not _one_is_at_fault(error):
                raise
            connection.execute("ROLLBACK TO request")
            request.error = _conflict(error)
        connection.execute("RELEASE request")


def _one_is_at_fault(error: Exception) -> bool:
    """Whether the others of a batch may go on: a bad row, or a fault of ours in one call."""
    return not isinstance(error, sqlite3.Error) or concerns_one_request(error)


def _conflict(error: Exception) -> Exception:
    """The error of a row in the spool's words; a fault of ours stays what it is."""
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict("a message or a transfer of that id exists")
    return SpoolError(f"the database refused a row ({error})") if isinstance(error, sqlite3.Error) else error


def _begin_patiently(connection: sqlite3.Connection) -> None:
    """BEGIN, waiting for a stranger to let go. The connection itself never waits: the loop uses it too."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.rollback()


def _answer(batch: Sequence[Request]) -> None:
    """On the loop: tell every caller."""
    for request in batch:
        if request.error is not None:
            if request.failed is not None:
                request.failed()
            if not request.future.done():
                request.future.set_exception(request.error)
            continue
        value = request.result if request.committed is None else request.committed(request.result)
        if not request.future.done():
            request.future.set_result(value)
