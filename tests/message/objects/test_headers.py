"""The headers object: what it says is what its octets say (MT2-3, MT2-28a)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.gateway.mapping import smtp_to_mt2
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.field_registry import REGISTRY
from outrider.message.objects.headers import (
    HEADERS_NAMESPACE,
    BodyFields,
    Ending,
    Field,
    HeadersObject,
    Line,
    RecipientExtension,
    compose_field,
    read_headers,
    write_headers,
)
from tests.message.objects.values import BOB, RECIPIENT_EXTENSIONS

CRLF = b"\r\n"
HEADERS = HeadersObject(
    (
        Field("Received", "from a by b; date", b"Received: from a\r\n by b; date\r\n"),
        Field("From", "Ann <ann@a.example>"),
        Field("SUBJECT", "Grüße"),
        BodyFields(2),
        Line("no field"),
        Field("X-Mailer", "pen & paper"),
        BodyFields(1),
    ),
    (RecipientExtension("1.2.3", "Qxf7", BOB, errors=True), RecipientExtension("1.2.4")),
)
WRITTEN = """\
<headers xmlns="urn:oid:2.25.142621449478723633738367890471353828951.2">
<RFC821.Received wire="UmVjZWl2ZWQ6IGZyb20gYQ0KIGJ5IGI7IGRhdGUNCg==">from a by b; date</RFC821.Received>
<RFC822.From>Ann &lt;ann@a.example&gt;</RFC822.From>
<RFC822.Subject name="SUBJECT">Grüße</RFC822.Subject>
<body-fields count="2"/>
<line>no field</line>
<field name="X-Mailer">pen &amp; paper</field>
<body-fields/>
<extension oid="1.2.3" for="bob@b.example" errors="true">Qxf7</extension>
<extension oid="1.2.4"></extension>
</headers>
"""


def document(inside: str) -> bytes:
    return f'<headers xmlns="{HEADERS_NAMESPACE}">{inside}</headers>'.encode()


def wire(octets: bytes) -> str:
    return f'wire="{base64.b64encode(octets).decode()}"'


@pytest.mark.covers("MT2-3")
def test_the_octets_are_a_function_of_the_value() -> None:
    assert write_headers(HEADERS).decode() == WRITTEN
    assert read_headers(WRITTEN.encode()) == HEADERS
    assert HEADERS.values("subject") == ("Grüße",)


@pytest.mark.covers("MT2-3", "MT2-28a")
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), RECIPIENT_EXTENSIONS)
def test_every_headers_object_is_read_back(
    section: bytes, extensions: tuple[RecipientExtension, ...]
) -> None:
    form = smtp_to_mt2(section).headers
    headers = HeadersObject(form.entities, extensions, form.ending)
    octets = write_headers(headers)
    assert read_headers(octets) == headers
    assert write_headers(read_headers(octets)) == octets


@pytest.mark.covers("MT2-3", "MT2-5")
def test_the_schema_knows_the_registry_and_nothing_else() -> None:
    for registered in REGISTRY.values():
        headers = read_headers(document(f"<{registered.entity}>x</{registered.entity}>"))
        assert headers.entities == (Field(registered.name, "x"),)
    for unknown in ("RFC9999.Future-Field", "RFC822.subject", "RFC821.Subject", "Subject"):
        with pytest.raises(ObjectError, match="schema"):
            read_headers(document(f"<{unknown}>x</{unknown}>"))
    assert read_headers(document("")).ending is Ending.SEPARATOR


@pytest.mark.covers("MT2-28a", "MT2-5")
@pytest.mark.parametrize(
    "inside",
    [
        f"<RFC822.Subject {wire(b'Subject: one' + CRLF)}>two</RFC822.Subject>",
        f"<RFC822.Subject {wire(b'From: one' + CRLF)}>one</RFC822.Subject>",
        f"<RFC822.Subject {wire(b'Subject: one')}>one</RFC822.Subject>",
        f"<RFC822.Subject {wire(b'Subject: one' + CRLF + b'From: e@a' + CRLF)}>one</RFC822.Subject>",
        f"<RFC822.Subject {wire(b'Subject: one' + CRLF + CRLF + b'body')}>one</RFC822.Subject>",
        f"<RFC822.Subject {wire(CRLF)}></RFC822.Subject>",
        '<RFC822.Subject wire="">one</RFC822.Subject>',
        '<RFC822.Subject wire="U3ViamVjdDogb25lDQp=">one</RFC822.Subject>',
        '<RFC822.Subject wire="U3ViamVj dDogb25lDQo=">one</RFC822.Subject>',
        "<RFC822.Subject>one&#13;\nFrom: evil@a.example</RFC822.Subject>",
        "<RFC822.Subject>one\ntwo</RFC822.Subject>",
        "<RFC822.Subject>=?utf-8?q?hidden?=</RFC822.Subject>",
        "<RFC822.Subject> blank</RFC822.Subject>",
        "<RFC822.Subject>blank </RFC822.Subject>",
        '<RFC822.Subject name="From">x</RFC822.Subject>',
        '<RFC822.Subject name="Subject">x</RFC822.Subject>',
        "<Subject>x</Subject>",
        "<RFC822>x</RFC822>",
        "<rfc822.Subject>x</rfc822.Subject>",
        '<field name="">x</field>',
        '<field name="a:b">x</field>',
        '<field name="a b">x</field>',
        '<field name="Content-Type">text/html</field>',
        '<field name="mime-version">1.0</field>',
        "<MIME.Content-Type>text/html</MIME.Content-Type>",
        "<line></line>",
        "<line>From: evil@a.example</line>",
        "<RFC822.Subject>x</RFC822.Subject><line> continued</line>",
        f"<RFC822.Subject>x</RFC822.Subject><line {wire(b' continued' + CRLF)}> continued</line>",
        f"<line {wire(b'From: e@a' + CRLF)}>nothing</line>",
        '<body-fields count="0"/>',
        '<body-fields count="-1"/>',
        "<body-fields>x</body-fields>",
        '<extension oid="x"/>',
        '<extension oid="1.2" for="nobody"/>',
        '<extension oid="1.2"/><RFC822.Subject>x</RFC822.Subject>',
    ],
)
def test_what_does_not_say_what_its_octets_say_is_refused(inside: str) -> None:
    with pytest.raises(ObjectError, match=r"^headers: [ -~]+$"):
        read_headers(document(inside))


@pytest.mark.covers("MT2-28a")
def test_only_the_first_line_of_a_section_may_begin_with_a_blank() -> None:
    assert read_headers(document("<line> first</line>")).entities == (Line(" first"),)


@pytest.mark.covers("MT2-3")
def test_composed_fields_are_ascii_where_they_can_be() -> None:
    assert compose_field("Subject", "hello") == Field("Subject", "hello")
    for text in ("Grüße", "literally =?utf-8?q?x?=", "long " * 300 + "end"):
        field = compose_field("Subject", text)
        assert field.value == text
        assert field.octets.isascii()
        assert max(map(len, field.octets.split(b"\r\n"))) < 80
        assert read_headers(write_headers(HeadersObject((field,)))).entities == (field,)
    for name, text in (
        ("Sub ject", "x"),
        ("Subject", "a\r\nb"),
        ("Content-Type", "x"),
        ("", "x"),
        ("Süb", "x"),
    ):
        with pytest.raises(ObjectError):
            compose_field(name, text)


@pytest.mark.covers("MT2-5")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_object_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    octets = bytearray(WRITTEN.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        headers = read_headers(bytes(octets))
    except ObjectError:
        return
    assert read_headers(write_headers(headers)) == headers
