"""The envelope object: every value is written and read back, and what breaks a rule is refused (MT2-2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.message.objects.envelope import (
    ENVELOPE_NAMESPACE,
    DeliveryExtension,
    LayeredEnvelope,
    ObjectEntry,
    Part,
    read_envelope,
    write_envelope,
)
from outrider.message.objects.errors import ObjectError
from outrider.model.envelope import Notify, Return
from outrider.model.transaction import RecipientRequest
from tests.message.objects.values import ANN, BOB, ENVELOPES

ENVELOPE = LayeredEnvelope(
    id="m23@test.com",
    sender=ANN,
    recipients=(RecipientRequest(BOB, Notify.SUCCESS | Notify.FAILURE, "rfc822;bob@b.example"),),
    date=1_795_345_000,
    expiry=1_795_745_000,
    ret=Return.HEADERS,
    envelope_id='<"E&1">',
    objects=(
        ObjectEntry(Part.HEADERS, "message/headers", bytes(32), 512),
        ObjectEntry(Part.BODY, "message/body", b"\xff" * 32, 3279),
    ),
    extensions=(DeliveryExtension("1.2.3", "data\r\n", critical=True),),
    certificates=(b"DER",),
    seals=("a.b.c", "d.e.f"),
)
WRITTEN = """\
<envelope xmlns="urn:oid:2.25.142621449478723633738367890471353828951.1" id="m23@test.com"\
 date="2026-11-22T10:56:40Z" expires="2026-11-27T02:03:20Z" return="HDRS" envid="&lt;&quot;E&amp;1&quot;&gt;">
<from address="ann@a.example"/>
<to address="bob@b.example" notify="SUCCESS,FAILURE" original="rfc822;bob@b.example"/>
<object part="headers" type="message/headers"\
 sha256="0000000000000000000000000000000000000000000000000000000000000000" length="512"/>
<object part="body" type="message/body"\
 sha256="ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff" length="3279"/>
<extension oid="1.2.3" critical="true">data&#13;
</extension>
<certificate>REVS</certificate>
<seal>a.b.c</seal>
<seal>d.e.f</seal>
</envelope>
"""


@pytest.mark.covers("MT2-2")
def test_the_octets_are_a_function_of_the_value() -> None:
    assert write_envelope(ENVELOPE).decode() == WRITTEN
    assert read_envelope(WRITTEN.encode()) == ENVELOPE


@pytest.mark.covers("MT2-2", "MT2-5")
@settings(max_examples=300, deadline=None)
@given(ENVELOPES)
def test_every_envelope_is_read_back(envelope: LayeredEnvelope) -> None:
    octets = write_envelope(envelope)
    assert read_envelope(octets) == envelope
    assert write_envelope(read_envelope(octets)) == octets


@pytest.mark.covers("MT2-2")
def test_an_envelope_may_stand_alone() -> None:
    alone = LayeredEnvelope(id="r1", sender=None, recipients=(RecipientRequest(ANN),), date=0)
    assert read_envelope(write_envelope(alone)) == alone
    assert alone.object(Part.BODY) is None
    assert ENVELOPE.object(Part.BODY) == ENVELOPE.objects[1]


BAD_CHANGES = {
    'id="m23@test.com"': ('id=""', 'id="a b"', 'id="ä"', f'id="{"x" * 256}"', ""),
    'date="2026-11-22T10:56:40Z"': (
        'date="2026-11-22T10:56:40"',
        'date="2026-11-22T10:56:40+01:00"',
        'date="2026-11-22T10:56:40.5Z"',
        'date="2026-02-30T10:56:40Z"',
        'date="1969-12-31T23:59:59Z"',
        'date="12026-11-22T10:56:40Z"',
        'date="now"',
        "",
    ),
    'return="HDRS"': ('return="hdrs"', 'return=""', 'other="x"'),
    'notify="SUCCESS,FAILURE"': ('notify="NEVER,FAILURE"', 'notify=""', 'notify="FAILURE,SUCCESS"'),
    'address="ann@a.example"': (
        'address=""',
        'address="ann"',
        'address="a@b@c"',
        'address="<ann@a.example>"',
    ),
    'part="body"': ('part="headers"', 'part="envelope"'),
    'type="message/body"': (
        'type="body"',
        'type="a/b/c"',
        'type=""',
        'type="a/b; c=d"',
        f'type="a/{"b" * 80}"',
    ),
    "f" * 64: ("F" * 64, "f" * 63, "f" * 66, "g" * 64, ""),
    'length="512"': ('length="-1"', 'length="0512"', 'length="+5"', 'length="1e3"', f'length="{"9" * 19}"'),
    'oid="1.2.3"': ('oid="1"', 'oid="3.1"', 'oid="1.02"', 'oid="1.2."', f'oid="1.{"9" * 40}"', 'oid="x"'),
    'critical="true"': ('critical="false"', 'critical="1"', 'critical=""'),
    "REVS": ("REV", "RE VS", "REVS====", "&#13;", "REVS</certificate><certificate>REVS"),
    "<seal>a.b.c": (
        "<seal>a.b",
        "<seal>a.b.c.d",
        "<seal>a.b.c ",
        "<seal> a.b.c",
        "<seal>a..c",
        "<seal>a.b=.c",
    ),
    "<from ": ("<From ", "<to ", "<from/><from "),
    f'"{ENVELOPE_NAMESPACE}"': ('""', '"urn:other"', f'"{ENVELOPE_NAMESPACE} "'),
    "</envelope>": ('<extension oid="1.2.4"/></envelope>', "</envelope> x", "<x/></envelope>"),
    "</extension>": ('</extension><extension oid="1.2.3"/>',),
}


@pytest.mark.covers("MT2-5", "MT2-2")
@pytest.mark.parametrize(("old", "new"), [(old, new) for old, news in BAD_CHANGES.items() for new in news])
def test_whatever_breaks_a_rule_is_refused(old: str, new: str) -> None:
    assert old in WRITTEN
    with pytest.raises(ObjectError, match=r"^envelope: [ -~]+$"):
        read_envelope(WRITTEN.replace(old, new).encode())


@pytest.mark.covers("MT2-2")
@pytest.mark.parametrize(
    "changes",
    [
        {"extensions": ENVELOPE.extensions * 2},
        {"objects": ENVELOPE.objects[::-1]},
        {"objects": ENVELOPE.objects[:1] * 2},
        {"recipients": ENVELOPE.recipients * 5_001},
        {"certificates": (b"a", b"a")},
        {"seals": ("a.b.c",) * 129},
        {"envelope_id": "\x00"},
        {"id": "\ud800"},
        {"date": 10**15},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_could_not_be_read_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(ObjectError):
        write_envelope(replace(ENVELOPE, **changes))  # type: ignore[arg-type]


@pytest.mark.covers("MT2-5")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_envelope_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    octets = bytearray(WRITTEN.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = read_envelope(bytes(octets))
    except ObjectError:
        return
    assert read_envelope(write_envelope(envelope)) == envelope
