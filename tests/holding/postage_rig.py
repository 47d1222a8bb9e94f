"""A ledger with one account, and mail that pays from it."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import replace

from outrider.holding.postage.forms import key_of
from outrider.holding.postage.ledger import Order, PostageLedger
from outrider.holding.postage.provider_interface import Redeemed, Refused, Spending
from outrider.tables.database import Database

NOW = 1_800_000_000.0
DAY = 86_400.0
SECRET = "a" * 52
KEY = key_of(SECRET)
ID = "b" * 26
ORDER = Order("alpha", "a.example", "b.example", ID, 5, "USD", int(NOW + DAY))
SPENDING = Spending("ENVELOPE1", ID, "b.example", "a.example", 5)


def serials() -> Callable[[], str]:
    """Distinct serials, counted up."""
    count = itertools.count(1)
    return lambda: base64.b32encode((next(count) << 8).to_bytes(17, "big")).decode().lower()[:26]


def ledger_on(
    database: Database, new_serial: Callable[[], str] | None = None, *, credit: int = 1000
) -> PostageLedger:
    """A ledger whose account alpha, of a.example, has so much."""
    ledger = PostageLedger(database, "USD", new_serial or serials(), NOW)
    if not ledger.books.accounts():
        ledger.books.open_account("alpha", ("a.example",), KEY, NOW)
        ledger.books.credit("alpha", credit, "first", NOW)
    return ledger


def sold(ledger: PostageLedger, purpose: str = ID, amount: int = 5) -> str:
    """A receipt."""
    return ledger.sell(replace(ORDER, purpose=purpose, amount=amount), NOW)


def spent(
    ledger: PostageLedger, receipt: str, now: float = NOW, *, for_good: bool = True, **changes: object
) -> Redeemed | Refused:
    """What comes of presenting it, as it should be but for `changes`."""
    return ledger.spend(receipt, replace(SPENDING, **changes), now, for_good=for_good)  # type: ignore[arg-type]
