"""Objects that travel through SMTP and come out the same, or not at all (MT2-28b)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.gateway.mapping import smtp_to_mt2, split_body
from outrider.gateway.ride_along import (
    MAX_RIDE_ALONG,
    Plain,
    Recovered,
    RideAlong,
    open_ride_along,
    recover,
    restore,
    ride_along,
)
from outrider.gateway.undoing import Encoding, decoded
from outrider.gateway.visible import header_section
from outrider.message.header_fields import field_names, header_fields
from outrider.message.mime_conversion import Converted, encode_for_transport
from outrider.message.objects.envelope import (
    LayeredEnvelope,
    ObjectEntry,
    Part,
    read_envelope,
    write_envelope,
)
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import (
    Field,
    HeadersObject,
    RecipientExtension,
    compose_field,
    write_headers,
)
from outrider.model.content import split_content
from outrider.model.layered import MessageObjects
from outrider.model.transaction import RecipientRequest
from tests.gateway.messages import cpython_messages, generated_messages, with_crlf
from tests.message.objects.values import ANN, BOB

HEADERS = write_headers(
    HeadersObject(
        (
            Field("From", "Ann <ann@a.example>"),
            Field("To", "bob@b.example"),
            compose_field("Subject", "Grüße"),
            Field("Date", "Sun, 22 Nov 2026 10:00:00 +0000"),
        ),
        (RecipientExtension("1.2.3", "Qxf7", BOB),),
    )
)
BODY = b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\nworld\r\n"
ON_TOP = b"Received: from b by c; date\r\nReceived: from a by b; date\r\n"


def objects_of(headers: bytes, body: bytes | None, headers_type: str = "message/headers") -> MessageObjects:
    listed = []
    if headers:
        listed.append(ObjectEntry(Part.HEADERS, headers_type, hashlib.sha256(headers).digest(), len(headers)))
    if body is not None:
        listed.append(ObjectEntry(Part.BODY, "message/body", hashlib.sha256(body).digest(), len(body)))
    envelope = LayeredEnvelope(
        "m23@a.example", ANN, (RecipientRequest(BOB),), 1_795_345_000, objects=tuple(listed)
    )
    prefix = b"" if body is None else split_body(body)[0]
    return MessageObjects(write_envelope(envelope), headers, prefix, headers_type, has_body=body is not None)


def as_smtp(objects: MessageObjects, body: bytes | None) -> tuple[bytes, bytes]:
    """The message as it leaves: header section and body."""
    envelope = read_envelope(objects.envelope)
    rest = b"" if body is None else body[len(objects.body_prefix) :]
    return ride_along(objects) + header_section(objects, envelope, body_follows=bool(rest)), rest


OBJECTS = objects_of(HEADERS, BODY)
SECTION, REST = as_smtp(OBJECTS, BODY)


@pytest.mark.covers("MT2-28b")
def test_the_same_three_objects_come_out() -> None:
    found = recover(ON_TOP + SECTION, [REST])
    assert isinstance(found, Recovered)
    assert found.objects == OBJECTS
    assert found.envelope == read_envelope(OBJECTS.envelope)
    assert found.objects.body_prefix + REST[: found.body_length] == BODY
    assert found.on_top == ON_TOP
    assert split_content(found.header_section + REST) == (found.header_section, REST)
    assert field_names(found.header_section) == {
        b"from", b"to", b"subject", b"date", b"mime-version", b"content-type"
    }  # fmt: skip


@pytest.mark.covers("MT2-28b")
def test_what_rides_along_disturbs_nobody() -> None:
    assert b"hello" not in SECTION
    assert SECTION.isascii()
    assert all(len(line) <= 78 for line in SECTION.split(b"\r\n"))
    assert all(len(field.value) < 5_000 for field in header_fields(SECTION))
    assert field_names(ride_along(OBJECTS)) == {b"mt2-recipe", b"mt2-object"}


@pytest.mark.covers("MT2-28b", "MT2-28a")
def test_smtp_mail_that_crossed_mt2_and_smtp_again_comes_out_the_same() -> None:
    messages = [*map(with_crlf, cpython_messages().values()), *generated_messages(1_000, seed=3)]
    for message in messages:
        section, body = split_content(message)
        form = smtp_to_mt2(section)
        objects = objects_of(write_headers(form.headers), form.body_prefix + body)
        sent, rest = as_smtp(objects, form.body_prefix + body)
        assert sent.endswith(section)
        found = recover(ON_TOP + sent, [rest])
        assert isinstance(found, Recovered), message
        assert (found.objects, found.header_section) == (objects, section)


@pytest.mark.covers("MT2-28b", "MT2-4")
def test_encrypted_headers_and_envelopes_alone_cross_too() -> None:
    for objects, body in (
        (objects_of(b"eyJ.a.b.c.d", BODY, "application/jose"), BODY),
        (objects_of(b"", BODY), BODY),
        (objects_of(b"", None), None),
        (objects_of(HEADERS, None), None),
    ):
        section, rest = as_smtp(objects, body)
        found = recover(ON_TOP + section, [rest])
        assert isinstance(found, Recovered)
        assert found.objects == objects


@pytest.mark.covers("MT2-28b")
def test_what_a_gateway_wrapped_again_is_unwrapped_a_layer_at_a_time() -> None:
    form = smtp_to_mt2(ON_TOP + SECTION)
    outer = objects_of(write_headers(form.headers), form.body_prefix + REST)
    sent, rest = as_smtp(outer, form.body_prefix + REST)
    found = recover(ON_TOP + sent, [rest])
    assert isinstance(found, Recovered)
    assert (found.objects, found.header_section) == (outer, ON_TOP + SECTION)
    inner = recover(found.header_section, [rest])
    assert isinstance(inner, Recovered)
    assert inner.objects == OBJECTS


def refold(section: bytes) -> bytes:
    return section.replace(b"; ", b";\r\n\t").replace(b"\r\n ", b"\r\n\t  ")


def unfold(section: bytes) -> bytes:
    return re.sub(rb"\r\n[ \t]+", b" ", section)


@pytest.mark.covers("MT2-28b")
@pytest.mark.parametrize(
    "change",
    [
        refold,
        unfold,
        lambda section: section.replace(b"MT2-", b"mt2-").replace(b"From:", b"FROM:"),
        lambda section: section[:-2] + b"X-Scanned: yes\r\n\r\n",
        lambda section: b"Return-Path: <>\r\nDKIM-Signature: x\r\n" + section,
        lambda section: section.replace(b"Date:", b"X-Spam: no\r\nDate:"),
    ],
)
def test_what_hops_do_to_fields_does_no_harm(change: Callable[[bytes], bytes]) -> None:
    found = recover(change(SECTION), [REST])
    assert isinstance(found, Recovered)
    assert found.objects == OBJECTS


def damaged(section: bytes, old: bytes, new: bytes) -> bytes:
    assert old in section
    return section.replace(old, new, 1)


PART, RECIPE = [SECTION[field.start : field.end] for field in header_fields(SECTION)][:2]


@pytest.mark.covers("MT2-28b")
@pytest.mark.parametrize(
    "section",
    [
        damaged(SECTION, b"To: bob", b"To: eve"),
        damaged(SECTION, b"To: bob@b.example\r\n", b""),
        damaged(SECTION, b"text/plain", b"text/html"),
        damaged(SECTION, b"v=1", b"v=2"),
        damaged(SECTION, b"body=1", b"body=0"),
        damaged(SECTION, b"envelope=", b"envelope=1"),
        damaged(SECTION, b"type=message/headers", b"type=application/jose"),
        damaged(SECTION, PART, b""),
        damaged(SECTION, PART, PART * 2),
        damaged(SECTION, PART, PART * 60),
        damaged(SECTION, PART, PART + b"X: y\r\n"),
        damaged(SECTION, RECIPE, RECIPE * 2),
        damaged(SECTION, PART + RECIPE, RECIPE + PART),
        damaged(SECTION, b"MT2-Object: 1;\r\n ", b"MT2-Object: 1;\r\n A"),
        damaged(SECTION, b"MT2-Object: 1", b"MT2-Object: 2"),
        damaged(SECTION, RECIPE, RECIPE[:-4] + b"\r\n"),
        damaged(SECTION, RECIPE, RECIPE[:-2] + b" more\r\n"),
        RECIPE + SECTION,
        SECTION[:-2] + RECIPE + b"\r\n",
    ],
)
def test_what_was_tampered_with_is_plain_mail_and_the_hidden_part_not_shown(section: bytes) -> None:
    found = recover(ON_TOP + section, [REST])
    assert isinstance(found, Plain)
    assert found.reason.isprintable()
    assert found.reason
    assert not field_names(found.header_section) & {b"mt2-recipe", b"mt2-object"}
    assert b"subject" in field_names(found.header_section)


@pytest.mark.covers("MT2-28b")
def test_hidden_headers_may_not_say_more_than_the_visible_ones() -> None:
    other = objects_of(write_headers(HeadersObject((Field("Subject", "buy this"),))), BODY)
    found = recover(ride_along(other) + header_section(OBJECTS, read_envelope(OBJECTS.envelope)), [REST])
    assert found == Plain(
        header_section(OBJECTS, read_envelope(OBJECTS.envelope)),
        "the visible header section says something else",
    )


@pytest.mark.covers("MT2-28b")
def test_objects_that_the_envelope_does_not_list_are_not_believed() -> None:
    for liar in (
        MessageObjects(OBJECTS.envelope, objects_of(b"", BODY).headers, OBJECTS.body_prefix),
        MessageObjects(OBJECTS.envelope, HEADERS + b"\n", OBJECTS.body_prefix),
        MessageObjects(objects_of(b"", BODY).envelope, HEADERS, OBJECTS.body_prefix),
        MessageObjects(objects_of(HEADERS, None).envelope, HEADERS, OBJECTS.body_prefix),
        MessageObjects(b"<x/>", HEADERS, OBJECTS.body_prefix),
    ):
        assert isinstance(open_ride_along(ride_along(liar) + SECTION.split(RECIPE)[1]), Plain)


@pytest.mark.covers("MT2-28b")
@pytest.mark.parametrize(
    "body",
    [b"", REST[:-1], REST[:-2], REST + b"x", REST + b"\r\n\r\n", REST + b"\n", REST.upper(), b"\r\n" + REST],
)
def test_a_body_that_is_not_the_sealed_one_makes_it_plain_mail(body: bytes) -> None:
    found = recover(ON_TOP + SECTION, [body])
    assert isinstance(found, Plain)
    assert found.reason == "the body is not the one that was sealed"
    assert found.header_section.startswith(ON_TOP + b"From:")


@pytest.mark.covers("MT2-28b")
@given(st.lists(st.integers(0, 300)))
def test_a_body_is_read_in_any_pieces_and_may_have_got_a_last_line_end(cuts: list[int]) -> None:
    body = b"\r\n" + b"no last line end " * 10
    objects = objects_of(HEADERS, body)
    section, rest = as_smtp(objects, body)
    arrived = rest + b"\r\n"
    places = [0, *sorted(cuts), len(arrived)]
    pieces = [arrived[a:b] for a, b in pairwise(places)]
    found = recover(section, pieces)
    assert isinstance(found, Recovered)
    assert found.body_length == len(rest)


BODIES = {
    "8-bit text": b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    + "Grüße = \t \r\nüber\t\r\n".encode() * 50,
    "with its encoding": b"Content-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\xff\r\n",
    "binary": b"Content-Transfer-Encoding: binary\r\nContent-Type: image/x\r\n\r\n" + bytes(range(256)) * 90,
    "long lines": b"Content-Type: text/plain\r\n\r\n" + b"a" * 5_000 + b"\r\nb\r\n",
    "stray ends": b"Content-Type: text/plain; charset=us-ascii\r\n\r\na\nb\rc\r\n",
    "no line end": b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xbc",
    "no fields": b"\r\n\xc3\xbc\r\n",
}


@pytest.mark.covers("MT2-28b")
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_was_encoded_on_the_way_comes_out_as_it_was(name: str) -> None:
    body = BODIES[name]
    objects = objects_of(HEADERS, body)
    converted = encode_for_transport(*as_smtp(objects, body))
    assert isinstance(converted, Converted)
    assert converted.body != body[len(objects.body_prefix) :]
    for size in (1, 7, 1_000_000):
        pieces = [converted.body[at : at + size] for at in range(0, len(converted.body), size)]
        found = recover(ON_TOP + converted.headers, pieces)
        assert isinstance(found, Recovered), found.reason
        assert found.objects == objects
        assert objects.body_prefix + b"".join(restore(found, pieces)) == body


@pytest.mark.covers("MT2-28b")
def test_an_encoding_that_nobody_put_on_is_not_taken_off() -> None:
    body = b"Content-Type: text/plain\r\n\r\n" + base64.b64encode(b"innocent text") + b"\r\n"
    objects = objects_of(HEADERS, body)
    section, rest = as_smtp(objects, body)
    for visible in (b"base64", b"quoted-printable", b"8bit", b"x-other"):
        other = section[:-2] + b"Content-Transfer-Encoding: " + visible + b"\r\n\r\n"
        assert isinstance(recover(other, [rest]), Plain), visible
    parts = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x--\r\n"
    section, rest = as_smtp(objects_of(HEADERS, parts), parts)
    other = section[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\n"
    found = recover(other, [base64.b64encode(rest)])
    assert isinstance(found, Plain)
    assert found.reason == "parts of the body were encoded on the way"


@pytest.mark.covers("MT2-28b")
@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([Encoding.BASE64, Encoding.QUOTED_PRINTABLE]))
def test_any_octets_are_decoded_or_refused(octets: bytes, encoding: Encoding) -> None:
    def attempt(pieces: list[bytes]) -> bytes | None:
        try:
            return b"".join(decoded(pieces, encoding))
        except ObjectError:
            return None

    assert attempt([octets]) == attempt([octets[at : at + 1] for at in range(len(octets))])


@pytest.mark.covers("MT2-28b")
def test_a_large_body_is_never_held() -> None:
    piece, number = b"line of text\r\n" * 4_096, 400
    digest = hashlib.sha256(b"\r\n")
    for _ in range(number):
        digest.update(piece)
    length = 2 + number * len(piece)
    listed = (ObjectEntry(Part.BODY, "message/body", digest.digest(), length),)
    envelope = LayeredEnvelope("m1@a.example", ANN, (RecipientRequest(BOB),), 0, objects=listed)
    objects = MessageObjects(write_envelope(envelope), b"", b"\r\n")
    section = ride_along(objects) + header_section(objects, envelope, body_follows=True)
    read = 0

    def body() -> Iterator[bytes]:
        nonlocal read
        for _ in range(number):
            read += len(piece)
            yield piece

    assert isinstance(recover(section, body()), Recovered)
    assert read == length - 2


@pytest.mark.covers("MT2-28b")
def test_too_much_stays_behind() -> None:
    big = write_headers(HeadersObject((Field("X", "a" * MAX_RIDE_ALONG),)))
    assert ride_along(objects_of(big, BODY)) == b""
    fitting = objects_of(write_headers(HeadersObject((Field("X", "a" * (MAX_RIDE_ALONG - 1_500)),))), BODY)
    section, rest = as_smtp(fitting, BODY)
    assert isinstance(recover(section, [rest]), Recovered)


@pytest.mark.covers("MT2-28b")
def test_ordinary_mail_is_left_alone() -> None:
    plain = b"Subject: about MT2-Recipe: fields\r\n\r\n"
    assert recover(plain, [b"x"]) == Plain(plain, "")
    assert recover(b"", []) == Plain(b"", "")


@pytest.mark.covers("MT2-28b", "MT2-5")
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_section_is_recovered_whole_or_not_at_all(data: st.DataObject) -> None:
    octets = bytearray(SECTION)
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    found = recover(bytes(octets), [REST])
    if isinstance(found, Recovered):
        assert found.objects == OBJECTS
    else:
        assert base64.b64encode(OBJECTS.envelope[:60]) not in found.header_section or not found.reason


def test_types() -> None:
    assert isinstance(open_ride_along(SECTION), RideAlong)
