"""Two processes on one ledger: every receipt is had once, and no account is spent below nothing (SEC-190)."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from outrider.holding.postage.ledger import OrderRefused, PostageLedger
from outrider.holding.postage.provider_interface import Redeemed, Refused, Why
from outrider.tables.database import PostgresDatabase, SqliteDatabase
from tests.holding.postage_rig import NOW, ORDER, SPENDING, ledger_on, serials

SPAWN = multiprocessing.get_context("spawn")
RECEIPTS = 40
PATIENCE_S = 120.0
"""Nothing is timed: this only ends a test that would hang."""


def open_ledger(where: str) -> PostageLedger:
    database = PostgresDatabase(where[3:]) if where.startswith("pg:") else SqliteDatabase(Path(where))
    return ledger_on(database)


def purpose(number: int) -> str:
    return f"mt2-{number:064x}"


def spend_all(where: str, cause: str, receipts: list[str], for_good: bool, pipe: Connection) -> None:
    """Present all receipts, and tell of each what came of it as soon as it is durable."""
    ledger = open_ledger(where)
    pipe.send("ready")
    pipe.recv()
    for number, receipt in enumerate(receipts):
        wanted = replace(SPENDING, cause=cause, message_id=purpose(number))
        outcome = ledger.spend(receipt, wanted, NOW, for_good=for_good)
        pipe.send("paid" if isinstance(outcome, Redeemed) else outcome.why.value)
    ledger.close()


def buy_all(where: str, first: int, last: int, pipe: Connection) -> None:
    """Buy receipts until the account is empty, and then go on trying."""
    ledger = PostageLedger(
        PostgresDatabase(where[3:]) if where.startswith("pg:") else SqliteDatabase(Path(where)),
        "USD",
        _from(first),
        NOW,
    )
    pipe.send("ready")
    pipe.recv()
    for number in range(first, last):
        try:
            pipe.send(ledger.sell(replace(ORDER, purpose=purpose(number)), NOW))
        except OrderRefused:
            pipe.send("")
    ledger.close()


def _from(first: int) -> Any:
    """Serial numbers that the other process does not draw."""
    numbers = serials()
    for _ in range(100 * first + 1000):
        numbers()
    return numbers


@contextmanager
def running(work: Any, *arguments: Any) -> Iterator[tuple[Any, Connection]]:
    """A process that waits for the word."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert heard(ours) == "ready"
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def heard(pipe: Connection) -> str:
    assert pipe.poll(PATIENCE_S), "the other process says nothing"
    return str(pipe.recv())


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the ledger is."""
    if request.param == "postgresql":
        return f"pg:{request.getfixturevalue('postgres_dsn')}"
    return str(tmp_path / "postage.sqlite")


@pytest.fixture
def ledger(where: str) -> Iterator[PostageLedger]:
    """The same ledger, here; at the end its sums are right."""
    made = open_ledger(where)
    yield made
    assert made.books.audit().is_balanced
    made.close()


def bought(ledger: PostageLedger) -> list[str]:
    return [ledger.sell(replace(ORDER, purpose=purpose(number)), NOW) for number in range(RECEIPTS)]


@pytest.mark.covers("SEC-190", "AMDP-20")
@pytest.mark.parametrize("for_good", [True, False], ids=["redeemed", "reserved"])
def test_of_two_processes_that_present_a_receipt_exactly_one_has_it(
    where: str, ledger: PostageLedger, for_good: bool
) -> None:
    receipts = bought(ledger)
    with (
        running(spend_all, where, "one", receipts, for_good) as (_, one),
        running(spend_all, where, "two", receipts, for_good) as (_, two),
    ):
        one.send("go")
        two.send("go")
        for _ in receipts:
            assert sorted([heard(one), heard(two)]) == sorted(["paid", "spent" if for_good else "busy"])
    totals = ledger.books.audit()
    assert (totals.spent if for_good else totals.reserved) == RECEIPTS * 5


@pytest.mark.covers("SEC-190", "AMDP-20")
def test_two_processes_cannot_spend_more_than_an_account_holds(where: str, ledger: PostageLedger) -> None:
    with (
        running(buy_all, where, 0, 120) as (_, one),
        running(buy_all, where, 60, 220) as (_, two),
    ):
        one.send("go")
        two.send("go")
        first = [heard(one) for _ in range(120)]
        second = [heard(two) for _ in range(160)]
    sold = {text for text in itertools.chain(first, second) if text}
    assert len(sold) == 200, "1.000 at 0.005"
    assert ledger.balance("alpha") == 0
    for mine, other in zip(first[60:], second[:60], strict=True):
        assert not mine or not other or mine == other, "for the same there is one receipt"


@pytest.mark.covers("SEC-191", "SEC-190")
def test_a_killed_process_leaves_each_receipt_spent_or_open(where: str, ledger: PostageLedger) -> None:
    """What it has told is durable, what it has not may be either; nothing is locked, lost or doubled."""
    receipts = bought(ledger)
    with running(spend_all, where, "killed", receipts, True) as (process, pipe):
        pipe.send("go")
        told = [heard(pipe) for _ in range(RECEIPTS // 3)]
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert set(told) == {"paid"}
    spent_by_killed = ledger.books.audit().spent // 5
    assert spent_by_killed >= len(told)
    for number, receipt in enumerate(receipts):
        wanted = replace(SPENDING, cause="next", message_id=purpose(number))
        outcome = ledger.spend(receipt, wanted, NOW, for_good=True)
        if number < spent_by_killed:
            assert outcome == Refused(Why.SPENT, "the receipt has been redeemed already")
            repeated = ledger.spend(receipt, replace(wanted, cause="killed"), NOW, for_good=True)
            assert isinstance(repeated, Redeemed), "its own repeat hears what it would have heard"
        else:
            assert isinstance(outcome, Redeemed)
    assert ledger.books.audit().spent == RECEIPTS * 5
