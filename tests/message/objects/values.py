"""Envelopes and headers objects of all kinds, for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from outrider.message.objects.envelope import (
    DeliveryExtension,
    LayeredEnvelope,
    ObjectEntry,
    Part,
    ReportData,
    ReportedRecipient,
)
from outrider.message.objects.headers import RecipientExtension
from outrider.model.address import Address, parse_address
from outrider.model.envelope import Notify, Return
from outrider.model.mpc import LEGAL
from outrider.model.transaction import RecipientRequest

ADDRESSES = st.sampled_from(
    [
        parse_address(text)
        for text in (
            "ann@a.example",
            '"a b\\"<&"@a.example',
            "bob@[192.0.2.1]",
            "grüße@b.example",
            "postmaster",
            "x'&y@c.example",
            "eve@[IPv6:2001:db8::1]",
        )
    ]
)
CHARACTERS = st.characters(
    exclude_characters="\ufffe\uffff", exclude_categories=["Cs", "Cc"], include_characters="\t\n\r\x7f\x85"
)
TEXT = st.text(CHARACTERS, max_size=40)
SHORT = st.text(CHARACTERS, max_size=20)
OIDS = st.sampled_from(["1.2.3", "2.25.142621449478723633738367890471353828951", "0.9", "1.3.6.1.4.1.99999"])
MOMENTS = st.integers(0, 253_402_300_799)
DIGESTS = st.binary(min_size=32, max_size=32)
TOKEN = st.text(st.sampled_from("Ab0_-"), min_size=1, max_size=12)

RECIPIENTS = st.builds(
    RecipientRequest,
    ADDRESSES,
    st.sampled_from([Notify(0), Notify.NEVER, *(Notify(value) for value in range(2, 16, 2))]),
    SHORT,
)
REPORTS = st.builds(
    ReportData,
    kind=st.sampled_from(["delivery", "extension", "trace"]),
    about=st.just("m23@test.example"),
    reporter=st.just("mx.a.example"),
    arrived=MOMENTS,
    envelope_id=SHORT,
    extension=OIDS | st.just(""),
    recipients=st.lists(
        st.builds(
            ReportedRecipient,
            address=ADDRESSES,
            action=st.sampled_from(["failed", "delayed"]),
            code=st.sampled_from(["", "99.0.5.23"]),
            status=st.sampled_from(["", "5.1.1", "4.0.999"]),
            said_by=st.sampled_from(["", "mx.b.example", "[192.0.2.1]"]),
            original=SHORT,
            text=TEXT,
        ),
        max_size=3,
    ).map(tuple),
)


def _objects(chosen: tuple[Part, ...]) -> st.SearchStrategy[tuple[ObjectEntry, ...]]:
    types = st.sampled_from(["message/headers", "message/body", "application/jose"])
    return st.tuples(
        *(st.builds(ObjectEntry, st.just(part), types, DIGESTS, st.integers(0, 10**17)) for part in chosen)
    )


ENVELOPES = st.builds(
    LayeredEnvelope,
    id=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30),
    sender=ADDRESSES | st.none(),
    recipients=st.lists(RECIPIENTS, max_size=4).map(tuple),
    date=MOMENTS,
    expiry=MOMENTS,
    ret=st.sampled_from(Return),
    envelope_id=SHORT,
    hold_until=MOMENTS,
    mpc=st.sampled_from([None, *LEGAL]),
    objects=st.sampled_from([(), (Part.HEADERS,), (Part.BODY,), (Part.HEADERS, Part.BODY)]).flatmap(_objects),
    extensions=st.lists(
        st.builds(DeliveryExtension, OIDS, TEXT, st.booleans()), max_size=3, unique_by=lambda found: found.oid
    ).map(tuple),
    report=st.none() | REPORTS,
    certificates=st.lists(st.binary(min_size=1, max_size=60), max_size=3, unique=True).map(tuple),
    seals=st.lists(st.builds(lambda a, b, c: f"{a}.{b}.{c}", TOKEN, TOKEN, TOKEN), max_size=3).map(tuple),
)
RECIPIENT_EXTENSIONS = st.lists(
    st.builds(RecipientExtension, OIDS, TEXT, st.none() | ADDRESSES, st.booleans()), max_size=3
).map(tuple)

ANN: Address = parse_address("ann@a.example")
BOB: Address = parse_address("bob@b.example")
