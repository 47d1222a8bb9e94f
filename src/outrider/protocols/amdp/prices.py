"""Prices (AMDP-16): exact decimals, counted in thousandths of the currency; never a float (SEC-193)."""

from __future__ import annotations

import re

MAX_PRICE = 10**12
"""Thousandths: a milliard of the currency."""
_FORM = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,12}))?", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)


class PriceError(ValueError):
    """The text is no price that can be counted exactly; the argument says why."""


def parse_price(text: str) -> int:
    """``0.001`` to 1, ``12`` to 12000. Raises PriceError, for what is finer than 1/1000 too."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise PriceError("a price is digits with at most one point")
    fraction = (form[2] or "").rstrip("0")
    if len(fraction) > 3:
        raise PriceError("a price is counted in thousandths: at most three decimals")
    price = int(form[1]) * 1000 + int(fraction.ljust(3, "0"))
    if price > MAX_PRICE:
        raise PriceError("a price is at most 1000000000")
    return price


def format_price(price: int) -> str:
    """1 to ``0.001``, 12000 to ``12.000``: always three decimals."""
    if not 0 <= price <= MAX_PRICE:
        raise PriceError("not a price")
    return f"{price // 1000}.{price % 1000:03d}"


def parse_currency(text: str) -> str:
    """ISO 4217 in upper case. Raises PriceError."""
    if _CURRENCY.fullmatch(text) is None:
        raise PriceError("a currency is three letters (ISO 4217)")
    return text.upper()
