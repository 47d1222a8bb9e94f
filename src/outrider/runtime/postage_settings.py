"""The settings of postage: whether they fit, and our accounts at others' ledgers (AMDP-20)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from outrider.config.schema import Config
from outrider.holding.postage.forms import SECRET_LENGTH, key_of
from outrider.holding.postage.payer import PayingAccount
from outrider.holding.postage.receipt import is_currency, is_domain
from outrider.protocols.amdp.json_forms import FormError
from outrider.protocols.amdp.prices import PriceError, parse_price
from outrider.runtime.payment_plugins import NoCaller, plugged_payers, plugged_provider


def check_postage(config: Config) -> None:
    """Whether the settings fit each other, and the keys can be read. Raises ValueError that begins with the
    key."""
    settings = config.amdp.postage
    if not is_currency(settings.currency):
        raise ValueError("amdp.postage.currency: three capital letters (ISO 4217)")
    try:
        parse_price(settings.most)
    except PriceError as error:
        raise ValueError(f"amdp.postage.most: {error}") from error
    options = config.mt2.extensions.options.get("postage", {})
    if settings.provider == "none" and options.get("require", "never") != "never":
        key = "mt2.extensions.options.postage.require"
        raise ValueError(f'{key}: nobody could pay, as [amdp.postage] provider is "none"')
    paying_accounts(config)
    plugged_provider(settings, NoCaller())
    plugged_payers(settings, NoCaller())


def paying_accounts(config: Config) -> Mapping[str, PayingAccount]:
    """Our accounts at others, by recipient domain. Raises ValueError that begins with the key."""
    found: dict[str, PayingAccount] = {}
    for domain, text in config.amdp.postage.accounts.items():
        key = f'amdp.postage.accounts."{domain}"'
        name, _, file = text.partition(":")
        if not is_domain(domain.lower()) or not name or not file:
            raise ValueError(f"{key}: a recipient's domain, and ACCOUNT:FILE")
        try:
            with Path(file).open("rb") as opened:
                secret = opened.read(SECRET_LENGTH + 64).decode("ascii", "replace").strip()
            found[domain.lower()] = PayingAccount(name, key_of(secret))
        except OSError as error:
            raise ValueError(f"{key}: {file}: {error.strerror}") from error
        except FormError as error:
            raise ValueError(f"{key}: {file}: {error}") from error
    return found
