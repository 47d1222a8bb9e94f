"""What a receipt is on the wire: a compact JWS over a small canonical JSON object (AMDP-20). Pure.

One receipt has one text: base64url in its only form, members in one order without spaces, numbers as integers
without leading zeros (SEC-192). What makes a receipt the same is its serial all the same, not its text, as
whoever holds an issuer's key could sign the same words twice.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from outrider.identity.jws import CompactJws, JwsError, Signer
from outrider.model.address import AddressError, parse_domain
from outrider.protocols.amdp.identifiers import is_identifier
from outrider.protocols.amdp.prices import MAX_PRICE

TYP: Final = "amdp-postage"
MAX_RECEIPT: Final = 1500
"""Characters; a usual one has about 560, and fits one line of a header."""
AHEAD_S: Final = 300
"""How far another's clock may be ahead of ours."""
_PURPOSE = re.compile(r"[a-z2-7]{26}|mt2-[0-9a-f]{64}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class ReceiptError(ValueError):
    """It is no receipt; the text says why, without any of its words."""


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed. The order of the members is that of the text."""

    serial: str
    """26 characters, random: names it in the ledger."""
    epoch: int
    """The issuer's; after a restored backup a new one begins (SEC-194)."""
    payer: str
    """Sender's domain, A-labels."""
    domain: str
    """Recipient's domain, A-labels."""
    purpose: str
    """AMDP's message id, or MT2's `purpose_of`."""
    amount: int
    """Thousandths, 1 or more."""
    currency: str
    issued: int
    """Seconds since the epoch of clocks."""
    expires: int


def is_purpose(text: str) -> bool:
    """Whether something of this name can be paid for."""
    return _PURPOSE.fullmatch(text) is not None


def is_amount(amount: int) -> bool:
    """Whether it can be paid: thousandths, never nothing and never less (SEC-193)."""
    return 1 <= amount <= MAX_PRICE


def is_currency(text: str) -> bool:
    """Three capital letters."""
    return _CURRENCY.fullmatch(text) is not None


def is_domain(text: str) -> bool:
    """Whether it is a domain in the one form in which domains are compared."""
    try:
        return not text.startswith("[") and parse_domain(text) == text
    except AddressError:
        return False


def write_receipt(receipt: Receipt, signer: Signer) -> str:
    """Its text. Raises ReceiptError for a receipt that nobody would read."""
    _check(receipt)
    return signer.compact(msgspec.json.encode(receipt), TYP)


class UnprovenReceipt:
    """A text that looks like a receipt; whose it is, its signature says."""

    def __init__(self, text: str) -> None:
        """Raises ReceiptError."""
        if len(text) > MAX_RECEIPT:
            raise ReceiptError("the receipt is too long")
        try:
            self._jws = CompactJws.read(text, TYP)
        except JwsError as error:
            raise ReceiptError(f"no receipt: {error}") from error

    @property
    def issuer(self) -> str:
        """The thumbprint of the issuer that it names."""
        return self._jws.thumbprint

    def proven(self, certificate: bytes) -> Receipt:
        """The receipt, if this issuer (certificate in DER) has signed it. Raises ReceiptError."""
        try:
            payload = self._jws.verified(certificate)
        except JwsError as error:
            raise ReceiptError(f"no receipt: {error}") from error
        try:
            receipt = msgspec.json.decode(payload, type=Receipt)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ReceiptError("what was signed is no receipt") from error
        if msgspec.json.encode(receipt) != payload:
            raise ReceiptError("the receipt is not in its canonical form")
        _check(receipt)
        return receipt


def _check(receipt: Receipt) -> None:
    is_sound = (
        is_identifier(receipt.serial)
        and is_purpose(receipt.purpose)
        and is_amount(receipt.amount)
        and is_currency(receipt.currency)
        and is_domain(receipt.payer)
        and is_domain(receipt.domain)
        and receipt.epoch >= 1
        and 0 <= receipt.issued < receipt.expires
    )
    if not is_sound:
        raise ReceiptError("a member of the receipt is out of range")
