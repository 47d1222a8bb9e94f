"""What payer and ledger say to each other over HTTPS (docs/protocols/amdp.md section 10). Pure.

A request is proven by an HMAC over the very octets of its text, with a key that account and ledger share, for
one path and one moment: it says nothing to anybody else's ledger, and nothing five minutes later. All that is
asked may be asked twice and is done once, so to repeat it within the five minutes gains nothing (SEC-207).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

import msgspec

from outrider.protocols.amdp.json_forms import FormError, decode

RECEIPT_PATH: Final = "/amdp/v1/postage/receipt"
BALANCE_PATH: Final = "/amdp/v1/postage/balance"
REFUND_PATH: Final = "/amdp/v1/postage/refund"
PATHS: Final = (RECEIPT_PATH, BALANCE_PATH, REFUND_PATH)
SKEW_S: Final = 300
"""How far the clocks of payer and ledger may differ."""
MOST: Final = 8192
"""Octets of a request or an answer."""
SECRET_LENGTH: Final = 52
"""Characters of an account's secret: 256 bits and some, base 32."""
_SECRET = re.compile(r"[a-z2-7]{52}")


class Proven(msgspec.Struct, frozen=True):
    """Every request."""

    account: str
    time: int
    request: str
    """JSON: `Buy`, `Ask` or `GiveBack`."""
    mac: str
    """64 hexadecimal digits, lower case."""


class Buy(msgspec.Struct, frozen=True):
    """RECEIPT_PATH."""

    payer: str
    domain: str
    purpose: str
    amount: int
    """Thousandths."""
    currency: str
    expires: int


class Bought(msgspec.Struct, frozen=True):
    """Its answer, 200."""

    receipt: str
    balance: int


class Ask(msgspec.Struct, frozen=True):
    """BALANCE_PATH."""


class Balance(msgspec.Struct, frozen=True):
    """Its answer, 200."""

    balance: int
    currency: str


class GiveBack(msgspec.Struct, frozen=True):
    """REFUND_PATH."""

    receipt: str


class GivenBack(msgspec.Struct, frozen=True):
    """Its answer, 200."""

    done: bool
    balance: int


class Problem(msgspec.Struct, frozen=True):
    """Any other answer."""

    problem: str


def key_of(secret: str) -> bytes:
    """The HMAC key of an account's secret, which is what the ledger keeps. Raises FormError."""
    if _SECRET.fullmatch(secret) is None:
        raise FormError("an account's secret is 52 characters of a-z and 2-7")
    return hashlib.sha256(b"outrider postage\n" + secret.encode("ascii")).digest()


def prove(path: str, account: str, request: msgspec.Struct, key: bytes, now: float) -> bytes:
    """The body of a request."""
    text = msgspec.json.encode(request).decode()
    return msgspec.json.encode(Proven(account, int(now), text, _mac(path, account, int(now), text, key)))


def read_proven(body: bytes) -> Proven:
    """Take a request apart; nothing is proven yet. Raises FormError."""
    return decode(body, Proven, MOST)


def is_proven(proven: Proven, path: str, key: bytes, now: float) -> bool:
    """Whether whoever has the key has said this, here and now."""
    wanted = _mac(path, proven.account, proven.time, proven.request, key)
    is_his = hmac.compare_digest(wanted.encode(), proven.mac.encode("utf-8", "surrogatepass"))
    return is_his and abs(proven.time - now) <= SKEW_S


def _mac(path: str, account: str, at: int, text: str, key: bytes) -> str:
    told = f"{path}\n{account}\n{at}\n{text}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, told, hashlib.sha256).hex()
