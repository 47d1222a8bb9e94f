"""Our Received field: its form, and that nobody can write into it."""

from __future__ import annotations

import email
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.message.header_fields import header_fields
from outrider.message.received import received_field, trace_origin

DATE = "Sat, 22 Nov 2025 01:02:03 +0000"
HOSTILE = st.text(st.sampled_from("ab.:[]()\\\"'<>;,\r\n\t\0 \x1b\x85\u2028é{}%$"), max_size=600)


@pytest.mark.covers("SMTP-4")
def test_the_whole_field() -> None:
    origin = trace_origin(
        helo="client.b.example",
        address="192.0.2.7",
        client_name="out.b.example",
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        certificate_name="hub.b.example",
        host="mx.a.example",
    )
    field = received_field(origin, protocol="ESMTPS", message_id="ID1", recipient="ann@a.example", date=DATE)
    assert field == (
        b"Received: from client.b.example (out.b.example [192.0.2.7])\r\n"
        b"\t(TLSv1.3 TLS_AES_256_GCM_SHA384; client certificate of hub.b.example)\r\n"
        b"\tby mx.a.example (Outrider) with ESMTPS id ID1\r\n"
        b"\tfor <ann@a.example>;\r\n"
        b"\tSat, 22 Nov 2025 01:02:03 +0000\r\n"
    )


@pytest.mark.covers("SMTP-4")
def test_what_is_not_known_is_said_so() -> None:
    origin = trace_origin(helo="", address="2001:db8::1", host="mx.a.example")
    assert origin == "Received: from unknown (unknown [IPv6:2001:db8::1])\r\n\tby mx.a.example (Outrider)"
    assert "(local)" in trace_origin(helo="x", address="", host="mx.a.example")


@pytest.mark.covers("SEC-80", "SEC-70", "SEC-76")
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_of_a_peer_leaves_its_place(helo: str, name: str, tls: str, certificate: str) -> None:
    origin = trace_origin(
        helo=helo,
        address="192.0.2.7",
        client_name=name,
        tls=tls or "TLS",
        certificate_name=certificate,
        host="mx.a.example",
    )
    field = received_field(origin, protocol="SMTP", message_id="ID1", date=DATE)
    assert field.isascii()
    assert [one.name for one in header_fields(field + b"\r\n")] == [b"Received"]
    assert re.search(rb"\r(?!\n)|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f]", field) is None
    assert max(map(len, field.split(b"\r\n"))) <= 998
    assert field.count(b"(") == field.count(b")") == 3
    parsed = email.message_from_bytes(field + b"\r\n")
    assert parsed.keys() == ["Received"]
    assert parsed["Received"].endswith(DATE)


@pytest.mark.covers("SEC-80")
def test_a_recipient_that_is_not_plain_is_left_out() -> None:
    for recipient in ("ä@a.example", '"a\r\nX: y"@a.example'):
        assert b"for <" not in received_field(
            "Received: x", protocol="SMTP", message_id="1", recipient=recipient, date=DATE
        )
