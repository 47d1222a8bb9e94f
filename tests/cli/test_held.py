"""`outrider held`: looking, withdrawing, extending; without a server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from outrider.holding.facility.held_store import FILE, HeldStore
from outrider.protocols.amdp.digest import digest_of
from outrider.tables.database import SqliteDatabase
from tests.cli.commands import invoke, rows, served_site
from tests.holding.held_support import BODY, a_copy, a_message, acknowledge, hold

DAY = 86_400.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A site that holds one message for three recipients, of whom one has it."""
    more = {"amdp": {"holding": {"max_keep": 30 * DAY}}}
    path = served_site(tmp_path, "alpha.example", "ann", more)
    now = time.time()
    copies = [a_copy(at, timestamp=int(now), stated=int(now + 7 * DAY)) for at in range(3)]
    store = HeldStore(SqliteDatabase(tmp_path / "data" / FILE))
    hold(store, *copies, message=a_message(subject="News\x1b[31m of the week", held_at=now))
    assert acknowledge(store, copies[0], now)
    with store.transaction():
        done = store.receive(copies[0].ids.id, copies[0].ids.confirmation, str(digest_of([BODY])), now)
    assert done is not None
    store.close()
    return path


@pytest.mark.covers("AMDP-6")
def test_what_is_held_is_listed_and_shown(config: Path) -> None:
    [row] = rows(config, "held", "list")
    assert (row["id"], row["size"], row["copies"]) == ("MESSAGE", len(BODY), "2 held, 1 retrieved")
    assert "\x1b" not in row["subject"]
    assert row["thread"] == a_message().message_id
    shown = rows(config, "held", "show", "MESSAGE")
    assert [(one["recipient"], one["state"]) for one in shown] == [
        ("r0@beta.example", "retrieved"),
        ("r1@beta.example", "held"),
        ("r2@beta.example", "held"),
    ]
    assert shown[0]["by"] == "192.0.2.1"
    assert invoke(config, "held", "show", "NOBODY").exit_code == 1
    text = invoke(config, "held", "show", "MESSAGE").output
    with_secrets = json.dumps(shown) + text
    store = HeldStore(SqliteDatabase(config.parent / "data" / FILE))
    copy = store.copy("MESSAGE", 1)
    store.close()
    assert copy is not None
    for secret in (copy.ids.id, copy.ids.confirmation, copy.ids.token):
        assert secret not in with_secrets


@pytest.mark.covers("AMDP-6")
def test_copies_are_withdrawn_once(config: Path) -> None:
    would = rows(config, "held", "withdraw", "MESSAGE", "--dry-run")
    assert [one["result"] for one in would] == ["would be withdrawn"] * 2
    done = rows(config, "held", "withdraw", "MESSAGE", "--to", "R1@beta.example")
    assert [(one["recipient"], one["result"]) for one in done] == [("r1@beta.example", "withdrawn")]
    assert invoke(config, "held", "withdraw", "MESSAGE", "--to", "r1@beta.example").exit_code == 1
    assert invoke(config, "held", "withdraw", "MESSAGE", "--to", "eve@beta.example").exit_code == 1
    assert [one["copy"] for one in rows(config, "held", "withdraw", "MESSAGE")] == [2]
    assert rows(config, "held", "list") == []
    [past] = rows(config, "held", "list", "--all")
    assert (past["copies"], past["content"]) == ("1 retrieved, 2 withdrawn", False)


@pytest.mark.covers("AMDP-6")
def test_what_can_be_had_is_extended_within_the_limit(config: Path) -> None:
    assert len(rows(config, "held", "extend", "MESSAGE", "20d", "--dry-run")) == 2
    assert [one["copy"] for one in rows(config, "held", "extend", "MESSAGE", "20d")] == [1, 2]
    for words, code in ((("19d",), 1), (("31d",), 1), (("soon",), 2), (("-5d",), 2)):
        assert invoke(config, "held", "extend", "MESSAGE", *words).exit_code == code
