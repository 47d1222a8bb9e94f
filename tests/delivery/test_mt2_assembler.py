"""Objects made of a job: a core for each domain, blind copies apart, who seals, the same at every attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.delivery.interface import Job
from outrider.delivery.mt2_assembler import INLINE, Kept
from outrider.delivery.mt2_groups import MAX_ALONE
from outrider.delivery.mt2_sealing import SealingKeys
from outrider.extensions.interface import Carried, OutgoingMail
from outrider.gateway.mapping import mt2_to_smtp
from outrider.identity.header_encryption import ENCRYPTED_HEADERS_TYPE, decrypt_headers
from outrider.identity.seals import Core
from outrider.message.objects.envelope import Part, read_envelope, write_envelope
from outrider.message.objects.headers import read_headers
from outrider.model.content import Content, InlineBody
from outrider.model.envelope import Notify
from outrider.model.layered import MessageObjects
from outrider.model.message import MessageId
from outrider.model.result import Kind
from tests.delivery.mt2_desk import (
    CAME,
    SITE,
    assembler,
    body_of,
    checked,
    envelope_of,
    key,
    keys,
    mail,
    stored,
    transfers,
)
from tests.delivery.support import new_message
from tests.identity.mt2_papers import NOW, Site

LETTER = b"From: ann@sender.example\r\nTo: bob@b.example, Cat <cat@b.example>\r\nSubject: x\r\n\r\nHello.\r\n"


class FileBody:
    """A body in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def size(self) -> int:
        return self._path.stat().st_size

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(size):
                yield piece


# --- what it is made of -----------------------------------------------------------------------------


@pytest.mark.covers("MT2-1", "MT2-28a")
async def test_a_message_from_smtp_becomes_three_objects_that_give_it_back() -> None:
    message = mail("bob@b.example", octets=LETTER, notify=Notify.FAILURE, envelope_id="Q1")
    [made] = await transfers(message)
    headers = read_headers(made.headers)
    assert message.content is not None
    assert isinstance(message.content.body, InlineBody)
    rendered = mt2_to_smtp(headers, made.body_prefix, body_follows=True)
    assert rendered == message.trace + message.content.headers
    assert made.body is message.content.body
    envelope = envelope_of(made)
    assert (envelope.id, str(envelope.sender)) == ("m1@mx.a.example", "ann@sender.example")
    assert (envelope.envelope_id, envelope.recipients[0].notify) == ("Q1", Notify.FAILURE)
    body = envelope.object(Part.BODY)
    assert body is not None
    assert (body.sha256, body.length) == (hashlib.sha256(body_of(made)).digest(), made.body_size)
    assert checked(made).is_good


@pytest.mark.covers("MT2-1", "MT2-23a")
async def test_a_large_body_is_digested_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"0123456789abcdef" * 200_000)
    message = mail("bob@b.example", octets=LETTER)
    assert message.content is not None
    content = Content(message.content.headers, FileBody(tmp_path / "body"))
    [made] = await transfers(replace(message, content=content))
    assert made.body_size > INLINE
    assert checked(made).is_good


# --- one core for each destination domain -----------------------------------------------------------


@pytest.mark.covers("MT2-23a")
async def test_each_domain_has_a_core_of_its_own_and_learns_of_no_other() -> None:
    octets = LETTER.replace(b"To: ", b"To: dan@d.example, ")
    message = mail("bob@b.example", "dan@d.example", "cat@b.example", octets=octets)
    found = await transfers(message)
    assert sorted(one.positions for one in found) == [(0, 2), (1,)]
    assert len({one.transfer_id for one in found}) == 2
    for one in found:
        assert [str(each.address) for each in envelope_of(one).recipients] == [
            str(message.envelope.recipients[position].address) for position in one.positions
        ]
        assert len({each.address.domain for each in envelope_of(one).recipients}) == 1
        assert checked(one).is_good


@pytest.mark.covers("MT2-23a")
async def test_a_blind_copy_shares_its_core_with_nobody() -> None:
    found = await transfers(mail("bob@b.example", "spy@b.example", "cat@b.example", octets=LETTER))
    assert sorted(one.positions for one in found) == [(0, 2), (1,)]
    assert b"spy@" not in next(one.envelope for one in found if 0 in one.positions)


async def test_the_many_members_of_a_list_share_one() -> None:
    members = [f"m{number}@b.example" for number in range(MAX_ALONE + 1)]
    [made] = await transfers(mail(*members, octets=LETTER))
    assert len(made.positions) == len(members)


# --- again --------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-18a")
async def test_the_same_message_for_the_same_host_is_the_same_transfer_also_after_a_restart() -> None:
    message = mail("bob@b.example", octets=LETTER)
    [first] = await transfers(message, assembler(now=NOW))
    [again] = await transfers(message, assembler(now=NOW + 7200))
    assert (first.transfer_id, first.envelope) == (again.transfer_id, again.envelope)
    [elsewhere] = await transfers(message, peer="mx2.b.example")
    assert elsewhere.transfer_id != first.transfer_id


@pytest.mark.covers("MT2-18a")
async def test_seals_by_an_rsa_key_are_the_same_as_long_as_they_are_in_memory() -> None:
    site = Site("rsa")
    made_by = assembler(SealingKeys(key(site.a)))
    message = mail("bob@b.example", octets=LETTER)
    [first], [again] = await transfers(message, made_by), await transfers(message, made_by)
    assert first.envelope == again.envelope


@pytest.mark.covers("MT2-18a")
async def test_what_is_left_of_a_message_is_another_transfer() -> None:
    message = mail("bob@b.example", "cat@b.example", octets=LETTER)
    made_by = assembler()
    [both] = await transfers(message, made_by)
    rest = await made_by.assemble(Job(message, (1,)), "mx.b.example")
    assert rest.transfers[0].transfer_id != both.transfer_id


def test_what_is_kept_is_bounded_in_number_and_octets() -> None:
    kept: Kept[int, str] = Kept(3, 100)
    for number in range(4):
        kept.put(number, "x", 10)
    assert (kept.get(0), kept.get(1)) == (None, "x")
    kept.put(9, "large", 90)
    assert (kept.get(9), kept.get(1), kept.get(2)) == ("large", "x", None)
    kept.put(8, "too large", 101)
    assert kept.get(8) is None


# --- who seals (MT2-28c) ------------------------------------------------------------------------------


@pytest.mark.covers("MT2-28c")
async def test_a_strangers_mail_is_sealed_by_the_host_with_what_is_known_of_the_sender() -> None:
    [made] = await transfers(mail("bob@b.example", octets=LETTER), assembler(keys(SITE.alice)))
    report = checked(made)
    assert report.is_good
    [hop] = report.hops
    core = hop.seal
    assert isinstance(core, Core)
    assert (core.by, core.to, core.sender) == ("mx.a.example", "mx.b.example", "ann@sender.example")
    assert (core.peer, core.peer_proven, core.protocol) == ("mail.stranger.example", False, "esmtps")
    assert core.verified == {"sender": "claimed"}


@pytest.mark.covers("MT2-28c", "MT2-22")
async def test_what_our_own_user_has_submitted_is_sealed_by_the_user_and_then_by_us() -> None:
    message = mail("bob@b.example", octets=LETTER, sender="alice@a.example", authenticated_as="alice")
    [made] = await transfers(message, assembler(keys(SITE.alice)))
    report = checked(made)
    assert report.is_good
    core, hop = (one.seal for one in report.hops)
    assert (core.by, core.to) == ("alice@a.example", "mx.a.example")
    assert (hop.by, hop.peer, hop.peer_proven, hop.protocol) == (
        "mx.a.example",
        "alice@a.example",
        True,
        "esmtpsa",
    )
    assert hop.verified == {"sender": "login"}
    assert b"alice<" not in made.envelope


@pytest.mark.covers("MT2-28c")
@pytest.mark.parametrize(
    ("sender", "login", "restricted"),
    [
        ("alice@a.example", "", True),  # nobody logged in
        ("bob@a.example", "alice", True),  # no certificate for this address
        ("alice@a.example", "mallory", False),  # logins may use any sender
    ],
)
async def test_nobody_elses_mail_gets_a_users_seal(sender: str, login: str, restricted: bool) -> None:
    sealing = replace(keys(SITE.alice), logins_are_senders=restricted)
    message = mail("bob@b.example", octets=LETTER, sender=sender, authenticated_as=login)
    [made] = await transfers(message, assembler(sealing))
    assert [hop.seal.by for hop in checked(made).hops] == ["mx.a.example"]


@pytest.mark.covers("MT2-22")
async def test_what_is_written_here_is_sealed_by_the_process_certificate() -> None:
    process = SITE.user("process@a.example")
    report = replace(mail("bob@b.example", octets=LETTER, sender=None), facts=())
    sealing = keys(process=process)
    [made] = await transfers(report, assembler(sealing))
    assert [hop.seal.by for hop in checked(made).hops] == ["process@a.example", "mx.a.example"]
    [foreign] = await transfers(replace(report, facts=CAME), assembler(sealing))
    assert [hop.seal.by for hop in checked(foreign).hops] == ["mx.a.example"]


async def test_without_a_valid_certificate_the_mail_waits() -> None:
    late = NOW + 400 * 86_400
    message = mail("bob@b.example", octets=LETTER)
    found = await assembler(now=late).assemble(Job(message, (0,)), "mx.b.example")
    assert found.transfers == ()
    result = found.results[0]
    assert (result.kind, result.status) == (Kind.DEFERRED, "4.3.5")
    assert "has ended" in result.text


# --- relaying what came by MT2 ------------------------------------------------------------------------


@pytest.mark.covers("MT2-23a", "MT2-1")
async def test_what_came_by_mt2_goes_on_unchanged_but_for_our_entry() -> None:
    [first] = await transfers(mail("bob@b.example", "cat@b.example", octets=LETTER))
    came = MessageObjects(first.envelope, first.headers, first.body_prefix)
    relayed = stored(new_message("m2", "cat@b.example", "dan@c.example", now=NOW), objects=came)
    assert isinstance(first.body, InlineBody)
    relayed = replace(relayed, content=Content(b"Subject: x\r\n\r\n", first.body))
    made_by = assembler(replace(keys(), host=key(SITE.b)))
    [onward] = await transfers(relayed, made_by, "mx.c.example")
    assert (onward.headers, onward.headers_type) == (first.headers, "message/headers")
    assert body_of(onward) == body_of(first)
    report = checked(onward, ("mx.b.example",), "mx.c.example")
    assert report.is_good
    assert [(hop.seal.by, hop.seal.to) for hop in report.hops] == [
        ("mx.a.example", "mx.b.example"),
        ("mx.b.example", "mx.c.example"),
    ]
    assert onward.positions == (0, 1)
    assert [str(one.address) for one in envelope_of(onward).recipients] == ["cat@b.example", "dan@c.example"]


@pytest.mark.covers("MT2-16")
async def test_positions_follow_the_order_of_the_envelope_that_came() -> None:
    [first] = await transfers(mail("bob@b.example", "cat@b.example", octets=LETTER))
    came = MessageObjects(first.envelope, first.headers, first.body_prefix)
    message = stored(
        new_message("m2", "new@b.example", "cat@b.example", "bob@b.example", now=NOW), objects=came
    )
    [onward] = await transfers(message)
    named = [str(one.address) for one in envelope_of(onward).recipients]
    assert named == [str(message.envelope.recipients[one].address) for one in onward.positions]
    assert sorted(onward.positions) == [0, 1, 2]


async def test_mail_whose_time_is_over_is_returned() -> None:
    [first] = await transfers(mail("bob@b.example", octets=LETTER))
    envelope = replace(read_envelope(first.envelope), seals=(), certificates=(), expiry=int(NOW))
    came = MessageObjects(write_envelope(envelope), first.headers, first.body_prefix)
    found = await assembler().assemble(
        Job(stored(new_message("m2", "bob@b.example", now=NOW), objects=came), (0,)), "mx.b.example"
    )
    assert (found.results[0].kind, found.results[0].status) == (Kind.FAILED, "5.4.7")


@pytest.mark.covers("MT2-2")
async def test_an_envelope_alone_is_sent_as_one() -> None:
    [first] = await transfers(mail("bob@b.example", octets=LETTER))
    bare = replace(read_envelope(first.envelope), seals=(), certificates=(), objects=(), sender=None)
    came = MessageObjects(write_envelope(bare), b"", b"", has_body=False)
    [made] = await transfers(
        stored(new_message("m2", "bob@b.example", now=NOW, sender=None), objects=came, facts=())
    )
    assert (made.has_headers, made.body, made.body_size) == (False, None, 0)
    assert envelope_of(made).seals


# --- encryption, extensions ---------------------------------------------------------------------------


@pytest.mark.covers("MT2-4")
async def test_headers_are_encrypted_for_those_whose_certificates_are_known() -> None:
    bob = SITE.user("bob@b.example")
    made_by = assembler(certificates={"bob@b.example": bob.chain[0]})
    message = mail("bob@b.example", "cat@b.example", octets=LETTER)
    found = {one.positions: one for one in await transfers(message, made_by)}
    hidden, plain = found[(0,)], found[(1,)]
    assert (hidden.headers_type, plain.headers_type) == (ENCRYPTED_HEADERS_TYPE, "message/headers")
    assert b"Subject" not in hidden.headers
    opened = decrypt_headers(hidden.headers, bob.issued.certificate_pem, bob.issued.key_pem)
    assert opened == plain.headers
    assert checked(hidden).is_good
    [again] = (one for one in await transfers(message, made_by) if one.positions == (0,))
    assert again.transfer_id == hidden.transfer_id


class Extensions:
    """Adds a stamp and a request."""

    async def outgoing(self, mail: OutgoingMail) -> tuple[list[Carried], list[Carried]]:
        assert mail.fields("subject") == ("x",)
        return [Carried("2.25.1", "stamp", critical=True)], [Carried("2.25.2", "card, please")]


@pytest.mark.covers("MT2-19")
async def test_only_our_own_users_mail_carries_what_extensions_add() -> None:
    made_by = assembler(keys(SITE.alice), extensions=Extensions())
    own = mail("bob@b.example", octets=LETTER, sender="alice@a.example", authenticated_as="alice")
    [made] = await transfers(own, made_by)
    [stamp] = envelope_of(made).extensions
    assert (stamp.oid, stamp.data, stamp.critical) == ("2.25.1", "stamp", True)
    [request] = read_headers(made.headers).extensions
    assert (request.oid, request.data) == ("2.25.2", "card, please")
    assert checked(made).is_good
    [foreign] = await transfers(replace(mail("bob@b.example", octets=LETTER), id=MessageId("m9")), made_by)
    assert not envelope_of(foreign).extensions
