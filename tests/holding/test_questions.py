"""Call-backs of many envelopes: pooled, batched, and in nobody's way (AMDP-9, AMDP-12)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outrider.holding.incoming.arrival_store import Arrival, ArrivalState
from outrider.holding.incoming.questions import MOST_STRANGERS, REST_S, HolderAway, Question, Refusal
from outrider.holding.postage.provider_interface import PostageUnavailable, Redeemed, Refused, Why
from outrider.holding.web import CallFailed
from outrider.model.address import parse_address
from outrider.model.message import MessageId
from outrider.model.result import Kind
from outrider.protocols.amdp.callback import ACKNOWLEDGE_PATH, QUERY_PATH, Query
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.report import PolicyReport
from tests.holding.incoming_support import HOLDER, IncomingRig, accepts, rig

BULK = parse_class("Agent::Bulk::newsletter")


def question(site: IncomingRig, number: int, holder: str = HOLDER) -> Question:
    envelope = site.envelope(number)
    held = site.holder.held[envelope.id]
    query = Query(envelope.id, envelope.timestamp, envelope.expires, held.fields)
    arrival = Arrival(
        holder, 443, envelope.id, MessageId(f"Q{number}"), "alpha.example", held.to, "", str(envelope.digest),
        "known", MessageId(f"F{number}"), ArrivalState.DELIVERED, envelope.expires, site.now,
    )  # fmt: skip
    return Question(query, parse_address(held.to), arrival)


@pytest.mark.covers("AMDP-9")
async def test_what_gathers_while_a_call_is_under_way_goes_together(tmp_path: Path) -> None:
    async with rig(tmp_path, concurrency=1) as site:
        await site.questions.ask(question(site, 500))
        site.holder.calls.clear()
        site.holder.hold = asyncio.Event()
        asked = [asyncio.create_task(site.questions.ask(question(site, number))) for number in range(1, 252)]
        for _ in range(5):
            await asyncio.sleep(0)
        site.holder.hold.set()
        arrivals = await asyncio.gather(*asked)
        assert len({one.confirmation for one in arrivals}) == 251
        assert site.holder.calls == [
            (QUERY_PATH, 100), (ACKNOWLEDGE_PATH, 100), (QUERY_PATH, 100), (ACKNOWLEDGE_PATH, 100),
            (QUERY_PATH, 51), (ACKNOWLEDGE_PATH, 51),
        ]  # fmt: skip
        assert all(held.burnt for held in site.holder.held.values())


@pytest.mark.covers("AMDP-9")
async def test_after_a_call_questions_gather_for_a_moment(tmp_path: Path) -> None:
    async with rig(tmp_path, concurrency=1, gather_s=600.0) as site:
        await site.questions.ask(question(site, 500))
        site.holder.calls.clear()
        asked = []
        for number in range(1, 101):
            assert site.holder.calls == []
            asked.append(asyncio.create_task(site.questions.ask(question(site, number))))
            await asyncio.sleep(0)
        # As many as a call can take go without waiting for the end of the moment.
        await asyncio.gather(*asked)
        assert site.holder.calls == [(QUERY_PATH, 100), (ACKNOWLEDGE_PATH, 100)]


@pytest.mark.covers("AMDP-9")
async def test_nothing_is_begun_when_the_server_stops(tmp_path: Path) -> None:
    async with rig(tmp_path, concurrency=1, gather_s=600.0) as site:
        await site.questions.ask(question(site, 500))
        site.holder.calls.clear()
        gathering = asyncio.create_task(site.questions.ask(question(site, 1)))
        await asyncio.sleep(0)
        await site.questions.aclose()
        with pytest.raises(HolderAway, match="stops"):
            await gathering
        with pytest.raises(HolderAway, match="stops"):
            await site.questions.ask(question(site, 2))
        assert site.holder.calls == []


@pytest.mark.covers("AMDP-12")
async def test_more_calls_at_once_only_where_there_is_more(tmp_path: Path) -> None:
    async with rig(tmp_path, concurrency=2) as site:
        await site.questions.ask(question(site, 1))
        calls = site.holder.calls
        calls.clear()
        site.holder.hold = asyncio.Event()
        first = asyncio.create_task(site.questions.ask(question(site, 2)))
        while site.questions._lines[HOLDER, 443].waiting or not first.get_loop().time():
            await asyncio.sleep(0)
        asked = [asyncio.create_task(site.questions.ask(question(site, n))) for n in range(3, 353)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert site.questions._lines[HOLDER, 443].calls == 2
        site.holder.hold.set()
        await asyncio.gather(first, *asked)
        assert sum(count for path, count in calls if path == QUERY_PATH) == 351
        assert len(calls) <= 2 * 5


@pytest.mark.covers("SEC-182")
async def test_one_id_asked_for_twice_at_once_is_taken_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        one = question(site, 1)
        from dataclasses import replace

        other = replace(one, arrival=replace(one.arrival, message=MessageId("Q2")))
        ends = await asyncio.gather(
            site.questions.ask(one),
            site.questions.ask(other),
            site.questions.ask(one),
            return_exceptions=True,
        )
        assert [type(end) for end in ends] == [Arrival, Refusal, Arrival]


@pytest.mark.covers("AMDP-12", "SEC-207")
async def test_a_holder_that_is_away_rests(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.holder.away = CallFailed("no route")
        asked = [asyncio.create_task(site.questions.ask(question(site, n))) for n in range(1, 101)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(end) for end in ends} == {HolderAway}
        site.holder.away = None
        with pytest.raises(HolderAway, match="no route"):
            await site.questions.ask(question(site, 200))
        assert site.holder.calls == []
        site.now += REST_S
        await site.questions.ask(question(site, 201))


@pytest.mark.covers("AMDP-12")
async def test_strangers_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """Holders that never answer have a part of the room; one that is known goes by."""
    async with rig(tmp_path) as site:
        known = question(site, 1)
        await site.questions.ask(known)
        site.holder.hold = asyncio.Event()
        silent = [
            asyncio.create_task(site.questions.ask(question(site, 10 + n, f"mhf-1.void{n}.example")))
            for n in range(MOST_STRANGERS)
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        with pytest.raises(HolderAway, match="have not answered yet"):
            await site.questions.ask(question(site, 500, "mhf-1.one-more.example"))
        goes = asyncio.create_task(site.questions.ask(question(site, 2)))
        await asyncio.sleep(0)
        site.holder.hold.set()
        await asyncio.gather(goes, *silent)
        await site.questions.ask(question(site, 501, "mhf-1.one-more.example"))


class Provider:
    """A postage provider that answers as it is told."""

    method, currency = "TEST", "USD"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.refunds: list[str] = []
        self.outcome: Redeemed | Refused | PostageUnavailable = Redeemed("S1", "alpha.example", 5, "USD")

    async def redeem(
        self, receipt: str, *, cause: str, payer: str, price: int, **_: object
    ) -> Redeemed | Refused:
        self.asked.append((receipt, cause, price))
        if isinstance(self.outcome, PostageUnavailable):
            raise self.outcome
        return self.outcome

    async def refund(self, receipt: str, *, cause: str, now: float) -> bool:
        if isinstance(self.outcome, PostageUnavailable):
            raise self.outcome
        self.refunds.append(cause)
        return True


@pytest.mark.covers("AMDP-20")
async def test_postage_is_redeemed_before_the_id_is_burnt(tmp_path: Path) -> None:
    provider = Provider()
    report = PolicyReport("beta.example", max_mail_size=10**7, accept=(accepts("*", 5),), pay=True)
    async with rig(tmp_path, report=report, postage=provider) as site:
        envelope = site.envelope(mail_class=BULK, postage="paid.for.it")
        arrived = site.arrive(mail_class=BULK, postage="paid.for.it")
        provider.outcome = PostageUnavailable("away")
        await site.run()
        assert site.last.kind is Kind.DEFERRED
        assert not site.holder.held[envelope.id].burnt
        provider.outcome = Redeemed("S1", "alpha.example", 5, "USD")
        site.now += 3600
        await site.run()
        assert len(site.delivered) == 1
        assert provider.asked == [("paid.for.it", arrived, 5)] * 2


@pytest.mark.covers("AMDP-20", "SEC-193")
async def test_postage_that_is_not_taken_ends_the_envelope(tmp_path: Path) -> None:
    provider = Provider()
    provider.outcome = Refused(Why.SPENT, "it is spent")
    report = PolicyReport("beta.example", max_mail_size=10**7, accept=(accepts("*", 5),), pay=True)
    async with rig(tmp_path, report=report, postage=provider) as site:
        envelope = site.envelope(mail_class=BULK, postage="paid.for.it")
        site.arrive(mail_class=BULK, postage="paid.for.it")
        await site.run()
        assert site.last.kind is Kind.DROPPED, site.observer.facts
        assert not site.holder.held[envelope.id].burnt
        assert site.observer.named("envelope_dropped")[0][1] == "postage"
        site.arrive(2, mail_class=BULK)
        await site.run()
        assert site.observer.named("envelope_dropped")[1][1] == "policy"
        assert len(provider.asked) == 1


@pytest.mark.covers("AMDP-9")
async def test_a_repeated_acknowledgement_of_another_number_ends_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        one = question(site, 1)
        site.holder.answers = lambda path, body: (
            b'{"answers":[{"done":true,"confirmation":"' + b"b" * 26 + b'"}]}'
            if path == ACKNOWLEDGE_PATH
            else body
        )
        with pytest.raises(Refusal):
            await site.questions.ask(one)


@pytest.mark.covers("AMDP-20")
async def test_what_is_paid_for_and_dropped_is_refunded(tmp_path: Path) -> None:
    provider = Provider()
    report = PolicyReport("beta.example", max_mail_size=10**7, accept=(accepts("*", 5),), pay=True)
    async with rig(tmp_path, report=report, postage=provider) as site:
        arrived = site.arrive(mail_class=BULK, postage="paid.for.it")
        site.holder.answers = lambda path, body: (
            b'{"answers":[{"done":false}]}' if path == ACKNOWLEDGE_PATH else body
        )
        await site.run()
        assert site.last.kind is Kind.DROPPED
        assert provider.refunds == [arrived]
