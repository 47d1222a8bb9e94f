"""SMTP mail as objects and back: the same octets, whatever they are (MT2-28a)."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider.gateway.mapping import GatewayForm, mt2_to_smtp, smtp_to_mt2, split_body
from outrider.message.header_fields import header_fields
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import (
    BodyFields,
    Ending,
    Field,
    HeadersObject,
    Line,
    read_headers,
    write_headers,
)
from outrider.model.content import split_content
from tests.gateway.messages import cpython_messages, generated_messages, with_crlf

SECTION = (
    b"Received: from a\r\n\tby b; date\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n charset=utf-8\r\n"
    b"SUBJECT: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"no field at all\r\n"
    b"Content-Language: de\r\n"
    b"X-Mailer: pen & paper\r\n"
    b"\r\n"
)


def there_and_back(section: bytes) -> bytes:
    """Through the objects as they go over the wire, not as they stand in memory."""
    form = smtp_to_mt2(section)
    octets = write_headers(form.headers)
    headers = read_headers(octets)
    assert headers == form.headers
    assert write_headers(headers) == octets
    return mt2_to_smtp(headers, form.body_prefix)


@pytest.mark.covers("MT2-28a", "MT2-3")
def test_a_section_becomes_named_entities_in_order() -> None:
    form = smtp_to_mt2(SECTION)
    received, places, subject, line, place, mailer = form.headers.entities
    assert received == Field("Received", "from a\tby b; date", b"Received: from a\r\n\tby b; date\r\n")
    assert places == BodyFields(2)
    assert subject == Field("SUBJECT", "Grüße", b"SUBJECT: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n")
    assert line == Line("no field at all")
    assert place == BodyFields(1)
    assert mailer == Field("X-Mailer", "pen & paper")
    assert form.body_prefix == (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nContent-Language: de\r\n\r\n"
    )
    assert there_and_back(SECTION) == SECTION


@pytest.mark.covers("MT2-28a")
def test_every_message_of_cpythons_test_data_comes_back_octet_for_octet() -> None:
    messages = cpython_messages()
    assert len(messages) >= 47
    for name, octets in messages.items():
        for message in (octets, with_crlf(octets)):
            section, body = split_content(message)
            form = smtp_to_mt2(section)
            headers = read_headers(write_headers(form.headers))
            whole_body = form.body_prefix + body
            prefix, rest = split_body(whole_body)
            assert mt2_to_smtp(headers, prefix) + rest == message, name
            assert there_and_back(message) == message, name


@pytest.mark.covers("MT2-28a")
def test_a_thousand_generated_messages_come_back_octet_for_octet() -> None:
    for message in generated_messages(2_000):
        section, body = split_content(message)
        form = smtp_to_mt2(section)
        prefix, rest = split_body(form.body_prefix + body)
        headers = read_headers(write_headers(form.headers))
        assert mt2_to_smtp(headers, prefix, body_follows=bool(rest)) + rest == message
        assert there_and_back(message) == message


PIECES = st.sampled_from(
    (
        *(b"\r\n", b"\r\n ", b"\r", b"\n", b" ", b"\t", b":", b"\x00", b"x", b"&<>\"'", b"\xff", b"\xc3\xa4"),
        *(b"Content-Type: x", b"MIME-Version", b"Subject: ", b"Received: a", b"=?utf-8?q?=C3=A4?="),
    )
)


@pytest.mark.covers("MT2-28a")
@settings(max_examples=600, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=24).map(b"".join)))
@example(b"")
@example(b"\r\n")
@example(b"\r")
@example(b"\n\n")
@example(b"Subject: no end")
@example(b"Content-Type: no end")
@example(b"Content-Type: a\r\n")
@example(b"Subject:\r\n \r\n")
@example(b" first line is a fold\r\n\r\n")
@example(b"\r\n\r\nbehind the end")
@example(b"A: b\r\n\r\nContent-Type: in the body\r\n\r\n")
@example(b"A: b\r\n ")
def test_any_octets_come_back(section: bytes) -> None:
    assert there_and_back(section) == section


@pytest.mark.covers("MT2-28a", "SEC-116")
def test_huge_sections_come_back() -> None:
    for section in (
        b"X: " + b"a" * 300_000 + b"\r\n\r\n",
        b"X: =?utf-8?q?a?= \r\n" * 5_000 + b"\r\n",
        b"Content-X: a\r\n" * 15_000 + b"\r\n",
        b'From: "' + b'\\"' * 100_000 + b"\r\n\r\n",
        b"From: " + b"=?utf-8?q?" * 20_000 + b"\r\n\r\n",
        b"To: " + b"<" * 200_000 + b"\r\n\r\n",
        b'":\r\n' * 65_535,
        b"\x00\r\n" * 87_381,
        b"a: \r\nContent-:\r\n" * 16_384,
    ):
        assert there_and_back(section) == section


@pytest.mark.covers("MT2-28a")
def test_a_missing_end_is_recorded() -> None:
    assert smtp_to_mt2(b"A: b\r\n\r\n").headers.ending is Ending.SEPARATOR
    assert smtp_to_mt2(b"A: b\r\n").headers.ending is Ending.FIELD
    assert smtp_to_mt2(b"A: b") == GatewayForm(HeadersObject((Field("A", "b"),), (), Ending.OPEN), b"\r\n")
    assert smtp_to_mt2(b"Content-Type: b").body_prefix == b"Content-Type: b\r\n\r\n"


@pytest.mark.covers("MT2-28a")
def test_a_body_never_becomes_fields() -> None:
    headless = HeadersObject((Field("Subject", "x"),), (), Ending.FIELD)
    with pytest.raises(ObjectError, match="yet a body"):
        mt2_to_smtp(headless, b"\r\n", body_follows=True)
    with pytest.raises(ObjectError, match="yet a body"):
        mt2_to_smtp(headless, b"\r\nFrom: evil@a.example\r\n")


@pytest.mark.covers("MT2-28a", "MT2-15")
@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b"Subject: second\r\n\r\n",
        b" folded into the field above\r\n\r\n",
        b"Content-Type: a\r\nFrom: evil@a.example\r\n\r\n",
        b"no field\r\n\r\n",
    ],
)
def test_a_body_that_is_no_mime_entity_is_refused(prefix: bytes) -> None:
    with pytest.raises(ObjectError, match=r"^body: "):
        split_body(prefix)
    with pytest.raises(ObjectError, match=r"^body: "):
        mt2_to_smtp(HeadersObject((Field("Subject", "x"),)), prefix)


@pytest.mark.covers("MT2-28a")
def test_mail_that_was_never_smtp_mail_gets_what_smtp_needs() -> None:
    headers = HeadersObject((Field("From", "ann@a.example"), Field("Subject", "hello")))
    section = mt2_to_smtp(headers, b"Content-Type: text/plain; charset=utf-8\r\n\r\n")
    assert section == (
        b"From: ann@a.example\r\nSubject: hello\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    assert [field.name for field in header_fields(section)][-1] == b"Content-Type"


@pytest.mark.covers("MT2-28a")
def test_split_body_gives_back_what_it_got() -> None:
    assert split_body(b"\r\nhello") == (b"\r\n", b"hello")
    assert split_body(b"Content-Type: a/b\r\n\r\nhello\r\n\r\n") == (
        b"Content-Type: a/b\r\n\r\n",
        b"hello\r\n\r\n",
    )
    with pytest.raises(ObjectError, match="too large"):
        split_body(b"Content-X: a\r\n" * 6_000 + b"\r\n")
