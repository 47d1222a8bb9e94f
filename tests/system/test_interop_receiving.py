"""Each of the four peers sends to Outrider: in clear and under TLS, 8-bit, UTF-8 addresses, refusals."""

from __future__ import annotations

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.mailserver import MailServer
from tests.peers.outrider_server import OutriderServer
from tests.system.peer_pairs import PEERS, UTF8_PEERS, title
from tests.system.sites import body_of, headers_of, site, utf8_transaction, wait_mailbox
from tests.system.test_interop_sending import EIGHT_BIT


@pytest.mark.covers("SMTP-1", "SMTP-2a", "SMTP-8")
@pytest.mark.parametrize("sending", PEERS, ids=title)
def test_in_clear_with_one_of_two_recipients_refused(sending: type[MailServer], address: str) -> None:
    with (
        OutriderServer(site("alpha.example", address)) as server,
        sending(
            loopback_address(), local_domains=["beta.example"], relay_to={"alpha.example": (address, 25)}
        ) as beta,
    ):
        beta.send("bob@beta.example", ["ann@alpha.example", "nobody@alpha.example"], EIGHT_BIT)
        [message] = wait_mailbox(server, "ann")
        # The peer tells its own sender of the one that we refused.
        [report] = beta.wait_messages("bob")
        beta.wait_queue_empty()
    assert body_of(message) == body_of(EIGHT_BIT)
    assert b"Return-Path: <bob@beta.example>" in headers_of(message)
    assert b"by mx.alpha.example (Outrider) with ESMTP id" in headers_of(message)
    assert b"nobody@alpha.example" in report
    assert b"5.1.1" in report


@pytest.mark.covers("TLS-6", "SMTP-4")
@pytest.mark.parametrize("sending", PEERS, ids=title)
def test_under_verified_tls(sending: type[MailServer], address: str, authority: CertificateAuthority) -> None:
    with (
        OutriderServer(site("alpha.example", address, tls=authority.issue("mx.alpha.example"))) as server,
        sending(
            loopback_address(),
            local_domains=["beta.example"],
            relay_to={"alpha.example": (address, 25)},
            relay_to_tls_name={"alpha.example": "mx.alpha.example"},
            client_tls="verify",
            tls=authority.issue("mx.beta.example"),
        ) as beta,
    ):
        beta.send("bob@beta.example", ["ann@alpha.example"], EIGHT_BIT)
        [message] = wait_mailbox(server, "ann")
        [event] = server.wait_event("received")
        beta.wait_queue_empty()
    assert body_of(message) == body_of(EIGHT_BIT)
    assert str(event["tls"]).startswith("TLSv1.")
    assert b"(TLSv1." in headers_of(message)
    assert b"with ESMTPS id" in headers_of(message)


@pytest.mark.covers("SMTP-2a")
@pytest.mark.parametrize("sending", UTF8_PEERS, ids=title)
def test_an_internationalized_address(sending: type[MailServer], address: str) -> None:
    with (
        OutriderServer(site("alpha.example", address, users=["ænn"])) as server,
        sending(
            loopback_address(), local_domains=["beta.example"], relay_to={"alpha.example": (address, 25)}
        ) as beta,
    ):
        reply = utf8_transaction(beta.address, "bob@beta.example", "ænn@alpha.example", EIGHT_BIT)
        assert reply.startswith(b"250 ")
        [message] = wait_mailbox(server, "ænn")
    assert body_of(message) == body_of(EIGHT_BIT)
    assert b"with UTF8SMTP id" in headers_of(message)


@pytest.mark.covers("SMTP-5", "SMTP-6")
@pytest.mark.parametrize("sending", PEERS, ids=title)
def test_mail_that_waited_for_us_arrives(sending: type[MailServer], address: str) -> None:
    with (
        sending(
            loopback_address(), local_domains=["beta.example"], relay_to={"alpha.example": (address, 25)}
        ) as beta,
    ):
        beta.send("bob@beta.example", ["ann@alpha.example"], EIGHT_BIT)
        beta.wait_log("(?i)connection refused|network error")
        with OutriderServer(site("alpha.example", address)) as server:
            beta.flush()
            [message] = wait_mailbox(server, "ann")
            beta.wait_queue_empty()
    assert body_of(message) == body_of(EIGHT_BIT)
