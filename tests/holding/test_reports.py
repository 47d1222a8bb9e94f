"""Reports of abuse (ARF): what a reader of them finds, and what they never hold."""

from __future__ import annotations

import email
import email.policy
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.holding.incoming.reports import Evidence, abuse_report, is_controlled_by, reported_headers
from outrider.model.address import parse_address
from outrider.model.message import MessageId

HEADERS = (
    b"From: <ann@alpha.example>\r\nAMDP-Msg-Id: abcdefghijklmnopqrstuvwxyz\r\nAMDP-Auth-Keys: s3cret\r\n"
    b"Message-ID: <abcdefghijklmnopqrstuvwxyz@alpha.example>\r\nAMDP-Payment-Rcpt: money\r\n"
    b"Subject: =?utf-8?q?h=C3=A4?=\r\n folded\r\njunk line\r\n\r\n"
)
EVIDENCE = Evidence(
    MessageId("Q1"), "alpha.example", "DENY-CLASS Agent::Bulk::*", "192.0.2.1 is mhf-1 (in DNS)", HEADERS,
    ip_address("192.0.2.1"), "ann@alpha.example", "bob@beta.example", 1_800_000_000.0,
)  # fmt: skip


def made(evidence: Evidence = EVIDENCE) -> bytes:
    content = abuse_report(
        evidence, parse_address("abuse@watch.example"), hostname="mx.beta.example", message_id="r1@mx",
        now=1_800_000_100.0,
    )  # fmt: skip
    return b"".join(content.chunks())


@pytest.mark.covers("AMDP-18")
def test_a_report_is_read_by_python() -> None:
    message = email.message_from_bytes(made(), policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "feedback-report"
    text, feedback, headers = message.iter_parts()
    assert feedback.get_content_type() == "message/feedback-report"
    [fields] = feedback.get_payload()
    assert fields["Feedback-Type"] == "abuse"
    assert fields["Version"] == "1"
    assert fields["Source-IP"] == "192.0.2.1"
    assert fields["Reported-Domain"] == "alpha.example"
    assert headers.get_content_type() == "text/rfc822-headers"
    assert "DENY-CLASS" in text.get_content()


@pytest.mark.covers("AMDP-18")
def test_a_report_opens_nothing() -> None:
    octets = made()
    for secret in (b"abcdefghijklmnopqrstuvwxyz", b"s3cret", b"money"):
        assert secret not in octets
    assert b"AMDP-Msg-Id: (withheld; sha-256 71c480df" in octets


@pytest.mark.covers("AMDP-18")
@pytest.mark.parametrize(
    ("to", "controlled"),
    [
        ("abuse@alpha.example", True),
        ("abuse@Desk.Alpha.example", True),
        ("abuse@example", True),
        ("abuse@watch.example", False),
        ("abuse@notalpha.example", False),
    ],
)
def test_who_is_never_told(to: str, controlled: bool) -> None:
    assert is_controlled_by(parse_address(to), "alpha.example") is controlled


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.binary(max_size=200))
def test_nothing_from_outside_ends_a_field(words: str, how: str, headers: bytes) -> None:
    evidence = Evidence(
        MessageId("Q1"), "alpha.example", words, how, headers, None, "a@alpha.example", "b@beta.example", 0.0
    )
    octets = made(evidence)
    feedback = octets.split(b"message/feedback-report")[1].split(b"\r\n--=_")[0]
    names = [line.split(b":")[0] for line in feedback.split(b"\r\n\r\n")[1].split(b"\r\n") if line]
    assert names[:3] == [b"Feedback-Type", b"User-Agent", b"Version"]
    assert len(names) == 10
    assert len(reported_headers(headers)) <= 70_000
