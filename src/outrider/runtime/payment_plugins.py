"""Ways of paying postage that come as packages (AMDP-20)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import cast

from outrider.config.amdp_schema import AmdpPostage
from outrider.holding.postage.provider_interface import GROUP, Payer, Payment, PaymentFactory, PostageProvider
from outrider.holding.web import CallAnswer, CallFailed, StreamedAnswer, WebCaller

OWN = ("none", "ledger")


def plugged_provider(settings: AmdpPostage, caller: WebCaller) -> PostageProvider | None:
    """The package's provider; None where there is to be none, or ours. Raises ValueError that begins with the
    key."""
    if settings.provider in OWN:
        return None
    provider = _payment(settings, settings.provider, "amdp.postage.provider", caller).provider
    if provider is None:
        raise ValueError(f"amdp.postage.provider: {settings.provider} pays, but takes nothing")
    return provider


def plugged_payers(settings: AmdpPostage, caller: WebCaller) -> Mapping[str, Payer]:
    """Packages' payers by method, in capitals. Raises ValueError that begins with the key."""
    found: dict[str, Payer] = {}
    for method, name in settings.payers.items():
        key = f"amdp.postage.payers.{method}"
        payer = _payment(settings, name, key, caller).payer
        if payer is None:
            raise ValueError(f"{key}: {name} takes payments, but makes none")
        found[method.upper()] = payer
    return found


def _payment(settings: AmdpPostage, name: str, key: str, caller: WebCaller) -> Payment:
    points = list(entry_points(group=GROUP, name=name))
    if len(points) != 1:
        known = ", ".join(sorted(point.name for point in entry_points(group=GROUP))) or "there is none"
        raise ValueError(f"{key}: no installed package has the entry point {name} in {GROUP}: {known}")
    try:
        return cast(PaymentFactory, points[0].load())(settings.options.get(name, {}), caller)
    except Exception as error:  # a stranger's program: whatever it is, it is said in one line
        raise ValueError(f"{key}: {name} cannot be used: {type(error).__name__}: {error}") from error


class NoCaller:
    """Implements `WebCaller` while settings are checked: nobody is to be called then."""

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        """See `WebCaller`."""
        raise CallFailed(f"{host}:{port} is not called while settings are checked: {path} {limit}")

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        """See `WebCaller`."""
        del body
        return await self.get(host, port, path, limit=limit)

    def stream(
        self, host: str, port: int, path: str, body: bytes, *, limit: int
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        """See `WebCaller`."""
        del body
        raise CallFailed(f"{host}:{port} is not called while settings are checked: {path} {limit}")
