"""The prepaid ledger's tables, and the values that stand in them (AMDP-20).

An account belongs to a sender's site and is kept by the receiver's: its operator credits it, receipts are
bought from it. At any moment, for each account,

    credited = balance + closed out + amounts of its receipts that are open, reserved or spent + forgotten

where *forgotten* are spent receipts whose rows are gone. `PostageBooks.audit` counts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from outrider.tables.database import Database, make_missing

MAX_BALANCE: Final = 10**15
"""Thousandths: no sum of these leaves 64 bits."""

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS postage_issuers (
        epoch BIGINT PRIMARY KEY, thumbprint TEXT NOT NULL UNIQUE, certificate {octets} NOT NULL,
        key {octets}, made_at DOUBLE PRECISION NOT NULL)""",
    f"""CREATE TABLE IF NOT EXISTS postage_accounts (
        account TEXT PRIMARY KEY, payers TEXT NOT NULL, mac_key {{octets}} NOT NULL, is_open BIGINT NOT NULL,
        balance BIGINT NOT NULL CHECK (balance BETWEEN 0 AND {MAX_BALANCE}), forgotten BIGINT NOT NULL,
        made_at DOUBLE PRECISION NOT NULL, used_at DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS postage_credits (
        number {serial}, account TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, amount BIGINT NOT NULL,
        reference TEXT NOT NULL, UNIQUE (account, reference))""",
    """CREATE TABLE IF NOT EXISTS postage_receipts (
        serial TEXT PRIMARY KEY, account TEXT NOT NULL, payer TEXT NOT NULL, domain TEXT NOT NULL,
        purpose TEXT NOT NULL, amount BIGINT NOT NULL CHECK (amount > 0), epoch BIGINT NOT NULL,
        issued BIGINT NOT NULL, expires BIGINT NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL,
        changed_at DOUBLE PRECISION NOT NULL, text TEXT NOT NULL)""",
    # One live receipt for one purpose: to ask again, after a crash, gets the same.
    """CREATE UNIQUE INDEX IF NOT EXISTS postage_receipts_by_purpose
        ON postage_receipts (account, purpose, domain) WHERE state <> 'returned'""",
    """CREATE INDEX IF NOT EXISTS postage_receipts_by_cause
        ON postage_receipts (cause) WHERE cause <> ''""",
    """CREATE INDEX IF NOT EXISTS postage_receipts_by_state ON postage_receipts (state, expires)""",
    """CREATE INDEX IF NOT EXISTS postage_receipts_by_account ON postage_receipts (account, issued)""",
)


def make_tables(database: Database) -> None:
    """Make what is missing; inside a transaction."""
    make_missing(database, TABLES)


class State(Enum):
    """Where a receipt is; the last is its end, and `SPENT` is unless it is refunded."""

    OPEN = "open"
    """Bought, and not yet presented."""
    RESERVED = "reserved"
    """Presented with mail that is not yet queued."""
    SPENT = "spent"
    RETURNED = "returned"
    """Taken back, refunded or expired: the amount is in the account again."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account, as the operator sees it."""

    name: str
    payers: tuple[str, ...]
    """Sender domains in whose name receipts may be bought from it."""
    is_open: bool
    balance: int
    forgotten: int
    made_at: float
    used_at: float
    """0 = never."""


@dataclass(frozen=True, slots=True)
class Credit:
    """An entry of the operator's: an amount credited, or (below zero) closed out."""

    number: int
    account: str
    at: float
    amount: int
    reference: str


@dataclass(frozen=True, slots=True)
class KnownReceipt:
    """A receipt, as the operator sees it."""

    serial: str
    account: str
    payer: str
    domain: str
    purpose: str
    amount: int
    issued: int
    expires: int
    state: State
    cause: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over one account, or over all."""

    credited: int
    closed_out: int
    balance: int
    open: int
    reserved: int
    spent: int
    """Those forgotten among them."""

    @property
    def is_balanced(self) -> bool:
        """Whether nothing was made or lost."""
        return self.credited == self.closed_out + self.balance + self.open + self.reserved + self.spent
