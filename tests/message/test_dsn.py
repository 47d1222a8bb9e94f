"""Status reports, read back by the stdlib's email package and held against RFC 3464."""

from __future__ import annotations

import email
import email.message
import re
from dataclasses import replace
from email import policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.message.dsn import MAX_DIAGNOSTIC, build_report, next_step
from outrider.model.address import Address, Domain, parse_address
from outrider.model.content import Content, InlineBody, inline_content
from outrider.model.message import MessageId
from outrider.model.report import DsnRequest, ReportAction, ReportedRecipient

ORIGINAL = inline_content(b"From: ann@a.example\r\nSubject: hello\r\n\r\n.leading dot\r\nbye\r\n")
FAILED = ReportedRecipient(
    parse_address("bob@b.example"),
    ReportAction.FAILED,
    "5.1.1",
    "5.1.1 <bob@b.example>: unknown user",
    550,
    "mx.b.example [192.0.2.9]:25",
    "rfc822;bobby@a.example",
    last_attempt_at=1_763_769_700,
)
REQUEST = DsnRequest(
    reporting_mta="mx.a.example",
    report_id=MessageId("REPORT1"),
    message_id=MessageId("ORIGINAL1"),
    now=1_763_769_723,
    arrived_at=1_763_769_000,
    sender=parse_address("ann@a.example"),
    postmaster=parse_address("postmaster@a.example"),
    recipients=(FAILED,),
    original=ORIGINAL,
    trace=b"Received: from x by y; date\r\n",
    envelope_id="QQ314",
)


def parsed(octets: bytes) -> email.message.EmailMessage:
    message = email.message_from_bytes(octets, policy=policy.SMTP)
    assert isinstance(message, email.message.EmailMessage)
    assert not message.defects
    return message


def status_groups(message: email.message.EmailMessage) -> list[email.message.Message]:
    part = list(message.iter_parts())[1]
    payload = part.get_payload()
    assert isinstance(payload, list)
    return payload


def well_formed(octets: bytes) -> None:
    assert re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", octets) is None
    assert max(map(len, octets.split(b"\r\n"))) <= 998


@pytest.mark.covers("SMTP-6")
def test_a_failure_report_has_the_fields_of_rfc_3464() -> None:
    octets = build_report(REQUEST)
    well_formed(octets)
    assert octets.isascii()
    message = parsed(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["To"] == "ann@a.example"
    assert message["Message-ID"] == "<REPORT1@mx.a.example>"
    human, status, original = message.iter_parts()
    assert (human.get_content_type(), status.get_content_type()) == ("text/plain", "message/delivery-status")
    of_message, of_recipient = status_groups(message)
    assert of_message["Reporting-MTA"] == "dns; mx.a.example"
    assert of_message["Original-Envelope-Id"] == "QQ314"
    assert of_message["Arrival-Date"] == "Fri, 21 Nov 2025 23:50:00 +0000"
    assert of_recipient["Original-Recipient"] == "rfc822; bobby@a.example"
    assert of_recipient["Final-Recipient"] == "rfc822; bob@b.example"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Remote-MTA"] == "dns; mx.b.example"
    assert of_recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 <bob@b.example>: unknown user"
    assert of_recipient["Last-Attempt-Date"] == "Sat, 22 Nov 2025 00:01:40 +0000"
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"Subject: hello" in original.get_payload(decode=True)
    assert b"leading dot" not in octets


@pytest.mark.covers("SMTP-6")
def test_the_words_for_a_person_name_what_happened_and_what_to_do() -> None:
    text = next(iter(parsed(build_report(REQUEST)).iter_parts())).get_payload(decode=True).decode()
    assert "<bob@b.example>" in text
    assert "you wrote to bobby@a.example" in text
    words = " ".join(text.split())
    assert "The host mx.b.example [192.0.2.9]:25 said: 550 5.1.1 <bob@b.example>: unknown user" in words
    assert "Check its spelling" in words
    assert "ORIGINAL1" in words


@pytest.mark.covers("SMTP-6")
def test_our_own_words_are_not_passed_off_as_an_smtp_reply() -> None:
    ours = replace(FAILED, status="4.4.7", text="it was tried for 5 days", code=0, remote="")
    group = status_groups(parsed(build_report(replace(REQUEST, recipients=(ours,)))))[1]
    assert group["Diagnostic-Code"] == "x-outrider; it was tried for 5 days"
    assert group["Remote-MTA"] is None


@pytest.mark.covers("SMTP-6", "SEC-170")
def test_one_report_tells_of_all_recipients() -> None:
    delayed = replace(
        FAILED,
        address=parse_address("eve@c.example"),
        action=ReportAction.DELAYED,
        status="4.4.1",
        original="",
        will_retry_until=1_764_000_000,
    )
    relayed = replace(
        delayed, address=parse_address("kim@d.example"), action=ReportAction.RELAYED, status="2.0.0"
    )
    message = parsed(build_report(replace(REQUEST, recipients=(delayed, FAILED, relayed))))
    assert message["Subject"].startswith("Undelivered")
    actions = [group["Action"] for group in status_groups(message)[1:]]
    assert actions == ["delayed", "failed", "relayed"]
    assert status_groups(message)[1]["Will-Retry-Until"] == "Mon, 24 Nov 2025 16:00:00 +0000"


@pytest.mark.covers("SMTP-6")
def test_the_whole_message_comes_back_when_asked_and_harmless() -> None:
    message = parsed(build_report(replace(REQUEST, return_full=True)))
    original = list(message.iter_parts())[2]
    assert original.get_content_type() == "message/rfc822"
    inner = original.get_content()
    assert inner["Subject"] == "hello"
    assert inner.get_content() == ".leading dot\r\nbye\r\n"


@pytest.mark.covers("SEC-26")
@pytest.mark.parametrize(
    "body",
    [b"a\nb\r\n", b"a\rb\r\n", b"\x00\r\n", b"x" * 999 + b"\r\n", b"\n.\r\n"],
)
def test_a_body_that_could_not_travel_is_left_out(body: bytes) -> None:
    original = inline_content(b"Subject: s\r\n\r\n" + body)
    octets = build_report(replace(REQUEST, original=original, return_full=True))
    well_formed(octets)
    assert list(parsed(octets).iter_parts())[2].get_content_type() == "text/rfc822-headers"


@pytest.mark.covers("SMTP-6")
def test_binary_content_is_never_enclosed() -> None:
    original = Content(b"Subject: s\r\n\r\n", InlineBody(b"secret\r\n"), True, True)
    octets = build_report(replace(REQUEST, original=original, return_full=True))
    assert b"secret" not in octets


@pytest.mark.covers("SEC-171", "SEC-26")
@given(
    st.text(max_size=300),
    st.text(max_size=300),
    st.text(max_size=200),
    st.binary(max_size=400),
    st.booleans(),
)
def test_no_text_of_others_changes_the_structure(
    said: str, original: str, envelope_id: str, headers: bytes, full: bool
) -> None:
    recipient = replace(
        FAILED,
        text=said + "\r\nAction: delivered\r\n\r\n--x",
        original=f"rfc822;{original}",
        remote=f"h{said} y",
    )
    request = replace(
        REQUEST,
        recipients=(recipient,),
        envelope_id=envelope_id + "\r\nInjected: yes",
        original=inline_content(headers),
        return_full=full,
    )
    octets = build_report(request)
    well_formed(octets)
    assert octets.count(b"\r\n--outrider-REPORT1-report") == 4
    message = email.message_from_bytes(octets)
    assert len(message.get_payload()) == 3
    assert "Injected" not in message
    status = message.get_payload()[1].get_payload()
    groups = status if isinstance(status, list) else [email.message_from_string(status)]
    assert all(group["Injected"] is None for group in groups)
    assert all(group.get_all("Action", ["failed"]) == ["failed"] for group in groups)


@pytest.mark.covers("SEC-171")
def test_a_megabyte_of_reply_is_cut() -> None:
    octets = build_report(replace(REQUEST, recipients=(replace(FAILED, text="<b>x</b> " * 200_000),)))
    assert len(octets) < 10 * MAX_DIAGNOSTIC
    well_formed(octets)


@pytest.mark.covers("SEC-171")
def test_a_forged_boundary_is_outgrown() -> None:
    forged = inline_content(b"Subject: s\r\n--outrider-REPORT1-report--: x\r\n\r\n")
    message = parsed(build_report(replace(REQUEST, original=forged)))
    assert len(list(message.iter_parts())) == 3


@pytest.mark.covers("SMTP-6")
def test_utf_8_addresses_use_the_global_forms() -> None:
    address = Address("jörg", Domain("b.example"))
    request = replace(
        REQUEST, sender=Address("änne", Domain("a.example")), recipients=(replace(FAILED, address=address),)
    )
    octets = build_report(request)
    assert b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit" in octets
    assert "Final-Recipient: utf-8; jörg@b.example\r\n".encode() in octets
    assert "To: <änne@a.example>\r\n".encode() in octets
    utf8 = inline_content("Subject: grüß\r\n\r\nx\r\n".encode())
    assert b"message/global-headers" in build_report(replace(REQUEST, original=utf8))
    assert b"message/global\r\n" in build_report(replace(REQUEST, original=utf8, return_full=True))


@pytest.mark.covers("SMTP-6")
def test_headers_in_no_charset_come_back_as_base64() -> None:
    original = inline_content(b"Subject: \xff\xfe\r\n\r\nx\r\n")
    octets = build_report(replace(REQUEST, original=original))
    assert octets.isascii()
    part = list(parsed(octets).iter_parts())[2]
    assert b"Subject: \xff\xfe\r\n" in part.get_payload(decode=True)


def test_every_failure_has_a_next_step() -> None:
    for status in ("5.1.1", "5.1.10", "5.1.8", "5.2.2", "5.3.4", "5.4.6", "5.7.1", "5.6.1", "5.0.0", "4.4.7"):
        assert next_step(replace(FAILED, status=status)).endswith(".")
    assert "takes no mail" in next_step(replace(FAILED, status="5.1.10"))
    assert "not known" in next_step(replace(FAILED, status="5.1.1"))
    assert next_step(replace(FAILED, action=ReportAction.DELIVERED)) == ""
