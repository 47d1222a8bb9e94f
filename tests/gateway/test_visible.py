"""What SMTP and mailboxes see of a message that has the form of MT2 (MT2-28b, MT2-4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.gateway.visible import header_section
from outrider.message.objects.envelope import LayeredEnvelope, ReportData
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import Ending, Field, HeadersObject, write_headers
from outrider.model.layered import MessageObjects
from outrider.model.transaction import RecipientRequest
from tests.message.objects.values import ANN, BOB

ENVELOPE = LayeredEnvelope("m1@a.example", ANN, (RecipientRequest(BOB),), 1_795_345_000)
PREFIX = b"Content-Type: text/plain\r\n\r\n"
HEADERS = write_headers(HeadersObject((Field("Subject", "hello"),)))


@pytest.mark.covers("MT2-28b")
def test_readable_headers_are_shown() -> None:
    assert header_section(MessageObjects(b"", HEADERS, PREFIX), ENVELOPE) == (
        b"Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
    )


@pytest.mark.covers("MT2-4", "MT2-28b")
def test_of_encrypted_headers_nothing_is_shown_but_what_the_envelope_says() -> None:
    objects = MessageObjects(b"", b"eyJ.a.b.c.d", PREFIX, "application/jose")
    assert header_section(objects, ENVELOPE) == (
        b"Date: Sun, 22 Nov 2026 10:56:40 +0000\r\nFrom: ann@a.example\r\nTo: undisclosed-recipients:;\r\n"
        b"Message-ID: <m1@a.example>\r\nSubject: (encrypted)\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
    )


@pytest.mark.covers("MT2-28b")
def test_an_envelope_alone_is_shown_as_from_its_host() -> None:
    alone = MessageObjects(b"", b"", b"", has_body=False)
    control = replace(ENVELOPE, sender=None, report=ReportData("delivery", "x", "mx.b.example"))
    assert b"From: MAILER-DAEMON@mx.b.example\r\n" in header_section(alone, control)
    nobody = header_section(alone, replace(ENVELOPE, sender=None, id='no"message<id'))
    assert b"From: undisclosed:;\r\n" in nobody
    assert b"Message-ID" not in nobody
    assert nobody.endswith(b"\r\n\r\n")


@pytest.mark.covers("MT2-28a")
def test_a_section_without_end_cannot_have_a_body() -> None:
    headers = write_headers(HeadersObject((Field("Subject", "x"),), (), Ending.OPEN))
    with pytest.raises(ObjectError, match="yet a body"):
        header_section(MessageObjects(b"", headers, b"\r\n"), ENVELOPE, body_follows=True)
    assert header_section(MessageObjects(b"", headers, b"\r\n"), ENVELOPE) == b"Subject: x"
