"""MAIL and RCPT: senders, recipients, aliases, limits, shortage."""

from __future__ import annotations

import pytest

from outrider.config.schema import Auth, Limits
from outrider.identity.credentials import parse_users
from outrider.model.envelope import Notify
from outrider.spool.interface import SpoolFull, SpoolUnavailable
from tests.reception.rig import FRIEND, NOW, Rig, answer


@pytest.mark.covers("SMTP-8", "SEC-166")
async def test_an_unknown_user_is_refused_at_rcpt() -> None:
    rig = Rig()
    reply = await rig.rcpt(await rig.session(), "nobody@a.example")
    assert str(reply) == "550 5.1.1 No such user here: <nobody@a.example>"
    assert rig.observer.refusals == [("recipient", reply, "", "nobody@a.example")]


@pytest.mark.covers("SMTP-8", "SEC-86")
async def test_aliases_are_followed_and_each_recipient_kept_once() -> None:
    rig = Rig()
    session = await rig.session()
    mail = await rig.begun(session)
    for name in ("bob@a.example", "BOB@A.example", "all@a.example", "sales@a.example", "away@a.example"):
        assert (await rig.recipient(mail, name)).is_positive
    assert mail.accepted == 5
    assert [str(one.address) for one in mail.recipients] == [
        "bob@a.example",
        "ann@a.example",
        "ann@far.example",
    ]
    assert [one.original for one in mail.recipients] == ["", "rfc822;all@a.example", "rfc822;away@a.example"]


async def test_what_the_sender_asks_of_dsn_is_kept() -> None:
    rig = Rig()
    mail = await rig.begun(await rig.session())
    await rig.recipient(mail, "sales@a.example", notify=Notify.SUCCESS, original="rfc822;Sales@old.example")
    assert (mail.recipients[0].notify, mail.recipients[0].original) == (
        Notify.SUCCESS,
        "rfc822;Sales@old.example",
    )


@pytest.mark.covers("SMTP-9", "SEC-86")
async def test_recipients_beyond_the_limit_get_452_and_the_rest_stands() -> None:
    rig = Rig(limits=Limits(recipients=3))
    mail = await rig.begun(await rig.session(FRIEND))
    replies = [await rig.recipient(mail, f"u{number}@far.example") for number in range(5)]
    assert [reply.code for reply in replies] == [250, 250, 250, 452, 452]
    assert str(replies[3]) == "452 4.5.3 Too many recipients for one message; send the rest in another"
    assert len(mail.recipients) == 3
    again = await rig.begun(await rig.session(FRIEND))
    assert [(await rig.recipient(again, "x@far.example")).code for _ in range(5)] == [250, 250, 250, 452, 452]
    assert len(again.recipients) == 1


@pytest.mark.covers("SMTP-9", "SEC-86")
async def test_an_alias_does_not_outgrow_the_limit_behind_others() -> None:
    rig = Rig(limits=Limits(recipients=2))
    mail = await rig.begun(await rig.session(FRIEND))
    assert (await rig.recipient(mail, "x@far.example")).is_positive
    assert (await rig.recipient(mail, "all@a.example")).code == 452
    alone = await rig.begun(await rig.session(FRIEND))
    assert (await rig.recipient(alone, "all@a.example")).is_positive


@pytest.mark.covers("SMTP-9")
async def test_a_limit_of_nought_is_none() -> None:
    rig = Rig(limits=Limits(recipients=0, hops=0, message_size=0, header_size=0))
    hops = b"".join(b"Received: by x; now\r\n" for _ in range(60))
    reply = await rig.send(
        await rig.session(), "ann@a.example", "bob@a.example", content=hops + b"\r\nbody\r\n"
    )
    assert reply.is_positive


@pytest.mark.covers("SMTP-9", "SEC-94")
async def test_a_spool_that_is_away_is_told_at_mail_and_is_no_fault_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    session = await rig.session()

    def away() -> None:
        raise SpoolUnavailable("the database cannot be used now")

    monkeypatch.setattr(rig.spool, "check_room", away)
    assert str((await rig.sender(session))[1]).startswith("451 4.3.0 The message could not be stored")
    assert not rig.observer.failures


@pytest.mark.covers("SMTP-9")
async def test_shortage_is_452_at_mail() -> None:
    rig = Rig()
    session = await rig.session()
    rig.spool.full = True
    assert str((await rig.sender(session))[1]) == "452 4.3.1 Not enough storage now; try again later"
    rig.spool.full = False
    rig.short_of_memory = True
    assert str((await rig.sender(session))[1]) == "452 4.3.1 Short of memory now; try again later"
    rig.spool.full = True
    with pytest.raises(SpoolFull):
        rig.spool.check_room()


@pytest.mark.covers("SMTP-9")
async def test_a_declared_size_beyond_the_limit_is_refused() -> None:
    rig = Rig(limits=Limits(message_size=1000))
    session = await rig.session()
    assert (await rig.sender(session, size=1000))[1].is_positive
    transaction, reply = await rig.sender(session, size=1001)
    assert transaction is None
    assert str(reply) == "552 5.3.4 Message size exceeds the limit of 1000 octets"


@pytest.mark.covers("SEC-110")
async def test_a_login_uses_its_own_sender_addresses() -> None:
    rig = Rig()
    session = await rig.session(login="ann")
    for sender in ("ann@a.example", "ann+x@a.example", ""):
        assert (await rig.sender(session, sender))[1].is_positive
    for sender in ("bob@a.example", "ann@far.example"):
        _, reply = await rig.sender(session, sender)
        assert str(reply) == f"553 5.7.1 The login ann may not send as <{sender}>"
    free = Rig(auth=Auth(restrict_sender=False))
    assert (await free.sender(await free.session(login="ann"), "bob@far.example"))[1].is_positive
    assert (await rig.sender(await rig.session(), "ann@a.example"))[1].is_positive


@pytest.mark.covers("SEC-110")
async def test_a_login_writes_from_its_own_address_in_the_header() -> None:
    rig = Rig(users=parse_users("ann certificates=x.example senders=ann@a.example"))
    session = await rig.session(login="ann")
    cases = {
        b"From: Ann <ann@a.example>": 250,
        b"From: boss@a.example": 553,
        b"From: boss@a.example\r\nSender: ann@a.example": 250,
        b"From: boss@a.example, ann@a.example": 250,
        b"Subject: no From": 250,
    }
    for header, code in cases.items():
        reply = await rig.send(session, content=header + b"\r\n\r\nx\r\n", sender="ann@a.example")
        assert reply.code == code, header
    assert (await rig.send(await rig.session(), content=b"From: boss@a.example\r\n\r\n")).code == 250


@pytest.mark.covers("SMTP-2b")
async def test_submission_needs_a_login() -> None:
    rig = Rig()
    _, reply = await rig.sender(await rig.session(FRIEND, protocol="submission"))
    assert str(reply) == "530 5.7.0 Authentication required"
    assert (await rig.sender(await rig.session(protocol="submission", login="ann"), "ann@a.example"))[
        1
    ].is_positive


@pytest.mark.covers("SEC-111")
async def test_auth_of_mail_is_believed_from_trusted_peers_only() -> None:
    rig = Rig()
    told = {}
    for name, session in (("friend", await rig.session(FRIEND)), ("stranger", await rig.session())):
        told[name] = (await rig.begun(session, auth="ann@a.example")).authenticated_as
    assert told == {"friend": "ann@a.example", "stranger": ""}
    assert (await rig.begun(await rig.session(FRIEND), auth="<>")).authenticated_as == ""
    mine = await rig.begun(await rig.session(login="ann"), "ann@a.example", auth="other")
    assert mine.authenticated_as == "ann"


@pytest.mark.covers("SMTP-2a")
async def test_future_release_is_for_trusted_clients_and_delays_the_first_attempt() -> None:
    rig = Rig()
    _, reply = await rig.sender(await rig.session(), hold_for=60)
    assert str(reply) == "550 5.7.1 Delayed release is for clients that log in"
    session = await rig.session(FRIEND)
    assert (await rig.send(session, hold_for=60)).code == 250
    assert (await rig.send(session, hold_until=NOW + 99)).code == 250
    assert [message.envelope.hold_until for message in rig.spool.given] == [NOW + 60, NOW + 99]
    assert [message.items[0].next_attempt_at for message in rig.spool.given] == [NOW + 60, NOW + 99]
    assert rig.taker.taken == []


@pytest.mark.covers("SMTP-1")
async def test_no_content_without_recipients() -> None:
    rig = Rig()
    mail = await rig.begun(await rig.session())
    assert (await answer(rig.reception.content_begins(mail))).code == 554


async def test_an_abandoned_transaction_is_recorded() -> None:
    rig = Rig()
    rig.reception.abandoned(await rig.begun(await rig.session()), "RSET")
    assert rig.observer.abandoned == ["RSET"]
    assert rig.spool.given == []


@pytest.mark.covers("SEC-68", "SEC-70")
async def test_odd_addresses_are_data() -> None:
    rig = Rig()
    session = await rig.session(FRIEND)
    odd = '"\'; DROP TABLE messages; -- %s {0} ${run{x}}"@far.example'
    assert (await rig.send(session, odd, sender=odd)).code == 250
    envelope = rig.spool.given[0].envelope
    assert str(envelope.sender) == str(envelope.recipients[0].address) == odd
