"""Status reports (RFC 3461, 3464): who is told of what, and who never is."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.tools import SmtpSink
from tests.system.sites import (
    CONTENT,
    Settings,
    headers_of,
    json_rows,
    mailbox,
    site,
    smtp_dialogue,
    wait_mailbox,
)

NOBODY = "nobody@beta.example"


def parse(message: bytes) -> tuple[EmailMessage, list[EmailMessage]]:
    """A report and its parts."""
    report = email.message_from_bytes(message, policy=email.policy.SMTP)
    assert isinstance(report, EmailMessage)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    parts = report.get_payload()
    assert isinstance(parts, list)
    return report, parts  # type: ignore[return-value]


def transaction(address: str, mail: str, rcpt: str, content: bytes = CONTENT) -> str:
    """Send a message with parameters of MAIL and RCPT; its id."""
    replies = smtp_dialogue(
        address,
        25,
        b"EHLO client.example",
        f"MAIL FROM:{mail}".encode(),
        f"RCPT TO:{rcpt}".encode(),
        b"DATA",
        content.replace(b"\r\n.", b"\r\n..") + b".",
    )
    assert replies[-1].startswith(b"250 "), replies
    return replies[-1].split()[-1].decode()


def beta_route(address: str, beta: PostfixServer, **tables: object) -> Settings:
    """Our site, with a way to the peer's domain."""
    return site("alpha.example", address, routes={"beta.example": f"smtp:[{beta.address}]:25"}, **tables)


@pytest.mark.covers("SMTP-6", "SMTP-2a")
def test_failure_is_reported_with_all_that_the_sender_asked_for(address: str) -> None:
    with (
        PostfixServer(loopback_address(), local_domains=["beta.example"]) as beta,
        OutriderServer(beta_route(address, beta)) as server,
    ):
        transaction(
            address,
            "<ann@alpha.example> RET=HDRS ENVID=my+2Bid",
            f"<{NOBODY}> NOTIFY=FAILURE ORCPT=rfc822;somebody@beta.example",
        )
        [message] = wait_mailbox(server, "ann")
    assert b"Return-Path: <>" in headers_of(message)
    report, (text, status, original) = parse(message)
    assert report["Auto-Submitted"] == "auto-replied"
    assert (
        "postmaster@mx.alpha.example" in report["From"].lower() or "mailer-daemon" in report["From"].lower()
    )
    assert NOBODY in text.get_content()
    whole, one = status.get_payload()
    assert whole["Reporting-MTA"] == "dns; mx.alpha.example"
    assert whole["Original-Envelope-Id"] == "my+id"
    assert one["Original-Recipient"] == "rfc822; somebody@beta.example"
    assert one["Final-Recipient"] == f"rfc822; {NOBODY}"
    assert one["Action"] == "failed"
    assert one["Status"].startswith("5.1.1")
    assert "User unknown" in one["Diagnostic-Code"]
    assert original.get_content_type() == "text/rfc822-headers"
    assert "system test" in original.as_string()
    assert "From here on" not in original.as_string()


@pytest.mark.covers("SMTP-6")
def test_who_wants_no_report_gets_none(address: str) -> None:
    with (
        PostfixServer(loopback_address(), local_domains=["beta.example"]) as beta,
        OutriderServer(beta_route(address, beta)) as server,
    ):
        never = transaction(address, "<ann@alpha.example>", f"<{NOBODY}> NOTIFY=NEVER")
        only_success = transaction(address, "<ann@alpha.example>", f"<{NOBODY}> NOTIFY=SUCCESS")
        for number in (never, only_success):
            server.wait_event("failed", id=number)
        # A message of another that comes after them all.
        transaction(address, "<bob@alpha.example>", "<ann@alpha.example>")
        [message] = wait_mailbox(server, "ann")
    assert b"Return-Path: <bob@alpha.example>" in headers_of(message)


@pytest.mark.covers("SMTP-6", "SMTP-2a")
def test_success_is_reported_when_asked(address: str) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        transaction(address, "<ann@alpha.example>", "<bob@alpha.example> NOTIFY=SUCCESS")
        [message] = wait_mailbox(server, "ann")
        wait_mailbox(server, "bob")
    _, (_, status, _) = parse(message)
    assert status.get_payload()[1]["Action"] == "delivered"
    assert status.get_payload()[1]["Status"].startswith("2.")


@pytest.mark.covers("SMTP-6")
def test_success_beyond_a_host_without_dsn_is_reported_as_relayed(address: str) -> None:
    with (
        PostfixServer(
            loopback_address(),
            local_domains=["beta.example"],
            main_cf={"smtpd_discard_ehlo_keywords": "dsn"},
        ) as beta,
        OutriderServer(beta_route(address, beta)) as server,
    ):
        transaction(address, "<ann@alpha.example>", "<bob@beta.example> NOTIFY=SUCCESS")
        [message] = wait_mailbox(server, "ann")
    _, (_, status, _) = parse(message)
    assert status.get_payload()[1]["Action"] == "relayed"


@pytest.mark.covers("SMTP-6")
def test_a_delay_is_told_once_and_the_end_of_patience_fails_it(address: str) -> None:
    delivery = {"retry": [0.3], "delay_warning": 1, "max_age": 4}
    routes = {"beta.example": f"smtp:[{loopback_address()}]:25"}
    with OutriderServer(site("alpha.example", address, routes=routes, delivery=delivery)) as server:
        transaction(address, "<ann@alpha.example>", "<bob@beta.example>")
        messages = wait_mailbox(server, "ann", 2)
    actions = [parse(message)[1][1].get_payload()[1]["Action"] for message in messages]
    assert actions == ["delayed", "failed"]
    assert parse(messages[1])[1][1].get_payload()[1]["Status"].startswith("4.4.")


@pytest.mark.covers("SMTP-6", "SEC-167")
def test_a_report_that_cannot_be_returned_goes_to_the_postmaster_and_ends_there(address: str) -> None:
    with PostfixServer(loopback_address(), local_domains=["beta.example"]) as beta:
        settings = beta_route(address, beta, delivery={"postmaster": "bob@alpha.example"})
        with OutriderServer(settings) as server:
            transaction(address, "<forged@beta.example>", f"<{NOBODY}>")
            [message] = wait_mailbox(server, "bob")
            server.wait_event("failed", 2)
    assert b"Return-Path: <>" in headers_of(message)
    assert NOBODY.encode() in message


@pytest.mark.covers("SMTP-6", "SEC-167")
def test_a_double_bounce_that_fails_ends_with_a_line_in_the_log(address: str) -> None:
    with PostfixServer(loopback_address(), local_domains=["beta.example"]) as beta:
        settings = beta_route(address, beta, delivery={"postmaster": "absent@beta.example"})
        with OutriderServer(settings) as server:
            number = transaction(address, "<>", f"<{NOBODY}>")
            server.wait_event("failed", id=number)
            server.wait_event("report_withheld")
            [row] = json_rows(server, "explain", number)
            entries = json_rows(server, "queue", "list", "--done")
            assert mailbox(server, "ann") == []
        assert beta.messages("bob") == []
    assert "failed" in row["verdict"]
    # The message, and one report on it to the postmaster: nothing went to a sender, and nothing goes round.
    assert [entry["sender"] for entry in entries] == ["<>", "<>"]
    assert entries[1]["recipients"] == ["absent@beta.example"]


@pytest.mark.covers("SMTP-6", "SMTP-5")
def test_a_temporary_refusal_is_tried_again_until_it_is_taken(address: str) -> None:
    place = loopback_address()
    routes = {"beta.example": f"smtp:[{place}]:25"}
    with OutriderServer(site("alpha.example", address, routes=routes)) as server:
        with SmtpSink(place, 25, "-r", "RCPT"):
            number = transaction(address, "<ann@alpha.example>", "<bob@beta.example>")
            [event, *_] = server.wait_event("deferred", 2, id=number)
            assert str(event["status"]).startswith("4.")
        with SmtpSink(place, 25) as sink:
            server.wait_event("delivered", id=number)
            assert len(sink.transactions()) == 1
        assert mailbox(server, "ann") == []
