"""How a receipt's amount goes back into its account: once, whoever asks how often (SEC-190)."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.holding.postage.tables import State
from outrider.tables.database import Database


@dataclass(frozen=True, slots=True)
class Returned:
    """An amount that went back into an account."""

    serial: str
    account: str
    amount: int
    again: bool = False
    """It had gone back before; nothing was changed."""


class Returns:
    """All inside a transaction of the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def back(
        self, serial: str, states: tuple[State, ...], now: float, *, account: str = "", cause: str = ""
    ) -> Returned | None:
        """Give back the amount of a receipt that is in one of these states, belongs to `account` and was
        redeemed by `cause`, as far as they are named; None where there is none such."""
        rows = self._database.execute(
            "SELECT account, amount FROM postage_receipts WHERE serial = ? AND (account = ? OR ? = '')",
            (serial, account, account),
        )
        if not rows:
            return None
        owner, amount = str(rows[0][0]), int(rows[0][1] or 0)
        self._database.execute("UPDATE postage_accounts SET used_at = ? WHERE account = ?", (now, owner))
        if self.once(serial, states, cause):
            return Returned(serial, owner, amount)
        again = self._database.execute(
            "SELECT 1 FROM postage_receipts WHERE serial = ? AND state = 'returned' "
            "AND (cause = ? OR ? = '')",
            (serial, cause, cause),
        )
        return Returned(serial, owner, amount, again=True) if again else None

    def once(self, serial: str, states: tuple[State, ...], cause: str = "") -> bool:
        """Whether this call gave it back. Its account is locked already."""
        first, second, third = (*states, *states, *states)[:3]
        rows = self._database.execute(
            "UPDATE postage_receipts SET state = 'returned' "
            "WHERE serial = ? AND state IN (?, ?, ?) AND (cause = ? OR ? = '') RETURNING account, amount",
            (serial, first.value, second.value, third.value, cause, cause),
        )
        for account, amount in rows:
            self._database.execute(
                "UPDATE postage_accounts SET balance = balance + ? WHERE account = ?", (amount, account)
            )
        return bool(rows)
