"""Priced envelopes at an incoming gateway with a real ledger: paid for once, whatever dies when (AMDP-20)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from outrider.holding.postage.ledger import LedgerThread, Order, PostageLedger
from outrider.holding.postage.observer import SilentPostage
from outrider.holding.postage.provider import LedgerProvider
from outrider.holding.postage.provider_interface import PostageUnavailable
from outrider.model.result import Kind
from outrider.protocols.amdp.callback import ACKNOWLEDGE_PATH, AcknowledgementAnswers, Done
from outrider.protocols.amdp.json_forms import encode
from outrider.protocols.amdp.mail_class import parse_pattern
from outrider.protocols.amdp.report import AcceptClass, PolicyReport
from outrider.tables.database import SqliteDatabase
from tests.holding.incoming_support import START, IncomingRig, rig
from tests.holding.postage_rig import KEY, serials

DAY = 86_400
PRICED = PolicyReport(
    "beta.example",
    max_mail_size=10_000_000,
    accept=(AcceptClass(parse_pattern("*"), 5),),
    pay=True,
)


@dataclass
class Gateway:
    """An incoming gateway that wants 0.005 for everything, and its ledger."""

    site: IncomingRig
    provider: LedgerProvider

    async def receipt(self, number: int = 1, **changes: Any) -> str:
        """For the envelope of that number."""
        name = self.site.envelope(number).id
        order = Order("alpha", "alpha.example", "beta.example", name, 5, "USD", int(START) + 30 * DAY)
        return await self.provider.call(lambda ledger: ledger.sell(replace(order, **changes), START))

    async def sums(self) -> tuple[int, int]:
        """Open and spent."""
        totals = await self.provider.call(lambda ledger: ledger.books.audit())
        assert totals.is_balanced
        assert totals.reserved == 0
        return totals.open, totals.spent


@asynccontextmanager
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    def opened() -> PostageLedger:
        ledger = PostageLedger(SqliteDatabase(tmp_path / "postage.sqlite"), "USD", serials(), START)
        ledger.books.open_account("alpha", ("alpha.example", "gamma.example"), KEY, START, replace=True)
        ledger.books.credit("alpha", 10_000, "first", START)
        return ledger

    thread = LedgerThread(opened, "postage")
    provider = LedgerProvider(thread, "AMDP-LEDGER", "USD", SilentPostage())
    async with rig(tmp_path, report=PRICED, postage=provider) as site:
        yield Gateway(site, provider)
    await asyncio.to_thread(thread.close)


@pytest.mark.covers("AMDP-20", "AMDP-16")
async def test_a_paid_envelope_s_message_is_fetched_and_its_receipt_is_spent(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        here.site.arrive(postage=await here.receipt())
        await here.site.run()
        assert len(here.site.fetched()) == 1
        assert await here.sums() == (0, 5)


@pytest.mark.covers("AMDP-20", "SEC-193")
@pytest.mark.parametrize(
    "lie", ["none", "rubbish", "other message", "other payer", "too little", "other domain", "expired"]
)
async def test_an_envelope_that_pays_otherwise_is_dropped(tmp_path: Path, lie: str) -> None:
    async with gateway(tmp_path) as here:
        receipt = {
            "none": lambda: here.receipt(1),
            "rubbish": lambda: here.receipt(1),
            "other message": lambda: here.receipt(2),
            "other payer": lambda: here.receipt(1, payer="gamma.example"),
            "too little": lambda: here.receipt(1, amount=4),
            "other domain": lambda: here.receipt(1, domain="other.example"),
            "expired": lambda: here.receipt(1, expires=int(START) + 1),
        }[lie]
        postage = await receipt()
        here.site.now += 2
        here.site.arrive(postage={"none": "", "rubbish": postage[:-4]}.get(lie, postage))
        await here.site.run()
        assert here.site.last.kind is Kind.DROPPED
        assert here.site.fetched() == []
        assert here.site.delivered == []
        assert (await here.sums())[1] == 0


@pytest.mark.covers("SEC-190", "SEC-182")
async def test_of_many_copies_of_a_paid_envelope_one_is_taken(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        postage = await here.receipt()
        here.site.envelope(postage=postage)
        octets = here.site.octets
        for _ in range(20):
            here.site.arrive(octets=octets)
        await here.site.run()
        assert len(here.site.fetched()) == 1
        assert await here.sums() == (0, 5)


@pytest.mark.covers("AMDP-20", "SEC-191")
async def test_an_envelope_that_is_withdrawn_after_it_was_paid_is_refunded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        here.site.arrive(postage=await here.receipt())
        refused = encode(AcknowledgementAnswers((Done(done=False),)))
        here.site.holder.answers = lambda path, body: refused if path == ACKNOWLEDGE_PATH else body
        await here.site.run()
        assert here.site.last.kind is Kind.DROPPED
        assert await here.sums() == (0, 0)
        balance = await here.provider.call(lambda ledger: ledger.balance("alpha"))
        assert balance == 10_000


@pytest.mark.covers("AMDP-20")
async def test_a_ledger_that_is_away_makes_paid_envelopes_wait(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        here.site.arrive(postage=await here.receipt())
        real, here.provider.redeem = here.provider.redeem, _away  # type: ignore[method-assign]
        await here.site.run()
        assert here.site.last.kind is Kind.DEFERRED
        here.provider.redeem = real  # type: ignore[method-assign]
        here.site.now = here.site.queue[0].due
        await here.site.run()
        assert len(here.site.fetched()) == 1


async def _away(*_: object, **__: object) -> Any:
    raise PostageUnavailable("locked")


@pytest.mark.covers("SEC-191", "SEC-190", "AMDP-20")
async def test_killed_between_any_two_steps_it_is_paid_exactly_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as here:
        site = here.site
        for kill_at in range(1, 100):
            postage = await here.receipt(kill_at)
            site.arrive(kill_at, postage=postage)
            killed = await site.survive(kill_at)
            assert len(site.fetched()) == kill_at, site.results[-1]
            assert await here.sums() == (0, 5 * kill_at)
            if not killed:
                break
        assert 18 < kill_at < 100
