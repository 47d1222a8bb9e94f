"""Statements that travel together: prepared once a connection, sent in one piece, waited for once.

The library's own pipeline writes to the socket for every statement, and the server wakes up for each. Here
all of a batch is one write and, where it ends with COMMIT, all of a transaction is one round trip. What the
statements return is not looked at: they do their work, or the first that fails is raised and none of those
behind it were carried out.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.abc import PQGen
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait

Connection = AsyncConnection[TupleRow]
Encoder = Callable[[Sequence[object]], bytes]
"""Makes an array, in PostgreSQL's binary form, of one column."""

_BINARY = 1
_NULL = struct.pack(">i", -1)
_ARRAY = struct.Struct(">iiiii")
"""Dimensions, whether NULL may occur, type of the elements, their number, the first one's index."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """SQL with parameters $1, $2, ... `prepared`: it is used often enough for the server to keep it."""

    text: bytes
    columns: tuple[Encoder, ...] = ()
    prepared: bool = True

    def of_rows(self, rows: Sequence[Sequence[object]]) -> Call:
        """An array for each column of the rows. Raises ValueError, struct.error for what cannot be sent."""
        pairs = zip(self.columns, zip(*rows, strict=True), strict=True)
        return Call(self, tuple(encode(column) for encode, column in pairs))

    def with_parameters(self, *parameters: bytes) -> Call:
        """With these, each in binary form already."""
        return Call(self, parameters)


@dataclass(frozen=True, slots=True)
class Call:
    """A statement and what it is to work on."""

    statement: Statement
    parameters: tuple[bytes, ...] = ()


class NotBegun(psycopg.OperationalError):
    """The connection had ended before the first of the statements was carried out: nothing has happened."""


# --- arrays -------------------------------------------------------------------------------------------


def texts(values: Sequence[object]) -> bytes:
    """text[]"""
    return _array(25, len(values), map(_with_length, (str(value).encode() for value in values)))


def octets(values: Sequence[object]) -> bytes:
    """bytea[]; None is NULL."""
    return _array(17, len(values), (_NULL if one is None else _with_length(one) for one in values))


def _with_length(value: object) -> bytes:
    assert isinstance(value, bytes | bytearray | memoryview)
    return b"".join((len(value).to_bytes(4), value))


def _fixed(type_: int, code: str) -> Encoder:
    size, pack = struct.calcsize(f">{code}"), struct.Struct(f">i{code}").pack

    def encode(values: Sequence[object]) -> bytes:
        return _array(type_, len(values), [pack(size, value) for value in values])

    return encode


smallints = _fixed(21, "h")
integers = _fixed(23, "i")
bigints = _fixed(20, "q")
doubles = _fixed(701, "d")
booleans = _fixed(16, "?")


def _array(type_: int, count: int, elements: Iterable[bytes]) -> bytes:
    return b"".join((_ARRAY.pack(1, 1, type_, count, 1), *elements))


# --- sending ------------------------------------------------------------------------------------------

_names = map("outrider_{}".format, itertools.count(1))
_prepared: WeakKeyDictionary[Connection, dict[Statement, bytes]] = WeakKeyDictionary()


async def send_together(connection: Connection, calls: Sequence[Call]) -> None:
    """Carry out the statements in order, in the transaction that is open, if one is.

    Raises psycopg.Error: what the first that failed was answered; `NotBegun`; or another error without an
    SQLSTATE when the connection broke: then nobody knows how far the server came.
    """
    names = _prepared.setdefault(connection, {})
    try:
        async with connection.lock:
            await connection.wait(_exchange(connection.pgconn, calls, names))
    except errors.InvalidSqlStatementName:
        names.clear()  # the library has let the server forget them, which it does after some roll-backs
        raise


def _exchange(pgconn: PGconn, calls: Sequence[Call], names: dict[Statement, bytes]) -> PQGen[None]:
    yield from _see_whether_open(pgconn)
    pgconn.enter_pipeline_mode()
    try:
        queued = _queue(pgconn, calls, names)
        error = yield from _collect(pgconn, queued, names)
    finally:
        if pgconn.status == ConnStatus.OK:
            pgconn.exit_pipeline_mode()
    if error is not None:
        raise error


def _see_whether_open(pgconn: PGconn) -> PQGen[None]:
    """A server that has gone has mostly said so before we write: then nobody need ask what became of it."""
    try:
        while (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    except psycopg.OperationalError as error:
        raise NotBegun(str(error)) from error


_Queued = list[tuple[Statement, bytes] | None]
"""For each command: what it prepares and under which name, or None."""


def _queue(pgconn: PGconn, calls: Sequence[Call], names: dict[Statement, bytes]) -> _Queued:
    queued: _Queued = []
    new: dict[Statement, bytes] = {}
    for call in calls:
        statement, formats = call.statement, [_BINARY] * len(call.parameters)
        if not statement.prepared:
            pgconn.send_query_params(statement.text, call.parameters, param_formats=formats)
        else:
            name = names.get(statement) or new.get(statement)
            if name is None:
                name = new[statement] = next(_names).encode()
                pgconn.send_prepare(name, statement.text)
                queued.append((statement, name))
            pgconn.send_query_prepared(name, call.parameters, param_formats=formats)
        queued.append(None)
    pgconn.pipeline_sync()
    return queued


def _collect(pgconn: PGconn, queued: _Queued, names: dict[Statement, bytes]) -> PQGen[psycopg.Error | None]:
    """Write all, read all answers; the first error among them. Raises psycopg.OperationalError."""
    first: psycopg.Error | None = None
    unanswered = deque(queued)
    unsent = True
    while True:
        ready = yield Wait.RW if unsent else Wait.R
        if ready & Ready.R:
            try:
                pgconn.consume_input()
                results = list(_results(pgconn))
            except psycopg.OperationalError:
                if first is not None:
                    return first
                raise
            for result in results:
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return first
                if result.status == ExecStatus.FATAL_ERROR and first is None:
                    first = _error(result)
                    if isinstance(first, errors.AdminShutdown) and len(unanswered) == len(queued):
                        first = NotBegun(str(first))  # answers keep their order, the last words included
                prepared = unanswered.popleft() if unanswered else None
                if prepared is not None and result.status == ExecStatus.COMMAND_OK:
                    names.__setitem__(*prepared)
        if ready & Ready.W:
            unsent = pgconn.flush() != 0


def _results(pgconn: PGconn) -> Iterable[PGresult]:
    """Those that have come. Each command's are followed by None; None twice means that there are no more."""
    blank = False
    while not pgconn.is_busy():
        result = pgconn.get_result()
        if result is not None:
            blank = False
            yield result
            if result.status == ExecStatus.PIPELINE_SYNC:
                return
        elif blank:
            return
        else:
            blank = True


def _error(result: PGresult) -> psycopg.Error:
    """As the library would raise it: the text is the server's, without the rows of its details."""
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode(errors="replace")
    text = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    try:
        return errors.lookup(state)(text)
    except KeyError:
        return psycopg.DatabaseError(text)
