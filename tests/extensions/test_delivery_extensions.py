"""Allow-lists, notifications and the spam trap (MT2-21b)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from outrider.extensions.allow_lists import AllowList
from outrider.extensions.interface import (
    Carried,
    Consent,
    ObjectFacts,
    OutgoingMail,
    RecipientRequest,
)
from outrider.extensions.notifications import DELIVERED, Notification
from outrider.extensions.oids import ALLOW_LIST, NOTIFICATION, SPAM_TRAP
from outrider.extensions.spam_trap import MATCHES, SpamTrap
from outrider.model.address import parse_address
from tests.extensions.support import ANN, BEN, Site, site

BODY = ObjectFacts("message/body", "ab" * 32, 100)
NO_FIELDS: Callable[[str], tuple[str, ...]] = lambda _: ()  # noqa: E731


async def _say_yes(here: Site) -> RecipientRequest:
    """Ben says yes to the one thing that waits."""
    (one,) = await here.thread.call(lambda store: store.waiting(here.now))
    return RecipientRequest(BEN, ANN, one.message_id, one.data, here.now, one.proven, Consent.ASK)


@pytest.mark.covers("MT2-21b", "MT2-20")
async def test_an_allow_list_is_asked_for_granted_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with site(tmp_path, AllowList()) as b, site(tmp_path / "a", AllowList()) as a:
        await b.enable("allow-list")
        await a.enable("allow-list")
        # Ann asks; her own site remembers that she did.
        asking = OutgoingMail("Q1", ANN, (BEN,), a.now, lambda _: ("request we met in Prague",))
        (request,), _ = await a.desk.outgoing(asking)
        assert request == Carried(ALLOW_LIST, "request we met in Prague")
        assert (await b.desk.envelope(b.facts(), [request])).refusal is None
        (waiting,) = await b.thread.call(lambda store: store.waiting(b.now))
        assert "we met in Prague" in waiting.text
        # Ben consents; a control message takes the token to Ann's site.
        (answer,) = await b.desk.consented(waiting, await _say_yes(b))
        assert answer.report is not None
        from_b = frozenset({"process@b.example", "mx.b.example"})
        control = a.facts("mx.b.example/9", None, (ANN,), from_b, report=True)
        assert (await a.desk.envelope(control, answer.delivery)).refusal is None
        # From now on her mail shows it.
        (shown,), _ = await a.desk.outgoing(OutgoingMail("Q2", ANN, (BEN,), a.now, NO_FIELDS))
        assert shown.data.startswith("token ben@b.example ")
        welcome = await b.desk.envelope(b.facts("mx.a.example/2"), [shown])
        assert ("mt2.allow-listed", True) in [(fact.name, fact.value) for fact in welcome.facts]
        # It is good for nobody else.
        eve = parse_address("eve@evil.example")
        stolen = await b.desk.envelope(b.facts("mx.evil.example/1", eve), [shown])
        assert "mt2.allow-listed" not in [fact.name for fact in stolen.facts]


@pytest.mark.covers("MT2-21b")
async def test_a_token_that_nobody_asked_for_is_not_kept(tmp_path: Path) -> None:
    async with site(tmp_path, AllowList()) as a:
        await a.enable("allow-list")
        forged = Carried(ALLOW_LIST, f"grant {'x' * 26} 1900000000")
        control = a.facts("mx.b.example/9", None, (ANN,), frozenset({"mx.b.example"}), report=True)
        await a.desk.envelope(control, [forged])
        assert await a.desk.outgoing(OutgoingMail("Q2", ANN, (BEN,), a.now, NO_FIELDS)) == ((), ())
        # Nor one from a site that was not asked.
        await a.desk.outgoing(OutgoingMail("Q1", ANN, (BEN,), a.now, lambda _: ("request please",)))
        control = a.facts("mx.c.example/9", None, (ANN,), frozenset({"mx.c.example"}), report=True)
        await a.desk.envelope(control, [forged])
        assert await a.desk.outgoing(OutgoingMail("Q2", ANN, (BEN,), a.now, NO_FIELDS)) == ((), ())


@pytest.mark.covers("MT2-21b")
async def test_a_notification_is_sent_when_it_is_in_the_mailbox(tmp_path: Path) -> None:
    async with site(tmp_path, Notification()) as here:
        carried = Carried(NOTIFICATION, "delivered")
        assert (await here.desk.envelope(here.facts(), [carried])).messages == ()
        (message,) = await here.desk.delivered(here.mail(delivery=(carried,)))
        assert message.to == ANN
        assert message.sender is None
        assert message.report is not None
        assert (message.report.code, message.report.recipient) == (DELIVERED, BEN)
        assert await here.desk.delivered(here.mail(delivery=(carried,), report=True)) == ()


@pytest.mark.covers("MT2-21b", "MT2-26")
async def test_what_a_trap_caught_is_refused_by_its_envelope_alone(tmp_path: Path) -> None:
    trap = parse_address("nobody@b.example")
    async with site(tmp_path, SpamTrap()) as here:
        here.set_up(spam_trap={"traps": ["nobody@b.example"], "share_with": ["c.example"]})
        await here.enable("spam-trap")
        assert (await here.desk.envelope(here.facts(objects=(BODY,)), [])).refusal is None
        caught = await here.desk.envelope(here.facts(objects=(BODY,), recipients=(trap,)), [])
        assert caught.refusal is None, "the trap itself takes everything"
        (notice,) = caught.messages
        assert str(notice.to) == "postmaster@c.example"
        assert notice.delivery[0].data.startswith(BODY.sha256)
        second = await here.desk.envelope(
            here.facts("mx.a.example/2", objects=(BODY,), recipients=(trap,)), []
        )
        assert second.messages == (), "partners are told once"
        matched = await here.desk.envelope(here.facts("mx.a.example/3", objects=(BODY,)), [])
        assert matched.refusal is not None
        assert matched.refusal.code == MATCHES


@pytest.mark.covers("MT2-21b", "MT2-20")
async def test_notices_are_taken_from_those_who_were_granted_it(tmp_path: Path) -> None:
    async with site(tmp_path, SpamTrap()) as here:
        here.set_up(spam_trap={"action": "mark"})
        await here.enable("spam-trap")
        notice = [Carried(SPAM_TRAP, f"{BODY.sha256} 1900000000")]
        await here.desk.envelope(here.facts(), notice)
        clean = await here.desk.envelope(here.facts("x/1", objects=(BODY,)), [])
        assert "mt2.trap-match" not in [fact.name for fact in clean.facts]
        await here.thread.call(lambda store: store.grant("spam-trap", "mx.a.example"))
        here.later()
        await here.desk.envelope(here.facts(), notice)
        marked = await here.desk.envelope(here.facts("x/2", objects=(BODY,)), [])
        assert marked.refusal is None
        assert ("mt2.trap-match", True) in [(fact.name, fact.value) for fact in marked.facts]
