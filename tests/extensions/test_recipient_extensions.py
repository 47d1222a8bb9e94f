"""vCards, dispositions, challenges and list commands (MT2-21c)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.extensions.base import setting_key
from outrider.extensions.challenge import Challenge
from outrider.extensions.disposition import DISPLAYED, PROCESSED, Disposition
from outrider.extensions.interface import Carried, Consent, ExtensionError, RecipientRequest
from outrider.extensions.list_commands import ListCommands, command_of
from outrider.extensions.oids import CHALLENGE, DISPOSITION, VCARD
from outrider.extensions.vcard import VcardRequest, book_key, check_card
from tests.extensions.support import ANN, BEN, Site, site

CARD = "BEGIN:VCARD\nVERSION:4.0\nFN:Ben Bee\nEMAIL:ben@b.example\nEND:VCARD\n"


async def _the_request(here: Site) -> RecipientRequest:
    (one,) = await here.thread.call(lambda store: store.waiting(here.now))
    return RecipientRequest(BEN, ANN, one.message_id, one.data, here.now, one.proven, Consent.ASK)


async def _set(here: Site, setting: str, value: str) -> None:
    await here.choices.memory(VCARD).put(setting_key(BEN, setting), value, here.now + 1000)


@pytest.mark.covers("MT2-21c", "MT2-20")
async def test_a_vcard_request_waits_for_consent_and_then_the_card_goes(tmp_path: Path) -> None:
    async with site(tmp_path, VcardRequest()) as here:
        await here.enable("vcard", BEN)
        await _set(here, "card", CARD)
        assert await here.desk.received(here.mail(Carried(VCARD, "request we met in Prague"))) == ()
        (waiting,) = await here.thread.call(lambda store: store.waiting(here.now))
        assert waiting.text == "ann@a.example asks for your vCard: we met in Prague"
        (sent,) = await here.desk.consented(waiting, await _the_request(here))
        assert (sent.to, sent.sender) == (ANN, BEN)
        assert sent.recipient[0].data == f"card\n{CARD}"


@pytest.mark.covers("MT2-21c")
async def test_a_stranger_is_asked_once_and_his_card_is_kept(tmp_path: Path) -> None:
    async with site(tmp_path, VcardRequest()) as here:
        await here.enable("vcard", BEN)
        assert (await here.desk.guard(here.mail())).messages == ()
        await _set(here, "strangers", "ask")
        (request,) = (await here.desk.guard(here.mail())).messages
        assert (request.to, request.sender) == (ANN, BEN)
        assert request.recipient[0].data.startswith("request ")
        forged = here.mail(identities=frozenset({"mx.evil.example"}))
        assert (await here.desk.guard(forged)).messages == (), "no letter goes to whose name was forged"
        # Her card, which Ben has asked for, needs no further word.
        assert await here.desk.received(here.mail(Carried(VCARD, f"card\n{CARD}"))) == ()
        assert await here.thread.call(lambda store: store.waiting(here.now)) == []
        assert await here.choices.memory(VCARD).get(book_key(BEN, ANN)) == f"ann@a.example\n{CARD}"
        assert (await here.desk.guard(here.mail())).messages == ()


@pytest.mark.parametrize(
    "card",
    [
        "",
        "FN:x",
        CARD + CARD,
        CARD.replace("FN:Ben Bee", "FN:Ben\x00Bee"),
        CARD.replace("FN:Ben Bee", "no colon"),
        CARD.replace("Ben Bee", "x" * 40_000),
    ],
)
def test_what_is_no_vcard_is_refused(card: str) -> None:
    with pytest.raises(ExtensionError):
        check_card(card)


@pytest.mark.covers("MT2-21c")
async def test_a_disposition_says_what_is_true(tmp_path: Path) -> None:
    async with site(tmp_path, Disposition()) as here:
        await here.enable("disposition", BEN)
        mail = here.mail(Carried(DISPOSITION, "request"))
        assert await here.desk.received(mail) == ()
        (waiting,) = await here.thread.call(lambda store: store.waiting(here.now))
        (manual,) = await here.desk.consented(waiting, await _the_request(here))
        assert manual.report is not None
        assert (manual.report.code, manual.report.action) == (DISPLAYED, "displayed")
        await here.thread.call(
            lambda store: store.set_consent("disposition", "ben@b.example", "*", Consent.ALLOWED)
        )
        (automatic,) = await here.desk.received(mail)
        assert automatic.report is not None
        assert (automatic.report.code, automatic.report.action) == (PROCESSED, "processed")
        assert automatic.sender is None, "a control message, which nothing answers"


@pytest.mark.covers("MT2-21c")
async def test_a_stranger_waits_until_the_challenge_is_answered(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with site(tmp_path, Challenge()) as b, site(tmp_path / "a", Challenge()) as a:
        await b.enable("challenge", BEN)
        await a.enable("challenge", ANN)
        asked = await b.desk.guard(b.mail())
        assert asked.waits
        (challenge,) = asked.messages
        assert (await b.desk.guard(b.mail())).messages == (), "she is asked once, however often it is tried"
        # Ann's server puts it before her; nothing answers by itself.
        by_ben = a.facts("mx.b.example/1", BEN, (ANN,), frozenset({"mx.b.example"}))
        at_ann = type(a.mail())(by_ben, ANN, (), challenge.recipient, has_body=False)
        assert not (await a.desk.guard(at_ann)).waits, "challengers do not challenge each other for ever"
        assert await a.desk.received(at_ann) == ()
        (waiting,) = await a.thread.call(lambda store: store.waiting(a.now))
        request = RecipientRequest(ANN, BEN, waiting.message_id, waiting.data, a.now, True, Consent.ASK)
        (answer,) = await a.desk.consented(waiting, request)
        # The answer lets her through.
        answering = type(b.mail())(b.facts("mx.a.example/2"), BEN, (), answer.recipient, has_body=False)
        assert not (await b.desk.guard(answering)).waits
        assert await b.desk.received(answering) == ()
        assert not (await b.desk.guard(b.mail())).waits


@pytest.mark.covers("MT2-21c")
async def test_a_guessed_answer_opens_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, Challenge()) as b:
        await b.enable("challenge", BEN)
        await b.desk.guard(b.mail())
        guessed = b.mail(Carried(CHALLENGE, f"answer {'a' * 26}"))
        await b.desk.received(guessed)
        assert (await b.desk.guard(b.mail())).waits
        unproven = b.mail(identities=frozenset({"mx.evil.example"}))
        silent = await b.desk.guard(unproven)
        assert silent.waits
        assert silent.messages == ()
        disguised = b.mail(Carried(CHALLENGE, f"challenge {'a' * 26}"))
        assert (await b.desk.guard(disguised)).waits, "a message with a body is no challenge"


@pytest.mark.covers("MT2-21c")
async def test_a_person_takes_no_list_commands(tmp_path: Path) -> None:
    assert command_of(" Subscribe ") == "subscribe"
    with pytest.raises(ExtensionError):
        command_of("rm -rf")
    async with site(tmp_path, ListCommands()) as here:
        with pytest.raises(ExtensionError):
            await ListCommands().act(RecipientRequest(BEN, ANN, "m", "subscribe", here.now, True))
