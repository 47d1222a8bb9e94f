"""The ledger's operator: accounts, credits, what became of receipts; and what time does to them (AMDP-20)."""

from __future__ import annotations

import re
from typing import Final

from outrider.holding.postage.issuers import Issuers
from outrider.holding.postage.receipt import is_amount, is_domain
from outrider.holding.postage.returns import Returned, Returns
from outrider.holding.postage.tables import MAX_BALANCE, Account, Credit, KnownReceipt, State, Totals
from outrider.tables.database import Database, Row, Value

RETURNED_AFTER_S: Final = 86_400
"""An expired receipt is paid back a day later: no clock is so wrong that it is still presented."""
FORGOTTEN_AFTER_S: Final = 180 * 86_400
"""What became of a receipt can be looked up for so long after its expiry."""
BATCH: Final = 200
"""Rows that one sweep handles at a time."""
MOST_PAYERS: Final = 100
MOST_REFERENCE: Final = 200
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class BookError(ValueError):
    """It cannot be done; the text says why, for the operator."""


def is_account(text: str) -> bool:
    """Whether it can be an account's name: lower case, so that one account has one name (SEC-192)."""
    return _ACCOUNT.fullmatch(text) is not None


def shown(amount: int) -> str:
    """A sum of amounts, for people: ``12.000``."""
    return f"{amount // 1000}.{amount % 1000:03d}"


class PostageBooks:
    """The same tables as the ledger's, and the same thread."""

    def __init__(self, database: Database, issuers: Issuers, returns: Returns) -> None:
        self._database = database
        self._issuers = issuers
        self._returns = returns

    # --- accounts -------------------------------------------------------------------------------------------

    def open_account(
        self, name: str, payers: tuple[str, ...], mac_key: bytes, now: float, *, replace: bool = False
    ) -> None:
        """Make an account, or open a closed one again; with `replace` an open one gets these payers and this
        key instead of its own. Raises BookError."""
        if not is_account(name):
            raise BookError("an account's name is lower-case letters, digits, dots and hyphens, at most 64")
        if not 1 <= len(payers) <= MOST_PAYERS or not all(is_domain(one) for one in payers):
            raise BookError("the payers are sender domains, one at least")
        with self._database.transaction():
            made = self._database.execute(
                "INSERT INTO postage_accounts VALUES (?, ?, ?, 1, 0, 0, ?, 0) ON CONFLICT (account) "
                "DO UPDATE SET payers = excluded.payers, mac_key = excluded.mac_key, is_open = 1 "
                "WHERE postage_accounts.is_open = 0 OR ? = 1 RETURNING account",
                (name, " ".join(payers), mac_key, now, int(replace)),
            )
        if not made:
            raise BookError(f"there is an account {name}")

    def close_account(self, name: str, now: float) -> int:
        """No more receipts are bought from it, and its balance, which is the answer, is paid out by other
        ways. Receipts that are out stay good. Raises BookError."""
        with self._database.transaction():
            rows = self._database.execute(
                "UPDATE postage_accounts SET is_open = 0 WHERE account = ? RETURNING balance", (name,)
            )
            if not rows:
                raise BookError(f"there is no account {name}")
            balance = int(rows[0][0] or 0)
            if balance:
                self._database.execute("UPDATE postage_accounts SET balance = 0 WHERE account = ?", (name,))
                number = int(self._database.execute("SELECT count(*) FROM postage_credits")[0][0] or 0)
                self._entry(name, -balance, f"closed {now:.6f} {number}", now)
        return balance

    def credit(self, name: str, amount: int, reference: str, now: float) -> bool:
        """Credit an account; False when this reference has been credited before, which is done once. Raises
        BookError."""
        if not is_amount(amount):
            raise BookError("an amount is 0.001 or more, and at most 1000000000")
        if not reference or len(reference) > MOST_REFERENCE or not reference.isprintable():
            raise BookError(f"a reference is 1 to {MOST_REFERENCE} printable characters")
        with self._database.transaction():
            known = self._database.execute(
                "UPDATE postage_accounts SET used_at = used_at WHERE account = ? AND is_open = 1 "
                "RETURNING balance",
                (name,),
            )
            if not known:
                raise BookError(f"there is no open account {name}")
            if int(known[0][0] or 0) + amount > MAX_BALANCE:
                raise BookError("the account would hold more than any account may")
            if not self._entry(name, amount, reference, now):
                return False
            self._database.execute(
                "UPDATE postage_accounts SET balance = balance + ? WHERE account = ?", (amount, name)
            )
        return True

    def _entry(self, name: str, amount: int, reference: str, now: float) -> bool:
        return bool(
            self._database.execute(
                "INSERT INTO postage_credits (account, at, amount, reference) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (account, reference) DO NOTHING RETURNING number",
                (name, now, amount, reference),
            )
        )

    # --- looking --------------------------------------------------------------------------------------------

    def accounts(self) -> list[Account]:
        """All, by name."""
        rows = self._database.execute(
            "SELECT account, payers, is_open, balance, forgotten, made_at, used_at FROM postage_accounts "
            "ORDER BY account"
        )
        return [_account(row) for row in rows]

    def credits(self, name: str, after: int = 0, limit: int = BATCH) -> list[Credit]:
        """Entries of one account, in their order, from the one behind `after`."""
        rows = self._database.execute(
            "SELECT number, account, at, amount, reference FROM postage_credits "
            "WHERE account = ? AND number > ? ORDER BY number LIMIT ?",
            (name, after, limit),
        )
        return [
            Credit(int(number or 0), str(account), float(at or 0), int(amount or 0), str(reference))
            for number, account, at, amount, reference in rows
        ]

    def receipts(self, name: str, limit: int = BATCH) -> list[KnownReceipt]:
        """Receipts of one account, the latest first."""
        rows = self._database.execute(
            f"SELECT {_RECEIPT} FROM postage_receipts WHERE account = ? "  # noqa: S608 - our own columns
            "ORDER BY issued DESC, serial LIMIT ?",
            (name, limit),
        )
        return [_receipt(row) for row in rows]

    def receipt(self, serial: str) -> KnownReceipt | None:
        """One receipt."""
        rows = self._database.execute(
            f"SELECT {_RECEIPT} FROM postage_receipts WHERE serial = ?",  # noqa: S608 - our own columns
            (serial,),
        )
        return _receipt(rows[0]) if rows else None

    def audit(self, name: str = "") -> Totals:
        """Sums of one account, or of all. On SQLite they are of one moment; on PostgreSQL they may differ by
        what other nodes do between two statements."""
        with self._database.transaction():
            which: tuple[Value, ...] = (name, name)
            entries = self._database.execute(
                "SELECT coalesce(sum(CASE WHEN amount > 0 THEN amount ELSE 0 END), 0), "
                "coalesce(sum(CASE WHEN amount < 0 THEN -amount ELSE 0 END), 0) "
                "FROM postage_credits WHERE account = ? OR ? = ''",
                which,
            )[0]
            kept = self._database.execute(
                "SELECT coalesce(sum(balance), 0), coalesce(sum(forgotten), 0) FROM postage_accounts "
                "WHERE account = ? OR ? = ''",
                which,
            )[0]
            sums = self._database.execute(
                "SELECT state, sum(amount) FROM postage_receipts WHERE account = ? OR ? = '' GROUP BY state",
                which,
            )
        by_state = {str(state): int(amount or 0) for state, amount in sums}
        return Totals(
            int(entries[0] or 0),
            int(entries[1] or 0),
            int(kept[0] or 0),
            by_state.get("open", 0),
            by_state.get("reserved", 0),
            by_state.get("spent", 0) + int(kept[1] or 0),
        )

    # --- giving back ----------------------------------------------------------------------------------------

    def refund(self, serial: str, now: float) -> Returned | None:
        """Give an amount back, whether the receipt was redeemed or not; None for no such receipt."""
        with self._database.transaction():
            return self._returns.back(serial, (State.OPEN, State.RESERVED, State.SPENT), now)

    def renew(self, now: float) -> tuple[int, list[Returned]]:
        """Begin a new epoch: a new key, and no earlier receipt is taken any more; what was open goes back to
        its accounts. After a restored backup, or where the key may be known to others (SEC-194)."""
        with self._database.transaction():
            self._database.execute("UPDATE postage_accounts SET used_at = used_at")  # locks them all
            epoch = self._issuers.next(now)
            rows = self._database.execute("SELECT serial FROM postage_receipts WHERE state = 'open'")
            found = [self._returns.back(str(row[0]), (State.OPEN,), now) for row in rows]
        return epoch, [one for one in found if one is not None and not one.again]

    def sweep(self, now: float) -> list[Returned]:
        """Pay expired receipts back, and forget what nobody will ask about; a batch of each."""
        rows = self._database.execute(
            "SELECT account, serial FROM postage_receipts WHERE state = 'open' AND expires <= ? "
            "ORDER BY expires LIMIT ?",
            (int(now) - RETURNED_AFTER_S, BATCH),
        )
        found: list[Returned | None] = []
        if rows:
            with self._database.transaction():
                for account, serial in sorted((str(one), str(other)) for one, other in rows):
                    found.append(self._returns.back(serial, (State.OPEN,), now, account=account))
        self._forget(now)
        return [one for one in found if one is not None and not one.again]

    def _forget(self, now: float) -> None:
        rows = self._database.execute(
            "SELECT account, serial FROM postage_receipts WHERE state IN ('spent', 'returned') "
            "AND expires <= ? ORDER BY account, serial LIMIT ?",
            (int(now) - FORGOTTEN_AFTER_S, BATCH),
        )
        if not rows:
            return
        with self._database.transaction():
            for account, serial in sorted((str(one), str(other)) for one, other in rows):
                self._forget_one(account, serial)

    def _forget_one(self, account: str, serial: str) -> None:
        self._database.execute("UPDATE postage_accounts SET used_at = used_at WHERE account = ?", (account,))
        gone = self._database.execute(
            "DELETE FROM postage_receipts WHERE serial = ? AND state IN ('spent', 'returned') "
            "RETURNING CASE WHEN state = 'spent' THEN amount ELSE 0 END",
            (serial,),
        )
        self._database.execute(
            "UPDATE postage_accounts SET forgotten = forgotten + ? WHERE account = ?",
            (int(gone[0][0] or 0) if gone else 0, account),
        )


_RECEIPT = "serial, account, payer, domain, purpose, amount, issued, expires, state, cause, changed_at"


def _account(row: Row) -> Account:
    name, payers, is_open, balance, forgotten, made_at, used_at = row
    return Account(
        str(name), tuple(str(payers).split()), bool(is_open), int(balance or 0), int(forgotten or 0),
        float(made_at or 0), float(used_at or 0),
    )  # fmt: skip


def _receipt(row: Row) -> KnownReceipt:
    serial, account, payer, domain, purpose, amount, issued, expires, state, cause, changed_at = row
    return KnownReceipt(
        str(serial), str(account), str(payer), str(domain), str(purpose), int(amount or 0), int(issued or 0),
        int(expires or 0), State(str(state)), str(cause), float(changed_at or 0),
    )  # fmt: skip
