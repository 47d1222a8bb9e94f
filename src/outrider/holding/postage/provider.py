"""The prepaid ledger as a provider: from an event loop, by the ledger's thread (AMDP-20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from outrider.holding.postage.ledger import LedgerThread, PostageLedger
from outrider.holding.postage.observer import PostageObserver
from outrider.holding.postage.provider_interface import PostageUnavailable, Redeemed, Refused, Spending
from outrider.tables.database import StoreUnavailable

T = TypeVar("T")


class LedgerProvider:
    """Implements `postage.PostageProvider`."""

    def __init__(self, thread: LedgerThread, method: str, currency: str, observer: PostageObserver) -> None:
        self.method = method
        self.currency = currency
        self._thread = thread
        self._observer = observer

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
        """See `PostageProvider`."""
        return await self.spend(
            receipt, Spending(cause, message_id, recipient_domain, payer, price), now, for_good=True
        )

    async def reserve(self, receipt: str, spending: Spending, now: float) -> Redeemed | Refused:
        """See `PostageProvider`."""
        return await self.spend(receipt, spending, now, for_good=False)

    async def spend(
        self, receipt: str, spending: Spending, now: float, *, for_good: bool
    ) -> Redeemed | Refused:
        """Redeem, or (not `for_good`) reserve."""
        outcome = await self.call(lambda ledger: ledger.spend(receipt, spending, now, for_good=for_good))
        if isinstance(outcome, Redeemed):
            self._observer.postage_redeemed(outcome.serial, outcome.payer, outcome.amount, spending.cause)
        else:
            self._observer.postage_refused(outcome.why.value, outcome.words, spending.payer, spending.cause)
        return outcome

    async def settle(self, cause: str, now: float) -> int:
        """See `PostageProvider`."""
        return await self.call(lambda ledger: ledger.settle(cause, now))

    async def release(self, cause: str, before: float, now: float) -> int:
        """See `PostageProvider`."""
        return await self.call(lambda ledger: ledger.release(cause, before, now))

    async def refund(self, receipt: str, *, cause: str, now: float) -> bool:
        """See `PostageProvider`."""
        returned = await self.call(lambda ledger: ledger.refund(receipt, cause, now))
        if returned is not None and not returned.again:
            self._observer.postage_returned(returned.serial, returned.account, returned.amount, "refunded")
        return returned is not None

    async def reserved_before(self, moment: float, after: str) -> list[tuple[str, float]]:
        """See `PostageLedger`."""
        return await self.call(lambda ledger: ledger.reserved_before(moment, after))

    async def sweep(self, now: float) -> int:
        """Pay expired receipts back; how many."""
        returned = await self.call(lambda ledger: ledger.books.sweep(now))
        for one in returned:
            self._observer.postage_returned(one.serial, one.account, one.amount, "expired")
        return len(returned)

    async def call(self, work: Callable[[PostageLedger], T]) -> T:
        """What `work` gives. Raises PostageUnavailable."""
        try:
            return await self._thread.call(work)
        except StoreUnavailable as error:
            self._observer.postage_failed("using the ledger", error)
            raise PostageUnavailable(str(error)) from error
