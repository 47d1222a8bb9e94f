"""Statements that travel together: arrays as PostgreSQL reads them, errors as they are told, one commit."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
from psycopg.rows import TupleRow

from outrider.spool.postgresql import marks
from outrider.spool.postgresql.exchange import (
    Connection,
    Encoder,
    NotBegun,
    Statement,
    bigints,
    booleans,
    doubles,
    integers,
    octets,
    send_together,
    smallints,
    texts,
)

BEGIN = Statement(b"BEGIN", prepared=False).with_parameters()
COMMIT = Statement(b"COMMIT", prepared=False).with_parameters()
ADD = Statement(b"INSERT INTO kept SELECT * FROM unnest($1::text[])", (texts,))
FAIL = Statement(b"SELECT 1 / cardinality($1::text[])", (texts,))


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[Connection]:
    """With an empty table of names."""
    connection = await psycopg.AsyncConnection[TupleRow].connect(postgres_dsn, autocommit=True)
    async with connection:
        await connection.execute("CREATE TABLE kept (name text PRIMARY KEY)")
        yield connection


async def names(connection: Connection) -> list[str]:
    """What the table has."""
    rows = await (await connection.execute("SELECT name FROM kept ORDER BY name")).fetchall()
    return [str(name) for (name,) in rows]


@pytest.mark.parametrize(
    ("encode", "type_", "values"),
    [
        (texts, "text", ["", "a", "\u00e9\u4e2d", "'; --{}\\,"]),
        (octets, "bytea", [b"", None, b"\x00\xff" * 50, b"{}"]),
        (smallints, "smallint", [-(2**15), 0, 2**15 - 1]),
        (integers, "integer", [-(2**31), 0, 2**31 - 1]),
        (bigints, "bigint", [-(2**63), 0, 2**63 - 1]),
        (doubles, "double precision", [-1.5, 0.0, 1e300, float("inf")]),
        (booleans, "boolean", [True, False]),
        (texts, "text", []),
    ],
)
async def test_arrays_arrive_as_they_were(
    connection: Connection, encode: Encoder, type_: str, values: Sequence[object]
) -> None:
    table = f"CREATE TABLE sent (place bigint, value {type_})"
    await connection.execute(table.encode())
    insert = f"INSERT INTO sent (value, place) SELECT * FROM unnest($1::{type_}[]) WITH ORDINALITY"
    await send_together(connection, [Statement(insert.encode()).with_parameters(encode(values))])
    rows = await connection.execute("SELECT value FROM sent ORDER BY place", binary=True)
    assert [value for (value,) in await rows.fetchall()] == values


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_what_does_not_fit_is_refused_here(value: int) -> None:
    with pytest.raises(struct.error):
        integers([value])


async def test_a_transaction_is_one_round_trip_that_may_be_repeated(connection: Connection) -> None:
    for name in ("a", "b", "c"):
        await send_together(connection, [BEGIN, ADD.of_rows([(name,)]), COMMIT])
    assert await names(connection) == ["a", "b", "c"]


async def test_the_first_error_is_raised_and_nothing_is_done(connection: Connection) -> None:
    calls = [BEGIN, ADD.of_rows([("a",)]), FAIL.of_rows([("x",)]), ADD.of_rows([("a",)]), COMMIT]
    with pytest.raises(psycopg.errors.UniqueViolation):
        await send_together(connection, calls)
    await connection.execute("ROLLBACK")
    assert await names(connection) == []
    # What the server has learnt is not sent anew, and what it has not is: both work again.
    await send_together(connection, [BEGIN, ADD.of_rows([("a",), ("b",)]), COMMIT])
    assert await names(connection) == ["a", "b"]


async def test_more_than_the_socket_takes_at_once(connection: Connection) -> None:
    large = [(f"{number:09d}" + "x" * 2000,) for number in range(5000)]
    await connection.execute("ALTER TABLE kept DROP CONSTRAINT kept_pkey")
    await send_together(connection, [BEGIN, *(ADD.of_rows(large) for _ in range(3)), COMMIT])
    assert len(await names(connection)) == 15_000


async def test_statements_that_the_server_forgot_are_taught_again(connection: Connection) -> None:
    await send_together(connection, [ADD.of_rows([("a",)])])
    await connection.execute("DEALLOCATE ALL")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        await send_together(connection, [ADD.of_rows([("b",)])])
    await send_together(connection, [ADD.of_rows([("b",)])])
    assert await names(connection) == ["a", "b"]


@pytest.mark.covers("SEC-94")
async def test_a_connection_that_has_ended_is_known_to_have_done_nothing(
    connection: Connection, postgres_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as other:
        await other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
    with pytest.raises(NotBegun):
        await send_together(connection, [BEGIN, ADD.of_rows([("a",)]), COMMIT])


# --- marks --------------------------------------------------------------------------------------------


@pytest.fixture
async def marked(connection: Connection) -> Connection:
    """With the table of marks."""
    await connection.execute("CREATE SCHEMA outrider")
    await connection.execute(
        "CREATE TABLE outrider.commits (connection text PRIMARY KEY, count bigint NOT NULL DEFAULT 1, "
        "at timestamptz NOT NULL DEFAULT now())"
    )
    return connection


@pytest.mark.covers("SEC-94")
async def test_a_mark_says_whether_its_transaction_was_committed(marked: Connection) -> None:
    given = marks.Marks()
    await send_together(marked, [BEGIN, given.next(marked).call(), COMMIT])
    done = given.next(marked)
    await send_together(marked, [BEGIN, done.call(), COMMIT])
    assert await marks.was_committed(marked, done)
    assert await marks.was_committed(marked, done), "asking changes nothing"
    undone = given.next(marked)
    await send_together(marked, [BEGIN, undone.call(), Statement(b"ROLLBACK").with_parameters()])
    assert not await marks.was_committed(marked, undone)


@pytest.mark.covers("SEC-94")
async def test_behind_a_fence_nothing_is_committed(marked: Connection) -> None:
    given = marks.Marks()
    late = given.next(marked)
    assert not await marks.was_committed(marked, late)
    with pytest.raises(psycopg.errors.NotNullViolation):
        await send_together(marked, [BEGIN, late.call(), ADD.of_rows([("a",)]), COMMIT])
    await marked.execute("ROLLBACK")
    assert not await marks.was_committed(marked, late)
    assert await names(marked) == []


@pytest.mark.covers("SEC-94")
async def test_a_transaction_under_way_is_waited_for(marked: Connection, postgres_dsn: str) -> None:
    given = marks.Marks()
    under_way = given.next(marked)
    await send_together(marked, [BEGIN, under_way.call()])
    other = await psycopg.AsyncConnection[TupleRow].connect(postgres_dsn, autocommit=True)
    async with other:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await marks.was_committed(other, under_way)
        await send_together(marked, [COMMIT])
        assert await marks.was_committed(other, under_way)
