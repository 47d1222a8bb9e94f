"""`outrider subscriptions` and `outrider classification` without a server (AMDP-18, AMDP-19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.holding.classification.store import FILE, ClassificationStore, KeptReport
from outrider.tables.database import SqliteDatabase
from tests.cli.commands import invoke, rows

NOW = 1_800_000_000.0


@pytest.mark.covers("AMDP-19")
def test_the_operator_sees_and_sets_wishes(config: Path) -> None:
    dry = rows(config, "subscriptions", "set", "ben@b.example", "accept", "News.example", "--dry-run")
    assert dry[0]["result"] == "would be set"
    assert rows(config, "subscriptions", "list") == []
    rows(config, "subscriptions", "set", "ben@b.example", "accept", "News.example", "agent::bulk::*")
    rows(config, "subscriptions", "set", "ann@b.example", "deny", "spam.example")
    assert [(one["address"], one["wish"]) for one in rows(config, "subscriptions", "list")] == [
        ("ben@b.example", "accept"),
        ("ann@b.example", "deny"),
    ]
    [one] = rows(config, "subscriptions", "list", "Ben@b.example")
    assert (one["sender"], one["class"], one["how"]) == ("news.example", "Agent::Bulk::*", "by the operator")
    again = invoke(config, "subscriptions", "set", "ann@b.example", "deny", "spam.example")
    assert (again.exit_code, "is so already" in again.stdout) == (1, True)
    rows(config, "subscriptions", "set", "ann@b.example", "leave", "spam.example")
    assert rows(config, "subscriptions", "list", "ann@b.example") == []
    assert invoke(config, "subscriptions", "set", "ann", "deny", "spam.example").exit_code == 2
    assert invoke(config, "subscriptions", "set", "ann@b.example", "deny", "*").exit_code == 2


@pytest.mark.covers("AMDP-19")
def test_a_list_is_synchronised_only_by_who_can_sign_for_its_sender(config: Path) -> None:
    words = (
        "subscriptions",
        "synchronise",
        "far.example",
        "-",
        "--sender",
        "b.example",
        "--class",
        "a::b::c",
    )
    done = invoke(config, *words, "--class", "a::b::c", input_="x@far.example\n")
    assert done.exit_code == 1
    assert "no certificate in [tls] is for a host that speaks for b.example" in done.stderr


@pytest.mark.covers("AMDP-18")
def test_the_operator_looks_at_reports_and_restores_a_class(config: Path) -> None:
    (config.parent / "data" / FILE.parent).mkdir(mode=0o700, exist_ok=True)
    store = ClassificationStore(SqliteDatabase(config.parent / "data" / FILE))
    for reporter in ("one.example", "two.example", "three.example"):
        one = KeptReport("news.example", "*::Bulk::*", reporter, "Agent::Bulk::x", NOW, b"From: x\r\n")
        store.report(one, NOW)
    store.close()
    found = rows(config, "classification", "reports")
    assert sorted((one["reporter"], one["withdrawn"]) for one in found) == [
        ("one.example", True),
        ("three.example", True),
        ("two.example", True),
    ]
    assert rows(config, "classification", "reports", "news.example", "--full")[0]["report"] == "From: x\r\n"
    dry = rows(config, "classification", "restore", "news.example", "*::bulk::*", "--dry-run")
    assert dry[0]["result"] == "would be restored"
    rows(config, "classification", "restore", "news.example", "*::bulk::*")
    assert invoke(config, "classification", "restore", "news.example", "*::bulk::*").exit_code == 1
    assert rows(config, "classification", "reports") == []
    unasked = invoke(config, "classification", "show", "news.example")
    assert (unasked.exit_code, "no services are chosen" in unasked.stderr) == (1, True)
