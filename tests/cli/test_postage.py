"""`outrider postage` beside a server or without one (AMDP-20)."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from outrider.config.schema import Config
from outrider.holding.postage.forms import key_of
from outrider.holding.postage.ledger import Order, PostageLedger
from outrider.holding.postage.provider_interface import Redeemed, Spending
from outrider.runtime.postage_parts import open_ledger
from tests.cli import commands

ID = "b" * 26


def invoke(config: Path, *words: str) -> Result:
    return commands.invoke(config, "postage", *words)


def rows(config: Path, *words: str) -> list[dict[str, Any]]:
    return commands.rows(config, "postage", *words)


def ledger(config: Path) -> PostageLedger:
    return open_ledger(Config(hostname="mx.b.example", data_dir=""), config.parent / "data", time.time())


def sold(config: Path) -> tuple[str, str]:
    """A receipt's text and serial."""
    books = ledger(config)
    expires = int(time.time()) + 86_400
    text = books.sell(Order("alpha", "a.example", "b.example", ID, 5, "USD", expires), time.time())
    serial = books.books.receipts("alpha")[0].serial
    books.close()
    return text, serial


@pytest.mark.covers("AMDP-20")
def test_an_account_is_opened_credited_shown_and_closed(config: Path) -> None:
    [opened] = rows(config, "account", "open", "alpha", "A.example", "münchen.example")
    assert opened["payers"] == "a.example xn--mnchen-3ya.example"
    assert len(key_of(opened["secret"])) == 32
    assert rows(config, "credit", "alpha", "1.5", "--reference", "invoice 1")[0]["result"] == "credited"
    [again] = rows(config, "credit", "alpha", "1.5", "--reference", "invoice 1")
    assert (again["result"], again["balance"]) == ("was credited before", "1.500")
    [account] = rows(config, "account", "list")
    assert (account["state"], account["balance"]) == ("open", "1.500")
    [sums] = rows(config, "ledger", "alpha")
    assert (sums["credited"], sums["balance"], sums["spent"]) == ("1.500", "1.500", "0.000")
    assert rows(
        config,
        "account",
        "close",
        "alpha",
    ) == [{"account": "alpha", "paid out": "1.500"}]
    assert rows(config, "account", "list")[0]["state"] == "closed"
    assert rows(config, "ledger")[0]["closed_out"] == "1.500"


@pytest.mark.covers("AMDP-20", "SEC-211")
def test_a_secret_can_go_to_a_file_of_its_owner_s_alone(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    done = invoke(config, "account", "open", "alpha", "a.example", "--key-file", str(path))
    assert done.exit_code == 0
    secret = path.read_text().strip()
    assert secret not in done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    books = ledger(config)
    assert books.mac_key("alpha") == key_of(secret)
    books.close()


@pytest.mark.covers("AMDP-20", "SEC-194")
def test_receipts_are_shown_refunded_and_ended_by_a_new_epoch(config: Path) -> None:
    rows(config, "account", "open", "alpha", "a.example")
    rows(config, "credit", "alpha", "1", "--reference", "r")
    text, serial = sold(config)
    [shown] = rows(config, "ledger", "alpha", "--receipts")
    assert (shown["serial"], shown["state"], shown["amount"]) == (serial, "open", "0.005")
    assert rows(config, "refund", serial, "--dry-run")[0]["result"] == "would be paid back"
    assert rows(config, "refund", serial)[0]["result"] == "paid back"
    assert rows(config, "refund", serial)[0]["result"] == "was paid back before"
    text, _ = sold(config)
    assert "0.005 in open receipts" in invoke(config, "renew", "--dry-run").output
    assert rows(config, "renew") == [{"epoch": 2, "paid back": 1, "amount": "0.005"}]
    books = ledger(config)
    spending = Spending("E1", ID, "b.example", "a.example", 5)
    assert not isinstance(books.spend(text, spending, time.time(), for_good=True), Redeemed)
    books.close()


@pytest.mark.covers("AMDP-20", "SEC-193")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("credit", "alpha", "-1", "--reference", "r"), 2),
        (("credit", "alpha", "0", "--reference", "r"), 1),
        (("credit", "alpha", "0.0001", "--reference", "r"), 2),
        (("credit", "alpha", "NaN", "--reference", "r"), 2),
        (("credit", "alpha", "1e3", "--reference", "r"), 2),
        (("credit", "alpha", "١", "--reference", "r"), 2),
        (("credit", "nobody", "1", "--reference", "r"), 1),
        (("credit", "alpha", "1"), 2),
        (("account", "open", "Alpha", "a.example"), 1),
        (("account", "open", "alpha", "a.example"), 1),
        (("account", "open", "beta", "not a domain"), 2),
        (("account", "open", "beta"), 2),
        (("account", "close", "nobody"), 1),
        (("ledger", "nobody"), 1),
        (("ledger", "--receipts"), 2),
        (("refund", "nothing"), 1),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(config: Path, words: tuple[str, ...], code: int) -> None:
    rows(config, "account", "open", "alpha", "b.example")
    done = invoke(config, *words)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert rows(config, "ledger")[0]["credited"] == "0.000"


@pytest.mark.covers("AMDP-20")
def test_a_dry_run_changes_nothing(config: Path) -> None:
    assert invoke(config, "account", "open", "alpha", "a.example", "--dry-run").exit_code == 0
    assert rows(config, "account", "list") == []
    rows(config, "account", "open", "alpha", "a.example")
    rows(config, "credit", "alpha", "1", "--reference", "r", "--dry-run")
    rows(config, "account", "close", "alpha", "--dry-run")
    [account] = rows(config, "account", "list")
    assert (account["state"], account["balance"]) == ("open", "0.000")
