"""Every peer mail server sends to every other, in clear and over verified TLS: the harness works."""

from __future__ import annotations

import itertools

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.exim import EximServer
from tests.peers.mailserver import MailServer
from tests.peers.opensmtpd import OpenSmtpdServer
from tests.peers.postfix import PostfixServer
from tests.peers.sendmail import SendmailServer

SERVERS: list[type[MailServer]] = [PostfixServer, EximServer, OpenSmtpdServer, SendmailServer]
PAIRS = list(itertools.permutations(SERVERS, 2))
# OpenSMTPD cannot be a TLS server here; see its module.
TLS_PAIRS = [pair for pair in PAIRS if pair[1] is not OpenSmtpdServer]
CONTENT = (
    b"From: Ann <ann@alpha.example>\r\nTo: bob@beta.example\r\nSubject: exchange\r\n"
    b"Message-ID: <1@alpha.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n"
    b".a line that begins with a dot\r\n\r\nFrom here on\r\n"
)


@pytest.mark.parametrize(("sending", "receiving"), PAIRS)
def test_exchange_in_clear(sending: type[MailServer], receiving: type[MailServer]) -> None:
    with (
        receiving(loopback_address(), local_domains=["beta.example"]) as beta,
        sending(
            loopback_address(),
            local_domains=["alpha.example"],
            relay_to={"beta.example": (beta.address, beta.port)},
        ) as alpha,
    ):
        alpha.send("ann@alpha.example", ["bob@beta.example"], CONTENT)
        [message] = beta.wait_messages("bob")
        alpha.wait_queue_empty()
    assert message.endswith(CONTENT.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n"))
    assert b"Subject: exchange\n" in message


@pytest.mark.parametrize(("sending", "receiving"), TLS_PAIRS)
def test_exchange_over_verified_tls(
    sending: type[MailServer], receiving: type[MailServer], authority: CertificateAuthority
) -> None:
    with (
        receiving(
            loopback_address(),
            local_domains=["beta.example"],
            tls=authority.issue("mx.beta.example"),
            require_tls=True,
        ) as beta,
        sending(
            loopback_address(),
            local_domains=["alpha.example"],
            relay_to={"beta.example": (beta.address, beta.port)},
            relay_to_tls_name={"beta.example": "mx.beta.example"},
            client_tls="verify",
            tls=authority.issue("mx.alpha.example"),
        ) as alpha,
    ):
        alpha.send("ann@alpha.example", ["bob@beta.example"], CONTENT)
        [message] = beta.wait_messages("bob")
    assert b"TLS" in message.partition(b"\n\n")[0] or b"ESMTPS" in message


@pytest.mark.parametrize("receiving", SERVERS)
def test_refuses_an_unknown_user(receiving: type[MailServer]) -> None:
    with (
        receiving(loopback_address(), local_domains=["beta.example"]) as beta,
        PostfixServer(
            loopback_address(),
            local_domains=["alpha.example"],
            relay_to={"beta.example": (beta.address, beta.port)},
        ) as alpha,
    ):
        alpha.send("ann@alpha.example", ["nobody@beta.example"], CONTENT)
        [bounce] = alpha.wait_messages("ann")
    assert b"RCPT TO" in bounce
    assert b"\nStatus: 5." in bounce


@pytest.mark.parametrize("sending", SERVERS)
def test_keeps_mail_for_an_absent_next_hop(sending: type[MailServer]) -> None:
    absent = loopback_address()
    with sending(
        loopback_address(), local_domains=["alpha.example"], relay_to={"beta.example": (absent, 2525)}
    ) as alpha:
        alpha.send("ann@alpha.example", ["bob@beta.example"], CONTENT)
        alpha.wait_log("(?i)connection refused|network error")
        alpha.stop()
        alpha.start()
        [queued] = alpha.wait_queue(1)
        assert queued.sender == "ann@alpha.example"
        assert queued.recipients == ("bob@beta.example",)
        with PostfixServer(absent, 2525, local_domains=["beta.example"]) as beta:
            alpha.flush()
            beta.wait_messages("bob")
            alpha.wait_queue_empty()
