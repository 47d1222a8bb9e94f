"""What a sealer writes down, and what it will not seal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import rfc8785

from outrider.identity.jws import CompactJws, JwsError, decode, encode
from outrider.identity.seals import (
    MAX_SEALS,
    SEAL_TYP,
    Handover,
    Sealer,
    SealError,
    notify_text,
    read_seal,
    seal_digest,
)
from outrider.identity.user_certificates import PROCESS
from outrider.model.envelope import Notify
from tests.identity.mt2_papers import NOW, Site, draft, handover, recipient, three_hops, verified

SITE = Site()
GOOD = three_hops(SITE)


def payload(number: int) -> bytes:
    return decode(GOOD.seals[number].split(".")[1])


@pytest.mark.covers("MT2-23b")
def test_a_seal_is_a_compact_jws_over_canonical_json() -> None:
    for number, party in enumerate((SITE.a, SITE.b, SITE.c)):
        octets = CompactJws.read(GOOD.seals[number], SEAL_TYP).verified(party.chain[0])
        assert octets == payload(number) == rfc8785.dumps(json.loads(octets))
    entry = json.loads(payload(2))
    assert entry["previous"] == seal_digest(GOOD.seals[1])
    assert entry == {
        "added": [{"address": "carol@d.example"}],
        "by": "mx.c.example",
        "certificates": [SITE.c.sealer.signer.thumbprint, json.loads(payload(0))["certificates"][1]],
        "hop": 2,
        "id": "m23@mx.a.example",
        "kind": "hop",
        "peer": "mx.b.example",
        "peer_proven": True,
        "previous": entry["previous"],
        "protocol": "mt2",
        "received": int(NOW) + 3,
        "removed": ["ann@c.example"],
        "time": int(NOW) + 4,
        "tls": "TLSv1.3",
        "to": "mx.d.example",
    }


@pytest.mark.covers("MT2-2", "MT2-23b")
def test_certificates_are_held_once() -> None:
    assert GOOD.certificates == (*SITE.a.chain, SITE.b.chain[0], SITE.c.chain[0])


@pytest.mark.covers("MT2-23a")
@pytest.mark.parametrize(
    "bad",
    [
        handover("mx.b.example", "mx.c.example"),
        handover("", "mx.c.example"),
        handover("alice@a.example", "mx.c.example"),
        handover("mx.a.example", ""),
        handover("mx.a.example", "mx\n.example"),
        handover("mx.a.example", "mx.c.example", peer="x" * 400),
        handover("mx.a.example", "mx.c.example", tls="\x1b[2J"),
        handover("mx.a.example", "mx.c.example", verified={"SPF": "pass"}),
        handover("mx.a.example", "mx.c.example", verified={"spf": "\u202e"}),
        handover("mx.a.example", "mx.c.example", verified={"spf": "x" * 201}),
        handover("mx.a.example", "mx.c.example", verified={f"k{n}": "" for n in range(17)}),
    ],
)
def test_what_is_not_sealed(bad: Handover) -> None:
    with pytest.raises(SealError):
        SITE.a.sealer.seal_core(draft(), bad, NOW)


@pytest.mark.covers("MT2-23a")
def test_the_order_of_core_and_entries() -> None:
    good = handover("mx.a.example", "mx.b.example")
    with pytest.raises(SealError, match="core already"):
        SITE.a.sealer.seal_core(GOOD, good, NOW)
    with pytest.raises(SealError, match="no core"):
        SITE.a.sealer.seal_hop(draft(), draft().recipients, good, NOW)
    full = replace(GOOD, seals=GOOD.seals[:1] * MAX_SEALS)
    with pytest.raises(SealError, match="too many hops"):
        SITE.a.sealer.seal_hop(full, GOOD.recipients, good, NOW)


@pytest.mark.covers("MT2-23a")
def test_a_hundred_hops_are_the_most() -> None:
    envelope = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.b.example"), NOW)
    pair = (
        (SITE.b.sealer, handover("mx.b.example", "mx.a.example", "mx.a.example")),
        (SITE.a.sealer, handover("mx.a.example", "mx.b.example", "mx.b.example")),
    )
    for number in range(MAX_SEALS - 1):
        sealer, hop = pair[number % 2]
        envelope = sealer.seal_hop(envelope, envelope.recipients, hop, NOW)
    report = verified(envelope, SITE, peer=["mx.a.example"], receiver=["mx.b.example"])
    assert report.is_good
    assert len(report.hops) == MAX_SEALS


@pytest.mark.covers("MT2-22")
def test_a_control_message_is_sealed_by_process() -> None:
    """The core by the domain's own user, the way by the host."""
    process = SITE.user(f"{PROCESS}@a.example")
    envelope = draft(objects=(), sender=None, extensions=())
    core = process.sealer.seal_core(envelope, handover("process@a.example", "mx.a.example"), NOW)
    at_a = handover("mx.a.example", "mx.d.example", "process@a.example")
    sealed = SITE.a.sealer.seal_hop(core, core.recipients, at_a, NOW)
    report = verified(sealed, SITE, headers=None, body=None, peer=["mx.a.example"])
    assert report.is_good
    assert [hop.seal.by for hop in report.hops] == ["process@a.example", "mx.a.example"]


@pytest.mark.covers("MT2-23a")
def test_as_many_recipients_as_an_envelope_has() -> None:
    recipients = tuple(recipient(f"someone.number.{n}@department.c.example") for n in range(4_000))
    sealed = SITE.a.sealer.seal_core(
        draft(recipients=recipients), handover("mx.a.example", "mx.d.example"), NOW
    )
    assert verified(sealed, SITE, peer=["mx.a.example"]).is_good
    too_many = tuple(recipient(f"{'x' * 60}{n}@department.c.example") for n in range(4_900))
    with pytest.raises(SealError, match="too many recipients"):
        SITE.a.sealer.seal_core(draft(recipients=too_many), handover("mx.a.example", "mx.d.example"), NOW)


@pytest.mark.covers("MT2-23a")
def test_the_same_address_twice_with_other_wishes() -> None:
    both = (recipient("bob@c.example"), recipient("bob@c.example", Notify.NEVER))
    first = SITE.a.sealer.seal_core(draft(recipients=both[:1]), handover("mx.a.example", "mx.c.example"), NOW)
    at_c = handover("mx.c.example", "mx.d.example", "mx.a.example")
    second = SITE.c.sealer.seal_hop(first, both[1:], at_c, NOW)
    assert second.recipients == both[1:]
    assert verified(second, SITE).is_good


@pytest.mark.covers("MT2-23b")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"by":"mx.c.example"', b'"by":""'),
        (b'"to":"mx.d.example"', b'"to":""'),
        (b'"peer":"mx.b.example"', b'"peer":"\\u001b"'),
        (b'"kind":"hop"', b'"kind":"core"'),
        (b'"kind":"hop"', b'"kind":"x"'),
        (b'"hop":2', b'"hop":2.0'),
        (b'"received":', b'"received":-'),
        (b'"tls":"TLSv1.3"', b'"tls":"TLSv1.3","unknown":1'),
        (b'"tls":"TLSv1.3"', b'"tls":""'),
        (b'"tls":"TLSv1.3",', b'"tls":"TLSv1.3","verified":{"A b":"x"},'),
    ],
)
def test_payloads_that_are_no_seal(old: bytes, new: bytes) -> None:
    assert old in payload(2)
    with pytest.raises(JwsError):
        read_seal(payload(2).replace(old, new))


@pytest.mark.covers("MT2-22", "MT2-23b")
def test_who_can_seal() -> None:
    assert SITE.host("mx.x.example", "x.example").sealer.names == ("mx.x.example", "x.example")
    assert SITE.alice.sealer.names == ("alice@a.example",)
    wildcard = SITE.authority.issue_host(["*.x.example"], SITE.a.issued.certificate.not_valid_before_utc)
    with pytest.raises(SealError, match="neither"):
        Sealer.from_pem(wildcard.certificate_pem, wildcard.key_pem)
    with pytest.raises(SealError):
        Sealer.from_pem(SITE.a.issued.certificate_pem, SITE.b.issued.key_pem)


def test_wishes_are_written_as_in_smtp() -> None:
    assert notify_text(Notify.SUCCESS | Notify.FAILURE | Notify.DELAY) == "SUCCESS,FAILURE,DELAY"
    assert notify_text(Notify.NEVER) == "NEVER"
    assert notify_text(Notify.UNSPECIFIED) == ""
    assert encode(b"") == ""
