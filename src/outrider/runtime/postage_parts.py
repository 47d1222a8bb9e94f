"""How postage is joined to the rest (AMDP-20, MT2-21d)."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider.config.schema import Config
from outrider.holding.postage.ledger import LedgerThread, PostageLedger
from outrider.holding.postage.mt2 import FindTransfer, LedgerPostage
from outrider.holding.postage.observer import PostageObserver
from outrider.holding.postage.payer import LedgerPayer
from outrider.holding.postage.provider import LedgerProvider
from outrider.holding.postage.provider_interface import (
    Payer,
    PayerByMethod,
    PostageProvider,
    PostageUnavailable,
)
from outrider.holding.postage.service import PostageService
from outrider.holding.web import WebCaller
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.prices import parse_price
from outrider.runtime.assembly import Assembly
from outrider.runtime.payment_plugins import plugged_payers, plugged_provider
from outrider.runtime.postage_settings import paying_accounts
from outrider.spool.interface import SpoolError
from outrider.tables.database import open_store

FILE: Final = Path("postage") / "postage.sqlite"
"""Below data_dir."""
SWEEP_EVERY_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class PostageParts:
    """What a server works with; made anew by a reload, on the same ledger."""

    provider: PostageProvider | None
    """Takes receipts; None: [amdp.postage] provider = "none"."""
    services: tuple[PostageService, ...]
    """The ledger's HTTPS service, to be served with the information service's."""
    payer: Payer
    """Pays for mail of ours; it refuses where there is no account."""
    office: LedgerPostage
    """For MT2's extension: `Place.postage`."""
    _ledger: LedgerProvider | None
    _observer: PostageObserver
    _clock: Callable[[], float]

    async def sweep(self) -> None:
        """Pay back what has expired, and find out how reservations ended. Never raises."""
        if self.provider is None:
            return
        try:
            await self.office.sweep(self._clock())
            if self._ledger is not None:
                await self._ledger.sweep(self._clock())
        except (PostageUnavailable, SpoolError) as error:
            self._observer.postage_failed("sweeping the ledger", error)

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_EVERY_S)


class PostageHouse:
    """Lives as long as the server: the ledger's thread, opened when it is first needed."""

    def __init__(self, assembly: Assembly, clock: Callable[[], float]) -> None:
        config, data_dir = assembly.config, assembly.data_dir
        self._clock = clock
        self._thread = LedgerThread(lambda: open_ledger(config, data_dir, clock()), "postage")

    def parts(
        self,
        assembly: Assembly,
        caller: WebCaller,
        find_transfer: FindTransfer,
        observer: PostageObserver,
    ) -> PostageParts:
        """What belongs to these settings, which `check_postage` has passed."""
        settings = assembly.config.amdp.postage
        ledger = None
        if settings.provider == "ledger":
            ledger = LedgerProvider(self._thread, settings.method, settings.currency, observer)
        provider = ledger or plugged_provider(settings, caller)
        domains = frozenset(assembly.config.domains)
        services = () if ledger is None else (PostageService(ledger, domains, observer),)
        accounts = paying_accounts(assembly.config)
        usual = LedgerPayer(
            accounts,
            caller,
            settings.currency,
            parse_price(settings.most),
            observer,
            assembly.config.net.amdp_port,
        )
        payer = PayerByMethod(usual, plugged_payers(settings, caller))
        office = LedgerPostage(provider, payer, find_transfer, settings.currency, self._clock)
        return PostageParts(provider, services, payer, office, ledger, observer, self._clock)

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._thread.close()


def open_ledger(config: Config, data_dir: Path, now: float) -> PostageLedger:
    """The ledger that the settings mean. Raises StoreUnavailable."""
    currency = config.amdp.postage.currency
    return open_store(
        lambda database: PostageLedger(database, currency, _new_serial, now), config, data_dir, FILE
    )


def new_secret() -> str:
    """An account's secret: 256 random bits."""
    return base64.b32encode(secrets.token_bytes(32)).decode("ascii").lower().rstrip("=")


def _new_serial() -> str:
    return identifier(secrets.token_bytes(OCTETS))
