"""What the postage extension needs of the site's postage (MT2-21d); `holding` has it, on AMDP's ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from outrider.model.address import Address


class Answer(Enum):
    """What became of a receipt that was presented."""

    PAID = "paid"
    """It pays for this recipient, of this transfer."""
    BUSY = "busy"
    """Other mail has brought it, and is not yet taken or refused."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Presented:
    """A receipt, and what it is to pay for."""

    receipt: str
    transfer: str
    """`EnvelopeFacts.transfer`."""
    position: int
    """The recipient's in the envelope."""
    purpose: str
    """`purpose_of` message and recipient."""
    payer: str
    """The sender's domain, proven."""
    domain: str
    """The recipient's."""
    price: int
    """Thousandths."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of one receipt."""

    answer: Answer
    text: str
    amount: int = 0
    """Thousandths, where it is paid."""


class PostageOffice(Protocol):
    """Takes and buys receipts. All methods raise ExtensionUnavailable."""

    takes: bool
    """Whether this site keeps a ledger."""
    currency: str

    async def present(self, one: Presented, now: float) -> Judged:
        """Reserve a receipt for this transfer; the same again for the same transfer."""
        ...

    async def ended(self, presented: Sequence[Presented], before: float, now: float) -> None:
        """The transfer is over: what it reserved until `before` is spent for the recipients of a message that
        was stored, and free again for others; the spool says which."""
        ...

    async def buy(self, purpose: str, sender: Address, recipient: Address, price: int, now: float) -> str:
        """A receipt for mail of ours that was submitted `now`, the same one each time; "" where we do not
        pay."""
        ...


def purpose_of(message_id: str, recipient: str) -> str:
    """What a receipt pays for in MT2: one message (its envelope's id) to one recipient (`user_key`)."""
    told = f"{message_id}\n{recipient.casefold()}".encode("utf-8", "surrogatepass")
    return f"mt2-{hashlib.sha256(told).hexdigest()}"
