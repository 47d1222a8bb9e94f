"""What is remembered of lists: the same on SQLite and PostgreSQL, durable, the same when it is said twice."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outrider.lists.store import (
    WISH_LIFETIME_S,
    WISHES_PER_ADDRESS,
    WISHES_PER_LIST,
    Away,
    ListStore,
    Wish,
)
from outrider.model.address import parse_address
from outrider.tables.database import PostgresDatabase, SqliteDatabase, StoreUnavailable

LIST, NOW, DAY = "staff@alpha.example", 1_800_000_000.0, 86_400.0
ANN, BOB = parse_address("ann@far.example"), parse_address("bob@far.example")

Open = Callable[[], ListStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store, the same one each time."""
    opened: list[ListStore] = []
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgresql" else ""

    def open_it() -> ListStore:
        database = PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / "lists" / "lists.sqlite")
        opened.append(ListStore(database))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> ListStore:
    """The store."""
    return open_store()


@pytest.mark.covers("SMTP-8")
def test_members_join_once_are_found_without_case_and_leave(store: ListStore) -> None:
    assert store.join(LIST, ANN, "operator", NOW)
    assert not store.join(LIST, parse_address("ANN@far.example"), "operator", NOW)
    found = store.member(LIST, parse_address("Ann@FAR.example"))
    assert found is not None
    assert (str(found.address), found.active, found.joined_at, found.how) == (
        "ann@far.example",
        True,
        NOW,
        "operator",
    )
    assert store.member("other@alpha.example", ANN) is None
    assert store.member_by_id(LIST, found.id) == found
    assert store.member_by_id("other@alpha.example", found.id) is None
    assert store.leave(LIST, ANN)
    assert not store.leave(LIST, ANN)
    assert store.counts(LIST) == (0, 0)


def test_members_are_given_in_pages_of_rising_numbers(store: ListStore) -> None:
    for number in range(25):
        store.join(LIST, parse_address(f"m{number}@far.example"), "test", NOW)
    last = store.last_member(LIST)
    seen: list[str] = []
    after = 0
    while page := store.active_members(LIST, after, last, 10):
        seen += [str(one.address) for one in page]
        after = page[-1].id
    assert seen == [f"m{number}@far.example" for number in range(25)]
    assert store.active_members(LIST, 0, 0, 10) == []
    assert store.last_member("other@alpha.example") == 0


def test_a_number_is_never_used_again(store: ListStore) -> None:
    """A token of somebody who has left must not be another's."""
    store.join(LIST, ANN, "test", NOW)
    number = store.last_member(LIST)
    store.leave(LIST, ANN)
    store.join(LIST, BOB, "test", NOW)
    assert store.last_member(LIST) > number


@pytest.mark.covers("SMTP-8")
def test_what_was_done_is_there_after_opening_again_and_for_another_process(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert one.key == other.key
    assert len(one.key) == 32
    one.join(LIST, ANN, "test", NOW)
    assert other.member(LIST, ANN) is not None
    one.close()
    assert open_store().member(LIST, ANN) is not None


def test_a_wish_is_done_once_confirmed_and_the_same_message_may_say_it_again(store: ListStore) -> None:
    assert store.wish(LIST, Wish("subscribe", ANN), "token", NOW) == ""
    assert store.wish(LIST, Wish("subscribe", ANN), "token", NOW) == ""
    assert store.member(LIST, ANN) is None
    assert store.confirm("other@alpha.example", "token", "M1", NOW) is None
    assert store.confirm(LIST, "guess", "M1", NOW) is None
    assert store.confirm(LIST, "token", "M1", NOW) == Wish("subscribe", ANN)
    assert store.member(LIST, ANN) is not None
    assert store.confirm(LIST, "token", "M1", NOW) == Wish("subscribe", ANN)
    assert store.confirm(LIST, "token", "M2", NOW) is None


def test_a_wish_to_leave_is_done_and_one_not_confirmed_in_time_is_nothing(store: ListStore) -> None:
    store.join(LIST, ANN, "test", NOW)
    store.wish(LIST, Wish("unsubscribe", ANN), "a", NOW)
    assert store.confirm(LIST, "a", "M", NOW + WISH_LIFETIME_S) is None
    store.wish(LIST, Wish("unsubscribe", ANN), "b", NOW)
    assert store.confirm(LIST, "b", "M", NOW + WISH_LIFETIME_S - 1) == Wish("unsubscribe", ANN)
    assert store.member(LIST, ANN) is None


@pytest.mark.covers("SMTP-9")
def test_nobody_is_asked_without_end(store: ListStore) -> None:
    for number in range(WISHES_PER_ADDRESS):
        assert store.wish(f"l{number}@alpha.example", Wish("subscribe", ANN), f"t{number}", NOW) == ""
    assert store.wish(LIST, Wish("subscribe", ANN), "more", NOW) != ""
    assert store.wish(LIST, Wish("subscribe", ANN), "t0", NOW) == ""  # the same message once more
    assert store.wish(LIST, Wish("subscribe", ANN), "tomorrow", NOW + DAY + 1) == ""
    for number in range(WISHES_PER_LIST):
        wish = Wish("subscribe", parse_address(f"m{number}@far.example"))
        assert store.wish("busy@alpha.example", wish, f"m{number}", NOW) == ""
    late = Wish("subscribe", BOB)
    assert store.wish("busy@alpha.example", late, "late", NOW) != ""
    assert store.wish("busy@alpha.example", late, "late", NOW + 3601) == ""


@pytest.mark.covers("SMTP-8")
def test_one_bad_day_suspends_nobody_and_several_do(store: ListStore) -> None:
    store.join(LIST, ANN, "test", NOW)
    number = store.last_member(LIST)

    def bounce(day: float) -> tuple[int, bool] | None:
        found = store.bounced(LIST, number, NOW + day * DAY, limit=3, memory_s=10 * DAY)
        return None if found is None else (found.days, found.suspended)

    assert [bounce(0) for _ in range(20)] == [(1, False)] * 20
    assert bounce(1) == (2, False)
    assert bounce(14) == (1, False)  # the first two are forgotten
    assert bounce(15) == (2, False)
    assert bounce(16) == (3, True)
    assert bounce(17) is None
    assert store.counts(LIST) == (0, 1)
    assert store.active_members(LIST, 0, number, 10) == []
    assert store.join(LIST, ANN, "back", NOW)
    assert bounce(18) == (1, False)
    assert store.bounced(LIST, number + 1, NOW, limit=1, memory_s=DAY) is None


def test_a_limit_of_zero_suspends_nobody(store: ListStore) -> None:
    store.join(LIST, ANN, "test", NOW)
    number = store.last_member(LIST)
    found = [store.bounced(LIST, number, NOW + day * DAY, limit=0, memory_s=99 * DAY) for day in range(9)]
    assert not any(one is None or one.suspended for one in found)


@pytest.mark.covers("AMTP-17")
def test_a_sender_is_answered_once_in_an_interval(store: ListStore) -> None:
    assert store.answer("ann", "eve@far.example", "M1", NOW, 7 * DAY)
    assert store.answer("ann", "eve@far.example", "M1", NOW + 5, 7 * DAY)  # its answer was lost in a crash
    assert not store.answer("ann", "eve@far.example", "M2", NOW + 5, 7 * DAY)
    assert store.answer("bob", "eve@far.example", "M2", NOW + 5, 7 * DAY)
    assert store.answer("ann", "zoe@far.example", "M3", NOW, 7 * DAY)
    assert not store.answer("ann", "eve@far.example", "M4", NOW + 7 * DAY, 7 * DAY)
    assert store.answer("ann", "eve@far.example", "M5", NOW + 5 + 7 * DAY, 7 * DAY)


def test_who_is_away_is_known_until_he_is_back(store: ListStore) -> None:
    store.set_away("ann@alpha.example", Away("Gone", "fishing\n", NOW, NOW + DAY))
    store.set_away("bob@alpha.example", Away("", "ill"))
    assert store.away() == {
        "ann@alpha.example": Away("Gone", "fishing\n", NOW, NOW + DAY),
        "bob@alpha.example": Away("", "ill"),
    }
    assert store.end_away("bob@alpha.example")
    assert not store.end_away("bob@alpha.example")
    assert list(store.away()) == ["ann@alpha.example"]


def test_a_new_text_is_news_to_everybody(store: ListStore) -> None:
    store.set_away("ann", Away("", "one"))
    assert store.answer("ann", "eve@far.example", "M1", NOW, DAY)
    store.set_away("ann", Away("", "two"))
    assert store.answer("ann", "eve@far.example", "M2", NOW, DAY)


def test_an_absence_has_a_beginning_and_an_end() -> None:
    away = Away("", "x", NOW, NOW + 10)
    assert [away.is_current(NOW + at) for at in (-1, 0, 9, 10)] == [False, True, True, False]
    assert Away("", "x").is_current(NOW)


def test_what_fails_changes_nothing(store: ListStore) -> None:
    def breaks() -> None:
        with store._database.transaction():
            store._join(LIST, ANN, "test", NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks()
    assert store.member(LIST, ANN) is None
    with pytest.raises(StoreUnavailable):
        store._database.execute("SELECT nonsense FROM nothing")
    assert store.join(LIST, ANN, "test", NOW)


@pytest.mark.covers("SMTP-8")
def test_the_file_is_for_its_owner_alone_and_synced_at_each_commit(tmp_path: Path) -> None:
    store = ListStore(SqliteDatabase(tmp_path / "data" / "lists" / "lists.sqlite"))
    store.join(LIST, ANN, "test", NOW)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data" / "lists").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "data" / "lists").stat().st_mode) == 0o700
    assert store._database.execute("PRAGMA synchronous") == [(2,)]
    store.close()


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "lists.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreUnavailable):
        ListStore(SqliteDatabase(path))


def test_another_that_holds_the_file_too_long_is_unavailability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.tables.database.BUSY_S", 0.05)
    store = ListStore(SqliteDatabase(tmp_path / "lists.sqlite"))
    other = sqlite3.connect(tmp_path / "lists.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        store.join(LIST, ANN, "test", NOW)
    other.execute("ROLLBACK")
    other.close()
    assert store.join(LIST, ANN, "test", NOW)
    store.close()
