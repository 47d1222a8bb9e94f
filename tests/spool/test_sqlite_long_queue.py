"""What is done again and again costs the same for a queue of any length: counted in SQLite's own steps."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.fill_queue import Queue, fill

from outrider.model.message import ItemState
from outrider.spool.body_files import BodyFiles
from outrider.spool.interface import Filter
from outrider.spool.observer import NullObserver
from outrider.spool.sqlite import operations, reading
from outrider.spool.sqlite.connection import open_database
from outrider.spool.sqlite.operations import Operations
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_samples import NOW

SHORT, LONG = 2_000, 40_000
OFTEN: dict[str, Callable[[sqlite3.Connection, Operations], object]] = {
    "next_due": lambda connection, _: reading.next_due(connection),
    "oldest": lambda connection, _: reading.oldest_received_at(connection),
    "lease": lambda connection, spool: _lease(connection, spool, ()),
    "lease_avoiding_one": lambda connection, spool: _lease(connection, spool, ("d1.load.example",)),
    "lease_avoiding_all": lambda connection, spool: _lease(connection, spool, ALL),
    "lease_solo": lambda connection, spool: _lease(connection, spool, (), solo=True),
    "page": lambda connection, _: reading.page(connection, Filter(limit=100), reading.BEFORE_ALL),
    "find_first": lambda connection, _: reading.find(connection, Filter(limit=100)),
    "find_overdue": lambda connection, _: reading.find(connection, OVERDUE),
    "purge": lambda connection, _: operations.purge_some(connection, NOW + 9e6),
    "postpone": lambda connection, _: operations.postpone_some(connection, "d1.load.example", NOW + 1),
    "postpone_suspects": lambda connection, _: operations.postpone_suspects(connection, "x", NOW + 1),
    "bodies_in_files": lambda connection, _: list(operations.named_bodies(connection)),
}
ALL = tuple(f"d{number}.load.example" for number in range(10))
OVERDUE = Filter(states=(ItemState.READY,), destination="D999.load.example", older_than=NOW - 9e6, limit=500)


def _lease(
    connection: sqlite3.Connection, spool: Operations, avoid: tuple[str, ...], *, solo: bool = False
) -> object:
    return spool.lease_due(connection, now=NOW, until=NOW + 300, limit=50, avoid=avoid, solo=solo, expired=())


@contextmanager
def queue(folder: Path, messages: int) -> Iterator[tuple[sqlite3.Connection, Operations]]:
    """A spool with so many messages due, for ten destinations, as its writer has it."""
    list(fill(folder, Queue(messages, destinations=10, octets=50, due=True, now=NOW)))
    connection = open_database(folder / "spool.db")
    numbers = itertools.count(1 << 50)
    spool = Operations(
        next_number=lambda: next(numbers),
        bodies=BodyFiles(folder / "bodies", None, inline_limit=1000, steps=lambda _: None),  # type: ignore[arg-type]
        damaged=lambda message, why: None,
        observer=NullObserver(),
        poison_after=3,
    )
    try:
        yield connection, spool
    finally:
        connection.close()


def steps(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    """How many hundreds of steps of SQLite's virtual machine the work takes; it is undone."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.execute("BEGIN")
    connection.set_progress_handler(step, 100)
    try:
        work()
    finally:
        connection.set_progress_handler(None, 0)
        connection.rollback()
    return count


@pytest.mark.covers("FAULT-F13")
def test_what_is_done_often_costs_the_same_for_any_length(tmp_path: Path) -> None:
    costs: list[dict[str, int]] = []
    for number in (SHORT, LONG):
        with queue(tmp_path / str(number), number) as (connection, spool):
            costs.append(
                {
                    name: steps(connection, lambda work=work: work(connection, spool))  # type: ignore[misc]
                    for name, work in OFTEN.items()
                }
            )
    short, long = costs
    grown = {name: (short[name], long[name]) for name in OFTEN if long[name] > 2 * short[name] + 20}
    # A step of putting off is as large as it gets: 200 items of the short queue, 2000 of the long one.
    assert grown.pop("postpone", (0, 0))[1] < 12 * short["postpone"]
    assert grown == {}


@pytest.mark.covers("FAULT-F13")
async def test_a_million_is_put_off_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "POSTPONE_STEP", 10)
    await asyncio.to_thread(list, fill(tmp_path, Queue(95, destinations=2, octets=50, due=True, now=NOW)))
    spool = SqliteSpool(tmp_path, reserve=0)
    await spool.start(NOW)
    assert await spool.postpone("d0.load.example", NOW + 50) == 48
    assert await spool.postpone("d0.load.example", NOW + 50) == 0
    assert {one.item.destination for one in await spool.lease_due(NOW, NOW + 900, 200)} == {"d1.load.example"}
    assert len(await spool.lease_due(NOW + 50, NOW + 60, 200)) == 48
    await spool.close()
