"""Opening the store of held mail on either database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from outrider.holding.facility.held_store import FILE, HeldStore
from outrider.tables.database import PostgresDatabase, SqliteDatabase

Open = Callable[[], HeldStore]
T = TypeVar("T")


@pytest.fixture(params=["sqlite", "postgresql"])
def open_alone(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store, the same one each time; whoever has it opened closes it."""
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgresql" else ""

    def open_it() -> HeldStore:
        return HeldStore(PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / FILE))

    return open_it


@pytest.fixture
def store(open_alone: Open) -> Iterator[HeldStore]:
    """The store."""
    opened = open_alone()
    yield opened
    opened.close()


def race(open_alone: Open, *works: Callable[[HeldStore, Callable[[], object]], T]) -> list[T]:
    """Do things at the same moment, each in a thread with a connection of its own. They wait for each other
    by calling what they are given."""
    start = threading.Barrier(len(works))
    results: dict[int, T] = {}

    def run(which: int) -> None:
        one = open_alone()
        try:
            results[which] = works[which](one, lambda: start.wait(60))
        finally:
            one.close()

    threads = [threading.Thread(target=run, args=(which,)) for which in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return [results[which] for which in range(len(works))]
