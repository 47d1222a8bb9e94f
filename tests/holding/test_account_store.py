"""Messages of an account are counted by the hour, over all workers and nodes (AMDP-1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.holding.outgoing.account_store import HOUR_S, AccountStore
from outrider.tables.database import PostgresDatabase, SqliteDatabase

NOW = 1_800_000_000.0 - 1_800_000_000 % HOUR_S


@pytest.mark.covers("AMDP-1")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_counts_are_shared_and_end_with_the_hour(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    dsn = request.getfixturevalue("postgres_dsn") if backend == "postgresql" else ""
    stores = [
        AccountStore(PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / "accounts.sqlite"))
        for _ in range(2)
    ]
    try:
        waits = [stores[number % 2].count("ann", NOW + number, 3) for number in range(5)]
        assert waits == [0.0, 0.0, 0.0, HOUR_S - 3, HOUR_S - 4]
        assert stores[0].count("bob", NOW, 3) == 0.0
        assert stores[1].count("ann", NOW + HOUR_S, 3) == 0.0
        assert stores[0].count("ann", NOW + HOUR_S, 1) > 0
    finally:
        for store in stores:
            store.close()
