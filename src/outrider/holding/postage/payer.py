"""Paying for our mail at the prepaid ledgers of others (AMDP-20).

Nothing is remembered here: a ledger sells the same receipt again to whoever asks for the same, so a crash
between buying and noting costs nothing. Three things guard the purse: mail is paid for only where the
operator has an account ([amdp.postage] accounts), only in our currency, and never at more than he allows
([amdp.postage] most).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from outrider.holding.postage import forms
from outrider.holding.postage.observer import PostageObserver
from outrider.holding.postage.provider_interface import Bill, NotPaid, Paid
from outrider.holding.postage.receipt import MAX_RECEIPT, is_amount, is_purpose
from outrider.holding.web import CallAnswer, CallFailed, WebCaller
from outrider.protocols.amdp.json_forms import FormError, decode
from outrider.protocols.amdp.prices import format_price

METHOD: Final = "AMDP-LEDGER"
_RECEIPT = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_RECEIPT}}}")
_PAYEE = re.compile(r"([a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,30})(?::([0-9]{1,5}))?")
F = TypeVar("F", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class PayingAccount:
    """Our account at another site's ledger."""

    name: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where another site's ledger is asked."""

    host: str
    port: int


def ledger_of(bill: Bill, default_port: int) -> Ledger | None:
    """The ledger that a policy names in PAY-ACCT, at or below the recipient's domain; None for one that is
    elsewhere, or for a text that names none (SEC-185)."""
    if not bill.payee:
        return Ledger(f"amdp-mis.{bill.recipient_domain}", default_port)
    found = _PAYEE.fullmatch(bill.payee.lower())
    if found is None:
        return None
    host, port = found[1], int(found[2] or default_port)
    is_theirs = host == bill.recipient_domain or host.endswith(f".{bill.recipient_domain}")
    return Ledger(host, port) if is_theirs and (port == 443 or 1024 <= port <= 65535) else None


class LedgerPayer:
    """Implements `postage.Payer`."""

    def __init__(
        self,
        accounts: Mapping[str, PayingAccount],
        caller: WebCaller,
        currency: str,
        most: int,
        observer: PostageObserver,
        port: int = 443,
    ) -> None:
        """`accounts` by recipient domain; `most` in thousandths; `port` of ledgers whose port is not said."""
        self._accounts = accounts
        self._caller = caller
        self._currency = currency
        self._most = most
        self._observer = observer
        self._port = port

    async def pay(self, bill: Bill, now: float) -> Paid | NotPaid:
        """See `Payer`."""
        account = self._accounts.get(bill.recipient_domain)
        problem = self._problem(bill, account)
        ledger = ledger_of(bill, self._port)
        if account is None or ledger is None or problem:
            return NotPaid(problem or "PAY-ACCT names no ledger of that domain")
        wanted = forms.Buy(
            bill.sender_domain, bill.recipient_domain, bill.message_id, bill.price, bill.currency,
            int(bill.expires),
        )  # fmt: skip
        try:
            answer = await self._asked(ledger, forms.RECEIPT_PATH, account, wanted, now)
            bought = _read(answer, forms.Bought)
        except _Told as told:
            return NotPaid(f"the ledger at {ledger.host} {told}", told.temporary)
        if _RECEIPT.fullmatch(bought.receipt) is None:
            return NotPaid(f"the ledger at {ledger.host} answered with something that is no receipt")
        self._observer.postage_bought(bill.recipient_domain, bill.price)
        return Paid(bought.receipt, bill.price)

    def _problem(self, bill: Bill, account: PayingAccount | None) -> str:
        """Why this is not paid; "" for nothing."""
        if account is None:
            return f"we have no account at {bill.recipient_domain} to pay postage from"
        if bill.method and bill.method.upper() != METHOD:
            return f"{bill.recipient_domain} takes postage by a method that we do not have"
        if bill.currency != self._currency:
            return f"{bill.recipient_domain} takes postage in another currency than {self._currency}"
        if not is_amount(bill.price) or not is_purpose(bill.message_id):
            return "this cannot be paid for"
        if bill.price > self._most:
            asked, most = format_price(bill.price), format_price(self._most)
            return f"the postage of {asked} {self._currency} is more than the {most} that we pay at most"
        return ""

    async def take_back(self, receipt: str, bill: Bill, now: float) -> bool:
        """See `Payer`."""
        account, ledger = self._accounts.get(bill.recipient_domain), ledger_of(bill, self._port)
        if account is None or ledger is None or _RECEIPT.fullmatch(receipt) is None:
            return False
        try:
            answer = await self._asked(ledger, forms.REFUND_PATH, account, forms.GiveBack(receipt), now)
            return _read(answer, forms.GivenBack).done
        except _Told as told:
            self._observer.postage_failed(f"taking postage back from {ledger.host}", told)
            return False

    async def balance(self, domain: str, payee: str, now: float) -> forms.Balance | NotPaid:
        """What our account at a domain holds."""
        account = self._accounts.get(domain)
        ledger = ledger_of(Bill("", "", domain, 0, 0.0, payee=payee), self._port)
        if account is None or ledger is None:
            return NotPaid(f"we have no account at {domain}")
        try:
            return _read(
                await self._asked(ledger, forms.BALANCE_PATH, account, forms.Ask(), now), forms.Balance
            )
        except _Told as told:
            return NotPaid(f"the ledger at {ledger.host} {told}", told.temporary)

    async def _asked(
        self, ledger: Ledger, path: str, account: PayingAccount, request: msgspec.Struct, now: float
    ) -> CallAnswer:
        body = forms.prove(path, account.name, request, account.key, now)
        try:
            return await self._caller.post(ledger.host, ledger.port, path, body, limit=forms.MOST)
        except CallFailed as error:
            raise _Told(f"could not be asked: {error}", temporary=error.temporary) from error


class _Told(Exception):
    """What a ledger said, or did not."""

    def __init__(self, text: str, *, temporary: bool) -> None:
        super().__init__(text)
        self.temporary = temporary


def _read(answer: CallAnswer, form: type[F]) -> F:
    if answer.status != 200:
        temporary = answer.status in (402, 429) or answer.status >= 500
        raise _Told(f"answered {answer.status}{_problem_in(answer.body)}", temporary=temporary)
    try:
        return decode(answer.body, form, forms.MOST)
    except FormError as error:
        raise _Told("answered with something else than it should", temporary=False) from error


def _problem_in(body: bytes) -> str:
    """A peer's words, made fit for a trail."""
    try:
        problem = decode(body, forms.Problem, forms.MOST).problem
    except FormError:
        return ""
    return ": " + "".join(one if " " <= one <= "~" else "?" for one in problem[:120])
