"""The prepaid ledger, on SQLite and PostgreSQL: durable, and the same when it is said twice (AMDP-20)."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.holding.postage.books import BookError
from outrider.holding.postage.ledger import LONGEST_S, OrderRefused, PostageLedger
from outrider.holding.postage.provider_interface import Redeemed, Refused, Why
from outrider.holding.postage.receipt import UnprovenReceipt
from outrider.holding.postage.tables import MAX_BALANCE, State
from outrider.tables.database import PostgresDatabase, SqliteDatabase, StoreUnavailable
from tests.holding.postage_rig import DAY, ID, KEY, NOW, ORDER, ledger_on, serials, sold, spent

OTHER = "d" * 26
Open = Callable[[], PostageLedger]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the ledger, the same one each time."""
    opened: list[PostageLedger] = []
    numbers = serials()
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgresql" else ""

    def open_it() -> PostageLedger:
        database = PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / "postage" / "postage.sqlite")
        opened.append(ledger_on(database, numbers))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


@pytest.fixture
def ledger(open_ledger: Open) -> Iterator[PostageLedger]:
    """The ledger, whose sums must add up in the end."""
    made = open_ledger()
    yield made
    assert made.books.audit().is_balanced
    assert made.books.audit("alpha").is_balanced


@pytest.fixture
def small(tmp_path: Path) -> Iterator[PostageLedger]:
    """One on SQLite, for what no database has a part in."""
    made = ledger_on(SqliteDatabase(tmp_path / "postage.sqlite"))
    yield made
    assert made.books.audit().is_balanced
    made.close()


def why(outcome: Redeemed | Refused) -> Why | None:
    return outcome.why if isinstance(outcome, Refused) else None


@pytest.mark.covers("AMDP-20")
def test_a_receipt_is_bought_redeemed_and_known_to_the_next_process(
    ledger: PostageLedger, open_ledger: Open
) -> None:
    receipt = sold(ledger)
    assert ledger.balance("alpha") == 995
    outcome = spent(open_ledger(), receipt)
    assert isinstance(outcome, Redeemed)
    assert (outcome.payer, outcome.amount, outcome.currency) == ("a.example", 5, "USD")
    assert outcome.words == "a.example paid 0.005 USD"
    totals = ledger.books.audit()
    assert (totals.credited, totals.balance, totals.open, totals.spent) == (1000, 995, 0, 5)
    [known] = ledger.books.receipts("alpha")
    assert (known.state, known.cause, known.purpose) == (State.SPENT, "ENVELOPE1", ID)
    assert ledger.books.receipt(known.serial) == known


@pytest.mark.covers("AMDP-20", "SEC-190")
def test_one_cause_has_it_and_hears_the_same_again(ledger: PostageLedger) -> None:
    receipt = sold(ledger)
    first = spent(ledger, receipt)
    assert spent(ledger, receipt, NOW + 2 * DAY) == first, "repeated after a crash, past its expiry"
    assert why(spent(ledger, receipt, cause="ENVELOPE2")) is Why.SPENT
    assert ledger.books.audit().spent == 5


@pytest.mark.covers("AMDP-20")
def test_to_order_again_gets_the_same_receipt_and_costs_nothing(ledger: PostageLedger) -> None:
    receipt = sold(ledger)
    assert sold(ledger) == receipt
    assert ledger.balance("alpha") == 995
    spent(ledger, receipt)
    assert sold(ledger) == receipt, "spent already: there is no second one for the same"
    assert ledger.balance("alpha") == 995


@pytest.mark.covers("AMDP-20", "SEC-190")
def test_a_changed_price_exchanges_the_receipt(ledger: PostageLedger) -> None:
    cheap = sold(ledger)
    dear = sold(ledger, amount=8)
    assert ledger.balance("alpha") == 992
    assert why(spent(ledger, cheap)) is Why.SPENT
    assert why(spent(ledger, dear, price=8)) is None


@pytest.mark.covers("SEC-193")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recipient_domain": "c.example"}, Why.MESSAGE),
        ({"message_id": OTHER}, Why.MESSAGE),
        ({"payer": "c.example"}, Why.MESSAGE),
        ({"price": 6}, Why.AMOUNT),
        ({"price": 0}, Why.AMOUNT),
        ({"price": -1}, Why.AMOUNT),
        ({"price": 2**63}, Why.AMOUNT),
    ],
)
def test_a_receipt_for_something_else_is_refused_and_stays_good(
    small: PostageLedger, changes: dict[str, object], expected: Why
) -> None:
    receipt = sold(small)
    assert why(spent(small, receipt, **changes)) is expected
    assert why(spent(small, receipt)) is None


@pytest.mark.covers("SEC-193")
def test_outside_its_time_a_receipt_is_refused(small: PostageLedger) -> None:
    receipt = sold(small)
    assert why(spent(small, receipt, NOW + DAY)) is Why.TIME
    assert why(spent(small, receipt, NOW - 301)) is Why.TIME
    assert why(spent(small, receipt, NOW - 299)) is None, "clocks differ"


@pytest.mark.covers("SEC-193")
def test_a_receipt_in_another_currency_is_refused(tmp_path: Path) -> None:
    with_dollars = ledger_on(SqliteDatabase(tmp_path / "postage.sqlite"))
    receipt = sold(with_dollars)
    changed = PostageLedger(SqliteDatabase(tmp_path / "postage.sqlite"), "EUR", serials(), NOW)
    assert why(spent(changed, receipt)) is Why.AMOUNT
    with pytest.raises(OrderRefused, match="EUR"):
        changed.sell(ORDER, NOW)
    with_dollars.close()
    changed.close()


@pytest.mark.covers("SEC-193", "SEC-192")
def test_a_stranger_s_receipt_and_no_receipt(small: PostageLedger, tmp_path: Path) -> None:
    other = ledger_on(SqliteDatabase(tmp_path / "other.sqlite"))
    assert why(spent(small, sold(other))) is Why.ISSUER
    other.close()
    assert why(spent(small, "rubbish")) is Why.MALFORMED
    assert why(spent(small, sold(small)[:-1])) is Why.MALFORMED


@pytest.mark.covers("SEC-193")
@pytest.mark.parametrize("amount", [0, -1, 2**63, 10**12 + 1])
def test_no_such_amount_is_sold_or_credited(small: PostageLedger, amount: int) -> None:
    with pytest.raises(OrderRefused):
        sold(small, amount=amount)
    with pytest.raises(BookError):
        small.books.credit("alpha", amount, "again", NOW)
    assert small.balance("alpha") == 1000


@pytest.mark.covers("AMDP-20", "SEC-193")
def test_what_is_not_sold(small: PostageLedger) -> None:
    for wrong, words in (
        (replace(ORDER, account="beta"), "no such account"),
        (replace(ORDER, payer="c.example"), "in the name"),
        (replace(ORDER, purpose="x"), "malformed"),
        (replace(ORDER, currency="EUR"), "amounts are in USD"),
        (replace(ORDER, expires=int(NOW)), "in the past"),
        (replace(ORDER, expires=int(NOW) + LONGEST_S + 1), "a year"),
    ):
        with pytest.raises(OrderRefused, match=words) as caught:
            small.sell(wrong, NOW)
        assert not caught.value.temporary
    with pytest.raises(OrderRefused, match="too little") as poor:
        sold(small, amount=1001)
    assert poor.value.temporary
    assert small.books.receipts("alpha") == []
    sold(small, amount=1000)
    assert small.balance("alpha") == 0


@pytest.mark.covers("AMDP-20", "SEC-191")
def test_what_is_refused_after_all_is_paid_back_once(ledger: PostageLedger) -> None:
    receipt = sold(ledger)
    assert ledger.refund(receipt, "ENVELOPE1", NOW) is None, "not redeemed"
    spent(ledger, receipt)
    assert ledger.refund(receipt, "ENVELOPE2", NOW) is None, "another's"
    first = ledger.refund(receipt, "ENVELOPE1", NOW)
    assert first is not None
    assert not first.again
    again = ledger.refund(receipt, "ENVELOPE1", NOW)
    assert again is not None
    assert again.again
    assert ledger.balance("alpha") == 1000
    assert why(spent(ledger, receipt)) is Why.SPENT, "it is good for nothing now"


@pytest.mark.covers("AMDP-20", "SEC-190")
def test_the_payer_takes_back_what_was_not_redeemed(ledger: PostageLedger) -> None:
    receipt = sold(ledger)
    ledger.books.open_account("beta", ("b.example",), KEY, NOW)
    assert ledger.take_back(receipt, "beta", NOW) is None, "not his"
    assert ledger.take_back("rubbish", "alpha", NOW) is None
    assert ledger.take_back(receipt, "alpha", NOW) is not None
    assert ledger.take_back(receipt, "alpha", NOW) is not None, "repeated"
    assert ledger.balance("alpha") == 1000
    assert why(spent(ledger, receipt)) is Why.SPENT
    fresh = sold(ledger)
    assert fresh != receipt
    spent(ledger, fresh)
    assert ledger.take_back(fresh, "alpha", NOW) is None


@pytest.mark.covers("SEC-191", "SEC-190")
def test_what_is_reserved_waits_for_the_word(ledger: PostageLedger) -> None:
    receipt = sold(ledger)
    assert why(spent(ledger, receipt, for_good=False)) is None
    assert why(spent(ledger, receipt, for_good=False)) is None, "the same transfer, repeated"
    assert why(spent(ledger, receipt, for_good=False, cause="ENVELOPE2")) is Why.BUSY
    assert why(spent(ledger, receipt, cause="ENVELOPE2")) is Why.BUSY
    assert ledger.take_back(receipt, "alpha", NOW) is None
    assert ledger.release("ENVELOPE1", NOW, NOW) == 1
    assert ledger.release("ENVELOPE1", NOW, NOW) == 0
    assert why(spent(ledger, receipt, for_good=False, cause="ENVELOPE2")) is None
    assert ledger.settle("ENVELOPE1", NOW) == 0
    assert ledger.settle("ENVELOPE2", NOW) == 1
    assert ledger.release("ENVELOPE2", NOW, NOW) == 0, "spent is spent"
    assert why(spent(ledger, receipt, for_good=False)) is Why.SPENT


@pytest.mark.covers("SEC-191")
def test_a_late_word_frees_nothing_that_was_reserved_again(ledger: PostageLedger) -> None:
    """The first attempt's end is told when the second has begun: the second must not lose what it holds."""
    receipt = sold(ledger)
    spent(ledger, receipt, NOW, for_good=False)
    spent(ledger, receipt, NOW + 5, for_good=False)
    assert ledger.release("ENVELOPE1", NOW, NOW + 6) == 0
    assert ledger.reserved_before(NOW + 6) == [("ENVELOPE1", NOW + 5)]
    assert ledger.reserved_before(NOW + 4) == []
    assert ledger.reserved_before(NOW + 6, "ENVELOPE1") == []
    assert ledger.release("ENVELOPE1", NOW + 5, NOW + 6) == 1


@pytest.mark.covers("AMDP-20")
def test_expired_receipts_are_paid_back_a_day_later_and_forgotten_in_time(ledger: PostageLedger) -> None:
    unspent, used = sold(ledger), sold(ledger, OTHER)
    spent(ledger, used, message_id=OTHER)
    assert ledger.books.sweep(NOW + DAY + 10) == []
    [returned] = ledger.books.sweep(NOW + 2 * DAY)
    assert (returned.account, returned.amount) == ("alpha", 5)
    assert ledger.books.sweep(NOW + 2 * DAY) == []
    assert ledger.balance("alpha") == 995
    assert why(spent(ledger, unspent)) is Why.SPENT
    ledger.books.sweep(NOW + 400 * DAY)
    assert ledger.books.receipts("alpha") == []
    totals = ledger.books.audit()
    assert (totals.spent, totals.balance) == (5, 995), "what was spent stays counted"
    assert why(spent(ledger, used, message_id=OTHER, cause="late")) is Why.UNKNOWN


@pytest.mark.covers("SEC-194", "SEC-193")
def test_after_a_new_epoch_nothing_earlier_is_taken(ledger: PostageLedger, open_ledger: Open) -> None:
    unspent, used = sold(ledger), sold(ledger, OTHER)
    redeemed = spent(ledger, used, message_id=OTHER)
    beside = open_ledger()  # a worker that runs meanwhile
    epoch, returned = ledger.books.renew(NOW + 10)
    assert (epoch, len(returned)) == (2, 1)
    assert ledger.balance("alpha") == 995, "what was not redeemed is paid back"
    for one in (ledger, beside):
        assert why(spent(one, unspent)) is Why.SPENT
        assert spent(one, used, message_id=OTHER) == redeemed, "a crash's repeat is no second time"
    fresh = beside.sell(replace(ORDER, purpose=ID), NOW + 20)
    assert UnprovenReceipt(fresh).issuer != UnprovenReceipt(unspent).issuer
    assert why(spent(ledger, fresh)) is None


@pytest.mark.covers("SEC-194")
def test_a_restored_backup_sells_nothing_twice_once_its_epoch_is_over(tmp_path: Path) -> None:
    """The copy looks as if nothing had been spent since. The new epoch is what refuses it."""
    source = tmp_path / "postage.sqlite"
    numbers = serials()
    ledger = ledger_on(SqliteDatabase(source), numbers)
    known = sold(ledger)
    ledger.close()
    backup = source.read_bytes()
    ledger = ledger_on(SqliteDatabase(source), numbers)
    unknown = sold(ledger, OTHER)
    assert why(spent(ledger, known)) is None
    ledger.close()
    for one in tmp_path.glob("postage.sqlite*"):
        one.unlink()
    source.write_bytes(backup)
    restored = ledger_on(SqliteDatabase(source), numbers)
    assert why(spent(restored, unknown, message_id=OTHER)) is Why.UNKNOWN, "sold after the backup"
    restored.books.renew(NOW)
    assert why(spent(restored, known, cause="ENVELOPE2")) is Why.SPENT
    assert restored.books.audit().is_balanced
    restored.close()


@pytest.mark.covers("AMDP-20", "SEC-190")
def test_credits_count_once_for_each_reference_and_accounts_close(ledger: PostageLedger) -> None:
    assert ledger.books.credit("alpha", 10, "invoice 7", NOW)
    assert not ledger.books.credit("alpha", 10, "invoice 7", NOW)
    assert ledger.balance("alpha") == 1010
    assert [one.amount for one in ledger.books.credits("alpha")] == [1000, 10]
    receipt = sold(ledger)
    paid_out = ledger.books.close_account("alpha", NOW)
    assert paid_out == ledger.books.audit().closed_out
    assert ledger.balance("alpha") == 0
    assert ledger.mac_key("alpha") is None
    with pytest.raises(OrderRefused):
        sold(ledger, OTHER)
    with pytest.raises(BookError, match="no open account"):
        ledger.books.credit("alpha", 1, "late", NOW)
    assert why(spent(ledger, receipt)) is None, "what is out stays good"
    ledger.books.open_account("alpha", ("a.example",), KEY, NOW)
    assert ledger.mac_key("alpha") == KEY


@pytest.mark.covers("SEC-193")
def test_no_account_grows_past_what_can_be_counted(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "postage.sqlite")
    ledger = ledger_on(database)
    with database.transaction():
        database.execute("UPDATE postage_accounts SET balance = ?", (MAX_BALANCE - 4,))
    receipt = sold(ledger)
    with pytest.raises(BookError, match="more than any account may"):
        ledger.books.credit("alpha", 10, "too much", NOW)
    assert ledger.books.credits("alpha", after=1) == []
    ledger.take_back(receipt, "alpha", NOW)
    assert ledger.balance("alpha") == MAX_BALANCE - 4
    ledger.close()


@pytest.mark.covers("AMDP-20")
def test_accounts_are_opened_by_sound_names_and_not_twice(small: PostageLedger) -> None:
    books = small.books
    for name, payers in (("Alpha", ("a.example",)), ("", ("a.example",)), ("beta", ()), ("beta", ("A.b",))):
        with pytest.raises(BookError):
            books.open_account(name, payers, KEY, NOW)
    with pytest.raises(BookError, match="there is an account"):
        books.open_account("alpha", ("c.example",), KEY, NOW)
    books.open_account("alpha", ("c.example",), bytes(32), NOW, replace=True)
    [account] = books.accounts()
    assert (account.payers, account.balance, account.is_open) == (("c.example",), 1000, True)
    assert small.mac_key("alpha") == bytes(32)
    for reference in ("", "x" * 201, "a\nb"):
        with pytest.raises(BookError, match="reference"):
            books.credit("alpha", 1, reference, NOW)
    with pytest.raises(BookError, match="no account beta"):
        books.close_account("beta", NOW)


@pytest.mark.covers("AMDP-20")
def test_the_operator_refunds_by_serial(small: PostageLedger) -> None:
    receipt = sold(small)
    outcome = spent(small, receipt)
    assert isinstance(outcome, Redeemed)
    returned = small.books.refund(outcome.serial, NOW)
    assert returned is not None
    assert not returned.again
    assert small.books.refund("z" * 26, NOW) is None
    assert small.balance("alpha") == 1000


@pytest.mark.covers("SEC-190")
def test_the_ledger_s_file_and_key_are_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "postage.sqlite"
    ledger_on(SqliteDatabase(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.covers("AMDP-20")
def test_without_its_database_nothing_is_said(tmp_path: Path) -> None:
    ledger = ledger_on(SqliteDatabase(tmp_path / "postage.sqlite"))
    receipt = sold(ledger)
    ledger.close()
    with pytest.raises(StoreUnavailable):
        spent(ledger, receipt)
