"""AMDP-7: one envelope of a holder that has not passed its call-back, over all workers and nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest

from outrider.holding.incoming.holders import (
    KEPT_S,
    LOOK_S,
    PASSED_FOR_S,
    WAITING_FOR_S,
    Admission,
    Holders,
    HolderStore,
    HolderThread,
    holder_key,
)
from outrider.tables.database import PostgresDatabase, SqliteDatabase, StoreUnavailable

pytestmark = pytest.mark.covers("AMDP-7")
NOW = 1_800_000_000.0
FORGER, HOLDER = ip_address("198.51.100.66"), ip_address("2001:db8:1:2::25")

Open = Callable[[], HolderStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_own(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the table, the same one each time; each belongs to the thread that opened it."""
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgresql" else ""

    def open_it() -> HolderStore:
        return HolderStore(
            PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / "amdp" / "holders.sqlite")
        )

    return open_it


@pytest.fixture
def open_store(open_own: Open) -> Iterator[Open]:
    """The same, closed after the test."""
    opened: list[HolderStore] = []

    def open_it() -> HolderStore:
        opened.append(open_own())
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def test_the_second_envelope_waits_for_the_first(open_store: Open) -> None:
    store, other_worker = open_store(), open_store()
    assert store.admit("h", "M1", NOW, 0) is Admission.TAKEN
    assert other_worker.admit("h", "M2", NOW + 1, 0) is Admission.ANOTHER_WAITS
    assert store.admit("h", "M1", NOW + 2, 0) is Admission.TAKEN, "the same one again after a crash"
    assert store.admit("other", "M3", NOW, 0) is Admission.TAKEN
    other_worker.settle("h", NOW + PASSED_FOR_S, NOW + 3)
    assert [store.admit("h", f"N{n}", NOW + 4, 0) for n in range(5)] == [Admission.TAKEN] * 5


def test_after_a_failure_there_is_one_again(open_store: Open) -> None:
    store = open_store()
    store.settle("h", NOW + PASSED_FOR_S, NOW)
    store.settle("h", 0.0, NOW + 1)
    assert store.admit("h", "M1", NOW + 2, 0) is Admission.TAKEN
    assert store.admit("h", "M2", NOW + 2, 0) is Admission.ANOTHER_WAITS
    store.withdraw("h", "not that one")
    assert store.admit("h", "M2", NOW + 2, 0) is Admission.ANOTHER_WAITS
    store.withdraw("h", "M1")
    assert store.admit("h", "M2", NOW + 2, 0) is Admission.TAKEN


def test_no_silence_lasts_for_ever(open_store: Open) -> None:
    store = open_store()
    store.admit("h", "M1", NOW, 0)
    assert store.admit("h", "M2", NOW + WAITING_FOR_S - 1, 0) is Admission.ANOTHER_WAITS
    assert store.admit("h", "M2", NOW + WAITING_FOR_S + 1, 0) is Admission.TAKEN
    store.settle("h", NOW + PASSED_FOR_S, NOW)
    store.settle("later", 0.0, NOW + KEPT_S + 1)
    assert store.passed_until("h") == 0.0, "and no row"


@pytest.mark.covers("AMDP-16")
def test_envelopes_are_counted_by_the_minute_over_all_workers(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    minute = NOW - NOW % 60
    stores[0].settle("h", NOW + PASSED_FOR_S, NOW)
    taken = [stores[n % 2].admit("h", f"M{n}", minute + n, 5) for n in range(7)]
    assert taken == [Admission.TAKEN] * 5 + [Admission.TOO_FAST] * 2
    assert stores[1].admit("h", "M9", minute + 60, 5) is Admission.TAKEN


def test_of_many_at_once_one_is_admitted(open_own: Open) -> None:
    def worker(name: str) -> list[Admission]:
        store = open_own()
        try:
            return [store.admit("h", f"{name}{n}", NOW, 0) for n in range(20)]
        finally:
            store.close()

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        futures = [pool.submit(worker, name) for pool, name in ((one, "a"), (two, "b"))]
        admissions = [answer for future in futures for answer in future.result()]
    assert admissions.count(Admission.TAKEN) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
    ],
)
def test_whom_the_rule_takes_for_one(one: str, other: str, same: bool) -> None:
    assert (holder_key(ip_address(one)) == holder_key(ip_address(other))) is same
    assert holder_key(None) == ""


class Worker:
    """A worker's view of the table, with a clock."""

    def __init__(self, open_store: Open) -> None:
        self.now = NOW
        self.calls = 0

        def opened() -> HolderStore:
            self.calls += 1
            return open_store()

        self.holders = Holders(HolderThread(opened, "holders"), lambda: self.now)


@pytest.fixture
def sqlite(tmp_path: Path) -> Open:
    return lambda: HolderStore(SqliteDatabase(tmp_path / "holders.sqlite"))


async def test_a_forger_stands_in_nobodys_way_but_his_own(sqlite: Open) -> None:
    worker = Worker(sqlite)
    holders = worker.holders
    assert await holders.admit(FORGER, "F1") is Admission.TAKEN
    assert await holders.admit(FORGER, "F2") is Admission.ANOTHER_WAITS
    assert await holders.admit(HOLDER, "H1") is Admission.TAKEN
    assert not holders.has_passed(HOLDER)
    await holders.passed(HOLDER)
    assert holders.has_passed(ip_address("2001:db8:1:2::26")), "of the same /64"
    assert not holders.has_passed(FORGER)
    await holders.failed(FORGER)
    assert await holders.admit(FORGER, "F3") is Admission.TAKEN
    holders.close()


async def test_a_holder_that_has_passed_costs_no_look(sqlite: Open) -> None:
    unavailable = Worker(sqlite)
    await unavailable.holders.passed(HOLDER)

    def broken(_store: HolderStore) -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await unavailable.holders._thread.call(broken)
    opened = unavailable.calls
    assert await unavailable.holders.admit(HOLDER, "H1") is Admission.TAKEN
    await unavailable.holders.passed(HOLDER)
    assert unavailable.calls == opened
    unavailable.holders.close()


async def test_what_another_worker_found_out_is_heeded_soon(sqlite: Open) -> None:
    one, other = Worker(sqlite), Worker(sqlite)
    await one.holders.passed(HOLDER)
    assert await other.holders.admit(HOLDER, "H1") is Admission.TAKEN
    assert other.holders.has_passed(HOLDER)
    await other.holders.failed(HOLDER)
    assert one.holders.has_passed(HOLDER)
    one.now += LOOK_S
    assert not one.holders.has_passed(HOLDER)
    assert await one.holders.admit(HOLDER, "H2") is Admission.TAKEN
    assert await one.holders.admit(HOLDER, "H3") is Admission.ANOTHER_WAITS
    await one.holders.passed(HOLDER)
    assert await one.holders.admit(HOLDER, "H3") is Admission.TAKEN
    one.holders.close()
    other.holders.close()
