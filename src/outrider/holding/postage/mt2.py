"""MT2's postage on AMDP's ledger (MT2-21d): reserved with the envelope, spent with the commit.

Ledger and spool are two databases, so no transaction spans them. The spool decides: a reservation names the
transfer and the recipient's position, and the spool remembers for days which transfers it has stored, and
for which recipients (MT2-18a). It is asked right after a transfer's end, and where a crash came between in
the next sweep; so a receipt is spent if and only if the message is queued (SEC-191).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from outrider.extensions.interface import ExtensionUnavailable
from outrider.extensions.postage_office import Answer, Judged, Presented
from outrider.holding.postage.provider_interface import (
    Bill,
    Paid,
    Payer,
    PostageProvider,
    PostageUnavailable,
    Redeemed,
    Spending,
    Why,
)
from outrider.model.address import Address
from outrider.model.layered import TakenTransfer

GOOD_FOR_S: Final = 14 * 86_400
"""How long the receipts that we buy are good: longer than mail is tried."""
GIVEN_UP_AFTER_S: Final = 86_400.0
"""A transfer that was neither stored nor refused by then is none any more."""
_CAUSE = re.compile(r"mt2:([^/]+)/(.+)#([1-9][0-9]{0,5})", re.DOTALL)

FindTransfer = Callable[[str, str], Awaitable[TakenTransfer | None]]
"""`Spool.find_transfer`: by peer and transfer id. May raise anything for "nobody knows now"."""


class LedgerPostage:
    """Implements `extensions.postage_office.PostageOffice`."""

    def __init__(
        self,
        provider: PostageProvider | None,
        payer: Payer | None,
        find_transfer: FindTransfer,
        currency: str,
        clock: Callable[[], float],
    ) -> None:
        self.takes = provider is not None
        self.currency = currency
        self._provider = provider
        self._payer = payer
        self._find = find_transfer
        self._clock = clock

    async def present(self, one: Presented, now: float) -> Judged:
        """See `PostageOffice`."""
        with _unavailable():
            outcome = await self._ledger().reserve(one.receipt, _spending(one), now)
        if isinstance(outcome, Redeemed):
            return Judged(Answer.PAID, outcome.words, outcome.amount)
        answer = Answer.BUSY if outcome.why is Why.BUSY else Answer.REFUSED
        return Judged(answer, f"{outcome.words[:1].upper()}{outcome.words[1:]}.")

    async def ended(self, presented: Sequence[Presented], before: float, now: float) -> None:
        """See `PostageOffice`."""
        if not presented:
            return
        peer, _, transfer = presented[0].transfer.partition("/")
        taken = await self._find(peer, transfer)
        for one in presented:
            if _is_for(taken, one.position):
                # Not `settle`: if the sweep has freed it meanwhile it is spent all the same.
                await self._spent(one, now)
            else:
                await self._ledger().release(_spending(one).cause, before, now)

    async def _spent(self, one: Presented, now: float) -> None:
        wanted = _spending(one)
        await self._ledger().redeem(
            one.receipt,
            cause=wanted.cause,
            message_id=wanted.message_id,
            recipient_domain=wanted.recipient_domain,
            payer=wanted.payer,
            price=wanted.price,
            now=now,
        )

    async def sweep(self, now: float) -> int:
        """Find out how reservations ended of which nobody has said so; how many did."""
        done, after = 0, ""
        while True:
            page = await self._ledger().reserved_before(now, after)
            for cause, since in page:
                done += await self._resolved(cause, since, now)
            if not page:
                return done
            after = page[-1][0]

    async def _resolved(self, cause: str, since: float, now: float) -> int:
        parts = _CAUSE.fullmatch(cause)
        if parts is None:
            return 0
        taken = await self._find(parts[1], parts[2])
        if _is_for(taken, int(parts[3])):
            return await self._ledger().settle(cause, now)
        if taken is None and since > now - GIVEN_UP_AFTER_S:
            return 0  # it may be under way, or be resumed
        return await self._ledger().release(cause, since, now)

    async def buy(self, purpose: str, sender: Address, recipient: Address, price: int, now: float) -> str:
        """See `PostageOffice`."""
        if self._payer is None:
            return ""
        bill = Bill(purpose, sender.domain, recipient.domain, price, now + GOOD_FOR_S, self.currency)
        paid = await self._payer.pay(bill, self._clock())
        if isinstance(paid, Paid):
            return paid.receipt
        if paid.temporary:
            raise ExtensionUnavailable(paid.words)
        return ""

    def _ledger(self) -> PostageProvider:
        if self._provider is None:
            raise AssertionError("asked only where postage is taken")
        return self._provider


def _spending(one: Presented) -> Spending:
    cause = f"mt2:{one.transfer}#{one.position}"
    return Spending(cause, one.purpose, one.domain, one.payer, one.price)


def _is_for(taken: TakenTransfer | None, position: int) -> bool:
    """Whether the message is stored for the recipient at this position."""
    return taken is not None and all(one.position != position for one in taken.recipients)


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except PostageUnavailable as error:
        raise ExtensionUnavailable(str(error)) from error
