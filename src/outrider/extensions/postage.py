"""Postage: a sender pays for a message from an account that he has here, a receipt for each recipient, each
good once (MT2-21d). The ledger is AMDP's (AMDP-20).

The data are lines ``PURPOSE RECEIPT``. A receipt is reserved when its envelope is judged, for this transfer,
and is spent if and only if the message is stored for its recipient: what is refused or given up afterwards
has cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from outrider.extensions.base import DeliveryBase, texts, word_of
from outrider.extensions.choices import identity_matches, user_key
from outrider.extensions.interface import (
    PASSED,
    Carried,
    EnvelopeFacts,
    ExtensionError,
    ExtensionVerdict,
    OutgoingMail,
    Refusal,
    Rights,
)
from outrider.extensions.oids import POSTAGE, code_of
from outrider.extensions.postage_office import Answer, PostageOffice, Presented, purpose_of
from outrider.model.address import Address
from outrider.model.facts import Fact, Provenance
from outrider.protocols.amdp.prices import PriceError, format_price, parse_price

MAX_RECEIPTS = 40
"""Of one envelope: so many fit into an extension's data."""

BUSY = code_of(POSTAGE, 4, 1)
UNPAID = code_of(POSTAGE, 5, 1)
NOT_GOOD = code_of(POSTAGE, 5, 2)
_LINE = re.compile(r"(mt2-[0-9a-f]{64}) ([A-Za-z0-9_.-]{1,1500})")


class Postage(DeliveryBase):
    """See the module. Options: `price` (for each recipient, like ``"0.001"``), `require` (``never``, or
    ``always``: who brings no receipt is refused), `exempt` (hosts, users and ``.domains`` who need none),
    `pay` (recipient's domain to the price that we pay for our users' mail)."""

    name: ClassVar[str] = "postage"
    oid: ClassVar[str] = POSTAGE
    summary: ClassVar[str] = "receipts for postage paid from an account here, each good once"
    rights: ClassVar[Rights] = Rights.PROVEN
    screens: ClassVar[bool] = True

    def read_options(self, options: dict[str, object]) -> None:
        """See `ExtensionBase`."""
        self._price = _price(options.pop("price", "0.001"), "price")
        self._required = word_of(options, "require", "never", ("never", "always")) == "always"
        self._exempt = texts(options, "exempt")
        paid = options.pop("pay", {})
        if not isinstance(paid, dict):
            raise ValueError("pay: a table of domains and prices")
        self._pay = {str(domain).lower(): _price(price, "pay") for domain, price in paid.items()}

    # --- mail to us -----------------------------------------------------------------------------------------

    async def screen(self, envelope: EnvelopeFacts) -> ExtensionVerdict:
        """A message without receipts."""
        if self._office() is None or not self._owes(envelope):
            return PASSED
        return ExtensionVerdict(recipients=dict.fromkeys(envelope.recipients, self._unpaid()))

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """Each recipient needs a receipt of his own. An exempt sender's are not touched."""
        receipts = _read(data)
        office = self._office()
        if office is None or self._is_exempt(envelope):
            return ExtensionVerdict(text="No postage is taken.")
        refused: dict[Address, Refusal] = {}
        amounts: list[int] = []
        for recipient, one in zip(envelope.recipients, self._presented(envelope, receipts), strict=True):
            if one is None:
                if self._owes(envelope):
                    refused[recipient] = self._unpaid()
                continue
            judged = await office.present(one, envelope.now)
            if judged.answer is Answer.PAID:
                amounts.append(judged.amount)
            else:
                code = BUSY if judged.answer is Answer.BUSY else NOT_GOOD
                refused[recipient] = Refusal(code, judged.text)
        is_whole = len(amounts) == len(envelope.recipients) and bool(amounts)
        facts = (self._fact(min(amounts), envelope.now),) if is_whole else ()
        return ExtensionVerdict(recipients=refused, facts=facts, text=f"{len(amounts)} paid.")

    async def ended(self, envelope: EnvelopeFacts, data: str) -> None:
        """What was reserved is spent, or free again."""
        office = self._office()
        if office is None or self._is_exempt(envelope):
            return
        try:
            presented = self._presented(envelope, _read(data))
        except ExtensionError:
            return  # nothing was reserved
        await office.ended([one for one in presented if one is not None], envelope.now, envelope.now)

    def _presented(self, envelope: EnvelopeFacts, receipts: dict[str, str]) -> Sequence[Presented | None]:
        """By recipient; None where nothing came for one. Whose receipts they are must be proven, and a
        transfer that no proven peer has named could be anybody's."""
        sender = envelope.sender
        if sender is None or not envelope.peer or not self._is_proven(sender.domain, envelope):
            if receipts:
                raise ExtensionError("postage is taken of proven hosts and senders only")
            return [None] * len(envelope.recipients)
        found: list[Presented | None] = []
        for position, recipient in zip(envelope.positions, envelope.recipients, strict=True):
            purpose = purpose_of(envelope.message_id, user_key(recipient))
            receipt = receipts.get(purpose)
            found.append(
                None
                if receipt is None
                else Presented(
                    receipt,
                    envelope.transfer,
                    position,
                    purpose,
                    sender.domain,
                    recipient.domain,
                    self._price,
                )
            )
        return found

    def _is_proven(self, domain: str, envelope: EnvelopeFacts) -> bool:
        return any(identity_matches(f".{domain}", one) for one in envelope.identities)

    def _owes(self, envelope: EnvelopeFacts) -> bool:
        is_mail = envelope.sender is not None and not envelope.report
        return self._required and is_mail and not self._is_exempt(envelope)

    def _is_exempt(self, envelope: EnvelopeFacts) -> bool:
        return any(identity_matches(name, one) for name in self._exempt for one in envelope.identities)

    def _office(self) -> PostageOffice | None:
        office = self.context.postage
        return office if office is not None and office.takes else None

    def _unpaid(self) -> Refusal:
        office = self.context.postage
        price = format_price(self._price) + ("" if office is None else f" {office.currency}")
        return Refusal(UNPAID, f"Postage of {price} for this recipient is required.")

    def _fact(self, amount: int, now: float) -> Fact:
        return Fact("mt2.postage", amount, Provenance.PROVEN, "receipts of our ledger", now)

    # --- our users' mail ------------------------------------------------------------------------------------

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Receipts for recipients in the domains of `pay`; ledgers sell the same one at each attempt."""
        office = self.context.postage
        if office is None:
            return None
        lines: list[str] = []
        for recipient in [one for one in mail.recipients if one.domain in self._pay][:MAX_RECEIPTS]:
            purpose = purpose_of(f"{mail.message}@{self.context.hostname}", user_key(recipient))
            price = self._pay[recipient.domain]
            receipt = await office.buy(purpose, mail.sender, recipient, price, mail.now)
            if receipt:
                lines.append(f"{purpose} {receipt}")
        return Carried(POSTAGE, "\n".join(lines)) if lines else None


def _read(data: str) -> dict[str, str]:
    """Receipts by purpose. Raises ExtensionError."""
    lines = data.split("\n")
    found = [_LINE.fullmatch(line) for line in lines[: MAX_RECEIPTS + 1]]
    receipts = {one[1]: one[2] for one in found if one is not None}
    if len(lines) > MAX_RECEIPTS or None in found or len(receipts) != len(found):
        raise ExtensionError(f"the data are 1 to {MAX_RECEIPTS} lines: purpose and receipt")
    return receipts


def _price(value: object, name: str) -> int:
    try:
        price = parse_price(value) if isinstance(value, str) else 0
    except PriceError as error:
        raise ValueError(f"{name}: {error}") from error
    if price < 1:
        raise ValueError(f'{name}: a price like "0.001"')
    return price
