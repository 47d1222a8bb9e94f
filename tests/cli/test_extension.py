"""`outrider extension` and `outrider consent` without a server (MT2-20)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.extension_state.store import ExtensionStore
from outrider.extensions.choices import Waiting
from outrider.tables.database import SqliteDatabase
from tests.cli.commands import invoke, rows

BEN = "ben@b.example"


def extension(config: Path, name: str) -> dict[str, Any]:
    [row] = [row for row in rows(config, "extension", "list") if row["name"] == name]
    return row


@pytest.mark.covers("MT2-20")
def test_extensions_are_switched_and_granted(config: Path) -> None:
    assert extension(config, "trace")["enabled"]
    assert not extension(config, "hashcash")["enabled"]
    rows(config, "extension", "enable", "hashcash")
    assert extension(config, "hashcash")["enabled"]
    rows(config, "extension", "disable", "hashcash")
    assert not extension(config, "hashcash")["enabled"]
    rows(config, "extension", "enable", "vcard", "--user", "ben+detail@b.example")
    assert extension(config, "vcard")["users"] == [BEN], "whatever address he is named by"
    rows(config, "extension", "grant", "spam-trap", "MX.C.example", ".d.example", "Ann@C.example")
    assert extension(config, "spam-trap")["rights"] == [".d.example", "ann@c.example", "mx.c.example"]
    rows(config, "extension", "revoke", "spam-trap", ".d.example")
    assert invoke(config, "extension", "revoke", "spam-trap", ".d.example").exit_code == 1


@pytest.mark.covers("MT2-20")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("extension", "enable", "telepathy"), 1),
        (("extension", "enable", "hashcash", "--user", BEN), 1),
        (("extension", "enable", "vcard", "--user", "nobody@elsewhere.example"), 1),
        (("extension", "enable", "vcard", "--errors"), 2),
        (("extension", "grant", "vcard", "not a host"), 2),
        (("consent", "allow", "vcard", "*"), 2),
        (("consent", "deny", "99"), 1),
    ],
)
def test_mistakes_are_named(config: Path, words: tuple[str, ...], code: int) -> None:
    done = invoke(config, *words)
    assert done.exit_code == code, done.output
    if words[-1] != "99":
        assert done.stderr.startswith("outrider: ")


@pytest.mark.covers("MT2-20")
def test_what_waits_is_shown_and_denied_and_words_stand(config: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "extensions").mkdir()
    store = ExtensionStore(SqliteDatabase(tmp_path / "data" / "extensions" / "extensions.sqlite"))
    now = 4_000_000_000.0  # waits from the future, so that it has not been forgotten
    store.ask(Waiting("vcard", BEN, "ann@a.example", "m1", "asks \x1b[31m", "request", now, proven=False))
    store.close()
    [waiting] = rows(config, "consent", "list", BEN)
    assert (waiting["word"], waiting["proven"], waiting["sender"]) == ("waits", False, "ann@a.example")
    assert "\x1b" not in invoke(config, "consent", "list").stdout
    rows(config, "consent", "deny", str(waiting["number"]))
    rows(config, "consent", "allow", BEN, "disposition", "ann@a.example")
    rows(config, "consent", "deny", BEN, "disposition", "*")
    words = {(row["sender"], row["word"]) for row in rows(config, "consent", "list", BEN)}
    assert words == {("ann@a.example", "allow"), ("*", "deny")}
    rows(config, "consent", "forget", BEN, "disposition", "*")
    assert len(rows(config, "consent", "list", BEN)) == 1


@pytest.mark.covers("MT2-20", "MT2-21c")
def test_a_yes_is_given_without_a_server_and_its_message_waits(config: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "extensions").mkdir()
    store = ExtensionStore(SqliteDatabase(tmp_path / "data" / "extensions" / "extensions.sqlite"))
    now = 4_000_000_000.0
    store.ask(
        Waiting("disposition", BEN, "ann@a.example", "m1@a.example", "asks", "request", now, proven=True)
    )
    store.close()
    [waiting] = rows(config, "consent", "list")
    [done] = rows(config, "consent", "allow", str(waiting["number"]))
    assert done["result"].startswith("done; ")
    [queued] = rows(config, "queue", "list")
    assert (queued["sender"], queued["recipients"]) == ("<>", ["ann@a.example"])
    assert rows(config, "consent", "list") == []
    again = invoke(config, "consent", "allow", str(waiting["number"]))
    assert again.exit_code == 1
    assert "nothing waits" in again.stderr
