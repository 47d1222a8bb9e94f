"""The outgoing gateway: whose mail is taken, what is settled about it, what is refused and how."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from outrider.config.amdp_schema import Amdp, AmdpHolding, AmdpOutgoing, AmdpRole
from outrider.config.schema import Relay
from outrider.delivery.interface import Job
from outrider.delivery.pipe import account_named
from outrider.holding.incoming.refusals import _CODES, _TEXTS, LANGUAGES, refusal
from outrider.holding.outgoing.account_store import AccountStore, AccountThread
from outrider.holding.outgoing.gateway import (
    OutgoingGateway,
    OutgoingParts,
    OutgoingSettingsError,
    facility_route,
    language_of,
)
from outrider.holding.outgoing.handing_in import HandingIn
from outrider.holding.outgoing.outgoing_terms import OutgoingTerms, read_terms
from outrider.holding.outgoing.scanning import CommandScanner
from outrider.identity.credentials import parse_users
from outrider.model.address import parse_address
from outrider.model.content import inline_content
from outrider.model.envelope import Recipient
from outrider.model.layered import MessageObjects
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.reply import Reply
from outrider.protocols.amdp.submission import HeldRecipient, Submission, read_submission
from outrider.reception.interface import Session
from outrider.reception.reception import MailReception
from outrider.routing.ways import LocalWay, MxWay, Way, parse_way
from outrider.tables.database import SqliteDatabase, StoreUnavailable
from tests.reception.rig import FRIEND, MESSAGE, NOW, Rig

OMG = ip_address("203.0.113.77")
MHF = "203.0.113.99"
USERS = """ann senders=ann@a.example,@news.a.example certificates=ann.example
bob certificates=bob.example"""

RunRig = Callable[..., "OutgoingRig"]


def letter(sender: str = "Ann <ann@a.example>", *more: str, body: str = "hi") -> bytes:
    fields = (f"From: {sender}", "To: bob@far.example", "Subject: hello", *more)
    return ("\r\n".join(fields) + f"\r\n\r\n{body}\r\n").encode()


class OutgoingRig(Rig):
    """A reception with a part in AMDP's outgoing side."""

    def send_out(self, folder: Path, amdp: Amdp, scanner: str = "") -> None:
        """Set the gateway up."""
        self.accounts = AccountThread(
            lambda: AccountStore(SqliteDatabase(folder / "accounts.sqlite")), "accounts"
        )
        account = account_named("nobody") if os.geteuid() == 0 else None
        parts = OutgoingParts(
            amdp,
            way_of,
            frozenset(("a.example", "news.a.example")),
            lambda: self.now,
            self.users,
            self.accounts,
            CommandScanner(scanner, account) if scanner else None,
        )
        self.parts = replace(self.parts, submissions=OutgoingGateway(parts))
        self.reception = MailReception(self.reception._settings, self.parts)

    async def submit(
        self,
        content: bytes = MESSAGE,
        *recipients: str,
        login: str = "ann",
        sender: str = "ann@a.example",
        **more: object,
    ) -> Reply:
        """A submission; the first refusal, or the last reply."""
        return await self.hand_in(
            await self.session(login=login, protocol="submission"),
            content,
            *recipients,
            sender=sender,
            **more,
        )

    async def hand_in(
        self,
        session: Session,
        content: bytes,
        *recipients: str,
        sender: str = "ann@a.example",
        **more: object,
    ) -> Reply:
        """A message in this session."""
        transaction, reply = await self.sender(session, sender, **more)
        if transaction is None or not reply.is_positive:
            return reply
        for one in recipients or ("bob@held.example",):
            reply = await self.recipient(transaction, one)
            if not reply.is_positive:
                return reply
        return await self.reception.finish(transaction, inline_content(content))

    @property
    def stored(self) -> NewMessage:
        return self.spool.given[-1]

    @property
    def terms(self) -> OutgoingTerms | None:
        return read_terms(self.stored.facts)

    @property
    def routes(self) -> list[str]:
        return [one.route for one in self.stored.envelope.recipients]


def way_of(recipient: Recipient) -> Way:
    """Mail to held.example is held, that of a.example stays here, the rest goes by MX."""
    if recipient.route:
        return parse_way(recipient.route)
    domain = recipient.address.domain
    if domain == "held.example":
        return parse_way("amdp")
    return LocalWay("discard", "") if domain == "a.example" else MxWay()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[RunRig]:
    rigs: list[OutgoingRig] = []

    def made(
        roles: tuple[AmdpRole, ...] = ("omg", "mhf"),
        *,
        scanner: str = "",
        gateways: tuple[str, ...] = (),
        **outgoing: object,
    ) -> OutgoingRig:
        rig = OutgoingRig(users=parse_users(USERS), relay=Relay(networks=("203.0.113.0/28",)))
        holding = AmdpHolding(gateways=gateways)
        settings = Amdp(roles=roles, outgoing=AmdpOutgoing(**outgoing), holding=holding)  # type: ignore[arg-type]
        rig.send_out(tmp_path, settings, scanner)
        rigs.append(rig)
        return rig

    yield made
    for rig in rigs:
        rig.accounts.close()


# --- terms --------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-1", "AMDP-17")
async def test_sender_class_and_language_are_settled_and_the_content_is_left_alone(make: RunRig) -> None:
    rig = make(
        classes={"ann": "Agent::business", "news.a.example": "Agent::Bulk", "*": "Public::Personal"},
        message_type="letter",
    )
    content = letter("Ann <ann@a.example>", "Content-Language: de-AT, en")
    assert (await rig.submit(content)).code == 250
    terms = rig.terms
    assert terms == OutgoingTerms(parse_address("ann@a.example"), "Agent::Business::letter", "de")
    assert rig.routes == ["amdp-hold:"]
    assert rig.stored.content.headers + b"hi\r\n" == content
    assert (await rig.submit(letter("news@news.a.example"))).code == 250
    assert rig.terms is not None
    assert rig.terms.mail_class == "Agent::Business::letter", "the account before the domain"
    assert (await rig.submit(letter("bob@a.example"), login="bob", sender="bob@a.example")).code == 250
    assert rig.terms is not None
    assert rig.terms.mail_class == "Public::Personal::letter"


@pytest.mark.covers("AMDP-1", "AMDP-17")
async def test_the_user_says_the_message_type_and_nothing_else(make: RunRig) -> None:
    rig = make(classes={"ann": "Agent::Business"})
    own = (
        "AMDP-Message-Type: invoice",
        "AMDP-Mail-Class: Direct::Government::decree",
        "AMDP-From: <king@far.example>",
        "AMDP-Verified-From: <king@far.example>",
        "AMDP-Expire-On: Mon, 01 Dec 2025 00:00:00 +0000",
        "AMDP-Receipt: yes",
        "AMDP-About: about\tthis",
    )
    assert (await rig.submit(letter("ann@a.example", *own))).code == 250
    terms = rig.terms
    assert terms is not None
    assert (str(terms.sender), terms.mail_class) == ("ann@a.example", "Agent::Business::invoice")
    assert (terms.expires, terms.receipt, terms.about) == (1_764_547_200.0, True, "about this")
    assert b"AMDP" not in rig.stored.content.headers.upper()


@pytest.mark.covers("AMDP-1")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("AMDP-Message-Type: a::b", "AMDP-Message-Type"),
        ("AMDP-Message-Type: *", "AMDP-Message-Type"),
        ("AMDP-Message-Type: =?utf-8?q?x=0Ay?=", "AMDP-Message-Type"),
        ("AMDP-Expire-On: tomorrow", "AMDP-Expire-On"),
        ("AMDP-Expire-On: Mon, 01 Dec 2003 00:00:00 +0000", "AMDP-Expire-On"),
    ],
)
async def test_nonsense_of_the_users_is_refused_where_it_matters(make: RunRig, line: str, words: str) -> None:
    rig = make()
    reply = await rig.submit(letter("ann@a.example", line))
    assert (reply.code, words in reply.text) == (550, True), reply
    assert (await rig.submit(letter("ann@a.example", line), "bob@far.example")).code == 250


# --- From ---------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-1", "SEC-110")
@pytest.mark.parametrize("sender", ["boss@a.example", "ann@far.example", "ann@a.example, boss@a.example"])
async def test_a_from_that_is_not_the_accounts_is_refused(make: RunRig, sender: str) -> None:
    rig = make()
    reply = await rig.submit(letter(sender, "Sender: ann@a.example"), "bob@far.example")
    assert reply.code in (550, 553)
    assert not rig.spool.given


@pytest.mark.covers("AMDP-1")
@pytest.mark.parametrize(
    ("sender", "becomes"),
    [
        ("The Boss <boss@a.example>", b"From: =?utf-8?"),
        ("boss@a.example", b"From: <ann@a.example>\r\n"),
        ('"ceo@bank.example" <boss@a.example>', b"From: <ann@a.example>\r\n"),
    ],
)
async def test_or_it_is_corrected(make: RunRig, sender: str, becomes: bytes) -> None:
    rig = make(foreign_from="correct")
    assert (await rig.submit(letter(sender))).code == 250
    headers = rig.stored.content.headers
    assert headers.startswith(becomes)
    assert b"<ann@a.example>\r\n" in headers
    assert b"boss@a.example" not in headers
    assert rig.terms is not None
    assert str(rig.terms.sender) == "ann@a.example"
    assert any("corrected to ann@a.example" in event.text for event in rig.stored.events)


@pytest.mark.covers("AMDP-1", "AMDP-2")
async def test_what_is_signed_is_not_changed_but_refused(make: RunRig) -> None:
    rig = make(foreign_from="correct")
    assert (await rig.submit(letter("boss@a.example", "DKIM-Signature: v=1; a=rsa-sha256"))).code == 550
    assert (await rig.submit(letter("boss@a.example", "From: ann@a.example"))).code == 550


@pytest.mark.covers("AMDP-2", "MT2-1")
async def test_what_came_by_mt2_is_not_changed_either(make: RunRig) -> None:
    rig = make(foreign_from="correct")
    session = await rig.session(login="ann", protocol="mt2")

    async def finish(content: bytes) -> Reply:
        mail = await rig.begun(session, "ann@a.example")
        mail.objects = MessageObjects(b"", b"", b"", "message/headers", True)
        assert (await rig.recipient(mail, "bob@held.example")).is_positive
        return await rig.reception.finish(mail, inline_content(content))

    own = letter("ann@a.example", "AMDP-Message-Type: invoice")
    assert (await finish(own)).code == 250
    assert rig.stored.content.headers + b"hi\r\n" == own
    assert rig.terms is not None
    assert rig.terms.mail_class.endswith("::invoice")
    assert (await finish(letter("boss@a.example"))).code == 550


@pytest.mark.covers("AMDP-1")
async def test_held_mail_has_one_author(make: RunRig) -> None:
    rig = make()
    two = letter("ann@a.example, x@news.a.example")
    assert (await rig.submit(two)).code == 550
    assert (await rig.submit(two, "bob@far.example")).code == 250
    assert rig.terms is None, "whatever way it goes, it is not held"
    assert (await rig.submit(b"Subject: no From\r\n\r\nhi\r\n")).code == 250
    assert rig.terms is not None
    assert str(rig.terms.sender) == "ann@a.example"
    assert (await rig.submit(b"From: nobody\r\n\r\nhi\r\n")).code == 550


# --- who may ------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-2")
async def test_nobody_elses_mail_is_held(make: RunRig) -> None:
    strangers = make()
    strangers.domains["a.example"]
    assert (await strangers.rcpt(await strangers.session(), "bob@held.example")).code == 550
    session = await strangers.session(ip_address("203.0.113.9"))
    assert (await strangers.rcpt(session, "bob@held.example")).code == 250, "a client that may relay"
    facility = make(roles=("mhf",))
    session = await facility.session(ip_address("203.0.113.9"))
    reply = await facility.rcpt(session, "bob@held.example")
    assert reply.code == 550
    assert "gateways" in reply.text
    assert (await facility.rcpt(session, "bob@far.example")).code == 250


@pytest.mark.covers("AMDP-1", "AMDP-2")
async def test_a_program_that_may_relay_writes_for_our_domains(make: RunRig) -> None:
    rig = make(classes={"news@a.example": "Agent::Bulk"})
    session = await rig.session(ip_address("203.0.113.9"))
    assert (await rig.hand_in(session, letter("news@a.example"), sender="bounces@a.example")).code == 250
    assert rig.terms is not None
    assert (str(rig.terms.sender), rig.terms.mail_class) == ("news@a.example", "Agent::Bulk::message")
    reply = await rig.hand_in(session, letter("news@far.example"), sender="bounces@a.example")
    assert (reply.code, "far.example" in reply.text) == (550, True)
    assert (await rig.hand_in(session, letter("news@far.example"), "bob@far.example")).code == 250


@pytest.mark.covers("AMDP-10", "AMDP-23")
async def test_what_others_submitted_is_left_alone(make: RunRig, script: Callable[[str], str]) -> None:
    """Fetched mail is no submission; and a gateway in front of us may say what it has verified."""
    rig = make(scanner=script("exit 1"), hold="all")
    fetched = await rig.session(ip_address("203.0.113.9"), protocol="amdp")
    stranger = letter("news@far.example", "AMDP-Verified-From: <news@far.example>")
    assert (await rig.hand_in(fetched, stranger, "ann@a.example")).code == 250
    front = make()
    session = await front.session(ip_address("203.0.113.9"))
    assert (await front.hand_in(session, stranger, "ann@a.example")).code == 250
    assert b"AMDP-Verified-From" in front.stored.content.headers


# --- what is held -------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-1", "AMDP-3")
async def test_what_is_held_is_the_administrators_choice(make: RunRig) -> None:
    async def routes(rig: OutgoingRig, content: bytes, *recipients: str) -> list[str]:
        assert (await rig.submit(content, *recipients)).code == 250
        return rig.routes

    out, two, here = "bob@far.example", ("bob@far.example", "carl@far.example"), "bob@a.example"
    bulk = letter("ann@a.example", "Precedence: bulk")
    routed = make()
    assert await routes(routed, letter(), *two) == ["", ""]
    some = make(hold="bulk")
    assert await routes(some, letter(), out) == [""]
    assert await routes(some, letter(), *two) == ["amdp-hold:", "amdp-hold:"]
    assert await routes(some, bulk, out) == ["amdp-hold:"]
    assert await routes(some, bulk, out, here) == ["amdp-hold:", ""]
    everything = make(hold="all")
    assert await routes(everything, letter(), out, here) == ["amdp-hold:", ""]
    large = make(hold_above=1000)
    assert await routes(large, letter(), out) == [""]
    assert await routes(large, letter(body="x" * 1000), out) == ["amdp-hold:"]


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-1", "SMTP-9")
async def test_an_account_has_its_limits_and_is_told_in_its_language(make: RunRig) -> None:
    rig = make(max_size=500, messages_per_hour=2)
    rig.now = NOW - NOW % 3600 + 600
    big = await rig.submit(letter("ann@a.example", "Content-Language: de", body="x" * 500))
    assert (big.code, big.status) == (552, "5.3.4")
    assert "erlaubt sind 500" in big.text
    codes = [(await rig.submit(letter())).code for _ in range(2)]
    late = await rig.submit(letter())
    assert (codes, late.code) == ([250, 250], 452)
    assert "50 minutes" in late.text
    assert (await rig.submit(letter("bob@a.example"), login="bob", sender="bob@a.example")).code == 250
    rig.now += 3000
    assert (await rig.submit(letter())).code == 250


@pytest.mark.covers("AMDP-1")
async def test_without_the_count_mail_waits(make: RunRig) -> None:
    rig = make(messages_per_hour=2)

    class Away:
        async def call(self, _work: object) -> None:
            raise StoreUnavailable("away")

        def close(self) -> None:
            """Nothing."""

    assert isinstance(rig.parts.submissions, OutgoingGateway)
    inner = rig.parts.submissions._parts
    rig.parts.submissions._parts = replace(inner, accounts=Away())  # type: ignore[arg-type]
    assert (await rig.submit(letter())).code == 451


@pytest.mark.covers("AMDP-1")
async def test_some_accounts_wait_for_the_operator(make: RunRig) -> None:
    rig = make(hold_for_review=("Ann",))
    assert (await rig.submit(letter())).code == 250
    (item,) = rig.stored.items
    assert (item.state.value, "operator" in item.reason) == ("held", True)
    assert (await rig.submit(letter("bob@a.example"), login="bob", sender="bob@a.example")).code == 250
    assert rig.stored.items[0].state.value == "ready"


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """A scanner that others than root can run."""

    def written(text: str) -> str:
        for parent in (tmp_path, *tmp_path.parents):
            if os.access(parent, os.W_OK) and parent.stat().st_uid == os.geteuid():
                parent.chmod(parent.stat().st_mode | 0o011)
        path = tmp_path / "scanner"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IRWXU | 0o055)
        return str(path)

    return written


@pytest.mark.covers("AMDP-1")
async def test_the_scanner_reads_all_and_may_refuse(make: RunRig, script: Callable[[str], str]) -> None:
    rig = make(scanner=script("if grep -q EICAR; then echo 'found EICAR'; echo more; exit 1; fi"))
    assert (await rig.submit(letter(body="harmless"))).code == 250
    reply = await rig.submit(letter("ann@a.example", "Content-Language: fr", body="EICAR"))
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.text.endswith("sortant: found EICAR")


@pytest.mark.covers("AMDP-1")
@pytest.mark.parametrize("text", ["exit 2", "kill -9 $$"])
async def test_a_scanner_that_fails_defers(make: RunRig, script: Callable[[str], str], text: str) -> None:
    reply = await make(scanner=script(text)).submit(letter())
    assert reply.code == 451


@pytest.mark.covers("AMDP-1")
async def test_a_scanner_that_does_not_exist_defers(make: RunRig, tmp_path: Path) -> None:
    assert (await make(scanner=str(tmp_path / "none")).submit(letter())).code == 451


@pytest.mark.covers("AMDP-1")
def test_every_refusal_has_its_text_in_every_language() -> None:
    values = {"address": "x", "size": 1, "limit": 1, "minutes": 1, "words": "w"}
    for language in LANGUAGES:
        assert set(_TEXTS[language]) == set(_CODES)
        for name in _CODES:
            assert refusal(name, language, **values).text.isascii()
    assert refusal("no-from", "tlh") == refusal("no-from", "en")
    assert refusal("no-from", "DE-at") == refusal("no-from", "de")


@pytest.mark.covers("AMDP-1")
@pytest.mark.parametrize(
    ("field", "language"),
    [
        ("Content-Language: fr, en", "fr"),
        ("Content-Language: x-klingon", ""),
        ("Content-Language: \u00e9\u00e9", ""),
        ("Content-Language:", ""),
        ("AMDP-Language: DE\r\nContent-Language: en", "de"),
    ],
)
def test_languages(field: str, language: str) -> None:
    assert language_of(field.encode() + b"\r\n\r\n") == language


@pytest.mark.covers("AMDP-17")
def test_a_class_that_is_none_is_a_fault_of_the_settings() -> None:
    settings = Amdp(roles=("omg",), outgoing=AmdpOutgoing(classes={"ann": "Agent::*"}))
    with pytest.raises(OutgoingSettingsError, match=r'classes\."ann"'):
        OutgoingGateway(OutgoingParts(settings, way_of, frozenset(), lambda: NOW))


# --- a facility that is another server ----------------------------------------------------------------------


def stored(message: NewMessage) -> StoredMessage:
    return StoredMessage(
        message.id, NOW, message.envelope, message.trace, message.content, message.content.size, message.facts
    )


@pytest.mark.covers("AMDP-2")
async def test_the_gateway_hands_in_for_several_and_the_facility_takes_it(make: RunRig) -> None:
    gateway = make(roles=("omg",), facility=f"[{MHF}]:2525", classes={"*": "Agent::Bulk"})
    content = letter("Ann Lee <ann@a.example>", "Cc: Carl <carl@held.example>", "Content-Language: en")
    recipients = ("bob@held.example", "carl@held.example", "secret@held.example", "bob@a.example")
    assert (await gateway.submit(content, *recipients)).code == 250
    route = facility_route(Amdp(outgoing=AmdpOutgoing(facility=f"[{MHF}]:2525")))
    assert gateway.routes == [route] * 3 + [""]
    message = stored(gateway.stored)
    handing = HandingIn(route, "omg.a.example")
    here = Job(message, (3,))
    assert handing(here) is here, "the fields are for the facility alone"
    sent = handing(Job(message, (0, 1))).message
    assert sent.content is not None
    wire = sent.trace + sent.content.headers + b"hi\r\n"
    said, plain = read_submission(wire)
    bob, carl = parse_address("bob@held.example"), parse_address("carl@held.example")
    assert said == Submission(
        parse_address("ann@a.example"),
        (HeldRecipient(bob), HeldRecipient(carl, "Carl")),
        said.mail_class,
        "Ann Lee",
        "en",
        gateway="omg.a.example",
    )
    assert str(said.mail_class) == "Agent::Bulk::message"
    assert b"secret@" not in wire
    assert plain == message.trace + content

    facility = make(roles=("mhf",), gateways=(f"{OMG}/32",))
    session = await facility.session(OMG)
    assert (await facility.hand_in(session, wire, "bob@held.example", "carl@held.example")).code == 250
    assert facility.routes == ["amdp-hold:"] * 2
    assert facility.stored.content.headers + b"hi\r\n" == plain
    terms = facility.terms
    assert terms is not None
    assert (str(terms.sender), terms.mail_class, terms.gateway) == (
        "ann@a.example",
        "Agent::Bulk::message",
        "omg.a.example",
    )
    assert (await facility.hand_in(session, wire, "bob@far.example")).code == 550, "not named to it"
    assert (await facility.hand_in(session, content)).code == 550, "no fields"
    assert (await facility.hand_in(await facility.session(FRIEND), wire)).code == 550, "no gateway"
    stranger = await facility.session()
    assert (await facility.hand_in(stranger, wire)).code == 550
