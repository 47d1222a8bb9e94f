"""Messages pulled from their holder, and what becomes of those that cannot be had."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outrider.config.schema import Rule
from outrider.holding.incoming.arrival_store import ArrivalState
from outrider.holding.incoming.fetch_transport import Turns
from outrider.holding.incoming.questions import HolderAway
from outrider.holding.web import CallFailed
from outrider.model.result import Kind
from outrider.protocols.amdp.attachments import HeldAttachment
from outrider.protocols.amdp.digest import digest_of
from outrider.spool.interface import SpoolUnavailable
from tests.holding.incoming_support import BODY, DAY, HOLDER, START, octets_of, rig, wrong_digest

MIXED = (
    b"From: ann@alpha.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x\r\nContent-Type: application/pdf\r\n"
    b'Content-Disposition: attachment; filename="plan.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--x--\r\n"
)


@pytest.mark.covers("SEC-183", "AMDP-22", "AMDP-18")
async def test_content_swapped_after_the_notice_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path, report_to="abuse@watch.example") as site:
        envelope = site.envelope()
        site.arrive()
        site.holder.body = lambda octets: octets.replace(b"promised", b"demanded")
        await site.run()
        assert site.fetched() == []
        letter, report = site.delivered
        assert b"Not received: minutes" in octets_of(letter)
        assert str(letter.envelope.recipients[0].address) == "bob@beta.example"
        assert letter.envelope.sender is None
        assert b"Feedback-Type: abuse" in octets_of(report)
        assert envelope.id.encode() not in octets_of(report)
        assert site.holder.held[envelope.id].receipts == 0
        assert site.last.kind is Kind.DROPPED
        [arrival] = (await site.arrivals.recall([(HOLDER, envelope.id)])).values()
        assert arrival.state is ArrivalState.LOST


@pytest.mark.covers("SEC-183", "SEC-184")
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("how", ["longer", "shorter", "endless", "other length", "truncated"])
async def test_a_body_of_another_length_is_refused(tmp_path: Path, how: str, large: bool) -> None:
    content = BODY + (b"0123456789\r\n" * 20_000 if large else b"")
    async with rig(tmp_path) as site:
        site.holder.piece = 65_536
        site.arrive(content=content, digest=digest_of([content]))
        match how:
            case "longer":
                site.holder.body = lambda octets: octets + b"more\r\n"
                site.holder.length = len(content)
            case "shorter":
                site.holder.body = lambda octets: octets[:-6]
                site.holder.length = len(content)
            case "endless":
                site.holder.body = lambda octets: octets * 5
                site.holder.length = len(content)
            case "other length":
                site.holder.length = len(content) + 1
            case "truncated":
                site.holder.body = lambda octets: octets[:-6]
        await site.run()
        assert site.fetched() == []
        assert len(site.delivered) == 1
        assert site.last.kind is Kind.DROPPED


@pytest.mark.covers("SEC-184", "SEC-188")
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_a_body_that_breaks_off_is_fetched_again(tmp_path: Path, large: bool) -> None:
    content = BODY + (b"0123456789\r\n" * 20_000 if large else b"")
    async with rig(tmp_path) as site:
        site.holder.piece = 65_536 if large else 16
        site.holder.breaks_at = site.holder.piece
        site.arrive(content=content, digest=digest_of([content]))
        await site.run()
        assert site.last.kind is Kind.DEFERRED
        assert site.recorder.abandoned == ["the fetch broke off"]
        assert site.fetched() == []
        site.holder.breaks_at = -1
        site.now += 3600
        await site.run()
        [message] = site.fetched()
        assert octets_of(message) == content


@pytest.mark.covers("SEC-184")
@pytest.mark.parametrize("status", [206, 301, 304, 401, 429, 500, 503])
async def test_other_answers_are_waited_out(tmp_path: Path, status: int) -> None:
    async with rig(tmp_path, window=10.0, allowed=("alpha.example",)) as site:
        site.arrive()
        site.chance = 0.9
        await site.run()
        assert len(site.fetched()) == 1
        site.arrive(2)
        [queued] = site.queue
        site.settle(queued, await site.attempt(queued))
        site.holder.status = status
        await site.run()
        assert site.last.kind is Kind.DEFERRED
        site.holder.status = 200
        site.now += 3600
        await site.run()
        assert len(site.fetched()) == 2
        assert site.delivered == []


@pytest.mark.covers("AMDP-23", "SEC-189")
@pytest.mark.parametrize("end", ["expired", "gone", "unreachable"])
async def test_what_cannot_be_had_is_told_to_its_reader(tmp_path: Path, end: str) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope()
        site.arrive()
        [queued] = site.queue
        site.settle(queued, await site.attempt(queued))
        match end:
            case "expired":
                site.holder.away = CallFailed("no route")
                for _ in range(400):
                    await site.run()
                    if not site.queue:
                        break
                    site.now = max(site.now, site.queue[0].due)
                assert START + 7 * DAY <= site.now < START + 8 * DAY
            case "gone":
                site.holder.held[envelope.id].withdrawn = True
                await site.run()
            case "unreachable":
                site.holder.away = CallFailed("the address is private", temporary=False)
                await site.run()
        assert site.queue == []
        [letter] = site.delivered
        octets = octets_of(letter)
        assert b"ann@alpha.example" in octets
        assert b"Auto-Submitted: auto-replied" in octets
        assert site.observer.named("message_lost")[0][2] == end
        assert site.fetched() == []


@pytest.mark.covers("AMDP-23")
async def test_pulled_mail_meets_the_same_rules(tmp_path: Path) -> None:
    when: dict[str, object] = {"header.subject": "*minutes*", "protocol": "amdp"}
    rules = (Rule("no minutes", "refuse", "headers", when),)
    async with rig(tmp_path, rules=rules) as site:
        envelope = site.envelope()
        site.arrive()
        await site.run()
        assert site.fetched() == []
        assert "no minutes" in site.last.text
        assert site.last.kind is Kind.DROPPED
        assert site.holder.held[envelope.id].receipts == 0
        assert site.delivered == []


@pytest.mark.covers("AMDP-23", "ITP-2b")
async def test_rules_see_what_the_call_back_proved(tmp_path: Path) -> None:
    when: dict[str, object] = {"amdp.domain": "alpha.example", "amdp.standing": "unclassified"}
    rules = (Rule("strangers", "tag", "headers", when, value="X-From-Alpha: yes"),)
    async with rig(tmp_path, rules=rules) as site:
        site.arrive()
        await site.run()
        [message] = site.fetched()
        assert b"X-From-Alpha: yes\r\n" in message.trace


@pytest.mark.covers("AMDP-8")
@pytest.mark.parametrize(
    "author", [b"ceo@bank.example", b"ann@alpha.example, ceo@bank.example", b"ann@sub.alpha.example"]
)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_the_author_is_of_the_proven_domain(tmp_path: Path, author: bytes, large: bool) -> None:
    content = BODY.replace(b"Ann <ann@alpha.example>", author) + (b"x\r\n" * 70_000 if large else b"")
    async with rig(tmp_path) as site:
        site.holder.piece = 65_536
        site.arrive(content=content, digest=digest_of([content]))
        await site.run()
        assert site.fetched() == []
        assert site.last.kind is Kind.DROPPED


@pytest.mark.covers("AMDP-23", "SEC-184")
async def test_stray_line_ends_are_no_mail(tmp_path: Path) -> None:
    content = BODY + b"one\ntwo\r\n.\r\n"
    async with rig(tmp_path) as site:
        site.arrive(content=content, digest=digest_of([content]))
        await site.run()
        assert site.fetched() == []
        assert len(site.delivered) == 1


@pytest.mark.covers("AMDP-4b")
@pytest.mark.parametrize("told", ["truth", "other name", "none", "another"])
async def test_what_arrives_is_compared_with_what_was_told(tmp_path: Path, told: str) -> None:
    true = HeldAttachment("plan.pdf", "application/pdf", 3)
    attachments = {
        "truth": (true,),
        "other name": (HeldAttachment("plan.exe", "application/pdf", 3),),
        "none": (),
        "another": (true, true),
    }[told]
    async with rig(tmp_path) as site:
        site.arrive(content=MIXED, digest=digest_of([MIXED]), attachments=attachments)
        await site.run()
        assert len(site.fetched()) == 1
        assert bool(site.observer.named("announcement_untrue")) is (told != "truth")


async def test_a_spool_that_is_full_makes_fetches_wait(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope()
        site.arrive()
        [queued] = site.queue
        site.settle(queued, await site.attempt(queued))
        site.spool.fail_with = SpoolUnavailable("disk")
        [queued] = site.queue
        done = await site.attempt(queued)
        assert done.results[0].kind is Kind.DEFERRED
        site.spool.fail_with = None
        await site.run()
        assert len(site.fetched()) == 1
        assert site.holder.held[envelope.id].receipts == 1


async def test_a_message_of_another_digest_was_never_the_envelopes(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.arrive(digest=wrong_digest())
        await site.run()
        assert site.fetched() == []
        assert site.last.kind is Kind.DROPPED


@pytest.mark.covers("SEC-187")
async def test_few_fetches_at_once_from_one_holder() -> None:
    turns = Turns(2)
    running, most = 0, 0
    go_on = asyncio.Event()

    async def fetch() -> None:
        nonlocal running, most
        async with turns.turn(HOLDER):
            running += 1
            most = max(most, running)
            await go_on.wait()
            running -= 1

    tasks = [asyncio.create_task(fetch()) for _ in range(42)]
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(HolderAway):
        await fetch()
    async with turns.turn("mhf-1.gamma.example"):
        pass
    go_on.set()
    await asyncio.gather(*tasks)
    assert most == 2


@pytest.mark.covers("AMDP-13")
async def test_a_receipt_is_given_until_it_is_taken(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope()
        site.arrive()
        for _ in range(2):
            [queued] = site.queue
            site.settle(queued, await site.attempt(queued))
        site.holder.away = CallFailed("no route")
        await site.run()
        assert site.last.kind is Kind.DEFERRED
        site.holder.away = None
        site.now += 3600
        await site.run()
        assert site.holder.held[envelope.id].receipts == 1
        assert site.queue == []


@pytest.mark.covers("AMDP-13")
async def test_a_receipt_that_nobody_wants_ends(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        for number, way in ((1, "gone"), (2, "expired")):
            envelope = site.envelope(number)
            site.arrive(number)
            for _ in range(2):
                [queued] = site.queue
                site.settle(queued, await site.attempt(queued))
            if way == "gone":
                del site.holder.held[envelope.id]
                await site.run()
            else:
                site.holder.away = CallFailed("no route")
                await site.run()
                site.now += 8 * DAY
                await site.run()
            assert site.queue == []
            assert site.last.kind is Kind.DROPPED
        assert len(site.fetched()) == 2
