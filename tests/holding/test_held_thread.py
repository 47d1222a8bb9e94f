"""Requests of one moment share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from outrider.holding.facility.held_store import FILE, HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.model.content import Content
from outrider.tables.database import Database, Row, SqliteDatabase, StoreUnavailable, Value
from tests.holding.facility_rig import FacilityRig, submitted
from tests.holding.held_support import a_copy


class Counting(SqliteDatabase):
    """Counts commits."""

    commits = 0

    def execute(self, statement: str, values: tuple[Value, ...] = ()) -> list[Row]:  # type: ignore[override]
        Counting.commits += statement == "COMMIT"
        return super().execute(statement, values)


@pytest.fixture
def threads(tmp_path: Path) -> Iterator[HeldThreads]:
    made = HeldThreads(lambda: HeldStore(Counting(tmp_path / FILE)))
    yield made
    made.close()


def adding(number: int, *, fails: bool = False) -> Callable[[HeldStore], int]:
    def work(store: HeldStore) -> int:
        store.add_copies("MESSAGE", [a_copy(number)])
        if fails:
            store.database.execute("SELECT nonsense FROM nowhere")
        return number

    return work


async def numbers(threads: HeldThreads) -> list[int]:
    rows = await threads.read(lambda store: store.database.execute("SELECT number FROM held_copies"))
    return sorted(int(number or 0) for (number,) in rows)


@pytest.mark.covers("AMDP-9", "SMTP-5")
async def test_what_comes_together_is_committed_together(threads: HeldThreads) -> None:
    await threads.write(adding(0))
    Counting.commits = 0
    assert await asyncio.gather(*(threads.write(adding(one)) for one in range(1, 101))) == list(range(1, 101))
    assert Counting.commits <= 2
    assert await numbers(threads) == list(range(101))


async def test_one_that_fails_takes_nobody_with_it(threads: HeldThreads) -> None:
    results = await asyncio.gather(
        *(threads.write(adding(one, fails=one == 7)) for one in range(20)), return_exceptions=True
    )
    assert isinstance(results[7], StoreUnavailable)
    assert [one for one in results if one != results[7]] == [one for one in range(20) if one != 7]
    assert await numbers(threads) == [one for one in range(20) if one != 7]
    with pytest.raises(ZeroDivisionError):
        await threads.write(lambda store: 1 // 0)
    assert await threads.write(adding(50)) == 50


async def test_one_who_goes_away_does_not_stop_the_others(threads: HeldThreads) -> None:
    tasks = [asyncio.create_task(threads.write(adding(one))) for one in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    tasks[9].cancel()
    for at, task in enumerate(tasks):
        if at in (3, 9):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        else:
            assert await task == at
    assert set(numbers_of := await numbers(threads)) >= set(range(10)) - {3, 9}
    assert len(numbers_of) == len(set(numbers_of))


@dataclass(frozen=True)
class Generated:
    """A body that is nowhere."""

    size: int

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        line = b"0123456789" * 7 + b"\r\n"
        piece = line * (size // len(line))
        left = self.size
        while left > 0:
            yield piece[:left]
            left -= len(piece)


@pytest.mark.covers("AMDP-2", "AMDP-13")
async def test_a_message_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    size = 80 * 1024 * 1024
    rig = FacilityRig(tmp_path)
    message = submitted("bob@beta.example")
    assert message.content is not None
    large = replace(message, content=Content(message.content.headers, Generated(size)))
    tracemalloc.start()
    [sent] = await rig.hold(large)
    number = await rig.authenticate(sent)
    answer = await rig.post("/amdp/v1/message", {"id": sent.held.id, "confirmation": number})
    assert answer.stream is not None
    fetched = 0
    async for piece in answer.stream:
        fetched += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fetched == sent.held.size == answer.length
    assert peak < 24 * 1024 * 1024
    rig.close()


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    database: Database = SqliteDatabase(tmp_path / FILE)
    store = HeldStore(database)
    with store.transaction():
        database.execute("UPDATE held_meta SET value = '99'")
    with pytest.raises(StoreUnavailable, match="version 99"):
        HeldStore(database)
    store.close()
