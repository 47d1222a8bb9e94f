"""The prepaid ledger: sells receipts from accounts, and redeems each once (AMDP-20, SEC-190 to SEC-194).

The one rule against double spending is a row of the database: a receipt is spent by the statement that
finds it open, in a transaction that is durable when the method returns. All workers and nodes work on the
same rows, SQLite's writers one after the other, PostgreSQL's at READ COMMITTED, where a second statement
waits for the first and then looks again. Every method may be repeated after a crash and comes to the same.

Where two rows are changed the account is locked before its receipts, so nothing waits in a circle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from outrider.holding.postage.books import PostageBooks
from outrider.holding.postage.issuers import Issuers
from outrider.holding.postage.provider_interface import Redeemed, Refused, Spending, Why
from outrider.holding.postage.receipt import (
    AHEAD_S,
    Receipt,
    ReceiptError,
    UnprovenReceipt,
    is_amount,
    is_currency,
    is_domain,
    is_purpose,
    write_receipt,
)
from outrider.holding.postage.returns import Returned, Returns
from outrider.holding.postage.tables import State, make_tables
from outrider.protocols.amdp.prices import format_price
from outrider.tables.database import Database
from outrider.tables.serial_thread import SerialThread

LONGEST_S: Final = 366 * 86_400
"""The longest that a receipt is good."""
BATCH: Final = 200
"""Causes that are looked at at a time."""


class OrderRefused(Exception):
    """No receipt is sold; the text says why, for the payer."""

    def __init__(self, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary
        """The account has too little: it may have more later."""


@dataclass(frozen=True, slots=True)
class Order:
    """A receipt that somebody wants to buy, who has proven that the account is his."""

    account: str
    payer: str
    domain: str
    purpose: str
    amount: int
    currency: str
    expires: int


class PostageLedger:
    """The tables of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database, currency: str, new_serial: Callable[[], str], now: float) -> None:
        """Make what is missing; `currency` is that of all amounts. Raises StoreUnavailable."""
        self._database = database
        self._currency = currency
        self._new_serial = new_serial
        self._issuers = Issuers(database)
        self._returns = Returns(database)
        with database.transaction():
            make_tables(database)
            self._issuers.begin(now)
        self.books = PostageBooks(database, self._issuers, self._returns)
        """The operator's side."""

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    # --- payers ---------------------------------------------------------------------------------------------

    def mac_key(self, account: str) -> bytes | None:
        """By which requests for an open account are proven; None for no such account."""
        rows = self._database.execute(
            "SELECT mac_key FROM postage_accounts WHERE account = ? AND is_open = 1", (account,)
        )
        return rows[0][0] if rows and isinstance(rows[0][0], bytes) else None

    def balance(self, account: str) -> int:
        """Thousandths; 0 for no such account."""
        rows = self._database.execute("SELECT balance FROM postage_accounts WHERE account = ?", (account,))
        return int(rows[0][0] or 0) if rows else 0

    def sell(self, order: Order, now: float) -> str:
        """A receipt; the one that is there, where the same was ordered before. Raises OrderRefused."""
        self._check(order, now)
        with self._database.transaction():
            payers = self._locked(order.account, now)
            if order.payer not in payers:
                raise OrderRefused("the account does not pay in the name of this domain")
            kept = self._live(order)
            if kept is not None:
                return kept
            paid = self._database.execute(
                "UPDATE postage_accounts SET balance = balance - ? WHERE account = ? AND balance >= ? "
                "RETURNING balance",
                (order.amount, order.account, order.amount),
            )
            if not paid:
                raise OrderRefused("the account has too little", temporary=True)
            return self._issue(order, now)

    def _check(self, order: Order, now: float) -> None:
        if not is_amount(order.amount):
            raise OrderRefused("this is no amount")
        if not is_currency(order.currency) or order.currency != self._currency:
            raise OrderRefused(f"amounts are in {self._currency}")
        if not (is_purpose(order.purpose) and is_domain(order.payer) and is_domain(order.domain)):
            raise OrderRefused("what is to be paid for is malformed")
        if not now < order.expires <= now + LONGEST_S:
            raise OrderRefused("a receipt is good for a year at most, and not in the past")

    def _locked(self, account: str, now: float) -> list[str]:
        """Lock the account's row; its payers."""
        rows = self._database.execute(
            "UPDATE postage_accounts SET used_at = ? WHERE account = ? AND is_open = 1 RETURNING payers",
            (now, account),
        )
        if not rows:
            raise OrderRefused("there is no such account")
        return str(rows[0][0]).split()

    def _live(self, order: Order) -> str | None:
        """The receipt that is there for the same. One of another amount goes back first, if it is open: a
        price may change between two attempts."""
        rows = self._database.execute(
            "SELECT serial, payer, amount, expires, state, text FROM postage_receipts "
            "WHERE account = ? AND purpose = ? AND domain = ? AND state <> 'returned'",
            (order.account, order.purpose, order.domain),
        )
        if not rows:
            return None
        serial, payer, amount, expires, state, text = rows[0]
        is_same = (payer, amount) == (order.payer, order.amount) and int(expires or 0) >= order.expires
        if is_same or state != State.OPEN.value:
            return str(text)
        # Of a receipt that is being spent at this moment nothing comes back.
        return None if self._returns.once(str(serial), (State.OPEN,)) else str(text)

    def _issue(self, order: Order, now: float) -> str:
        issuer = self._issuers.present()
        assert issuer.signer is not None, "the present issuer signs"
        receipt = Receipt(
            self._new_serial(), issuer.epoch, order.payer, order.domain, order.purpose, order.amount,
            order.currency, int(now), order.expires,
        )  # fmt: skip
        text = write_receipt(receipt, issuer.signer)
        self._database.execute(
            "INSERT INTO postage_receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', '', ?, ?)",
            (receipt.serial, order.account, order.payer, order.domain, order.purpose, order.amount,
             issuer.epoch, receipt.issued, receipt.expires, now, text),
        )  # fmt: skip
        return text

    def take_back(self, text: str, account: str, now: float) -> Returned | None:
        """Give the payer back what was not redeemed; None where there is nothing of this account to give."""
        receipt = self._proven(text)
        if isinstance(receipt, Refused):
            return None
        with self._database.transaction():
            return self._returns.back(receipt.serial, (State.OPEN,), now, account=account)

    # --- receivers ------------------------------------------------------------------------------------------

    def spend(self, text: str, spending: Spending, now: float, *, for_good: bool) -> Redeemed | Refused:
        """Redeem a receipt; not `for_good`: reserve it."""
        receipt = self._proven(text)
        if isinstance(receipt, Refused):
            return receipt
        refused = _misfit(receipt, spending, self._currency, now)
        if refused is not None:
            return refused
        with self._database.transaction():
            refused = None if self._spent(receipt, spending, now, for_good) else self._why(receipt, now)
        return refused or Redeemed(receipt.serial, receipt.payer, receipt.amount, receipt.currency)

    def _spent(self, receipt: Receipt, spending: Spending, now: float, for_good: bool) -> bool:
        state = State.SPENT if for_good else State.RESERVED
        found = self._database.execute(
            "UPDATE postage_receipts SET state = ?, cause = ?, changed_at = ? "
            "WHERE serial = ? AND state = 'open' AND expires > ? "
            "AND epoch = (SELECT max(epoch) FROM postage_issuers) RETURNING serial",
            (state.value, spending.cause, now, receipt.serial, now),
        )
        # Again, by the same cause: it is spent already, or is now; what is reserved is so from now on.
        return bool(
            found
            or self._database.execute(
                "UPDATE postage_receipts SET state = CASE WHEN ? = 'spent' THEN 'spent' ELSE state END, "
                "changed_at = CASE WHEN state = 'reserved' THEN ? ELSE changed_at END "
                "WHERE serial = ? AND cause = ? AND state IN ('reserved', 'spent') RETURNING serial",
                (state.value, now, receipt.serial, spending.cause),
            )
        )

    def _why(self, receipt: Receipt, now: float) -> Refused:
        rows = self._database.execute(
            "SELECT state FROM postage_receipts WHERE serial = ?", (receipt.serial,)
        )
        if not rows:
            return Refused(Why.UNKNOWN, "the ledger does not know this receipt")
        if rows[0][0] == State.OPEN.value:
            if receipt.expires <= now:
                return Refused(Why.TIME, "the receipt has expired")
            return Refused(Why.ISSUER, "the receipt's epoch is over")
        if rows[0][0] == State.RESERVED.value:
            return Refused(Why.BUSY, "the receipt came with other mail, which is not yet taken or refused")
        if rows[0][0] == State.RETURNED.value:
            return Refused(Why.SPENT, "the receipt's amount was paid back")
        return Refused(Why.SPENT, "the receipt has been redeemed already")

    def settle(self, cause: str, now: float) -> int:
        """What the cause has reserved is spent."""
        with self._database.transaction():
            rows = self._database.execute(
                "UPDATE postage_receipts SET state = 'spent', changed_at = ? "
                "WHERE cause = ? AND state = 'reserved' RETURNING serial",
                (now, cause),
            )
        return len(rows)

    def release(self, cause: str, before: float, now: float) -> int:
        """What the cause has reserved, and not again since `before`, may be presented again."""
        with self._database.transaction():
            rows = self._database.execute(
                "UPDATE postage_receipts SET state = 'open', cause = '', changed_at = ? "
                "WHERE cause = ? AND state = 'reserved' AND changed_at <= ? RETURNING serial",
                (now, cause, before),
            )
        return len(rows)

    def reserved_before(self, moment: float, after: str = "", limit: int = BATCH) -> list[tuple[str, float]]:
        """Causes of which nobody has said how they ended, and since when, in their order behind `after`."""
        rows = self._database.execute(
            "SELECT cause, min(changed_at) FROM postage_receipts WHERE state = 'reserved' AND cause > ? "
            "AND changed_at <= ? GROUP BY cause ORDER BY cause LIMIT ?",
            (after, moment, limit),
        )
        return [(str(cause), float(at or 0)) for cause, at in rows]

    def refund(self, text: str, cause: str, now: float) -> Returned | None:
        """Give back what `cause` has redeemed; None where it has redeemed nothing."""
        receipt = self._proven(text)
        if isinstance(receipt, Refused):
            return None
        with self._database.transaction():
            return self._returns.back(receipt.serial, (State.RESERVED, State.SPENT), now, cause=cause)

    # --- what the above are made of -------------------------------------------------------------------------

    def _proven(self, text: str) -> Receipt | Refused:
        """The receipt that this text is, by its signature."""
        try:
            unproven = UnprovenReceipt(text)
            issuer = self._issuers.named(unproven.issuer)
            if issuer is None:
                return Refused(Why.ISSUER, "the receipt is signed by nobody who issues for us")
            receipt = unproven.proven(issuer.certificate)
        except ReceiptError as error:
            return Refused(Why.MALFORMED, str(error))
        if receipt.epoch != issuer.epoch:
            return Refused(Why.ISSUER, "the receipt names another epoch than its issuer's")
        return receipt


def _misfit(receipt: Receipt, spending: Spending, currency: str, now: float) -> Refused | None:
    """Whether a good receipt is one for this mail. Pure."""
    if receipt.issued > now + AHEAD_S:
        return Refused(Why.TIME, "the receipt is of the future")
    if receipt.domain != spending.recipient_domain.lower():
        return Refused(Why.MESSAGE, "the receipt pays for mail to another domain")
    if receipt.payer != spending.payer.lower():
        return Refused(Why.MESSAGE, "the receipt is another sender's")
    if receipt.purpose != spending.message_id:
        return Refused(Why.MESSAGE, "the receipt pays for another message")
    if receipt.currency != currency:
        return Refused(Why.AMOUNT, f"the receipt is not in {currency}")
    if not is_amount(spending.price) or receipt.amount < spending.price:
        return Refused(Why.AMOUNT, f"the receipt is for {format_price(receipt.amount)} {currency} only")
    return None


LedgerThread = SerialThread[PostageLedger]
