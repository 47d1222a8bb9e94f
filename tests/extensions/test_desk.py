"""Who may use what, what is refused, and that an extension costs nothing but itself (MT2-19, MT2-20)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from outrider.extension_state.store import ExtensionStore
from outrider.extensions.base import DeliveryBase, RecipientBase
from outrider.extensions.interface import (
    Carried,
    Consent,
    EnvelopeFacts,
    ExtensionError,
    ExtensionMessage,
    ExtensionVerdict,
    RecipientRequest,
    Report,
    Rights,
)
from outrider.extensions.notifications import Notification
from outrider.extensions.oids import CHALLENGE, NOTIFICATION, TRACE
from outrider.extensions.registry import Available, Registry, RegistryError
from outrider.extensions.shipped import shipped
from outrider.protocols.mt2.codes import EXTENSION_REFUSED, NOT_NOW, UNKNOWN_CRITICAL_EXTENSION
from tests.extensions.support import ANN, BEN, site

OID = "2.25.12345"


class Faulty(DeliveryBase):
    name: ClassVar[str] = "faulty"
    oid: ClassVar[str] = OID
    summary: ClassVar[str] = "fails"
    enabled_by_default: ClassVar[bool] = True

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        if data == "malformed":
            raise ExtensionError("not like\r\nthat\x1b[31m")
        raise RuntimeError("a bug")


class Echo(RecipientBase):
    """Answers with what it got, once it may."""

    name: ClassVar[str] = "echo"
    oid: ClassVar[str] = OID
    summary: ClassVar[str] = "echoes"
    enabled_by_default: ClassVar[bool] = True

    def describe(self, request: RecipientRequest) -> str:
        if request.data == "malformed":
            raise ExtensionError("no such thing")
        return f"echo {request.data}"

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        return (ExtensionMessage(request.sender, request.user, recipient=(Carried(OID, request.data),)),)


@pytest.mark.covers("MT2-19", "MT2-20")
async def test_an_unknown_critical_extension_refuses_the_whole_message(tmp_path: Path) -> None:
    async with site(tmp_path, Notification()) as here:
        verdict = await here.desk.envelope(here.facts(), [Carried("2.25.99", "x", critical=True)])
        assert verdict.refusal is not None
        assert verdict.refusal.code == UNKNOWN_CRITICAL_EXTENSION
        assert [(part.name, part.word) for part in verdict.parts] == [("2.25.99", "ERR")]
        passed = await here.desk.envelope(here.facts(), [Carried("2.25.99", "x")])
        assert passed.refusal is None
        assert here.told.heard[-1][:2] == ("ignored", "2.25.99")


@pytest.mark.covers("MT2-20")
async def test_one_that_is_not_enabled_is_not_known(tmp_path: Path) -> None:
    async with site(tmp_path, Notification()) as here:
        await here.thread.call(lambda store: store.set_enabled("notification", "", enabled=False))
        here.later()
        carried = [Carried(NOTIFICATION, "delivered", critical=True)]
        refused = await here.desk.envelope(here.facts(), carried)
        assert refused.refusal is not None
        await here.enable("notification")
        assert (await here.desk.envelope(here.facts(), carried)).refusal is None


@pytest.mark.covers("MT2-20")
async def test_who_was_granted_it_may_use_it_and_then_nobody_else(tmp_path: Path) -> None:
    async with site(tmp_path, Notification()) as here:
        carried = [Carried(NOTIFICATION, "delivered", critical=True)]
        await here.thread.call(lambda store: store.grant("notification", ".c.example"))
        here.later()
        refused = await here.desk.envelope(here.facts(), carried)
        assert refused.refusal is not None
        assert refused.refusal.code == EXTENSION_REFUSED
        hosts = frozenset({"mx.c.example"})
        assert (await here.desk.envelope(here.facts(identities=hosts), carried)).refusal is None
        await here.thread.call(lambda store: store.revoke("notification", ".c.example"))
        here.later()
        assert (await here.desk.envelope(here.facts(), carried)).refusal is None
        nobody = await here.desk.envelope(here.facts(identities=frozenset()), carried)
        assert nobody.refusal is not None, "it is for those who prove who they are"


@pytest.mark.covers("MT2-19")
async def test_a_faulty_extension_costs_nothing_but_itself(tmp_path: Path) -> None:
    async with site(tmp_path, Faulty()) as here:
        passed = await here.desk.envelope(here.facts(), [Carried(OID, "x")])
        assert passed.refusal is None
        assert here.told.heard[-1] == ("failed", "faulty", "checking", "a bug")
        waits = await here.desk.envelope(here.facts(), [Carried(OID, "x", critical=True)])
        assert waits.refusal is not None
        assert waits.refusal.code == NOT_NOW


@pytest.mark.covers("MT2-19", "MT2-2")
async def test_errors_are_control_messages_and_these_cause_none(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, Faulty()) as here:
        verdict = await here.desk.envelope(here.facts(), [Carried(OID, "malformed")])
        assert verdict.refusal is None
        report = Report("m1@mx.a.example", OID, EXTENSION_REFUSED, "not like that [31m", BEN, "ignored")
        assert verdict.messages == (ExtensionMessage(ANN, report=report),)
        for unanswerable in (here.facts(report=True), here.facts(sender=None)):
            assert (await here.desk.envelope(unanswerable, [Carried(OID, "malformed")])).messages == ()


@pytest.mark.covers("MT2-19")
async def test_an_extension_twice_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path, Notification()) as here:
        twice = [Carried(NOTIFICATION, "delivered")] * 2
        assert (await here.desk.envelope(here.facts(), twice)).refusal is not None


@pytest.mark.covers("MT2-19", "MT2-21c")
async def test_nothing_is_done_for_a_user_without_consent(tmp_path: Path) -> None:
    async with site(tmp_path, Echo()) as here:
        mail = here.mail(Carried(OID, "hello"))
        assert await here.desk.received(mail) == ()
        assert here.told.heard[-1] == ("ignored", "echo", "ben@b.example has not enabled it")
        await here.enable("echo", BEN)
        mail = here.mail(Carried(OID, "hello"))
        assert await here.desk.received(mail) == ()
        assert here.told.heard[-1][0] == "asked"
        waiting = await here.thread.call(lambda store: store.waiting(here.now))
        assert [(one.user, one.sender, one.text) for one in waiting] == [
            ("ben@b.example", "ann@a.example", "echo hello")
        ]
        # The same message handled again, after a crash, is not put before him twice.
        assert await here.desk.received(mail) == ()
        assert len(await here.thread.call(lambda store: store.waiting(here.now))) == 1


async def _choose(here: object, word: Consent, sender: str = "ann@a.example") -> None:
    def work(store: ExtensionStore) -> None:
        store.set_consent("echo", "ben@b.example", sender, word)

    await here.thread.call(work)  # type: ignore[attr-defined]


@pytest.mark.covers("MT2-19", "MT2-20")
async def test_standing_consent_is_for_proven_senders_and_denial_is_silent(tmp_path: Path) -> None:
    async with site(tmp_path, Echo()) as here:
        await here.enable("echo", BEN)
        await _choose(here, Consent.ALLOWED)
        answered = await here.desk.received(here.mail(Carried(OID, "hello")))
        assert [(one.to, one.sender) for one in answered] == [(ANN, BEN)]
        forged = here.mail(Carried(OID, "hello"), identities=frozenset({"mx.evil.example"}))
        assert await here.desk.received(forged) == ()
        assert here.told.heard[-1][0] == "asked", "whoever only claims to be Ann has not got her consent"
        host = frozenset({"mx.a.example"})
        claimed = here.mail(Carried(OID, "hi"), identities=host, sender_is_claimed=True)
        assert await here.desk.received(claimed) == (), "her own host has only taken her word"
        assert await here.desk.received(here.mail(Carried(OID, "ho"), identities=host))
        await _choose(here, Consent.DENIED)
        assert await here.desk.received(here.mail(Carried(OID, "again"))) == ()
        assert here.told.heard[-1] == ("ignored", "echo", "ben@b.example has denied it")


@pytest.mark.covers("MT2-19")
async def test_errors_of_recipient_extensions_are_silent_unless_asked_for(tmp_path: Path) -> None:
    async with site(tmp_path, Echo()) as here:
        await here.enable("echo", BEN)
        bad = here.mail(Carried(OID, "malformed", errors=True))
        assert await here.desk.received(bad) == (), "a stranger learns nothing, not even that Ben is there"
        await here.thread.call(lambda store: store.set_errors("echo", "ben@b.example", wanted=True))
        assert [one.to for one in await here.desk.received(bad)] == [BEN]
        await here.thread.call(lambda store: store.set_errors("echo", "ben@b.example", wanted=False))
        await _choose(here, Consent.ALLOWED)
        told = await here.desk.received(bad)
        assert [(one.to, one.report is not None) for one in told] == [(ANN, True)]
        assert await here.desk.received(here.mail(Carried(OID, "malformed"))) == (), "she did not ask"


@pytest.mark.covers("MT2-20")
def test_the_registry_gives_every_name_and_branch_once() -> None:
    registry = Registry(shipped())
    assert {one.kind for one in registry} == {"transfer", "delivery", "recipient"}
    assert len({one.extension.oid for one in registry}) == 10
    with pytest.raises(RegistryError, match="another's"):
        registry.add(Available(Notification(), "again"))

    class Nested(Faulty):
        name: ClassVar[str] = "nested"
        oid: ClassVar[str] = f"{CHALLENGE}.1"

    with pytest.raises(RegistryError, match="branch"):
        registry.add(Available(Nested(), "nested"))
    word = registry.by_word("TRACE")
    assert word is not None
    assert word.oid == TRACE


@pytest.mark.covers("MT2-20")
async def test_options_that_mean_nothing_are_named(tmp_path: Path) -> None:
    async with site(tmp_path, *(one.extension for one in shipped())) as here:
        with pytest.raises(ValueError, match=r"^hashcash.bits: "):
            here.set_up(hashcash={"bits": "many"})
        with pytest.raises(ValueError, match=r"^hashcash.colour: "):
            here.set_up(hashcash={"colour": "blue"})
        with pytest.raises(ValueError, match=r"^spam-trap.traps: "):
            here.set_up(spam_trap={"traps": ["nobody"]})
        with pytest.raises(ValueError, match=r"^telepathy: "):
            here.set_up(telepathy={})


def test_rights_need_a_grant_where_an_extension_says_so() -> None:
    assert {one.extension.name for one in shipped() if one.extension.rights is Rights.GRANTED} == {
        "spam-trap"
    }
