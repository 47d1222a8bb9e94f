"""The end of the data: what is refused, what is stored, what is promised."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable

import pytest

from outrider.config.schema import Domain, Limits, Rule
from outrider.message.header_fields import header_fields
from outrider.model.content import Content, inline_content
from outrider.model.message import ItemState, Leased, NewMessage
from outrider.model.reply import Reply
from outrider.reception.interface import TlsSummary
from outrider.reception.lookups import ClientNames
from outrider.spool.interface import CommitUnknown, Conflict, SpoolError, SpoolFull, SpoolUnavailable
from outrider.testing.writing import put
from tests.reception.rig import FRIEND, MESSAGE, NOW, TLS, Rig, answer


@pytest.mark.covers("SMTP-5", "ITP-5")
async def test_a_good_message_is_stored_acknowledged_and_handed_on() -> None:
    rig = Rig()
    reply = await rig.send(await rig.session(), "bob@a.example")
    assert str(reply) == "250 2.0.0 Ok: queued as ID1"
    (message,) = rig.spool.given
    assert (message.id, message.received_at) == ("ID1", NOW)
    assert message.content.headers + b"".join(message.content.body.chunks()) == MESSAGE
    assert [leased.item.key.message for leased in rig.taker.taken] == ["ID1"]
    assert rig.observer.received == [(message, reply)]
    (event,) = await rig.spool.events(message.id)
    assert event.kind == "received"
    assert event.text == (
        f"received from <ann@b.example> for 1 recipient, {len(MESSAGE)} octets, by ESMTP from [198.51.100.7]"
    )


@pytest.mark.covers("SMTP-4")
async def test_exactly_one_received_field_goes_on_top() -> None:
    rig = Rig()
    rig.lookup.names["198.51.100.7"] = ClientNames(("out.b.example",))
    session = await rig.session(tls=TLS)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await rig.send(session, "bob@a.example")
    assert rig.spool.given[0].trace == (
        b"Received: from client.b.example (out.b.example [198.51.100.7])\r\n"
        b"\t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tby mx.a.example (Outrider) with ESMTPS id ID1\r\n"
        b"\tfor <bob@a.example>;\r\n"
        b"\tSat, 22 Nov 2025 00:02:03 +0000\r\n"
    )


@pytest.mark.covers("SMTP-4")
async def test_several_recipients_are_not_named_to_each_other() -> None:
    rig = Rig()
    session = await rig.session()
    await rig.send(session, "bob@a.example", "ann@a.example")
    await rig.send(session, "all@a.example")
    await rig.send(session, "sales@a.example")
    assert [b"for <" in message.trace for message in rig.spool.given] == [False, False, True]


@pytest.mark.covers("SMTP-4")
@pytest.mark.parametrize(
    ("session", "smtputf8", "protocol"),
    [
        ({}, False, "ESMTP"),
        ({"tls": TLS}, False, "ESMTPS"),
        ({"tls": TLS, "login": "ann"}, False, "ESMTPSA"),
        ({"tls": TLS}, True, "UTF8SMTPS"),
        ({"protocol": "lmtp"}, False, "LMTP"),
        ({"protocol": "lmtp"}, True, "UTF8LMTP"),
        ({"protocol": "qmtp"}, False, "QMTP"),
    ],
)
async def test_the_protocol_in_received(session: dict[str, object], smtputf8: bool, protocol: str) -> None:
    rig = Rig()
    sender = "ann@a.example"
    content = b"From: ann@a.example\r\n\r\n"
    await rig.send(await rig.session(**session), sender=sender, content=content, smtputf8=smtputf8)  # type: ignore[arg-type]
    assert f" with {protocol} id ".encode() in rig.spool.given[0].trace


@pytest.mark.covers("SMTP-4", "SEC-169")
async def test_a_loop_is_refused() -> None:
    rig = Rig(limits=Limits(hops=50))
    session = await rig.session()
    hops = b"Received: from a by b; x\r\n"
    assert (await rig.send(session, content=hops * 50 + MESSAGE)).code == 250
    reply = await rig.send(session, content=hops * 51 + MESSAGE)
    assert str(reply) == "554 5.4.6 Too many hops: this message goes round in a loop"
    assert len(rig.spool.given) == 1


@pytest.mark.covers("SMTP-9")
async def test_sizes_are_held() -> None:
    rig = Rig(limits=Limits(message_size=500, header_size=100))
    session = await rig.session()
    assert (await rig.send(session, content=b"A: b\r\n\r\n" + b"x" * 490 + b"\r\n")).code == 250
    assert (await rig.send(session, content=b"A: b\r\n\r\n" + b"x" * 491 + b"\r\n")).code == 552
    reply = await rig.send(session, content=b"A: " + b"b" * 100 + b"\r\n\r\n")
    assert str(reply) == "552 5.3.4 Header section exceeds the limit of 100 octets"


@pytest.mark.covers("SMTP-5", "SMTP-9")
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SpoolFull("disk"), "452 4.3.1 Not enough storage now; try again later"),
        (SpoolUnavailable("gone"), "451 4.3.0 The message could not be stored; try again later"),
        (CommitUnknown("?"), "451 4.3.0 The message could not be stored; try again later"),
        (Conflict("twice"), "451 4.3.0 Local error in processing; try again later"),
    ],
)
async def test_what_is_not_stored_is_not_acknowledged(error: SpoolError, expected: str) -> None:
    rig = Rig()
    rig.spool.fail_with = error
    assert str(await rig.send(await rig.session())) == expected
    assert rig.observer.received == []
    assert rig.taker.taken == []
    assert [stage for stage, *_ in rig.observer.refusals] == ["commit"]


@pytest.mark.covers("SEC-215")
@pytest.mark.parametrize("where", ["resolve", "destination_of", "check_room", "make_id", "store"])
async def test_an_unforeseen_fault_is_451_and_the_next_message_goes(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    session = await rig.session()

    def fault(*arguments: object, **keywords: object) -> object:
        raise ZeroDivisionError("secret detail")

    parts = rig.reception._parts
    target = {"resolve": parts.recipients, "check_room": rig.spool, "store": rig.spool}.get(where)
    with monkeypatch.context() as patch:
        if target is not None:
            patch.setattr(target, where, fault)
        else:
            patch.setattr(type(parts), where, property(lambda _: fault))
        replies = []
        mail, reply = await rig.sender(session)
        replies.append(reply)
        if mail is not None:
            replies.append(await rig.recipient(mail, "bob@a.example"))
            if mail.recipients:
                replies.append(await rig.reception.finish(mail, inline_content(MESSAGE)))
    assert str(replies[-1]) == "451 4.3.0 Local error in processing; try again later"
    assert isinstance(rig.observer.failures[0][1], ZeroDivisionError)
    assert rig.spool.given == []
    assert (await rig.send(session)).code == 250


class FutureSpool:
    """A spool that answers by future, as the group commit does."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[tuple[Leased, ...]]] = []

    def check_room(self) -> None: ...

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


async def finishing(rig: Rig) -> tuple[FutureSpool, asyncio.Future[Reply]]:
    spool = FutureSpool()
    session = await rig.session()
    mail = await rig.begun(session)
    await rig.recipient(mail, "bob@a.example")
    rig.reception._committer._spool = spool  # type: ignore[assignment]
    waiting = rig.reception.finish(mail, inline_content(MESSAGE))
    assert isinstance(waiting, asyncio.Future)
    return spool, waiting


@pytest.mark.covers("SMTP-5")
async def test_the_reply_waits_for_the_commit() -> None:
    rig = Rig()
    spool, waiting = await finishing(rig)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert rig.observer.received == []
    spool.answers[0].set_result(())
    assert (await waiting).code == 250


@pytest.mark.covers("SMTP-5")
async def test_a_client_that_leaves_does_not_lose_what_became_durable() -> None:
    rig = Rig()
    spool, waiting = await finishing(rig)
    waiting.cancel()
    leased = object()
    spool.answers[0].set_result((leased,))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert rig.taker.taken == [leased]
    assert len(rig.observer.received) == 1


@pytest.mark.covers("SMTP-5")
@pytest.mark.parametrize("how", ["cancel", "fail"])
async def test_a_commit_that_ends_badly_is_451(how: str) -> None:
    rig = Rig()
    spool, waiting = await finishing(rig)
    if how == "cancel":
        spool.answers[0].cancel()
    else:
        spool.answers[0].set_exception(SpoolUnavailable("gone"))
    assert (await waiting).code == 451


@pytest.mark.covers("SMTP-5", "SMTP-9")
async def test_a_large_body_goes_through_the_spool() -> None:
    rig = Rig()
    mail = await rig.begun(await rig.session())
    await rig.recipient(mail, "bob@a.example")
    assert (await answer(rig.reception.headers(mail, b"Subject: x\r\n\r\n"))).is_positive
    stream = rig.reception.body_stream(mail)
    for _ in range(10):
        await put(stream, b"line\r\n")
    body = await stream.finish()
    assert (await rig.reception.finish(mail, Content(b"Subject: x\r\n\r\n", body))).code == 250
    assert b"".join(rig.spool.given[0].content.body.chunks()) == b"line\r\n" * 10


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize("outcome", ["refused", "stored", "unknown"])
async def test_a_large_body_is_removed_only_when_the_spool_cannot_have_it(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Rule(name="r", action="refuse", when={"body.size": {"min": 1}})
    rig = Rig(rules=(rule,) if outcome == "refused" else ())
    mail = await rig.begun(await rig.session())
    await rig.recipient(mail, "bob@a.example")
    writer = rig.spool.body_writer(mail.id)
    abandoned: list[bool] = []

    async def abandon() -> None:
        abandoned.append(True)

    monkeypatch.setattr(writer, "abandon", abandon)
    monkeypatch.setattr(rig.spool, "body_writer", lambda message: writer)
    stream = rig.reception.body_stream(mail)
    await put(stream, b"x")
    content = Content(b"A: b\r\n\r\n", await stream.finish())
    if outcome == "unknown":
        rig.spool.fail_with = CommitUnknown("?")
    reply = await rig.reception.finish(mail, content)
    assert (reply.code, abandoned) == {
        "refused": (550, [True]),
        "stored": (250, []),
        "unknown": (451, []),
    }[outcome]


@pytest.mark.covers("SMTP-5", "SMTP-9")
@pytest.mark.parametrize("when", ["write", "finish"])
async def test_a_disk_that_fails_under_a_large_body_is_told_at_its_end(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    mail = await rig.begun(await rig.session())
    await rig.recipient(mail, "bob@a.example")
    writer = rig.spool.body_writer(mail.id)

    async def full(*octets: bytes) -> None:
        raise SpoolFull("disk")

    monkeypatch.setattr(writer, when, full)
    monkeypatch.setattr(rig.spool, "body_writer", lambda message: writer)
    stream = rig.reception.body_stream(mail)
    await put(stream, b"x")
    await put(stream, b"y")
    body = await stream.finish()
    reply = await rig.reception.finish(mail, Content(b"A: b\r\n\r\n", body))
    assert reply.code == 452
    assert rig.spool.given == []


@pytest.mark.covers("SEC-80", "SEC-117")
async def test_a_header_that_begins_with_a_blank_does_not_continue_ours() -> None:
    rig = Rig()
    await rig.send(await rig.session(), content=b" evil: folded\r\nSubject: x\r\n\r\n")
    message = rig.spool.given[0]
    fields = list(header_fields(message.trace + message.content.headers))
    assert [field.name for field in fields] == [b"Received", b"X-Unnamed-Field", b"Subject"]
    assert fields[0].value.endswith(b"+0000")


@pytest.mark.covers("SEC-117", "SEC-118")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"no header at all\r\n",
        b"From x\r\nSubject : a\r\n: b\r\n\r\n",
        b"From: a\r\nFrom: b\r\nMessage-ID: 1\r\nMessage-ID: 2\r\n\r\n\xff\xfe",
        b"N\xc3\xa4me: x\r\n\r\nno end of line",
        b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n",
    ],
)
async def test_content_is_kept_as_it_came(content: bytes) -> None:
    rig = Rig()
    assert (await rig.send(await rig.session(), content=content)).code == 250
    kept = rig.spool.given[0].content
    whole = kept.headers + b"".join(kept.body.chunks())
    assert hashlib.sha256(whole).digest() == hashlib.sha256(content).digest()


@pytest.mark.covers("SMTP-2a")
async def test_only_submission_completes_what_is_missing() -> None:
    rig = Rig()
    bare = b"Subject: x\r\n\r\n"
    await rig.send(await rig.session(FRIEND), content=bare)
    await rig.send(
        await rig.session(protocol="submission", login="ann"), content=bare, sender="ann@a.example"
    )
    await rig.send(
        await rig.session(login="ann"),
        content=b"From: ann@a.example\r\nDATE: x\r\nMessage-Id: y\r\n\r\n",
        sender="ann@a.example",
    )
    relayed, submitted, complete = (message.trace.partition(b"+0000\r\n")[2] for message in rig.spool.given)
    assert relayed == complete == b""
    assert submitted == (
        b"Date: Sat, 22 Nov 2025 00:02:03 +0000\r\n"
        b"Message-ID: <ID2@mx.a.example>\r\nFrom: <ann@a.example>\r\n"
    )


@pytest.mark.covers("SMTP-3")
async def test_recipients_are_grouped_by_destination() -> None:
    rig = Rig()
    await rig.send(await rig.session(FRIEND), "a@x.example", "b@y.example", "c@x.example")
    items = rig.spool.given[0].items
    assert [(item.destination, item.recipients, item.state) for item in items] == [
        ("x.example", (0, 2), ItemState.READY),
        ("y.example", (1,), ItemState.READY),
    ]


@pytest.mark.covers("ITP-1", "ITP-5")
async def test_the_session_facts_are_kept_with_each_message() -> None:
    rig = Rig()
    session = await rig.session(FRIEND, tls=TLS, login="ann")
    for _ in range(2):
        await rig.send(session, sender="ann@a.example", content=b"From: ann@a.example\r\n\r\n")
    first, second = (message.facts for message in rig.spool.given)
    shown = {str(fact) for fact in first}
    assert {
        "client.address = '203.0.113.9' (proven, TCP)",
        "client.name = 'client.b.example' (claimed)",
        "tls.version = 'TLSv1.3' (proven, TLS handshake)",
        "login = 'ann' (proven, AUTH PLAIN)",
    } <= shown
    assert first == second


@pytest.mark.covers("TLS-1", "SEC-36")
async def test_nothing_claimed_and_no_login_survives_starttls() -> None:
    rig = Rig()
    before = await rig.session(login="ann", hello="liar.example")
    await rig.begun(before, "ann@a.example")
    after = before.after_tls(TlsSummary("TLSv1.3", "x"))
    await answer(rig.reception.greeted(after, "EHLO", "honest.example"))
    assert after.facts.value("client.name") == "honest.example"
    assert after.facts.get("login") is None
    assert after.facts.value("client.address") == "198.51.100.7"
    assert not (await rig.rcpt(after, "x@far.example")).is_positive


async def test_a_domain_without_mailboxes_forwards() -> None:
    rig = Rig(domains={"a.example": Domain(aliases={"x": "y@far.example", "postmaster": "y@far.example"})})
    assert (await rig.send(await rig.session(), "x@a.example")).code == 250
    assert rig.spool.given[0].items[0].destination == "far.example"
