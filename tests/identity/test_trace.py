"""A sealed trace finds and names whatever was changed, moved, removed or cut."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.identity.authorities import CaStores
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seal_paths import PeerPaths, answers
from outrider.identity.seals import MAX_SEALS, Core
from outrider.identity.trace import (
    Circumstances,
    ObjectCounter,
    Problem,
    SealedMessage,
    TraceReport,
    judge_trace,
    open_many,
    open_trace,
    verify_many,
    verify_trace,
)
from outrider.message.objects.envelope import (
    DeliveryExtension,
    LayeredEnvelope,
    ReportData,
    read_envelope,
    write_envelope,
)
from outrider.model.address import parse_address
from outrider.model.envelope import Notify, Return
from outrider.model.mpc import parse_mpc
from tests.identity.mt2_papers import (
    BODY,
    HEADERS,
    MADE,
    NOW,
    Party,
    Site,
    draft,
    handover,
    places,
    recipient,
    three_hops,
    verified,
)

SITE = Site()
GOOD = three_hops(SITE)
OCTETS = write_envelope(GOOD)


def problems(report: TraceReport) -> set[tuple[str, Problem]]:
    return {(one.place, one.problem) for one in report.findings}


@pytest.mark.covers("MT2-23a")
def test_a_message_as_it_was_sealed_is_good() -> None:
    report = verified(OCTETS, SITE)
    assert report.is_good
    assert not report.unchecked
    assert [(hop.number, hop.seal.by, hop.seal.to, hop.how) for hop in report.hops] == [
        (0, "mx.a.example", "mx.b.example", "private CA"),
        (1, "mx.b.example", "mx.c.example", "private CA"),
        (2, "mx.c.example", "mx.d.example", "private CA"),
    ]
    core = report.core
    assert core is not None
    assert (core.id, core.sender) == ("m23@mx.a.example", "alice@a.example")


@pytest.mark.covers("MT2-23a", "MT2-23c")
def test_what_is_not_at_hand_is_said_to_be_unchecked() -> None:
    report = verified(OCTETS, SITE, headers=None, body=None, peer=None, receiver=None)
    assert report.is_good
    assert report.unchecked == ("headers", "body", "peer", "receiver")


# -- every octet -----------------------------------------------------------------------------------------


def _regions() -> list[tuple[int, int, set[str]]]:
    """Where in the envelope's octets seals and certificates stand, and who is to be named there."""
    found: list[tuple[int, int, set[str]]] = []
    for number, match in enumerate(re.finditer(rb"<seal>([^<]+)</seal>", OCTETS)):
        found.append((match.start(1), match.end(1), {f"seal {number}"}))
    users = ({"seal 0"}, {"seal 0", "seal 1", "seal 2"}, {"seal 1"}, {"seal 2"})
    for match, seals in zip(re.finditer(rb"<certificate>([^<]+)<", OCTETS), users, strict=True):
        found.append((match.start(1), match.end(1), seals))
    assert len(found) == 7
    return found


@pytest.mark.covers("MT2-23a", "MT2-23b")
@pytest.mark.parametrize("change", [0x01, 0x20, 0x80])
def test_every_octet_of_the_envelope(change: int) -> None:
    """Each is flipped in turn. Inside a seal its number is named, inside a certificate those who use it."""
    regions = _regions()
    for place in range(len(OCTETS)):
        flipped = bytearray(OCTETS)
        flipped[place] ^= change
        named = places(verified(bytes(flipped), SITE))
        assert named, f"octet {place} can be changed unnoticed"
        wanted = next((who for begin, end, who in regions if begin <= place < end), None)
        if wanted is None or named == {"envelope"}:
            assert all(one.startswith("envelope") or one == "trace" for one in named), (place, named)
        else:
            assert {one for one in named if one.startswith("seal")} <= wanted, (place, named)


@pytest.mark.covers("MT2-23a")
def test_every_octet_of_headers_and_body() -> None:
    for part, octets in (("headers", HEADERS), ("body", BODY)):
        for place in range(len(octets)):
            flipped = octets[:place] + bytes([octets[place] ^ 0x10]) + octets[place + 1 :]
            report = verified(OCTETS, SITE, **{part: flipped})  # type: ignore[arg-type]
            assert problems(report) == {(part, Problem.CHANGED)}
        for other in (b"", octets[:-1], octets + b"\n"):
            report = verified(OCTETS, SITE, **{part: other})  # type: ignore[arg-type]
            assert problems(report) == {(part, Problem.CHANGED)}
            assert f"{len(other)} octets" in report.findings[0].text


@pytest.mark.covers("MT2-23a")
def test_a_large_body_is_digested_as_it_streams_by() -> None:
    body = bytes(range(256)) * 40_960
    counter = ObjectCounter()
    for begin in range(0, len(body), 60_000):
        counter.add(body[begin : begin + 60_000])
    assert counter.digest() == ObjectCounter(body).digest()
    envelope = three_hops(SITE, draft(body=body))
    assert verified(envelope, SITE, body=body).is_good
    for place in range(0, len(body), 999_983):
        changed = bytearray(body)
        changed[place] ^= 1
        assert problems(verified(envelope, SITE, body=bytes(changed))) == {("body", Problem.CHANGED)}


@pytest.mark.covers("MT2-23a")
def test_an_object_that_nobody_sealed() -> None:
    bare = three_hops(SITE, draft(objects=()))
    report = verified(bare, SITE, headers=b"<x/>", body=None)
    assert problems(report) == {("headers", Problem.UNSEALED)}
    assert not verified(bare, SITE, headers=None, body=None).unchecked


# -- everything in the envelope has its place ------------------------------------------------------------


@pytest.mark.covers("MT2-23a", "MT2-2")
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": "m24@mx.a.example"}, "envelope id"),
        ({"sender": None}, "envelope sender"),
        ({"sender": parse_address("mallory@a.example")}, "envelope sender"),
        ({"recipients": (recipient("eve@c.example"),)}, "envelope recipients"),
        ({"recipients": GOOD.recipients[::-1]}, "envelope recipients"),
        ({"recipients": (*GOOD.recipients, recipient("eve@c.example"))}, "envelope recipients"),
        ({"recipients": GOOD.recipients[1:]}, "envelope recipients"),
        (
            {"recipients": (recipient("bob@c.example", Notify.NEVER), *GOOD.recipients[1:])},
            "envelope recipients",
        ),
        ({"date": GOOD.date + 1}, "envelope date"),
        ({"expiry": 0}, "envelope expiry"),
        ({"ret": Return.FULL}, "envelope ret"),
        ({"envelope_id": "env-2"}, "envelope envelope id"),
        ({"hold_until": int(NOW) + 10}, "envelope hold until"),
        ({"mpc": parse_mpc("com/optin")}, "envelope mpc"),
        ({"objects": GOOD.objects[:1]}, "envelope objects"),
        (
            {"objects": (replace(GOOD.objects[0], media_type="message/x"), *GOOD.objects[1:])},
            "envelope objects",
        ),
        ({"extensions": ()}, "envelope extensions"),
        ({"extensions": (DeliveryExtension("2.25.77", "stamp=2", critical=True),)}, "envelope extensions"),
        ({"extensions": (DeliveryExtension("2.25.77", "stamp=1"),)}, "envelope extensions"),
        ({"report": ReportData("delivery", "m1@x.example", "mx.x.example")}, "envelope report"),
    ],
)
def test_a_changed_part_of_the_envelope_is_named(change: dict[str, object], place: str) -> None:
    changed = replace(GOOD, **change)  # type: ignore[arg-type]
    assert problems(verified(changed, SITE)) == {(place, Problem.CHANGED)}


@pytest.mark.covers("MT2-23a")
def test_the_parts_are_all_that_an_envelope_has() -> None:
    """Whoever adds a field to the envelope must seal it: this test fails until it is covered."""
    covered = {*Core.__struct_fields__}
    assert set(LayeredEnvelope.__dataclass_fields__) - covered == {"seals"}


@pytest.mark.covers("MT2-23a", "SEC-133")
def test_another_form_of_the_same_envelope_is_listed_as_unsealed() -> None:
    for other in (OCTETS.replace(b"<to ", b"<to  "), OCTETS.rstrip(b"\n") + b"\n\n"):
        assert read_envelope(other) == GOOD
        assert problems(verified(other, SITE)) == {("envelope", Problem.UNSEALED)}


@pytest.mark.covers("MT2-23a", "SEC-130", "SEC-131")
@pytest.mark.parametrize(
    "wrapped",
    [
        b"<envelope>" + OCTETS + b"</envelope>",
        OCTETS.replace(b"</envelope>", OCTETS + b"</envelope>"),
        OCTETS.replace(b"<seal>", b"<seal>" + OCTETS, 1),
        OCTETS.replace(b"</from>", b"").replace(b"<from ", b'<from address="eve@x.example"/><from ', 1),
        OCTETS.replace(b"<to ", b'<to address="eve@x.example"/><to ', 1),
        OCTETS.replace(b"</envelope>", b'<to address="eve@x.example"/></envelope>'),
        OCTETS.replace(b' id="', b' xml:id="x" id="', 1),
        OCTETS.replace(b' id="', b' Id="x" id="', 1),
        OCTETS.replace(b"alice@a.example", b"eve@x.example<!-- -->", 1),
        OCTETS + OCTETS,
    ],
)
def test_nothing_can_be_wrapped_around_what_is_sealed(wrapped: bytes) -> None:
    """What is signed is the text that is read: there is no second element that it could be taken for."""
    assert wrapped != OCTETS
    assert all(one.startswith("envelope") for one in places(verified(wrapped, SITE)))
    assert not verified(wrapped, SITE).is_good


@pytest.mark.covers("MT2-23a")
def test_a_report_is_sealed_as_a_whole() -> None:
    report = ReportData("delivery", "m1@x.example", "mx.a.example", arrived=5)
    good = three_hops(SITE, draft(report=report, sender=None))
    assert verified(good, SITE).is_good
    changed = replace(good, report=replace(report, arrived=6))
    assert problems(verified(changed, SITE)) == {("envelope report", Problem.CHANGED)}


@pytest.mark.covers("MT2-23a")
def test_certificates_stand_there_once_in_their_place_and_for_a_seal() -> None:
    one, two, *rest = GOOD.certificates
    stray = SITE.alice.chain[0]
    assert problems(verified(replace(GOOD, certificates=(two, one, *rest)), SITE)) == {
        ("certificate 0", Problem.MOVED)
    }
    added = replace(GOOD, certificates=(*GOOD.certificates, stray))
    assert problems(verified(added, SITE)) == {("certificate 4", Problem.UNSEALED)}
    without = verified(replace(GOOD, certificates=(one, *rest)), SITE)
    assert problems(without) == {(f"seal {number}", Problem.CERTIFICATE) for number in range(3)}


# -- entries ---------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-23a", "SEC-135")
def test_every_removed_entry_is_named() -> None:
    core, one, two = GOOD.seals
    said = {
        (one, two): {("seal 0", Problem.MISSING)},
        (core, two): {("seal 1", Problem.MISSING)},
        (core, one): {("trace", Problem.CUT), ("trace", Problem.GAP)},
        (core,): {("trace", Problem.CUT), ("trace", Problem.GAP)},
        (two,): {("seal 0", Problem.MISSING), ("seal 0", Problem.MISSING)},
    }
    for seals, expected in said.items():
        report = verified(replace(GOOD, seals=seals), SITE)
        found = {one for one in problems(report) if not one[0].startswith(("certificate", "envelope"))}
        assert found == expected, seals
    assert problems(verified(replace(GOOD, seals=(), certificates=()), SITE)) == {("trace", Problem.UNSEALED)}


@pytest.mark.covers("MT2-23a")
def test_a_cut_tail_is_found_by_the_peer_alone() -> None:
    """Hop c takes away its predecessor's seals and its own, and hands on as if a had sent it here."""
    first = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.d.example"), NOW)
    report = verified(first, SITE, peer=["mx.c.example"])
    assert problems(report) == {("trace", Problem.CUT)}
    assert "mx.c.example" in report.findings[0].text
    nobody = verified(first, SITE, peer=[])
    assert problems(nobody) == {("trace", Problem.CUT)}
    assert verified(first, SITE, peer=["other.example", "mx.a.example"]).is_good


@pytest.mark.covers("MT2-23a")
def test_who_cuts_and_seals_anew_is_caught_by_the_gap() -> None:
    """Hop c removes b's entry and seals over a's core: a did not hand the message to c."""
    first = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.b.example"), NOW)
    at_c = handover("mx.c.example", "mx.d.example", "mx.a.example")
    forged = SITE.c.sealer.seal_hop(first, first.recipients, at_c, NOW + 4)
    assert problems(verified(forged, SITE)) == {("seal 1", Problem.GAP)}


@pytest.mark.covers("MT2-23a", "SEC-135")
def test_every_order_of_the_seals_but_one_is_found() -> None:
    for order in permutations(range(3)):
        report = verified(replace(GOOD, seals=tuple(GOOD.seals[n] for n in order)), SITE)
        if order == (0, 1, 2):
            assert report.is_good
        else:
            moved = next(place for place, number in enumerate(order) if place != number)
            assert any(one.place == f"seal {moved}" for one in report.findings), order


@pytest.mark.covers("MT2-23a", "SEC-135")
def test_a_duplicated_entry_is_named() -> None:
    for number in range(3):
        for place in range(number + 1, 4):
            seals = [*GOOD.seals[:place], GOOD.seals[number], *GOOD.seals[place:]]
            report = verified(replace(GOOD, seals=tuple(seals)), SITE)
            assert (f"seal {place}", Problem.DUPLICATED) in problems(report)


@pytest.mark.covers("MT2-23a", "SEC-135")
def test_a_seal_of_another_message_is_named() -> None:
    other = three_hops(SITE, draft(id="m99@mx.a.example"))
    for number in range(1, 3):
        seals = list(GOOD.seals)
        seals[number] = other.seals[number]
        report = verified(replace(GOOD, seals=tuple(seals)), SITE)
        assert (f"seal {number}", Problem.FOREIGN) in problems(report)
    swapped = verified(replace(GOOD, seals=(other.seals[0], *GOOD.seals[1:])), SITE)
    assert ("envelope id", Problem.CHANGED) in problems(swapped)
    assert ("seal 1", Problem.FOREIGN) in problems(swapped)


@pytest.mark.covers("MT2-23a")
def test_a_seal_of_the_same_message_sent_another_way_is_named() -> None:
    """The same id and hop, but made over another seal: a hop's entry from the copy for another domain."""
    elsewhere = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.b.example"), NOW + 1)
    at_b = handover("mx.b.example", "mx.c.example", "mx.a.example", NOW + 1)
    copy = SITE.b.sealer.seal_hop(elsewhere, elsewhere.recipients, at_b, NOW + 2)
    report = verified(replace(GOOD, seals=(GOOD.seals[0], copy.seals[1], GOOD.seals[2])), SITE)
    assert {("seal 1", Problem.FOREIGN), ("seal 2", Problem.FOREIGN)} <= problems(report)


@pytest.mark.covers("MT2-23a")
def test_an_entry_signed_again_with_other_words_is_found() -> None:
    """A hop cannot change what an earlier one said, nor say it in that one's place."""
    at_c = handover("mx.c.example", "mx.d.example", "mx.b.example", NOW + 3)
    first = replace(
        GOOD, seals=GOOD.seals[:1], recipients=draft().recipients, certificates=GOOD.certificates[:2]
    )
    in_name = SITE.c.sealer.seal_hop(first, first.recipients, replace(at_c, to="mx.c.example"), NOW + 2)
    report = verified(in_name, SITE)
    assert ("seal 1", Problem.GAP) in problems(report)


@pytest.mark.covers("MT2-23a", "SEC-135")
def test_more_than_a_hundred_hops() -> None:
    many = replace(GOOD, seals=GOOD.seals[:1] + GOOD.seals[1:2] * MAX_SEALS)
    assert problems(verified(many, SITE)) == {("trace", Problem.TOO_MANY)}
    seal = re.findall(rb"<seal>[^<]+</seal>", OCTETS)[1]
    endless = OCTETS.replace(seal, seal * 10_000)
    assert problems(verified(endless, SITE)) == {("envelope", Problem.MALFORMED)}


# -- recipients ------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-23a")
def test_hops_say_how_they_changed_the_recipients() -> None:
    entry = verified(OCTETS, SITE).hops[2].seal
    assert (entry.removed, [one.address for one in entry.added]) == (("ann@c.example",), ["carol@d.example"])  # type: ignore[union-attr]


@pytest.mark.covers("MT2-23a")
@given(
    st.lists(st.sampled_from("abcd"), max_size=5), st.lists(st.sampled_from("abcd"), min_size=1, max_size=5)
)
@settings(max_examples=60, deadline=None)
def test_any_change_of_recipients_is_sealed(before: list[str], after: list[str]) -> None:
    notify = {"a": Notify.UNSPECIFIED, "b": Notify.NEVER, "c": Notify.SUCCESS, "d": Notify.UNSPECIFIED}
    first = SITE.a.sealer.seal_core(
        draft(recipients=tuple(recipient(f"{one}@x.example") for one in dict.fromkeys(["z", *before]))),
        handover("mx.a.example", "mx.c.example"),
        NOW,
    )
    wanted = [recipient(f"{one}@x.example", notify[one]) for one in dict.fromkeys(after)]
    at_c = handover("mx.c.example", "mx.d.example", "mx.a.example")
    second = SITE.c.sealer.seal_hop(first, wanted, at_c, NOW)
    assert set(second.recipients) == set(wanted)
    assert verified(second, SITE).is_good


# -- times and certificates ------------------------------------------------------------------------------


@pytest.mark.covers("MT2-23a", "SEC-135")
def test_a_seal_from_the_future() -> None:
    report = verified(OCTETS, SITE, later=-400)
    assert problems(report) == {(f"seal {number}", Problem.TIME) for number in range(3)}
    assert verified(OCTETS, SITE, later=-200).is_good  # clocks differ


@pytest.mark.covers("MT2-23a")
def test_times_that_cannot_be() -> None:
    first = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.c.example"), NOW)
    early = handover("mx.c.example", "mx.d.example", "mx.a.example", NOW - 3600)
    report = verified(SITE.c.sealer.seal_hop(first, first.recipients, early, NOW + 1), SITE)
    assert problems(report) == {("seal 1", Problem.TIME)}
    late = handover("mx.c.example", "mx.d.example", "mx.a.example", NOW + 3600)
    report = verified(SITE.c.sealer.seal_hop(first, first.recipients, late, NOW + 1), SITE)
    assert problems(report) == {("seal 1", Problem.TIME)}


@pytest.mark.covers("MT2-23c")
def test_certificates_are_judged_at_the_time_of_their_seal() -> None:
    """Years later everything has expired, and the trace still holds; before they were valid it never did."""
    assert verified(OCTETS, SITE, later=900 * 86_400, peer=None).is_good is False  # the last seal: see below
    message = SealedMessage(
        OCTETS, headers=ObjectCounter(HEADERS).digest(), body=ObjectCounter(BODY).digest()
    )
    assert verify_trace(message, SITE.paths, Circumstances(NOW + 900 * 86_400)).is_good
    too_early = (MADE - timedelta(days=1)).timestamp()
    first = SITE.a.sealer.seal_core(
        draft(), handover("mx.a.example", "mx.d.example", received=1.0), too_early
    )
    report = verified(first, SITE, peer=["mx.a.example"])
    assert problems(report) == {("seal 0", Problem.CERTIFICATE)}
    assert "not yet" in report.findings[0].text or "not valid before" in report.findings[0].text


@pytest.mark.covers("MT2-23c")
def test_an_old_key_cannot_seal_into_the_past() -> None:
    """mx.a's certificate has ended; its thief dates the core back. The next hop says when it really was."""
    short = Site(days=30)
    ended = (MADE + timedelta(days=30)).timestamp()
    back = ended - 3600
    first = short.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.c.example", received=back), back)
    fresh = Party("mx.c.example", short.authority.issue_host(["mx.c.example"], MADE + timedelta(days=20)))
    at_c = handover("mx.c.example", "mx.d.example", "mx.a.example", ended + 86_400)
    forged = fresh.sealer.seal_hop(first, first.recipients, at_c, ended + 86_400)
    report = verified(forged, short, later=ended + 90_000 - NOW)
    assert problems(report) == {("seal 0", Problem.CERTIFICATE)}
    assert "expired before the next host" in report.findings[0].text
    honest = fresh.sealer.seal_hop(first, first.recipients, replace(at_c, received=back + 5), ended + 86_400)
    assert verified(honest, short, later=ended + 90_000 - NOW).is_good


@pytest.mark.covers("MT2-23c", "MT2-24a")
def test_certificates_of_strangers_prove_nothing() -> None:
    stranger = Site()
    report = verified(three_hops(stranger), SITE)
    assert problems(report) == {(f"seal {number}", Problem.CERTIFICATE) for number in range(3)}
    assert [hop.how for hop in report.hops] == ["", "", ""]


@pytest.mark.covers("MT2-23a", "MT2-22", "SEC-135")
def test_a_host_cannot_seal_in_another_name() -> None:
    """The sealer refuses; and who forges it nevertheless is found."""
    sealer = replace(SITE.c.sealer, names=("mx.a.example",))
    first = sealer.seal_core(draft(), handover("mx.a.example", "mx.d.example"), NOW)
    report = verified(first, SITE, peer=["mx.a.example"])
    assert problems(report) == {("seal 0", Problem.CERTIFICATE)}
    assert "mx.a.example" in report.findings[0].text


@pytest.mark.covers("MT2-22", "MT2-23a")
def test_a_user_seals_the_core_and_hosts_the_rest() -> None:
    at_user = handover("alice@a.example", "mx.a.example")
    first = SITE.alice.sealer.seal_core(draft(), at_user, NOW)
    at_a = handover("mx.a.example", "mx.d.example", "alice@a.example", NOW + 1)
    second = SITE.a.sealer.seal_hop(first, first.recipients, at_a, NOW + 1)
    report = verified(second, SITE, peer=["mx.a.example"])
    assert report.is_good
    assert report.hops[0].seal.by == "alice@a.example"
    forged = replace(SITE.alice.sealer, names=("bob@a.example",))
    as_bob = forged.seal_core(draft(), replace(at_user, by="bob@a.example"), NOW)
    assert ("seal 0", Problem.CERTIFICATE) in problems(verified(as_bob, SITE))


@pytest.mark.covers("MT2-23a")
def test_another_name_of_the_same_certificate_is_the_same_host() -> None:
    """The way may lead to a domain's name, and the host seals as itself."""
    both = SITE.host("mx.c.example", "c.example")
    first = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "c.example"), NOW)
    at_c = handover("mx.c.example", "mx.d.example", "mx.a.example")
    assert verified(both.sealer.seal_hop(first, first.recipients, at_c, NOW), SITE).is_good
    other = SITE.c.sealer.seal_hop(first, first.recipients, at_c, NOW)
    assert problems(verified(other, SITE)) == {("seal 1", Problem.GAP)}


@pytest.mark.covers("MT2-23b")
def test_rsa_keys_seal_too() -> None:
    site = Site("rsa")
    assert verified(three_hops(site), site).is_good


# -- apart from authorities ------------------------------------------------------------------------------


@pytest.mark.covers("MT2-23b")
def test_many_at_once_are_what_each_is_alone() -> None:
    bad = write_envelope(replace(GOOD, envelope_id="x"))
    around = Circumstances(NOW + 10)
    work = [(SealedMessage(octets), around) for octets in (OCTETS, bad, b"<x/>")]
    assert verify_many(work, SITE.paths) == [verify_trace(one, SITE.paths, around) for one, _ in work]
    assert open_many(work) == [open_trace(one, around) for one, _ in work]
    parsed = SealedMessage(OCTETS, GOOD)
    assert verify_trace(parsed, SITE.paths, around) == verify_trace(work[0][0], SITE.paths, around)


@pytest.mark.covers("MT2-23c", "MT2-24b")
async def test_questions_can_be_answered_elsewhere() -> None:
    around = Circumstances(NOW + 10)
    opened = open_trace(SealedMessage(OCTETS), around)
    assert [one.name for one in opened.questions] == ["mx.a.example", "mx.b.example", "mx.c.example"]
    peers = Mt2Peers(CaStores.of(private=[SITE.root.certificate]))
    report = judge_trace(opened, await answers(peers, opened.questions), around)
    assert report.is_good
    assert report == verify_trace(SealedMessage(OCTETS), PeerPaths(peers), around)
    unanswered = judge_trace(opened, {}, around)
    assert problems(unanswered) == {(f"seal {number}", Problem.CERTIFICATE) for number in range(3)}


# -- anything --------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-23b")
@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_octets_have_a_report(octets: bytes) -> None:
    assert not verified(octets, SITE).is_good


@pytest.mark.covers("MT2-23b")
@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_splice_of_an_envelope_is_found(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(OCTETS)))
    end = data.draw(st.integers(begin, min(len(OCTETS), begin + 80)))
    put = data.draw(st.binary(max_size=40) | st.sampled_from([OCTETS[begin:end] * 2, b"<!---->", b" "]))
    changed = OCTETS[:begin] + put + OCTETS[end:]
    assert verified(changed, SITE).is_good == (changed == OCTETS)


@pytest.mark.covers("MT2-23b")
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
@settings(deadline=None)
def test_any_texts_as_seals(texts: list[str]) -> None:
    report = verify_trace(
        SealedMessage(OCTETS, replace(GOOD, seals=tuple(texts))), SITE.paths, Circumstances(NOW)
    )
    assert {f"seal {number}" for number in range(len(texts))} <= places(report)
