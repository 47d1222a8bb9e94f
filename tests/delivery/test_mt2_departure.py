"""What came by MT2 and leaves by SMTP or into a mailbox takes its objects along, and shows no blind copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.config.schema import Delivery
from outrider.delivery.carrying import Carrier
from outrider.delivery.connections import Connections
from outrider.delivery.interface import Hop, Job
from outrider.delivery.local_content import local_content
from outrider.delivery.mt2_assembler import Mt2Assembler
from outrider.delivery.mt2_departure import Departure, goes_by_mt2_only
from outrider.delivery.mt2_sealing import MessageSealer
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.service_hops import ServiceSending
from outrider.gateway.mapping import mt2_to_smtp, smtp_to_mt2
from outrider.gateway.ride_along import Recovered, recover
from outrider.identity.trace import Circumstances, SealedMessage, verify_trace
from outrider.message.objects.envelope import DeliveryExtension, read_envelope, write_envelope
from outrider.message.objects.headers import read_headers
from outrider.model.address import parse_address
from outrider.model.content import InlineBody, inline_content
from outrider.model.facts import Fact, Provenance
from outrider.model.layered import MessageObjects
from outrider.model.message import StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.ways import HostWay, LocalWay, MxWay, parse_way
from tests.delivery.mt2_desk import SITE, checked, key, keys, mail, stored, transfers
from tests.delivery.support import FakeClock, FakeLookup, Observer, new_message, srv, surroundings
from tests.delivery.test_service_hops import Memory
from tests.identity.mt2_papers import NOW, Site

LETTER = (
    b"From: ann@sender.example\r\nTo: bob@b.example, cat@b.example\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nSubject: x\r\n\r\nHello.\r\n"
)
AT_B = MessageSealer(replace(keys(), host=key(SITE.b)), lambda: NOW)


async def arrived(*addresses: str, letter: bytes = LETTER) -> StoredMessage:
    """A message as it stands in the spool of mx.b.example after it came by MT2 from mx.a.example."""
    source = mail(*addresses, octets=letter)
    [made] = await transfers(replace(source, trace=b""))
    content = inline_content(letter)
    objects = MessageObjects(made.envelope, made.headers, made.body_prefix, made.headers_type)
    here = new_message("m2", *addresses, now=NOW, content=content)
    return stored(here, objects=objects)


def visible(message: StoredMessage, fields: bytes) -> bytes:
    assert message.content is not None
    return message.trace + fields + message.content.headers


def body(message: StoredMessage) -> bytes:
    assert message.content is not None
    assert isinstance(message.content.body, InlineBody)
    return message.content.body.octets


@pytest.mark.covers("MT2-28b")
async def test_what_leaves_by_smtp_comes_back_as_the_same_objects_with_our_entry() -> None:
    message = await arrived("bob@b.example", "cat@b.example")
    job = Departure(AT_B).dressed(Job(message, (0, 1)), "smtp", "MX.c.example")
    assert job.message.content is message.content
    back = recover(job.message.trace + LETTER[: LETTER.index(b"\r\n\r\n") + 4], [body(message)])
    assert isinstance(back, Recovered)
    assert message.objects is not None
    assert back.objects == replace(message.objects, envelope=back.objects.envelope)
    assert back.on_top == message.trace
    report = verify_trace(
        SealedMessage(back.objects.envelope), SITE.paths, Circumstances(NOW + 1, receiver=("mx.c.example",))
    )
    assert report.is_good
    assert [hop.seal.by for hop in report.hops] == ["mx.a.example", "mx.b.example"]


@pytest.mark.covers("MT2-28b", "MT2-28a")
async def test_below_what_rides_along_the_mail_is_what_the_sender_wrote() -> None:
    message = await arrived("bob@b.example")
    fields = Departure(AT_B).for_host(Job(message, (0,)), "mx.c.example")
    assert visible(message, fields).endswith(LETTER[: LETTER.index(b"\r\n\r\n") + 4])
    assert smtp_to_mt2(visible(message, b"")).body_prefix


@pytest.mark.covers("MT2-29")
async def test_a_mailbox_keeps_objects_and_seals_as_they_came() -> None:
    message = await arrived("bob@b.example", "cat@b.example")
    for part in Departure(AT_B).for_transport(Job(message, (0, 1)), "maildir"):
        [position] = part.recipients
        address = message.envelope.recipients[position].address
        octets = b"".join(local_content(part.message, address)).replace(b"\n", b"\r\n")
        section, _, rest = octets.partition(b"\r\n\r\n")
        back = recover(section + b"\r\n\r\n", [rest])
        assert isinstance(back, Recovered)
        assert back.objects == message.objects


@pytest.mark.covers("MT2-29", "MT2-23a")
@pytest.mark.parametrize(
    ("addresses", "position", "kept"),
    [
        (("bob@b.example", "cat@b.example"), 0, True),  # To names both
        (("spy@b.example",), 0, True),  # nobody else is named
        (("spy@b.example", *(f"m{n}@b.example" for n in range(11))), 0, False),
    ],
)
async def test_no_mailbox_shows_a_blind_copy(addresses: tuple[str, ...], position: int, kept: bool) -> None:
    message = await arrived(*addresses)
    assert bool(Departure(AT_B).for_mailbox(message, position)) is kept


async def test_a_command_a_list_and_a_setting() -> None:
    message = await arrived("bob@b.example")
    job = Job(message, (0,))
    assert b"MT2-Recipe" in Departure(None).for_transport(job, "pipe")[0].message.trace
    assert Departure(AT_B).for_transport(job, "list") == (job,)
    assert Departure(AT_B).dressed(job, "mt2", "mx.c.example") is job
    assert Departure(AT_B, wanted=False).dressed(job, "smtp", "mx.c.example") is job
    assert Departure(AT_B, wanted=False).for_transport(job, "maildir") == (job,)
    plain = Job(mail("bob@b.example"), (0,))
    assert Departure(AT_B).dressed(plain, "smtp", "mx.c.example") is plain


# --- through the carrier ------------------------------------------------------------------------------


class Box:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult]:
        self.jobs.append(job)
        return {one: DeliveryResult(Kind.DELIVERED, "2.0.0", "ok") for one in job.recipients}


class Line:
    """A connection that keeps what it is given."""

    usable = True
    description = "somewhere"

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.jobs: list[Job] = []

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        self.jobs.append(job)
        return {one: DeliveryResult(Kind.DELIVERED, "2.0.0", "ok", 250) for one in job.recipients}

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Desk:
    """A carrier with all of it; b.example has MT2 and SMTP servers."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.box = Box()
        lookup = FakeLookup()
        lookup.service_answers["mt2 b.example"] = srv((10, "gate"), port=10_126)
        planner = HopPlanner(surroundings(lookup), [ServiceSending("mt2", 10_126, Memory())])
        observer = Observer()
        self.carrier = Carrier(
            planner,
            Connections(self, observer),
            {"maildir": self.box},
            Delivery(idle_reuse=0),
            FakeClock(),
            observer,
            Departure(AT_B),
        )

    async def connect(self, hop: Hop, address: object) -> Line:
        self.lines.append(Line(hop.protocol))
        return self.lines[-1]

    async def carry(
        self, message: StoredMessage, way: MxWay | HostWay | LocalWay
    ) -> dict[int, DeliveryResult]:
        everyone = tuple(range(len(message.envelope.recipients)))
        return (await self.carrier.carry(Job(message, everyone), way, "b.example")).results


@pytest.mark.covers("MT2-28b", "ITP-7")
async def test_mt2_carries_the_objects_themselves_and_smtp_takes_them_along() -> None:
    message = await arrived("bob@b.example", "cat@b.example")
    desk = Desk()
    by_host = parse_way("smtp:[8.8.8.8]")
    assert isinstance(by_host, HostWay)
    await desk.carry(message, MxWay())
    await desk.carry(message, by_host)
    assert [line.protocol for line in desk.lines] == ["mt2", "smtp"]
    assert desk.lines[0].jobs[0].message is message
    assert b"MT2-Recipe" in desk.lines[1].jobs[0].message.trace


@pytest.mark.covers("MT2-29")
async def test_each_mailbox_gets_a_file_of_its_own_and_every_recipient_a_result() -> None:
    message = await arrived("bob@b.example", "cat@b.example")
    desk = Desk()
    results = await desk.carry(message, LocalWay("maildir", "/mail/{user}"))
    assert [job.recipients for job in desk.box.jobs] == [(0,), (1,)]
    assert {index: one.kind for index, one in results.items()} == {0: Kind.DELIVERED, 1: Kind.DELIVERED}


@pytest.mark.covers("MT2-19", "ITP-7")
@pytest.mark.parametrize("critical", [True, False])
async def test_a_critical_extension_keeps_a_message_from_protocols_that_cannot_carry_it(
    critical: bool, tmp_path: Path
) -> None:
    message = await arrived("bob@b.example")
    assert message.objects is not None
    envelope = read_envelope(message.objects.envelope)
    extended = replace(envelope, extensions=(DeliveryExtension("2.25.77", "critical", critical),))
    objects = replace(message.objects, envelope=write_envelope(extended))
    message = replace(message, objects=objects)
    assert ("2.25.77" in goes_by_mt2_only(message)) is critical
    desk = Desk()
    by_smtp = parse_way("smtp:[8.8.8.8]")
    assert isinstance(by_smtp, HostWay)
    results = await desk.carry(message, by_smtp)
    assert (results[0].kind is Kind.FAILED) is critical
    assert (await desk.carry(message, MxWay()))[0].kind is Kind.DELIVERED
    assert (await desk.carry(message, LocalWay("maildir", f"{tmp_path}")))[0].kind is Kind.DELIVERED


# --- and back again (MT2-28b) -------------------------------------------------------------------------


async def over_smtp(
    change: tuple[bytes, bytes] = (b"", b""), end: bytes = b"", to: str = "mx.c.example"
) -> StoredMessage:
    """A message that went from MT2 by SMTP to mx.c.example, as `to`, one thing changed on the way."""
    message = await arrived("bob@b.example", "cat@b.example")
    gone = Departure(AT_B).dressed(Job(message, (0, 1)), "smtp", to).message
    octets = gone.trace + LETTER + end
    here = new_message("m3", "bob@b.example", now=NOW, content=inline_content(octets.replace(*change)))
    return stored(here)


@pytest.mark.covers("MT2-28b")
@pytest.mark.parametrize("end", [b"", b"\r\n"])
async def test_what_comes_back_from_smtp_goes_on_as_the_objects_that_it_was(end: bytes) -> None:
    original = await arrived("bob@b.example", "cat@b.example")
    assert original.objects is not None
    at_c = MessageSealer(replace(keys(), host=key(SITE.c)), lambda: NOW)
    message = await over_smtp(end=end)
    made_by = Mt2Assembler(at_c, lambda: NOW, paths=SITE.paths)
    [made] = await transfers(message, made_by, "mx.d.example")
    assert (made.headers, made.body_prefix) == (original.objects.headers, original.objects.body_prefix)
    assert made.body is not None
    assert b"".join(made.body.chunks()) == body(original)
    report = checked(made, ("mx.c.example",), "mx.d.example")
    assert report.is_good
    assert [hop.seal.by for hop in report.hops] == ["mx.a.example", "mx.b.example", "mx.c.example"]


@pytest.mark.covers("MT2-28b", "MT2-23a")
@pytest.mark.parametrize("change", [(b"Hello", b"Hallo"), (b"Subject: x", b"Subject: y")])
async def test_what_was_changed_on_the_way_is_plain_mail(change: tuple[bytes, bytes]) -> None:
    at_c = MessageSealer(replace(keys(), host=key(SITE.c)), lambda: NOW)
    made_by = Mt2Assembler(at_c, lambda: NOW, paths=SITE.paths)
    [made] = await transfers(await over_smtp(change), made_by, "mx.d.example")
    report = checked(made, ("mx.c.example",), "mx.d.example")
    assert report.is_good
    assert [hop.seal.by for hop in report.hops] == ["mx.c.example"]


@pytest.mark.covers("MT2-28b", "MT2-25")
async def test_seals_that_nobody_vouches_for_are_not_passed_on() -> None:
    at_c = MessageSealer(replace(keys(), host=key(SITE.c)), lambda: NOW)
    made_by = Mt2Assembler(at_c, lambda: NOW, paths=Site().paths)
    [made] = await transfers(await over_smtp(), made_by, "mx.d.example")
    assert [hop.seal.by for hop in checked(made, ("mx.c.example",), "mx.d.example").hops] == ["mx.c.example"]


# --- whose objects we go on with (MT2-28b, MT2-23a) ---------------------------------------------------


async def passed_on(message: StoredMessage) -> tuple[list[str], bytes]:
    """Who has sealed what mx.c.example, which is gate.c.example too, sends on by MT2, and what the header
    section is then; the next host finds nothing wrong."""
    at_c = SITE.host("mx.c.example", "gate.c.example")
    sealer = MessageSealer(replace(keys(), host=key(at_c)), lambda: NOW)
    made_by = Mt2Assembler(sealer, lambda: NOW, paths=SITE.paths)
    [made] = await transfers(message, made_by, "mx.d.example")
    report = checked(made, ("mx.c.example",), "mx.d.example")
    assert report.is_good, report.findings
    section = mt2_to_smtp(read_headers(made.headers), made.body_prefix, body_follows=True)
    return [hop.seal.by for hop in report.hops], section


@pytest.mark.covers("MT2-28b", "MT2-23a")
@pytest.mark.parametrize("to", ["[192.0.2.1]", "[ipv6:2001:db8::1]", "mx.e.example", "c.example"])
async def test_objects_handed_to_another_name_stay_in_the_mail_under_a_new_trace(
    to: str,
) -> None:
    message = await over_smtp(to=to)
    assert message.content is not None
    by, section = await passed_on(message)
    assert by == ["mx.c.example"]
    assert section == message.trace + message.content.headers
    assert b"MT2-Recipe" in section


@pytest.mark.covers("MT2-28b", "MT2-23a")
@pytest.mark.parametrize("to", ["mx.c.example", "MX.C.example", "gate.c.example"])
async def test_objects_handed_to_any_name_that_we_prove_are_taken_back(to: str) -> None:
    by, section = await passed_on(await over_smtp(to=to))
    assert by == ["mx.a.example", "mx.b.example", "mx.c.example"]
    assert b"MT2-Recipe" not in section


@pytest.mark.covers("MT2-28b", "MT2-23a")
@pytest.mark.parametrize(("host", "taken"), [("mx.b.example", True), ("mx.thief.example", False)])
async def test_a_proven_host_brings_only_what_it_has_sealed_last(host: str, taken: bool) -> None:
    """Whoever got hold of our mail could give it to us once more, for recipients of his own."""
    message = await over_smtp()
    proven = Fact("host", host, Provenance.PROVEN)
    by, _ = await passed_on(replace(message, facts=(*message.facts, proven)))
    assert by == (["mx.a.example", "mx.b.example", "mx.c.example"] if taken else ["mx.c.example"])


@pytest.mark.covers("MT2-28b", "MT2-28c")
async def test_objects_of_one_sender_are_not_carried_under_the_name_of_another() -> None:
    """Rules and SPF have judged the sender of the SMTP envelope."""
    message = await over_smtp()
    other = replace(message.envelope, sender=parse_address("eve@thief.example"))
    by, section = await passed_on(replace(message, envelope=other))
    assert by == ["mx.c.example"]
    assert b"MT2-Recipe" in section
