"""What is remembered of subscriptions: the same on SQLite and PostgreSQL, durable, the same when it is said
twice."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outrider.holding.subscriptions.store import (
    LETTER_LEASE_S,
    LETTERS_PER_ADDRESS,
    RULES_PER_ADDRESS,
    WISH_LIFETIME_S,
    Application,
    SubscriptionStore,
)
from outrider.holding.subscriptions.wishes import Rule, Standing, Subject
from outrider.lists.store import key_of
from outrider.model.address import parse_address
from outrider.tables.database import PostgresDatabase, SqliteDatabase

NOW, DAY = 1_800_000_000.0, 86_400.0
ANN, BOB = parse_address("ann@alpha.example"), parse_address("bob@alpha.example")
NEWS = Subject("news.example", "*")
BULK = Subject("news.example", "*::Bulk::*")

Open = Callable[[], SubscriptionStore]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store, the same one each time."""
    opened: list[SubscriptionStore] = []
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgresql" else ""

    def open_it() -> SubscriptionStore:
        database = PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / "subscriptions.sqlite")
        opened.append(SubscriptionStore(database))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> SubscriptionStore:
    """The store."""
    return open_store()


def said(store: SubscriptionStore) -> list[str]:
    return [f"{one.standing.value} {one.subject}" for one in store.rules_of(ANN)]


@pytest.mark.covers("AMDP-19")
def test_a_wish_becomes_a_rule_when_it_is_confirmed_and_only_once(store: SubscriptionStore) -> None:
    assert store.apply("token", Application("accept", ANN, NEWS), NOW, letter=True)
    assert said(store) == []
    assert store.confirm("guess", NOW) is None
    first = store.confirm("token", NOW)
    assert first is not None
    assert (first.application, first.used) == (Application("accept", ANN, NEWS), False)
    assert said(store) == ["accept news.example *"]
    [rule] = store.rules_of(ANN)
    store.leave(rule.id, NOW, "test")
    again = store.confirm("token", NOW)
    assert again is not None
    assert again.used
    assert said(store) == []


@pytest.mark.covers("AMDP-19")
def test_a_link_is_good_for_its_time_and_one_never_told_is_never_good(store: SubscriptionStore) -> None:
    store.apply("late", Application("accept", ANN, NEWS), NOW, letter=True)
    assert store.pending("late", NOW + WISH_LIFETIME_S - 1) is not None
    assert store.pending("late", NOW + WISH_LIFETIME_S) is None
    assert store.confirm("late", NOW + WISH_LIFETIME_S) is None
    assert not store.apply("untold", Application("accept", BOB, NEWS), NOW, letter=False)
    assert store.pending("untold", NOW) is None
    assert store.confirm("untold", NOW) is None


@pytest.mark.covers("AMDP-19")
def test_a_letter_s_language_is_kept_until_it_is_written_and_no_longer(open_store: Open) -> None:
    store = open_store()
    for language in ("de", "en", "fr"):
        wish = Application("accept", ANN, Subject(f"{language}.example", "*"), language)
        assert store.apply(language, wish, NOW, letter=True)
    due = open_store().letters_due(NOW + 1, 10)
    assert {one.token: one.application.language for one in due} == {one: one for one in ("de", "en", "fr")}
    later = NOW + WISH_LIFETIME_S + 1
    store.apply("other", Application("accept", BOB, NEWS), later, letter=True)
    assert not store._database.execute("SELECT 1 FROM subscription_languages")


@pytest.mark.covers("AMDP-19")
def test_who_is_bombed_gets_three_letters_a_day(store: SubscriptionStore) -> None:
    asked = [
        store.apply(f"token{number}", Application("accept", ANN, NEWS), NOW + number, letter=True)
        for number in range(LETTERS_PER_ADDRESS + 2)
    ]
    assert asked == [True] * LETTERS_PER_ADDRESS + [False] * 2
    assert store.apply("other", Application("accept", BOB, NEWS), NOW, letter=True)
    assert store.apply("next day", Application("accept", ANN, NEWS), NOW + DAY + 10, letter=True)


@pytest.mark.covers("AMDP-19")
def test_a_letter_is_one_workers_and_anothers_when_he_has_died(open_store: Open) -> None:
    one, other = open_store(), open_store()
    for number in range(3):
        one.apply(f"token{number}", Application("accept", ANN, NEWS), NOW + number, letter=True)
    first = one.letters_due(NOW + 10, 2)
    second = other.letters_due(NOW + 10, 9)
    assert [len(first), len(second)] == [2, 1]
    assert {each.token for each in (*first, *second)} == {"token0", "token1", "token2"}
    one.letter_written(first[0].token, NOW + 10)
    later = other.letters_due(NOW + 11 + LETTER_LEASE_S, 9)
    assert {each.token for each in later} == {first[1].token, second[0].token}
    assert one.key == other.key


@pytest.mark.covers("AMDP-19")
def test_to_leave_a_sender_ends_all_its_classes_and_to_leave_one_ends_that(store: SubscriptionStore) -> None:
    store.set(ANN, NEWS, Standing.ACCEPT, "test", NOW)
    store.set(ANN, BULK, Standing.DENY, "test", NOW)
    store.set(ANN, Subject("other.example", "*"), Standing.ACCEPT, "test", NOW)
    store.apply("bulk", Application("leave", ANN, BULK), NOW, letter=True)
    store.confirm("bulk", NOW)
    assert said(store) == ["accept news.example *", "accept other.example *"]
    store.set(ANN, BULK, Standing.DENY, "test", NOW)
    store.apply("all", Application("leave", ANN, NEWS), NOW, letter=True)
    store.confirm("all", NOW)
    assert said(store) == ["accept other.example *"]


@pytest.mark.covers("AMDP-19")
def test_rules_are_found_without_case_for_many_people_at_once(store: SubscriptionStore) -> None:
    people = [parse_address(f"p{number}@alpha.example") for number in range(1200)]
    for number in (3, 700, 1100):
        store.set(parse_address(f"P{number}@alpha.example"), NEWS, Standing.ACCEPT, "test", NOW)
    store.set(people[4], Subject("other.example", "*"), Standing.ACCEPT, "test", NOW)
    found = store.rules_towards(people, ("x@news.example", "news.example", "*"))
    assert set(found) == {key_of(people[3]), key_of(people[700]), key_of(people[1100])}
    assert not store.set(people[3], NEWS, Standing.ACCEPT, "test", NOW)
    assert [str(one.address) for one in store.rules(0, 2)] == ["P3@alpha.example", "P700@alpha.example"]


@pytest.mark.covers("AMDP-19")
def test_one_person_has_no_more_rules_than_anybody_needs(
    store: SubscriptionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RULES_PER_ADDRESS >= 100
    monkeypatch.setattr("outrider.holding.subscriptions.store.RULES_PER_ADDRESS", 3)
    done = [
        store.set(ANN, Subject(f"s{number}.example", "*"), Standing.DENY, "test", NOW) for number in range(5)
    ]
    assert done == [True] * 3 + [False] * 2
    assert store.set(ANN, Subject("s1.example", "*"), Standing.ACCEPT, "test", NOW)


@pytest.mark.covers("AMDP-19")
def test_changes_are_numbered_and_what_came_from_a_peer_is_told_to_nobody(store: SubscriptionStore) -> None:
    store.set(ANN, NEWS, Standing.ACCEPT, "test", NOW)
    store.set(BOB, NEWS, Standing.ACCEPT, "test", NOW)
    store.set(ANN, NEWS, Standing.LEFT, "test", NOW + 1)
    told = store.changes(0)
    assert [(str(one.rule.address), one.rule.standing) for one in told] == [
        ("bob@alpha.example", Standing.ACCEPT),
        ("ann@alpha.example", Standing.LEFT),
    ]
    assert told[0].number < told[1].number
    assert store.changes(told[1].number) == []
    theirs = [Rule(0, ANN, BULK, Standing.DENY, NOW, "")]
    assert store.take_over("peer.example", theirs, 17) == theirs
    assert store.seen_of("peer.example") == 17
    assert store.changes(told[1].number) == []
    assert [one.how for one in store.rules_of(ANN)] == ["from peer.example"]


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize(
    ("theirs", "at", "result"),
    [
        (Standing.LEFT, NOW + 1, "left"),
        (Standing.DENY, NOW + 1, "deny"),
        (Standing.LEFT, NOW - 1, "accept"),
        (Standing.LEFT, NOW, "left"),
        (Standing.ACCEPT, NOW + 9, "accept"),
    ],
)
def test_the_later_word_counts_and_at_the_same_moment_the_one_that_wants_less_mail(
    store: SubscriptionStore, theirs: Standing, at: float, result: str
) -> None:
    store.set(ANN, NEWS, Standing.ACCEPT, "test", NOW)
    new = store.take_over("peer.example", [Rule(0, ANN, NEWS, theirs, at, "")], 1)
    assert bool(new) == (result != "accept")
    rule = store.rule(1)
    assert rule is not None
    assert rule.standing.value == result
    assert store.take_over("peer.example", [Rule(0, ANN, NEWS, theirs, at, "")], 1) == []


@pytest.mark.covers("AMDP-19", "SEC-207")
def test_counts_are_for_their_hour_and_a_number_is_used_once(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert [each.counts.add("x", NOW, 3600) for each in (one, other, one)] == [1, 2, 3]
    assert one.counts.of("x", NOW, 3600) == 3
    assert one.counts.add("y", NOW, DAY) == 1
    assert one.counts.add("x", NOW + 3600, 3600) == 1
    assert one.counts.add("z", NOW + 7200, 3600) == 1
    assert one.counts.of("y", NOW, DAY) == 1
    assert one.counts.is_first("nonce", NOW, NOW + 10)
    assert not other.counts.is_first("nonce", NOW + 9, NOW + 20)
    assert other.counts.is_first("nonce", NOW + 11, NOW + 20)


def _write(path: Path, who: str, barrier: object) -> None:
    store = SubscriptionStore(SqliteDatabase(path))
    barrier.wait(60)  # type: ignore[attr-defined]
    for number in range(15):
        store.set(parse_address(f"{who}{number}@alpha.example"), NEWS, Standing.ACCEPT, "test", NOW)
    store.close()


@pytest.mark.covers("AMDP-19")
def test_changes_of_two_processes_have_numbers_without_a_gap(tmp_path: Path) -> None:
    """Else a peer would miss one that becomes visible later than its successor."""
    path = tmp_path / "subscriptions.sqlite"
    SubscriptionStore(SqliteDatabase(path)).close()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_write, args=(path, who, barrier)) for who in "ab"]
    for one in processes:
        one.start()
    for one in processes:
        one.join(120)
        assert one.exitcode == 0
    store = SubscriptionStore(SqliteDatabase(path))
    assert [one.number for one in store.changes(0)] == list(range(1, 31))
    store.close()
