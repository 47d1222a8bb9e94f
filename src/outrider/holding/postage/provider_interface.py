"""Postage (AMDP-20): mail of a class that has a price brings a receipt, which is redeemed once.

The receiver's side sees a `PostageProvider`, of which the prepaid ledger (`postage_ledger`) is the one that
ships; the sender's side sees a `Payer`. Amounts are integers, thousandths of one currency; there is no
conversion. Whose mail is exempt is decided before a provider is asked.

What a receipt pays for is its *purpose*: AMDP's message id, or `postage_office.purpose_of` a
message and a recipient of MT2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from outrider.holding.web import WebCaller

GROUP: Final = "outrider.postage"
"""Entry-point group of packages that take or make payments in other ways; see `PaymentFactory`."""


class PostageUnavailable(Exception):
    """The provider cannot be asked now; nothing was changed, and the mail waits."""


class Why(Enum):
    """Why a receipt is not taken."""

    MALFORMED = "malformed"
    """It is no receipt in the one form that there is (SEC-192)."""
    ISSUER = "issuer"
    """Signed by nobody who issues for us now, or in an epoch that is over (SEC-193, SEC-194)."""
    UNKNOWN = "unknown"
    """Well signed, but this ledger does not have it."""
    MESSAGE = "message"
    """It pays for another message, another recipient's domain, or in another sender's name."""
    AMOUNT = "amount"
    """Less than the price."""
    TIME = "time"
    """Expired, or of the future."""
    SPENT = "spent"
    """Redeemed by another cause, or taken back."""
    BUSY = "busy"
    """Reserved by another cause, which may yet give it up: ask again later."""


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The receipt is spent, for this cause and none other."""

    serial: str
    """Names the receipt in log, trail and ledger; no secret."""
    payer: str
    amount: int
    """Thousandths."""
    currency: str

    @property
    def words(self) -> str:
        """For a trail."""
        return f"{self.payer} paid {self.amount // 1000}.{self.amount % 1000:03d} {self.currency}"


@dataclass(frozen=True, slots=True)
class Refused:
    """The receipt is not taken, nothing was changed, and nothing will change but for `Why.BUSY`."""

    why: Why
    words: str
    """For log and trail; nothing of the receipt's text in it."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What a receipt is to pay for."""

    cause: str
    """What spends it, named for ever: the queue id of the envelope; ``mt2:PEER/TRANSFER``. The same again
    when it is repeated after a crash: then the answer is the same (SEC-191)."""
    message_id: str
    """The purpose."""
    recipient_domain: str
    payer: str
    """The sender's domain, authenticated."""
    price: int
    """Thousandths, 1 or more."""


class PostageProvider(Protocol):
    """Takes receipts. All methods raise PostageUnavailable."""

    method: str
    """PAY-METHOD."""
    currency: str
    """PAY-CURRENCY, of all amounts."""

    async def redeem(
        self,
        receipt: str,
        *,
        cause: str,
        message_id: str,
        recipient_domain: str,
        payer: str,
        price: int,
        now: float,
    ) -> Redeemed | Refused:
        """Spend it, for good; durable when it returns. Repeatable: of all causes that present a receipt one
        has it, and hears the same each time it asks."""
        ...

    async def reserve(self, receipt: str, spending: Spending, now: float) -> Redeemed | Refused:
        """The same, until `settle` or `release` says how it ended: others may still refuse the mail."""
        ...

    async def settle(self, cause: str, now: float) -> int:
        """What the cause reserved is spent: the mail was queued. How many; repeatable."""
        ...

    async def release(self, cause: str, before: float, now: float) -> int:
        """What the cause reserved, and has not reserved again since `before`, may be used again: the mail was
        not queued. How many; repeatable."""
        ...

    async def reserved_before(self, moment: float, after: str) -> list[tuple[str, float]]:
        """Causes that reserved something by then and were neither settled nor released, each with the moment;
        some of them, in their order behind `after`."""
        ...

    async def refund(self, receipt: str, *, cause: str, now: float) -> bool:
        """Give the amount back to whoever paid: mail that was paid for is refused after all. The receipt is
        dead. Only what `cause` has redeemed; False where there was nothing; repeatable (True again)."""
        ...


@dataclass(frozen=True, slots=True)
class Paid:
    """A receipt, for AMDP-Payment-Rcpt."""

    receipt: str
    amount: int


@dataclass(frozen=True, slots=True)
class NotPaid:
    """There is none."""

    words: str
    temporary: bool = False
    """True: the ledger cannot be reached, or the account has too little; try again later."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What has to be paid for one message and recipient's domain."""

    message_id: str
    """The purpose."""
    sender_domain: str
    recipient_domain: str
    price: int
    """Thousandths."""
    expires: float
    """Until when the receipt must be good: the message's expiry."""
    currency: str = "USD"
    """PAY-CURRENCY of the recipient's policy."""
    method: str = ""
    """PAY-METHOD; "" = not said."""
    payee: str = ""
    """PAY-ACCT; "" = not said."""


class Payer(Protocol):
    """Pays for our mail at others' providers."""

    async def pay(self, bill: Bill, now: float) -> Paid | NotPaid:
        """The receipt; the same one each time that the same is asked for (same message id and domain)."""
        ...

    async def take_back(self, receipt: str, bill: Bill, now: float) -> bool:
        """Get the amount back for a receipt that was not redeemed: the message was refused or withdrawn.
        False where that cannot be had."""
        ...


def payee_of(domain: str, port: int) -> str:
    """PAY-ACCT as it is published: where the ledger of a domain is asked."""
    return f"amdp-mis.{domain}:{port}"


class Payment(Protocol):
    """A way of paying: what it can do of the two."""

    provider: PostageProvider | None
    payer: Payer | None


class PaymentFactory(Protocol):
    """What an entry point in `GROUP` is."""

    def __call__(self, options: Mapping[str, object], caller: WebCaller) -> Payment:
        """A way of paying with its options ([amdp.postage] options); `caller` reaches others by HTTPS. Raises
        ValueError for options that mean nothing."""
        ...


class PayerByMethod:
    """Implements `Payer`: each site is paid as it wants to be (PAY-METHOD)."""

    def __init__(self, usual: Payer, others: Mapping[str, Payer]) -> None:
        """`others` by method, in capitals."""
        self._usual = usual
        self._others = others

    async def pay(self, bill: Bill, now: float) -> Paid | NotPaid:
        """See `Payer`."""
        return await self._payer(bill).pay(bill, now)

    async def take_back(self, receipt: str, bill: Bill, now: float) -> bool:
        """See `Payer`."""
        return await self._payer(bill).take_back(receipt, bill, now)

    def _payer(self, bill: Bill) -> Payer:
        return self._others.get(bill.method.upper(), self._usual)
