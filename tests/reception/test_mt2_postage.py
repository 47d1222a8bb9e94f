"""Postage with MT2's mail: a receipt is spent if and only if its message is queued (MT2-21d, SEC-191)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outrider.config.schema import Rule
from outrider.extensions.interface import Carried, EnvelopeFacts
from outrider.extensions.oids import POSTAGE
from outrider.extensions.postage import BUSY, NOT_GOOD, UNPAID, Postage
from outrider.extensions.postage_office import purpose_of
from outrider.extensions.setting_up import Place
from outrider.holding.postage.forms import key_of
from outrider.holding.postage.ledger import LedgerThread, Order, PostageLedger
from outrider.holding.postage.mt2 import GIVEN_UP_AFTER_S, LedgerPostage
from outrider.holding.postage.observer import SilentPostage
from outrider.holding.postage.provider import LedgerProvider
from outrider.message.objects.envelope import DeliveryExtension
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result
from outrider.spool.interface import SpoolUnavailable
from outrider.tables.database import SqliteDatabase
from tests.extensions.support import Site, site
from tests.holding.postage_rig import serials
from tests.identity.mt2_papers import NOW
from tests.reception.mt2_rig import Letter, Mt2Rig, changed, letter, mt2_rig

BOB, ANN = "bob@a.example", "ann@a.example"
NOBODY = "nobody@a.example"
ID = "m1@b.example"


@dataclass
class House:
    """A reception whose mail is to be paid for."""

    rig: Mt2Rig
    site: Site
    office: LedgerPostage
    provider: LedgerProvider

    async def receipt(self, recipient: str = BOB, message: str = ID) -> str:
        """A line of data, paid for."""
        purpose = purpose_of(message, recipient)
        order = Order("beta", "b.example", "a.example", purpose, 5, "USD", int(NOW) + 86_400)
        text = await self.provider.call(lambda ledger: ledger.sell(order, NOW))
        return f"{purpose} {text}"

    async def amdp_receipt(self) -> str:
        """Bought for an envelope of AMDP."""
        order = Order("beta", "b.example", "a.example", "b" * 26, 5, "USD", int(NOW) + 86_400)
        return await self.provider.call(lambda ledger: ledger.sell(order, NOW))

    async def sums(self) -> tuple[int, int, int]:
        """Open, reserved, spent; once all that goes on in the background is done."""
        while self.rig.reception._background:
            await asyncio.sleep(0)
        totals = await self.provider.call(lambda ledger: ledger.books.audit())
        assert totals.is_balanced
        return totals.open, totals.reserved, totals.spent


def mail(*lines: str, to: tuple[str, ...] = (BOB,), message: str = ID, critical: bool = True) -> Letter:
    postage = DeliveryExtension(POSTAGE, "\n".join(lines), critical=critical)
    return letter(*to, change=changed(extensions=(postage,) if lines else (), id=message))


@asynccontextmanager
async def house(tmp_path: Path, require: str = "always", **settings: Any) -> AsyncIterator[House]:
    def opened() -> PostageLedger:
        ledger = PostageLedger(SqliteDatabase(tmp_path / "postage.sqlite"), "USD", serials(), NOW)
        ledger.books.open_account("beta", ("b.example",), key_of("a" * 52), NOW, replace=True)
        ledger.books.credit("beta", 1000, "first", NOW)
        return ledger

    thread = LedgerThread(opened, "postage")
    provider = LedgerProvider(thread, "AMDP-LEDGER", "USD", SilentPostage())
    async with site(tmp_path, Postage()) as here:
        here.now = NOW
        await here.thread.call(lambda store: store.set_enabled("postage", "", enabled=True))
        async with mt2_rig(desk=here.desk, **settings) as rig:
            spool = rig.rig.spool
            office = LedgerPostage(provider, None, spool.find_transfer, "USD", lambda: NOW)
            place = Place("mx.a.example", frozenset({"a.example"}), here.new_token, here.in_thread, office)
            here.desk.set_up(place, {"postage": {"price": "0.005", "require": require}})
            await here.desk.refresh(NOW)
            yield House(rig, here, office, provider)
    await asyncio.to_thread(thread.close)


@pytest.mark.covers("MT2-21d", "AMDP-20")
async def test_a_paid_message_is_taken_and_its_receipt_is_gone(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        paid = await here.receipt()
        session = await here.rig.identified()
        assert (await here.rig.sent_whole(session, mail(paid))).code == codes.MESSAGE_TAKEN
        assert await here.sums() == (0, 0, 5)
        assert (await here.rig.sent_whole(session, mail(paid))).code == codes.ALREADY_TAKEN
        again = await here.rig.sent_whole(session, mail(paid), "t2")
        assert NOT_GOOD in str(again)
        assert await here.sums() == (0, 0, 5)


@pytest.mark.covers("MT2-21d", "MT2-16")
async def test_who_pays_nothing_is_told_the_price(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        session = await here.rig.identified()
        refused = await here.rig.sent_whole(session, mail())
        assert UNPAID in str(refused)
        assert "0.005 USD" in str(refused)
    async with house(tmp_path / "second", require="never") as here:
        session = await here.rig.identified()
        assert (await here.rig.sent_whole(session, mail())).code == codes.MESSAGE_TAKEN


@pytest.mark.covers("MT2-21d", "MT2-16", "SEC-191")
async def test_each_recipient_s_receipt_goes_by_his_own_result(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        lines = [await here.receipt(one) for one in (BOB, NOBODY)]
        session = await here.rig.identified()
        result = await here.rig.sent_whole(session, mail(*lines, to=(ANN, NOBODY, BOB)))
        assert result.code == codes.MESSAGE_TAKEN
        assert UNPAID in str(result), "Ann is not paid for"
        assert await here.sums() == (5, 0, 5), "what was paid for nobody is free again"


RULES = {
    "sender": Rule(name="no", stage="sender", action="refuse", when={"sender": "@b.example"}),
    "headers": Rule(name="no", stage="headers", action="refuse", when={"header.subject": "hello"}),
    "body": Rule(name="no", stage="body", action="defer", when={"message.size": {"min": 1}}),
}


@pytest.mark.covers("SEC-191", "MT2-21d")
@pytest.mark.parametrize("stage", ["sender", "recipient", "headers", "body", "disk", "aborted"])
async def test_what_is_refused_or_given_up_has_cost_nothing(tmp_path: Path, stage: str) -> None:
    rules = (RULES[stage],) if stage in RULES else ()
    async with house(tmp_path, rules=rules) as here:
        to = NOBODY if stage == "recipient" else BOB
        paid = await here.receipt(to)
        session = await here.rig.identified()
        message = mail(paid, to=(to,))
        if stage == "aborted":
            await here.rig.put(session, "t1", *message.parts[0])
            assert await here.sums() == (0, 5, 0)
            assert here.rig.reception.aborted(session, "t1")
        else:
            if stage == "disk":
                here.rig.rig.spool.store = _no_disk  # type: ignore[method-assign]
            assert not (await here.rig.sent_whole(session, message)).is_ok
        assert await here.sums() == (5, 0, 0)


def _no_disk(*_: object, **__: object) -> Any:
    raise SpoolUnavailable("no disk")


@pytest.mark.covers("MT2-21d", "SEC-191")
async def test_another_extension_s_refusal_frees_it_too(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        postage = DeliveryExtension(POSTAGE, await here.receipt(), critical=True)
        unknown = DeliveryExtension("2.25.1", "", critical=True)
        session = await here.rig.identified()
        result = await here.rig.sent_whole(session, letter(change=changed(extensions=(postage, unknown))))
        assert result.code == codes.UNKNOWN_CRITICAL_EXTENSION
        assert await here.sums() == (5, 0, 0)


@pytest.mark.covers("SEC-190", "MT2-21d")
async def test_of_twenty_transfers_with_one_receipt_one_is_taken(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        message = mail(await here.receipt())

        async def one(number: int) -> Result:
            session = await here.rig.identified()
            return await here.rig.sent_whole(session, message, f"t{number}")

        results = await asyncio.gather(*(one(number) for number in range(20)))
        assert [result.code for result in results].count(codes.MESSAGE_TAKEN) == 1
        assert all(BUSY in str(one) or NOT_GOOD in str(one) for one in results if not one.is_ok)
        assert await here.sums() == (0, 0, 5)


@pytest.mark.covers("SEC-191", "MT2-21d")
async def test_a_broken_connection_keeps_it_for_the_same_transfer_until_that_is_given_up(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as here:
        message = mail(await here.receipt())
        session = await here.rig.identified()
        await here.rig.put(session, "t1", *message.parts[0])
        await here.rig.reception.closed(session, "cut")
        assert await here.sums() == (0, 5, 0)
        other = await here.rig.identified()
        busy = await here.rig.sent_whole(other, message, "t2")
        assert BUSY in str(busy), "for now"
        assert await here.office.sweep(NOW + GIVEN_UP_AFTER_S - 1) == 0
        assert await here.office.sweep(NOW + GIVEN_UP_AFTER_S) == 1
        assert await here.sums() == (5, 0, 0)
        assert (await here.rig.sent_whole(other, message)).code == codes.MESSAGE_TAKEN
        assert await here.sums() == (0, 0, 5)


@pytest.mark.covers("SEC-191", "MT2-21d")
@pytest.mark.parametrize("recipients", [(BOB,), (NOBODY, BOB)])
async def test_a_crash_after_the_commit_is_made_good_by_the_sweep(
    tmp_path: Path, recipients: tuple[str, ...]
) -> None:
    """The process dies before anybody hears of the commit: the spool knows of it, and for whom."""
    async with house(tmp_path) as here:
        lines = [await here.receipt(one) for one in recipients]
        here.site.desk.ended = _died  # type: ignore[method-assign]
        session = await here.rig.identified()
        result = await here.rig.sent_whole(session, mail(*lines, to=recipients))
        assert result.code == codes.MESSAGE_TAKEN
        assert await here.sums() == (0, 5 * len(lines), 0)
        assert await here.office.sweep(NOW) == len(lines)
        assert await here.sums() == (5 * (len(lines) - 1), 0, 5)
        assert await here.office.sweep(NOW) == 0


async def _died(facts: EnvelopeFacts, carried: Sequence[Carried]) -> None:
    del facts, carried


@pytest.mark.covers("SEC-191", "MT2-21d")
async def test_a_crash_before_the_commit_leaves_the_repeat_paid(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        message = mail(await here.receipt())
        session = await here.rig.identified()
        await here.rig.put(session, "t1", *message.parts[0])
        here.rig.book.end(next(iter(here.rig.book.all_of(session))))  # all that the process knew is gone
        here.rig.reception = here.rig.made()
        repeated = await here.rig.identified()
        assert (await here.rig.sent_whole(repeated, message)).code == codes.MESSAGE_TAKEN
        assert await here.sums() == (0, 0, 5)


@pytest.mark.covers("MT2-21d", "SEC-193", "SEC-190")
@pytest.mark.parametrize(
    "what", ["other message", "other recipient", "two for one", "rubbish", "none", "amdp"]
)
async def test_a_receipt_for_something_else_pays_nothing(tmp_path: Path, what: str) -> None:
    async with house(tmp_path) as here:
        paid = await here.receipt()
        purpose, _, text = paid.partition(" ")
        lines = {
            "other message": (await here.receipt(message="m2@b.example"),),
            "other recipient": (await here.receipt(ANN),),
            "two for one": (paid, paid),
            "rubbish": (f"{purpose} {text[:-1]}",),
            "none": ("",),
            "amdp": (f"{purpose} {await here.amdp_receipt()}",),
        }[what]
        session = await here.rig.identified()
        assert not (await here.rig.sent_whole(session, mail(*lines))).is_ok
        assert (await here.sums())[1:] == (0, 0)


@pytest.mark.covers("MT2-21d", "SEC-193")
async def test_only_the_sender_s_own_hosts_pay_in_his_name(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        paid = await here.receipt()
        session = await here.rig.identified()
        other = letter(
            sender="ann@c.example",
            change=changed(extensions=(DeliveryExtension(POSTAGE, paid, critical=True),)),
        )
        assert not (await here.rig.sent_whole(session, other)).is_ok
        nobody = await here.rig.greeted()
        assert not (await here.rig.sent_whole(nobody, mail(paid))).is_ok
        assert await here.sums() == (5, 0, 0)
