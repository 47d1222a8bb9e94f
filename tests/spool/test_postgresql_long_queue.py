"""A page of a list costs the same for a queue of any length: counted in the blocks that PostgreSQL reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from outrider.model.message import ItemState
from outrider.spool.interface import Filter
from outrider.spool.postgresql import listing
from outrider.spool.postgresql.listing import Place
from outrider.spool.postgresql.spool import PostgresSpool
from outrider.testing.spool_samples import NOW

SHORT, LONG, STEP = 10_000, 50_000, 50
"""Messages, and those that a page looks at: few, so that the database has no reason to read a table whole."""
# Each row is of its own second; every tenth message has been finished.
_FILL = f"""
INSERT INTO outrider.messages SELECT 'M' || lpad(n::text, 9, '0'), {NOW} + n, repeat('x', 300)::bytea
FROM generate_series(%(first)s::integer, %(last)s) AS n;
INSERT INTO outrider.items
SELECT 'M' || lpad(n::text, 9, '0'), 0, n %% 3, 1, {NOW}, 'b.example', repeat('y', 100)::bytea,
  0, 0, '', false, {NOW} + n
FROM generate_series(%(first)s::integer, %(last)s) AS n WHERE n %% 10 > 0;
INSERT INTO outrider.trail (message, data) SELECT 'M' || lpad(n::text, 9, '0'), repeat('z', 100)::bytea
FROM generate_series(%(first)s::integer, %(last)s) AS n;
"""
FILTERS = {
    "open": Filter(),
    "held": Filter(states=(ItemState.HELD,)),
    "from somebody": Filter(sender="@a.example"),
    "finished too": Filter(include_done=True),
    "young enough": Filter(older_than=NOW + 2_500),
}


def blocks(connection: psycopg.Connection, statement: bytes, values: Mapping[str, object]) -> int:
    """How many blocks the query needs."""
    row = connection.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)" + statement, values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def cost(connection: psycopg.Connection, wanted: Filter, behind: Place) -> int:
    """Of one page behind that place."""
    values = {**listing.values_of(wanted), **listing.values_of_place(behind), "step": STEP}
    if not values["done"]:
        return blocks(connection, listing.OPEN_PAGE, values)
    window = connection.execute(listing.WINDOW, values).fetchall()
    last = {"last_message": window[-1][0], "last_received_at": window[-1][1]}
    return blocks(connection, listing.WINDOW, values) + blocks(
        connection, listing.ANY_PAGE, {**values, **last}
    )


@pytest.mark.covers("FAULT-F13")
async def test_a_page_costs_the_same_for_any_length(postgres_dsn: str, tmp_path: Path) -> None:
    spool = PostgresSpool(postgres_dsn, owner="one", scratch=tmp_path)
    await spool.start(NOW)
    await spool.close()
    costs: list[dict[str, int]] = []
    first = 1
    with psycopg.connect(postgres_dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        for last in (SHORT, LONG):
            connection.execute(_FILL.encode(), {"first": first, "last": last})
            first = last + 1
            for table in ("messages", "items", "trail"):
                connection.execute(f"VACUUM ANALYZE outrider.{table}".encode())
            middle = Place(NOW + 2_000, "M000002000", 0)
            costs.append({name: cost(connection, wanted, middle) for name, wanted in FILTERS.items()})
    short, long = costs
    # A further level of the index is a block for each row that is looked up.
    grown = {name: (short[name], long[name]) for name in FILTERS if long[name] > 1.6 * short[name] + 50}
    assert grown == {}
