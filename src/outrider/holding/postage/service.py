"""The ledger's HTTPS service: buy a receipt, ask for the balance, take a receipt back (AMDP-20).

Served at `amdp-mis.DOMAIN` of each of our domains. An unknown account, a wrong key and a wrong clock are
answered alike; whoever asks so too often from one address waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from outrider.holding.postage import forms
from outrider.holding.postage.books import is_account
from outrider.holding.postage.forms import Proven
from outrider.holding.postage.ledger import Order, OrderRefused, PostageLedger
from outrider.holding.postage.observer import PostageObserver
from outrider.holding.postage.provider import LedgerProvider
from outrider.holding.postage.provider_interface import PostageUnavailable
from outrider.holding.web import JSON, WebRequest, WebResponse
from outrider.identity.login_limits import LoginLimits
from outrider.protocols.amdp.json_forms import FormError, decode

GUESSES_A_MINUTE: Final = 20
"""Requests of one address that prove nothing."""
_NO_KEY: Final = bytes(32)
_NOT_PROVEN: Final = "the account, its key or the time is wrong"

Answer = tuple[int, msgspec.Struct]


class PostageService:
    """Implements `web.WebService`."""

    def __init__(
        self,
        provider: LedgerProvider,
        domains: frozenset[str],
        observer: PostageObserver,
    ) -> None:
        """`domains`: whose mail the ledger takes receipts for."""
        self._provider = provider
        self._domains = domains
        self._observer = observer
        self._hosts = frozenset(f"amdp-mis.{one}" for one in domains)
        self._limits = LoginLimits(GUESSES_A_MINUTE, 0, 60.0)
        self._by_path: dict[str, Callable[[Proven, float], Awaitable[Answer]]] = {
            forms.RECEIPT_PATH: self._buy,
            forms.BALANCE_PATH: self._balance,
            forms.REFUND_PATH: self._give_back,
        }

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return host in self._hosts and path in forms.PATHS

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        if request.method != "POST":
            return _said(405, "only POST is answered here", {"Allow": "POST"})
        wait = self._limits.wait_s(request.client, "", request.now)
        if wait > 0:
            return _said(429, "too many requests that prove nothing", {"Retry-After": str(int(wait) + 1)})
        try:
            status, form = await self._answered(request)
        except FormError as error:
            return _said(400, str(error))
        except PostageUnavailable:
            return _said(503, "the ledger cannot be used now", {"Retry-After": "60"})
        return WebResponse(status, msgspec.json.encode(form), JSON)

    async def _answered(self, request: WebRequest) -> Answer:
        proven = forms.read_proven(request.body)
        key = await self._key(proven.account)
        # The MAC of nobody's account is computed too: the time taken does not tell which accounts there are.
        is_proven = forms.is_proven(proven, request.path, key or _NO_KEY, request.now)
        if key is None or not is_proven:
            self._limits.failed(request.client, "", request.now)
            self._observer.postage_asked_in_vain(str(request.client), proven.account[:64], _NOT_PROVEN)
            return 403, forms.Problem(_NOT_PROVEN)
        return await self._by_path[request.path](proven, request.now)

    async def _key(self, account: str) -> bytes | None:
        name = account if is_account(account) else "-"
        return await self._provider.call(lambda ledger: ledger.mac_key(name))

    async def _buy(self, proven: Proven, now: float) -> Answer:
        wanted = decode(proven.request.encode("utf-8", "surrogatepass"), forms.Buy, forms.MOST)
        if wanted.domain not in self._domains:
            return 409, forms.Problem("the ledger takes nothing for this domain")
        order = Order(
            proven.account, wanted.payer, wanted.domain, wanted.purpose, wanted.amount, wanted.currency,
            wanted.expires,
        )  # fmt: skip

        def sell(ledger: PostageLedger) -> forms.Bought:
            return forms.Bought(ledger.sell(order, now), ledger.balance(order.account))

        try:
            bought = await self._provider.call(sell)
        except OrderRefused as error:
            self._observer.postage_refused("order", str(error), order.payer, order.account)
            return 402 if error.temporary else 409, forms.Problem(str(error))
        self._observer.postage_sold(order.account, order.payer, order.domain, order.amount)
        return 200, bought

    async def _balance(self, proven: Proven, now: float) -> Answer:
        del now
        balance = await self._provider.call(lambda ledger: ledger.balance(proven.account))
        return 200, forms.Balance(balance, self._provider.currency)

    async def _give_back(self, proven: Proven, now: float) -> Answer:
        wanted = decode(proven.request.encode("utf-8", "surrogatepass"), forms.GiveBack, forms.MOST)
        returned = await self._provider.call(
            lambda ledger: ledger.take_back(wanted.receipt, proven.account, now)
        )
        if returned is not None and not returned.again:
            self._observer.postage_returned(returned.serial, returned.account, returned.amount, "taken back")
        balance = await self._provider.call(lambda ledger: ledger.balance(proven.account))
        return 200, forms.GivenBack(returned is not None, balance)


def _said(status: int, problem: str, headers: dict[str, str] | None = None) -> WebResponse:
    return WebResponse(status, msgspec.json.encode(forms.Problem(problem)), JSON, headers or {})
