"""What is chosen, waits or is remembered: durable, bounded, shared (MT2-20)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.extension_state import store as store_module
from outrider.extension_state.store import (
    MEMORY_KEY,
    WAITING_PER_SENDER,
    WAITS_S,
    ExtensionStore,
)
from outrider.extensions.choices import Waiting, identity_matches
from outrider.extensions.interface import Consent
from outrider.tables.database import SqliteDatabase, StoreUnavailable

NOW = 1_800_000_000.0
OID = "2.25.1"


def opened(tmp_path: Path) -> ExtensionStore:
    return ExtensionStore(SqliteDatabase(tmp_path / "extensions.sqlite"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExtensionStore]:
    made = opened(tmp_path)
    yield made
    made.close()


def request(number: int = 0, sender: str = "ann@a.example") -> Waiting:
    return Waiting("vcard", "ben@b.example", sender, f"m{number}", "asks", "request", NOW, proven=True)


@pytest.mark.covers("MT2-20")
def test_choices_outlive_the_server_and_are_seen_by_all(tmp_path: Path, store: ExtensionStore) -> None:
    store.set_enabled("hashcash", "", enabled=True)
    store.set_enabled("vcard", "ben@b.example", enabled=True)
    assert store.grant("spam-trap", ".c.example")
    assert not store.grant("spam-trap", ".c.example")
    store.set_consent("vcard", "ben@b.example", "ann@a.example", Consent.ALLOWED)
    other = opened(tmp_path)
    chosen = other.chosen(frozenset())
    assert chosen.enabled == {"hashcash": True}
    assert chosen.users == {("vcard", "ben@b.example"): True}
    assert chosen.grants == {"spam-trap": frozenset({".c.example"})}
    assert other.consent("vcard", "ben@b.example", "ann@a.example") is Consent.ALLOWED
    other.close()


@pytest.mark.covers("MT2-20")
def test_a_word_on_a_sender_goes_before_one_on_anybody(store: ExtensionStore) -> None:
    def said(sender: str) -> Consent:
        return store.consent("vcard", "ben@b.example", sender)

    assert said("ann@a.example") is Consent.ASK
    store.set_consent("vcard", "ben@b.example", "*", Consent.DENIED)
    store.set_consent("vcard", "ben@b.example", "ann@a.example", Consent.ALLOWED)
    assert said("ann@a.example") is Consent.ALLOWED
    assert said("eve@e.example") is Consent.DENIED
    store.set_consent("vcard", "ben@b.example", "*", Consent.ASK)
    assert said("eve@e.example") is Consent.ASK


@pytest.mark.covers("MT2-20")
def test_requests_wait_once_within_bounds_and_not_for_ever(store: ExtensionStore) -> None:
    assert store.ask(request())
    assert not store.ask(request()), "the same one"
    (waiting,) = store.waiting(NOW)
    assert store.answered(waiting.number, Consent.DENIED)
    assert not store.answered(waiting.number, Consent.ALLOWED)
    assert not store.ask(request()), "it was answered: a message handled again is not put before him again"
    taken = [store.ask(request(number)) for number in range(1, WAITING_PER_SENDER + 5)]
    assert sum(taken) == WAITING_PER_SENDER
    assert store.ask(request(0, "cyn@c.example")), "one sender does not fill the list for all"
    assert store.waiting(NOW + WAITS_S + 1) == []
    assert store.waiting_one(waiting.number, NOW) is None


@pytest.mark.covers("MT2-20", "MT2-21b")
def test_what_is_remembered_is_forgotten_in_time(store: ExtensionStore) -> None:
    assert store.remember_first(OID, "stamp", "transfer 1", NOW + 10, NOW) == "transfer 1"
    assert store.remember_first(OID, "stamp", "transfer 2", NOW + 10, NOW + 5) == "transfer 1"
    assert store.recall("2.25.2", "stamp", NOW) is None, "each extension has its own"
    assert store.recall(OID, "stamp", NOW + 11) is None
    assert store.remember_first(OID, "stamp", "transfer 3", NOW + 30, NOW + 11) == "transfer 3"
    assert store.exchange(OID, "stamp", "transfer 3", "x", NOW + 30, NOW + 12)
    assert not store.exchange(OID, "stamp", "transfer 3", "y", NOW + 30, NOW + 12)
    assert store.forget(OID, "stamp")
    assert not store.forget(OID, "stamp")


@pytest.mark.covers("MT2-20")
def test_prefixes_are_taken_literally(store: ExtensionStore) -> None:
    for key in ("asked/a%", "asked/b", "asker/c"):
        store.remember(OID, key, "v", NOW + 10, NOW)
    assert store.recall_all(OID, "asked/", 10, NOW) == [("asked/a%", "v"), ("asked/b", "v")]
    assert store.recall_all(OID, "asked/%", 10, NOW) == []
    assert store.recall_all(OID, "asked/", 1, NOW) == [("asked/a%", "v")]


@pytest.mark.covers("MT2-20")
def test_memory_is_bounded(store: ExtensionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MEMORY_ENTRIES", 5)
    monkeypatch.setattr(store_module, "COUNT_EVERY", 1)
    for number in range(5):
        store.remember(OID, f"k{number}", "v", NOW + 10, NOW)
    with pytest.raises(StoreUnavailable):
        store.remember(OID, "one too many", "v", NOW + 10, NOW)
    store.remember(OID, "later", "v", NOW + 30, NOW + 11)
    assert store.recall(OID, "later", NOW + 12) == "v", "outdated entries make room"
    with pytest.raises(StoreUnavailable):
        store.remember(OID, "k" * (MEMORY_KEY + 1), "v", NOW + 30, NOW + 11)


def test_tables_of_a_later_version_are_not_touched(tmp_path: Path, store: ExtensionStore) -> None:
    database = SqliteDatabase(tmp_path / "extensions.sqlite")
    database.execute("UPDATE extension_meta SET value = '99' WHERE name = 'schema'")
    database.close()
    with pytest.raises(StoreUnavailable, match="version 99"):
        opened(tmp_path)


@pytest.mark.covers("MT2-20")
@pytest.mark.parametrize(
    ("granted", "identity", "fits"),
    [
        ("mx.a.example", "mx.a.example", True),
        ("mx.a.example", "evilmx.a.example", False),
        (".a.example", "mx.a.example", True),
        (".a.example", "a.example", True),
        (".a.example", "ann@a.example", True),
        (".a.example", "mx.evila.example", False),
        ("ann@a.example", "ann@a.example", True),
        ("a.example", "ann@a.example", False),
    ],
)
def test_grants_fit_on_label_boundaries(granted: str, identity: str, fits: bool) -> None:
    assert identity_matches(granted, identity) is fits
