"""Stamps of hashcash version 1, and that each is good once (MT2-21b)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outrider.extensions.hashcash import OUTDATED, SPENT, TOO_CHEAP, UNPAID, Hashcash
from outrider.extensions.hashcash_stamp import StampError, mint, parse_stamp, zero_bits
from outrider.extensions.interface import Carried, OutgoingMail
from outrider.extensions.oids import HASHCASH
from tests.extensions.support import ANN, BEN, NOW, site

PUBLISHED = "1:20:1303030600:adam@cypherspace.org::McMybZIhxKXu57jd:ckvi"
"""An example that the format's own documents use."""


@pytest.mark.covers("MT2-21b")
def test_a_published_stamp_is_worth_what_it_claims() -> None:
    stamp = parse_stamp(PUBLISHED)
    assert (stamp.bits, stamp.resource) == (20, "adam@cypherspace.org")
    assert stamp.is_paid
    assert stamp.made_at == 1362290400.0  # 2013-03-03 06:00
    assert not parse_stamp(PUBLISHED.replace("ckvi", "ckvj")).is_paid


@pytest.mark.covers("MT2-21b")
def test_a_minted_stamp_is_paid() -> None:
    text = mint("ben@b.example", 12, NOW, "abcdefgh")
    stamp = parse_stamp(text)
    assert stamp.is_paid
    assert zero_bits(text) >= 12
    assert stamp.made_at == NOW


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0:20:130303:a::b:c",
        "1:20:130303:a::b",
        "1:20:130303:a::b:c:d",
        "1:161:130303:a::b:c",
        "1:99999:130303:a::b:c",
        "1:20:131303:a::b:c",
        "1:20:1303:a::b:c",
        "1:20:130303:a b::b:c",
        "1:20:130303:a::b\r\n:c",
        "1:٢٠:130303:a::b:c",
        "1:20:130303:" + "a" * 600 + "::b:c",
    ],
)
def test_what_is_no_stamp_is_refused(text: str) -> None:
    with pytest.raises(StampError):
        parse_stamp(text)


@pytest.mark.covers("MT2-21b")
async def test_a_stamp_is_spent_by_one_transfer(tmp_path: Path) -> None:
    async with site(tmp_path, Hashcash()) as here:
        here.set_up(hashcash={"bits": 10})
        await here.enable("hashcash")
        carried = [Carried(HASHCASH, mint("ben@b.example", 10, here.now, "once"))]
        first = await here.desk.envelope(here.facts("mx.a.example/1"), carried)
        assert first.refusal is None
        assert first.recipients == {}
        assert [(fact.name, fact.value) for fact in first.facts if fact.name == "mt2.hashcash"] == [
            ("mt2.hashcash", 10)
        ]
        repeated = await here.desk.envelope(here.facts("mx.a.example/1"), carried)
        assert repeated.recipients == {}, "the same transfer, sent again after a lost connection, is paid"
        again = await here.desk.envelope(here.facts("mx.a.example/2"), carried)
        assert again.recipients[BEN].code == SPENT
        assert not [fact for fact in again.facts if fact.name == "mt2.hashcash"]


@pytest.mark.covers("MT2-21b")
async def test_of_many_at_once_one_has_the_stamp(tmp_path: Path) -> None:
    async with site(tmp_path, Hashcash()) as here:
        here.set_up(hashcash={"bits": 8})
        await here.enable("hashcash")
        carried = [Carried(HASHCASH, mint("ben@b.example", 8, here.now, "race"))]
        verdicts = await asyncio.gather(
            *(here.desk.envelope(here.facts(f"mx.a.example/{n}"), carried) for n in range(20))
        )
        assert sum(not verdict.recipients for verdict in verdicts) == 1


@pytest.mark.covers("MT2-21b")
async def test_cheap_outdated_missing_and_foreign_stamps_pay_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, Hashcash()) as here:
        here.set_up(hashcash={"bits": 10, "require": "always"})
        await here.enable("hashcash")

        async def code(data: str) -> str:
            verdict = await here.desk.envelope(here.facts(), [Carried(HASHCASH, data)])
            return verdict.recipients[BEN].code

        day = 86_400.0
        assert await code(mint("ben@b.example", 4, here.now, "cheap")) == TOO_CHEAP
        lies = mint("ben@b.example", 4, here.now, "lies").replace("1:4:", "1:10:")
        assert await code(lies) == TOO_CHEAP
        assert await code(mint("ben@b.example", 10, here.now - 40 * day, "old")) == OUTDATED
        assert await code(mint("ben@b.example", 10, here.now + 5 * day, "new")) == OUTDATED
        assert await code(mint("cyn@b.example", 10, here.now, "else")) == UNPAID
        without = await here.desk.envelope(here.facts(), [])
        assert without.recipients[BEN].code == UNPAID
        bounce = await here.desk.envelope(here.facts(sender=None), [])
        assert bounce.recipients == {}, "nobody pays for a report"


@pytest.mark.covers("MT2-21b")
async def test_our_own_mail_is_stamped_once(tmp_path: Path) -> None:
    async with site(tmp_path, Hashcash()) as here:
        here.set_up(hashcash={"bits": 8, "stamp": ["b.example"]})
        await here.enable("hashcash")
        mail = OutgoingMail("Q1", ANN, (BEN,), here.now, lambda _: ())
        (first,), _ = await here.desk.outgoing(mail)
        assert parse_stamp(first.data).is_paid
        assert parse_stamp(first.data).resource == "ben@b.example"
        assert await here.desk.outgoing(mail) == ((first,), ()), "the same at the next attempt"
        own = mint("ben@b.example", 9, here.now, "own")
        brought = OutgoingMail("Q2", ANN, (BEN,), here.now, lambda _: (own, "1:nonsense"))
        assert (await here.desk.outgoing(brought))[0][0].data == own
