"""What is remembered of envelopes, on SQLite and PostgreSQL, by several at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.holding.incoming.arrival_store import (
    DROPS_KEPT_S,
    KEPT_S,
    PURGE_EVERY_S,
    Arrival,
    ArrivalState,
    ArrivalStore,
    DroppedEnvelope,
    Why,
)
from outrider.model.message import MessageId
from outrider.tables.database import PostgresDatabase, SqliteDatabase, StoreUnavailable

NOW = 1_800_000_000.0
ONE = Arrival(
    "mhf-1.alpha.example", 443, "a" * 26, MessageId("Q1"), "alpha.example", "bob@beta.example", "c" * 26,
    "sha-256=x; length=1", "in DNS", MessageId("F1"), ArrivalState.FETCHING, NOW + 1000, NOW,
    ("<1@a>", "<2@a>"),
)  # fmt: skip


Opener = Callable[[], ArrivalStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same store each time."""
    if request.param == "sqlite":
        return lambda: ArrivalStore(SqliteDatabase(tmp_path / "arrivals.sqlite"))
    dsn = request.getfixturevalue("postgres_dsn")
    return lambda: ArrivalStore(PostgresDatabase(dsn))


@pytest.fixture
def store(opener: Opener) -> Iterator[ArrivalStore]:
    made = opener()
    yield made
    made.close()


@pytest.mark.covers("AMDP-9", "SEC-182")
def test_the_first_has_it(store: ArrivalStore) -> None:
    assert store.confirm(ONE) == ONE
    assert store.confirm(replace(ONE, fetched_as=MessageId("F9"))) == ONE
    assert store.confirm(replace(ONE, message=MessageId("Q2"))) == ONE
    other = replace(ONE, holder="mhf-2.alpha.example", message=MessageId("Q2"))
    assert store.confirm(other) == other
    assert store.find_all([(ONE.holder, ONE.id), ("x", "y")]) == {(ONE.holder, ONE.id): ONE}
    store.move(ONE.holder, ONE.id, ArrivalState.STORED)
    found = store.find(ONE.holder, ONE.id)
    assert found is not None
    assert found.state is ArrivalState.STORED
    assert store.counts() == {"stored": 1, "fetching": 1}


@pytest.mark.covers("AMDP-9", "SEC-182")
@pytest.mark.parametrize("count", [1, 3, 64, 65, 100])
def test_of_many_at_once_each_is_remembered_as_the_first_had_it(store: ArrivalStore, count: int) -> None:
    many = [replace(ONE, id=f"{number:026}", message=MessageId(f"Q{number}")) for number in range(count)]
    known = store.confirm(many[-1])
    replay = replace(many[0], message=MessageId("R"))
    assert store.confirm_all([*many, replay]) == [*many[:-1], known, store.find(replay.holder, replay.id)]
    assert store.confirm_all([replay]) == [many[0]]
    asked = [(one.holder, one.id) for one in many]
    assert store.find_all([*asked, ("x", "y"), *asked]) == dict(zip(asked, many, strict=True))
    assert store.confirm_all([]) == []


def test_things_done_together_are_done_or_not(store: ArrivalStore) -> None:
    def fails(_: ArrivalStore) -> None:
        raise StoreUnavailable("disk")

    with pytest.raises(StoreUnavailable):
        store.together([lambda one: one.confirm(ONE), fails])
    assert store.find(ONE.holder, ONE.id) is None
    assert store.together([lambda one: one.confirm(ONE), lambda one: one.counts()]) == [ONE, {"fetching": 1}]


@pytest.mark.covers("AMDP-10")
def test_why_an_envelope_ended(store: ArrivalStore) -> None:
    dropped = DroppedEnvelope(MessageId("Q1"), Why.NOT_GENUINE, "no", "alpha.example", "mhf", NOW)
    store.drop(dropped)
    store.drop(replace(dropped, why=Why.UNKNOWN))
    assert store.dropped(MessageId("Q1")) == dropped
    assert store.dropped(MessageId("Q2")) is None
    assert store.counts() == {"not-genuine": 1}


def test_reports_are_few(store: ArrivalStore) -> None:
    assert store.may_report("alpha.example", "policy", MessageId("Q1"), NOW)
    assert store.may_report("alpha.example", "policy", MessageId("Q1"), NOW + 1)  # a crash repeats it
    assert not store.may_report("alpha.example", "policy", MessageId("Q2"), NOW + 2)
    assert store.may_report("alpha.example", "class", MessageId("Q2"), NOW + 2)
    assert store.may_report("alpha.example", "policy", MessageId("Q3"), NOW + 86_402)


def test_what_is_old_is_let_go(store: ArrivalStore) -> None:
    store.confirm(ONE)
    store.drop(DroppedEnvelope(MessageId("Q5"), Why.POLICY, "no", "a", "b", NOW))
    later = NOW + 1000 + KEPT_S - 1
    store.confirm(replace(ONE, id="b" * 26, at=later, expires=later + 10**9))
    assert store.find(ONE.holder, ONE.id) is not None
    later += PURGE_EVERY_S
    store.confirm(replace(ONE, id="d" * 26, at=later, expires=later + 9))
    assert store.find(ONE.holder, ONE.id) is None
    assert store.find(ONE.holder, "b" * 26) is not None
    later = NOW + DROPS_KEPT_S + PURGE_EVERY_S
    store.confirm(replace(ONE, id="e" * 26, at=later, expires=later + 9))
    assert store.dropped(MessageId("Q5")) is None


@pytest.mark.covers("SEC-182")
def test_two_processes_at_once_take_it_once(opener: Opener) -> None:
    winners: list[set[str]] = []

    def take(name: str) -> None:
        store = opener()
        mine = set()
        for number in range(30):
            arrival = replace(ONE, id=f"{number:026d}", message=MessageId(f"{name}{number}"))
            if store.confirm(arrival).message == arrival.message:
                mine.add(str(number))
        winners.append(mine)
        store.close()

    threads = [threading.Thread(target=take, args=(name,)) for name in "AB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert winners[0] | winners[1] == {str(number) for number in range(30)}
    assert not winners[0] & winners[1]
