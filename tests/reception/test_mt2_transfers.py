"""Transfers of MT2: taken once, refused before they cost, repeated and resumed."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from outrider.config.schema import Rule
from outrider.gateway.mapping import mt2_to_smtp
from outrider.message.objects.envelope import DeliveryExtension, ReportData, ReportedRecipient
from outrider.message.objects.headers import read_headers
from outrider.model.address import parse_address
from outrider.model.message import ItemState, RecipientState, Settlement
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, Word
from outrider.protocols.mt2.recipients import recipient_results
from outrider.protocols.mt2.status import TransferState
from outrider.spool.interface import CommitUnknown, SpoolFull, SpoolUnavailable
from tests.identity.mt2_papers import NOW
from tests.reception.mt2_rig import (
    HEADER_SECTION,
    HOST,
    PEER,
    SITE,
    TEXT,
    Mt2Rig,
    changed,
    got,
    letter,
    mt2_rig,
    write,
)

LARGE = b"0123456789abcdef\r\n" * 20_000


def stored_octets(rig: Mt2Rig) -> bytes:
    """The last message as SMTP and mailboxes see it."""
    return b"".join(rig.rig.spool.given[-1].content.chunks())


# --- the ordinary course ------------------------------------------------------------------------------


@pytest.mark.covers("MT2-1", "MT2-17", "MT2-14")
async def test_three_objects_become_one_message() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        mail = letter()
        answer = await rig.put(session, "t1", "message/envelope", mail.envelope)
        assert answer.result.code == codes.ENVELOPE_ACCEPTED
        assert answer.parts == (("message/headers", len(mail.headers)), ("message/body", len(mail.body)))
        headers = await rig.put(session, "t1", "message/headers", mail.headers)
        assert headers.result.code == codes.OBJECT_ACCEPTED
        assert not rig.rig.spool.given, "earlier OKs promise nothing durable"
        body = await rig.put(session, "t1", "message/body", mail.body)
        assert body.result.word is Word.OK
        assert body.result.code == codes.MESSAGE_TAKEN
        (message,) = rig.rig.spool.given
        assert message.objects is not None
        assert message.objects.envelope == mail.envelope
        assert message.objects.headers == mail.headers
        assert message.objects.body_prefix + b"".join(message.content.body.chunks()) == mail.body
        assert stored_octets(rig) == HEADER_SECTION + TEXT
        assert message.id in body.result.text
        assert b"with MT2" in message.trace
        assert message.transfer is not None
        assert message.transfer.digest == hashlib.sha256(mail.envelope).digest()
        assert message.transfer.until > NOW + 5 * 86_400


@pytest.mark.covers("MT2-1", "MT2-17")
async def test_a_large_body_goes_to_the_spool_while_it_arrives() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        result = await rig.sent_whole(await rig.identified(), letter(text=LARGE))
        assert result.code == codes.MESSAGE_TAKEN
        assert stored_octets(rig) == HEADER_SECTION + LARGE


@pytest.mark.covers("MT2-2", "MT2-19")
async def test_an_envelope_alone_is_a_message() -> None:
    report = ReportData(
        "delivery",
        "m9@a.example",
        "mx.b.example",
        recipients=(ReportedRecipient(parse_address("x@b.example"), "failed", status="5.1.1"),),
    )
    async with mt2_rig() as rig:
        mail = letter(sender=None, alone=True, change=changed(report=report))
        answer = await rig.put(await rig.identified(), "t1", "message/envelope", mail.envelope)
        assert answer.result.code == codes.MESSAGE_TAKEN
        assert answer.parts == ()
        (message,) = rig.rig.spool.given
        assert message.objects is not None
        assert not message.objects.has_body
        assert b"x@b.example: failed [5.1.1]" in stored_octets(rig)


async def test_objects_out_of_order_are_refused() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        mail = letter()
        refused = await rig.offered(session, "t1", "message/headers", 5)
        assert isinstance(refused, Result)
        assert refused.code == codes.OBJECT_NOT_EXPECTED
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        refused = await rig.offered(session, "t1", "message/body", len(mail.body))
        assert isinstance(refused, Result)
        assert refused.code == codes.OBJECT_NOT_EXPECTED
        refused = await rig.offered(session, "t1", "message/headers", len(mail.headers))
        assert isinstance(refused, Result), "a refusal ends the transfer"


# --- what is not as the envelope says -----------------------------------------------------------------


@pytest.mark.covers("MT2-14", "MT2-15")
async def test_a_wrong_octet_in_an_object_is_found() -> None:
    async with mt2_rig(inline_limit=100) as rig:
        session = await rig.identified()
        mail = letter(text=LARGE)
        for number, (kind, at) in enumerate((("headers", 30), ("body", 200_000))):
            spoilt = replace(mail)
            octets = bytearray(getattr(mail, kind))
            octets[at] ^= 1
            setattr(spoilt, kind, bytes(octets))
            result = await rig.sent_whole(session, spoilt, f"t{number}")
            assert result.code == codes.WRONG_DIGEST, kind
        assert not rig.rig.spool.given


@pytest.mark.covers("MT2-14")
async def test_a_wrong_length_is_refused_before_the_data() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        mail = letter()
        for transfer, size, to_come in (("t1", -1, 0), ("t2", 1, 0), ("t3", 1, 1)):
            await rig.put(session, transfer, "message/envelope", mail.envelope)
            refused = await rig.offered(
                session, transfer, "message/headers", len(mail.headers) + size, to_come=to_come
            )
            assert isinstance(refused, Result)
            assert refused.code == codes.WRONG_SIZE


async def test_more_or_fewer_octets_than_announced_in_fragments() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        mail = letter()
        for transfer, octets in (("t1", mail.headers[:-1]), ("t2", mail.headers + b" ")):
            await rig.put(session, transfer, "message/envelope", mail.envelope)
            granted = await rig.offered(session, transfer, "message/headers", 10, to_come=3)
            assert not isinstance(granted, Result)
            await write(granted, octets)
            assert (await got(granted.finish())).result.code == codes.WRONG_SIZE
        assert not rig.rig.spool.given


@pytest.mark.covers("MT2-5", "MT2-15")
async def test_malformed_objects_are_refused() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        answer = await rig.put(session, "t1", "message/envelope", b"<!DOCTYPE x []><x/>")
        assert answer.result.code == codes.INVALID_OBJECT
        bad = b"<headers/>"
        entry = replace(_objects(letter())[0], sha256=hashlib.sha256(bad).digest(), length=len(bad))
        mail = letter(change=lambda one: replace(one, objects=(entry, one.objects[1])))
        mail.headers = bad
        assert (await rig.sent_whole(session, mail, "t2")).code == codes.INVALID_OBJECT
        no_entity = b"no empty line anywhere"
        entry = replace(
            _objects(letter())[1], sha256=hashlib.sha256(no_entity).digest(), length=len(no_entity)
        )
        mail = letter(change=lambda one: replace(one, objects=(one.objects[0], entry)))
        mail.body = no_entity
        assert (await rig.sent_whole(session, mail, "t3")).code == codes.MIME_SYNTAX


def _objects(mail: object) -> tuple[object, ...]:
    from outrider.message.objects.envelope import read_envelope

    return read_envelope(mail.envelope).objects  # type: ignore[attr-defined]


# --- refused before the data ---------------------------------------------------------------------------


@pytest.mark.covers("MT2-15", "MT2-16")
async def test_recipients_have_results_of_their_own() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        mail = letter("bob@a.example", "nobody@a.example", "x@elsewhere.example")
        answer = await rig.put(session, "t1", "message/envelope", mail.envelope)
        said = [one.code for one in recipient_results(answer.result, 3)]
        assert said == [codes.ENVELOPE_ACCEPTED, codes.UNKNOWN_RECIPIENT, codes.RECIPIENT_REFUSED]
        await rig.put(session, "t1", "message/headers", mail.headers)
        final = await rig.put(session, "t1", "message/body", mail.body)
        again = [one.code for one in recipient_results(final.result, 3)]
        assert again == [codes.MESSAGE_TAKEN, *said[1:]]
        (message,) = rig.rig.spool.given
        assert [str(one.address) for one in message.envelope.recipients] == ["bob@a.example"]


@pytest.mark.covers("MT2-15", "MT2-16")
async def test_an_envelope_without_a_good_recipient_costs_no_further_octet() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        answer = await rig.put(session, "t1", "message/envelope", letter("nobody@a.example").envelope)
        assert answer.result.code == codes.NO_RECIPIENTS
        assert recipient_results(answer.result, 1)[0].code == codes.UNKNOWN_RECIPIENT
        refused = await rig.offered(session, "t1", "message/headers", 10)
        assert isinstance(refused, Result)


@pytest.mark.covers("MT2-15", "MT2-26")
async def test_limits_are_asked_of_the_envelope() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        cases = {
            codes.EXPIRED: changed(expiry=int(NOW) - 1),
            codes.MESSAGE_TOO_LARGE: lambda one: replace(
                one, objects=(one.objects[0], replace(one.objects[1], length=20_000_000))
            ),
            codes.UNKNOWN_CRITICAL_EXTENSION: changed(
                extensions=(DeliveryExtension("2.25.99", "x", critical=True),)
            ),
        }
        for number, (code, change) in enumerate(cases.items()):
            answer = await rig.put(session, f"t{number}", "message/envelope", letter(change=change).envelope)
            assert answer.result.code == code
        too_big = await rig.offered(session, "t9", "message/envelope", 2_000_000)
        assert isinstance(too_big, Result)
        assert too_big.code == codes.MESSAGE_TOO_LARGE


@pytest.mark.covers("MT2-19")
async def test_a_critical_extension_is_the_last_hosts_business() -> None:
    extension = DeliveryExtension("2.25.99", "x", critical=True)
    async with mt2_rig() as rig:
        mail = letter("x@backup.example", change=changed(extensions=(extension,)))
        assert (await rig.sent_whole(await rig.identified(), mail)).code == codes.MESSAGE_TAKEN


@pytest.mark.covers("MT2-15")
async def test_a_full_disk_is_said_before_the_data() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        rig.rig.spool.full = True
        refused = await rig.offered(session, "t1", "message/envelope", 100)
        assert isinstance(refused, Result)
        assert refused.code == codes.NO_STORAGE
        assert refused.is_transient


@pytest.mark.covers("MT2-15", "MT2-26")
async def test_subject_is_judged_before_the_body() -> None:
    rule = Rule(name="no hello", when={"header.subject": "hello"}, action="refuse")
    async with mt2_rig(rules=(rule,)) as rig:
        session, mail = await rig.identified(), letter()
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        answer = await rig.put(session, "t1", "message/headers", mail.headers)
        assert answer.result.code == codes.CONTENT_REFUSED
        assert "no hello" in answer.result.text


@pytest.mark.covers("MT2-26")
async def test_mime_fields_are_judged_when_they_have_come() -> None:
    rule = Rule(name="no plain", when={"header.content-type": "text/plain*"}, action="refuse")
    async with mt2_rig(rules=(rule,)) as rig:
        session, mail = await rig.identified(), letter()
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        assert (await rig.put(session, "t1", "message/headers", mail.headers)).result.is_ok
        answer = await rig.put(session, "t1", "message/body", mail.body)
        assert answer.result.code == codes.CONTENT_REFUSED
        assert not rig.rig.spool.given


# --- content -------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-1", "MT2-28a")
async def test_any_octets_of_a_body_are_kept_and_declared() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        for number, (text, ascii_, binary) in enumerate(
            (
                (b"a\r\n", True, False),
                ("ö\r\n".encode(), False, False),
                (b"a\nb\0", True, True),
                (b"", True, False),
            )
        ):
            assert (await rig.sent_whole(session, letter(text=text), f"t{number}")).is_ok
            content = rig.rig.spool.given[-1].content
            assert b"".join(content.chunks()) == HEADER_SECTION + text
            assert (content.is_ascii, content.is_binary) == (ascii_, binary)


async def test_headers_that_a_reader_cannot_see_are_stood_in_for() -> None:
    hidden = b"eyJ.hidden.jwe"
    async with mt2_rig() as rig:
        mail = letter(
            change=lambda one: replace(
                one,
                objects=(
                    replace(
                        one.objects[0],
                        media_type="application/jose",
                        sha256=hashlib.sha256(hidden).digest(),
                        length=len(hidden),
                    ),
                    one.objects[1],
                ),
            )
        )
        session = await rig.identified()
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        assert (await rig.put(session, "t1", "application/jose", hidden)).result.is_ok
        assert (await rig.put(session, "t1", "message/body", mail.body)).result.code == codes.MESSAGE_TAKEN
        (message,) = rig.rig.spool.given
        assert message.objects is not None
        assert message.objects.headers == hidden
        assert message.objects.headers_type == "application/jose"
        assert b"ann@b.example" in message.content.headers
        assert b"hello" not in message.content.headers


def test_the_rig_makes_what_the_gateway_reads() -> None:
    mail = letter()
    assert mt2_to_smtp(read_headers(mail.headers), mail.prefix) == HEADER_SECTION


# --- again ---------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-18a", "MT2-17")
async def test_a_repeat_after_the_commit_is_known() -> None:
    async with mt2_rig() as rig:
        mail = letter("bob@a.example", "nobody@a.example")
        first = await rig.sent_whole(await rig.identified(), mail)
        assert first.code == codes.MESSAGE_TAKEN
        # As after a crash: another connection, another process, the same spool.
        rig.book = type(rig.book)(3600.0, 1000)
        rig.reception = rig.made()
        again = await rig.put(await rig.identified(), "t1", "message/envelope", mail.envelope)
        assert again.result.code == codes.ALREADY_TAKEN
        assert recipient_results(again.result, 2)[1].code == codes.UNKNOWN_RECIPIENT
        assert len(rig.rig.spool.given) == 1
        assert rig.rig.observer.transfers == [("repeated", "t1", rig.rig.spool.given[0].id)]


@pytest.mark.covers("MT2-18a")
async def test_the_id_of_another_envelope_is_refused() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        assert (await rig.sent_whole(session, letter())).is_ok
        other = await rig.put(session, "t1", "message/envelope", letter("ann@a.example").envelope)
        assert other.result.code == codes.TRANSFER_ID_REUSED


@pytest.mark.covers("MT2-18a")
async def test_ids_of_different_hosts_have_nothing_to_do_with_each_other() -> None:
    async with mt2_rig() as rig:
        assert (await rig.sent_whole(await rig.identified(), letter())).is_ok
        other = letter(by=SITE.c)
        assert (await rig.sent_whole(await rig.identified(SITE.c), other)).code == codes.MESSAGE_TAKEN
        assert len(rig.rig.spool.given) == 2


@pytest.mark.covers("MT2-18a")
async def test_the_same_transfer_twice_at_once() -> None:
    async with mt2_rig() as rig:
        session, mail = await rig.identified(), letter()
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        refused = await rig.offered(session, "t1", "message/envelope", len(mail.envelope))
        assert isinstance(refused, Result)
        assert refused.code == codes.IN_TRANSFER


@pytest.mark.covers("MT2-18a", "FAULT-F7")
async def test_a_commit_that_failed_in_the_dark_is_looked_up() -> None:
    async with mt2_rig() as rig:
        session, mail = await rig.identified(), letter()
        for kind, octets in mail.parts[:2]:
            await rig.put(session, "t1", kind, octets)
        spool = rig.rig.spool
        stores = spool._store

        async def stored_and_lost(message: object, lease_until: float) -> tuple[object, ...]:
            await stores(message, lease_until)  # type: ignore[arg-type]
            raise CommitUnknown("connection lost amid COMMIT")

        spool._store = stored_and_lost  # type: ignore[method-assign,assignment]
        result = (await rig.put(session, "t1", "message/body", mail.body)).result
        assert result.code == codes.ALREADY_TAKEN


@pytest.mark.covers("MT2-17")
async def test_what_the_disk_refuses_is_not_taken() -> None:
    async with mt2_rig() as rig:
        session, mail = await rig.identified(), letter()
        for kind, octets in mail.parts[:2]:
            await rig.put(session, "t1", kind, octets)
        stores = rig.rig.spool._store

        async def full(message: object, lease_until: float) -> tuple[object, ...]:
            raise SpoolFull("no room")

        rig.rig.spool._store = full  # type: ignore[method-assign,assignment]
        result = (await rig.put(session, "t1", "message/body", mail.body)).result
        assert result.code == codes.NO_STORAGE
        assert result.is_transient
        rig.rig.spool._store = stores  # type: ignore[method-assign]
        assert (await rig.sent_whole(session, mail)).code == codes.MESSAGE_TAKEN


async def test_nobody_is_told_what_the_ledger_cannot_say() -> None:
    async with mt2_rig() as rig:
        session, mail = await rig.identified(), letter()
        rig.rig.spool.fail_with = SpoolUnavailable("away")
        answer = await rig.put(session, "t1", "message/envelope", mail.envelope)
        assert answer.result.code == codes.NOT_NOW
        rig.rig.spool.fail_with = None


# --- resumed -------------------------------------------------------------------------------------------


async def begun(rig: Mt2Rig, mail: object, octets: int, transfer: str = "t1") -> None:
    """A transfer whose connection breaks when so much of the body has come."""
    session = await rig.identified()
    envelope, headers, body = mail.envelope, mail.headers, mail.body  # type: ignore[attr-defined]
    await rig.put(session, transfer, "message/envelope", envelope)
    await rig.put(session, transfer, "message/headers", headers)
    granted = await rig.offered(session, transfer, "message/body", len(body))
    assert not isinstance(granted, Result)
    await write(granted, body[:octets])
    await rig.reception.closed(session, "connection lost")


@pytest.mark.covers("MT2-18b", "MT2-13")
@pytest.mark.parametrize("cut", [0, 1, 20, 5_000, 300_000])
async def test_a_broken_transfer_goes_on_where_it_was(cut: int) -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        mail = letter(text=LARGE)
        await begun(rig, mail, cut)
        session = await rig.identified()
        status = await rig.reception.status(session, "t1")
        assert status.state is TransferState.RECEIVING
        assert status.held == {
            "message/envelope": len(mail.envelope),
            "message/headers": len(mail.headers),
            "message/body": cut,
        }
        for kind, octets in mail.parts:
            answer = await rig.put(session, "t1", kind, octets, status.held[kind])
        assert answer.result.code == codes.MESSAGE_TAKEN
        assert stored_octets(rig) == HEADER_SECTION + LARGE
        total = sum(status.held.values())
        assert rig.rig.observer.transfers == [("kept", "t1", str(total)), ("resumed", "t1", str(total))]


@pytest.mark.covers("MT2-18b")
async def test_an_offset_that_is_not_held_is_refused() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        mail = letter(text=LARGE)
        await begun(rig, mail, 5_000)
        session = await rig.identified()
        wrong = await rig.offered(session, "t1", "message/envelope", 1, len(mail.envelope) - 1)
        assert isinstance(wrong, Result)
        assert wrong.code == codes.WRONG_OFFSET
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        await rig.put(session, "t1", "message/headers", mail.headers, len(mail.headers))
        wrong = await rig.offered(session, "t1", "message/body", len(mail.body) - 4_999, 4_999)
        assert isinstance(wrong, Result)
        assert wrong.code == codes.WRONG_OFFSET
        assert (await rig.reception.status(session, "t1")).held["message/body"] == 5_000


@pytest.mark.covers("MT2-18b")
async def test_whoever_likes_begins_anew() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        mail = letter(text=LARGE)
        await begun(rig, mail, 5_000)
        assert (await rig.sent_whole(await rig.identified(), mail)).code == codes.MESSAGE_TAKEN
        assert stored_octets(rig) == HEADER_SECTION + LARGE


@pytest.mark.covers("MT2-18b")
async def test_what_was_spoilt_before_the_break_is_found_at_the_end() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        mail = letter(text=LARGE)
        spoilt = replace(mail, body=mail.body[:100] + b"!" + mail.body[101:])
        await begun(rig, spoilt, 5_000)
        session = await rig.identified()
        status = await rig.reception.status(session, "t1")
        for kind, octets in mail.parts:
            answer = await rig.put(session, "t1", kind, octets, status.held[kind])
        assert answer.result.code == codes.WRONG_DIGEST
        assert (await rig.reception.status(session, "t1")).state is TransferState.UNKNOWN


@pytest.mark.covers("MT2-18b", "MT2-13")
async def test_parts_are_kept_for_their_sender_alone() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        await begun(rig, letter(text=LARGE), 5_000)
        other = await rig.identified(SITE.c)
        assert (await rig.reception.status(other, "t1")).state is TransferState.UNKNOWN
        wrong = await rig.offered(other, "t1", "message/envelope", 0, 500)
        assert isinstance(wrong, Result)
        assert wrong.code == codes.WRONG_OFFSET


@pytest.mark.covers("MT2-18b")
async def test_what_is_kept_is_bounded() -> None:
    async with mt2_rig(inline_limit=1000, partial_space=250_000) as rig:
        mail = letter(text=LARGE)
        for number in range(4):
            await begun(rig, mail, 100_000, f"t{number}")
        session = await rig.identified()
        states = [(await rig.reception.status(session, f"t{n}")).state for n in range(4)]
        kept = TransferState.RECEIVING
        assert states == [TransferState.UNKNOWN, TransferState.UNKNOWN, kept, kept]


@pytest.mark.covers("MT2-18b")
async def test_a_connection_that_only_we_believe_in_is_given_up() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        mail, old = letter(text=LARGE), await rig.identified()
        await rig.put(old, "t1", "message/envelope", mail.envelope)
        await rig.put(old, "t1", "message/headers", mail.headers)
        granted = await rig.offered(old, "t1", "message/body", len(mail.body))
        assert not isinstance(granted, Result)
        await write(granted, mail.body[:70_000])
        new = await rig.identified()
        held = (await rig.reception.status(new, "t1")).held
        assert held["message/body"] == 70_000
        for kind, octets in mail.parts:
            answer = await rig.put(new, "t1", kind, octets, held[kind])
            await write(granted, b"late octets of the old connection")
        assert answer.result.code == codes.MESSAGE_TAKEN
        assert (await got(granted.finish())).result.code == codes.TRANSFER_KILLED
        assert stored_octets(rig) == HEADER_SECTION + LARGE
        assert len(rig.rig.spool.given) == 1


@pytest.mark.covers("MT2-12", "MT2-18b")
async def test_an_aborted_transfer_leaves_nothing() -> None:
    async with mt2_rig(inline_limit=1000) as rig:
        session, mail = await rig.identified(), letter(text=LARGE)
        await rig.put(session, "t1", "message/envelope", mail.envelope)
        await rig.put(session, "t1", "message/headers", mail.headers)
        granted = await rig.offered(session, "t1", "message/body", len(mail.body))
        assert not isinstance(granted, Result)
        await write(granted, mail.body[:50_000])
        assert rig.reception.aborted(session, "t1")
        assert not rig.reception.aborted(session, "t1")
        assert (await rig.reception.status(session, "t1")).state is TransferState.UNKNOWN
        assert (await rig.sent_whole(session, mail)).code == codes.MESSAGE_TAKEN


@pytest.mark.covers("MT2-12")
async def test_a_commit_under_way_is_too_late_to_abort() -> None:
    async with mt2_rig() as rig:
        session, mail = await rig.identified(), letter()
        for kind, octets in mail.parts[:2]:
            await rig.put(session, "t1", kind, octets)
        granted = await rig.offered(session, "t1", "message/body", len(mail.body))
        assert not isinstance(granted, Result)
        await write(granted, mail.body)
        storing = asyncio.ensure_future(granted.finish())  # type: ignore[arg-type]
        while not rig.rig.parts.spool.transfers and not storing.done():  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            if rig.book.of(session, "t1") is not None and rig.book.of(session, "t1").state.value == "storing":  # type: ignore[union-attr]
                assert not rig.reception.aborted(session, "t1")
        assert (await storing).result.code == codes.MESSAGE_TAKEN


# --- STAT ----------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-13")
async def test_stat_follows_a_message_to_its_end() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        assert (await rig.reception.status(session, "t1")).state is TransferState.UNKNOWN
        await rig.sent_whole(session, letter("bob@a.example", "nobody@a.example"))
        status = await rig.reception.status(session, "t1")
        assert status.state is TransferState.QUEUED
        assert status.recipients[2].code == codes.UNKNOWN_RECIPIENT
        (leased,) = rig.rig.taker.taken
        done = tuple(replace(one, state=RecipientState.DELIVERED) for one in leased.item.recipients)
        await rig.rig.spool.settle(Settlement(leased.item.key, leased.item.lease, done, at=NOW))
        assert (await rig.rig.spool.items(leased.message.id))[0].state is ItemState.DONE
        later = await rig.identified()
        assert (await rig.reception.status(later, "t1")).state is TransferState.DELIVERED
        stranger = await rig.identified(SITE.c)
        assert (await rig.reception.status(stranger, "t1")).state is TransferState.UNKNOWN
        assert (await rig.reception.status(await rig.greeted(), "t1")).state is TransferState.UNKNOWN


@pytest.mark.covers("MT2-13")
async def test_stat_tells_of_failure() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        await rig.sent_whole(session, letter("bob@a.example", "ann@a.example"))
        for leased in rig.rig.taker.taken:
            done = tuple(replace(one, state=RecipientState.FAILED) for one in leased.item.recipients)
            await rig.rig.spool.settle(Settlement(leased.item.key, leased.item.lease, done, at=NOW))
        assert (await rig.reception.status(session, "t1")).state is TransferState.FAILED


@pytest.mark.covers("MT2-9", "MT2-18a")
async def test_without_a_proven_identity_nothing_is_remembered() -> None:
    async with mt2_rig(verify_seals=False) as rig:
        session = await rig.greeted(tls=False)
        assert (await rig.sent_whole(session, letter())).code == codes.MESSAGE_TAKEN
        assert rig.rig.spool.given[0].transfer is None
        assert (await rig.reception.status(session, "t1")).state is TransferState.UNKNOWN
        assert HOST
        assert PEER
