"""Outrider, a peer, Outrider: an attachment goes through both of the peer's directions octet for octet; and
what happens where a peer lacks an extension."""

from __future__ import annotations

import base64
import email
import email.policy

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.mailserver import MailServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.tools import Swaks
from tests.system.peer_pairs import PEERS, title
from tests.system.sites import (
    CONTENT,
    body_of,
    headers_of,
    queue_id,
    site,
    utf8_transaction,
    wait_mailbox,
)
from tests.system.test_interop_sending import EIGHT_BIT

PICTURE = bytes(range(256)) * 1200
ATTACHMENT = (
    b"From: ann@alpha.example\r\nTo: bob@gamma.example\r\nSubject: picture\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="==part=="\r\n\r\n'
    b"--==part==\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".\r\n..two dots\r\n" + "Grüße\r\n".encode() + b"x" * 900 + b"\r\n"
    b"--==part==\r\nContent-Type: image/x-test\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(PICTURE).replace(b"\n", b"\r\n")
    + b"--==part==--\r\n"
)


@pytest.mark.covers("SMTP-1", "SMTP-3", "SMTP-8")
@pytest.mark.parametrize("peer", PEERS, ids=title)
def test_an_attachment_through_a_peer(peer: type[MailServer], address: str, swaks_client: Swaks) -> None:
    far = loopback_address()
    with (
        OutriderServer(site("gamma.example", far), title="gamma") as gamma,
        peer(
            loopback_address(),
            local_domains=["beta.example"],
            relay_to={"gamma.example": (far, 25), "alpha.example": (address, 25)},
        ) as beta,
        OutriderServer(
            site("alpha.example", address, routes={"gamma.example": f"smtp:[{beta.address}]:25"}),
            title="alpha",
        ) as alpha,
    ):
        result = swaks_client.send(
            address,
            25,
            sender="ann@alpha.example",
            recipients=["bob@gamma.example", "ann@gamma.example", "nobody@gamma.example"],
            content=ATTACHMENT,
        )
        assert result.accepted, result.transcript
        for user in ("bob", "ann"):
            [message] = wait_mailbox(gamma, user)
            assert body_of(message) == body_of(ATTACHMENT)
        # The peer bounces the refused one, to us, who sent it.
        [report] = wait_mailbox(alpha, "ann")
    assert b"nobody@gamma.example" in report


@pytest.mark.covers("SMTP-3")
def test_eight_bit_mail_for_a_peer_without_8bitmime_is_encoded(address: str, swaks_client: Swaks) -> None:
    with PostfixServer(
        loopback_address(),
        local_domains=["beta.example"],
        main_cf={"smtpd_discard_ehlo_keywords": "8bitmime, smtputf8, chunking"},
    ) as beta:
        routes = {"beta.example": f"smtp:[{beta.address}]:25"}
        with OutriderServer(site("alpha.example", address, routes=routes)):
            swaks_client.send(address, 25, recipients=["bob@beta.example"], content=EIGHT_BIT)
            [message] = beta.wait_messages("bob")
    assert message.isascii()
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert parsed["Content-Transfer-Encoding"] in ("quoted-printable", "base64")
    assert parsed.get_content().replace("\r\n", "\n").encode() == body_of(EIGHT_BIT)


@pytest.mark.covers("SMTP-3", "SMTP-2a")
def test_an_internationalized_address_for_a_peer_without_smtputf8_is_returned(address: str) -> None:
    with PostfixServer(
        loopback_address(), local_domains=["beta.example"], main_cf={"smtputf8_enable": "no"}
    ) as beta:
        routes = {"beta.example": f"smtp:[{beta.address}]:25"}
        with OutriderServer(site("alpha.example", address, routes=routes)) as server:
            reply = utf8_transaction(address, "ann@alpha.example", "bøb@beta.example", CONTENT)
            assert reply.startswith(b"250 ")
            [event] = server.wait_event("failed")
            [report] = wait_mailbox(server, "ann")
    assert event["status"] == "5.6.7"
    assert "bøb@beta.example".encode() in report


@pytest.mark.covers("SMTP-3")
def test_a_message_too_big_for_the_next_host_is_returned_without_being_sent(
    address: str, swaks_client: Swaks
) -> None:
    with PostfixServer(
        loopback_address(), local_domains=["beta.example"], main_cf={"message_size_limit": "100000"}
    ) as beta:
        routes = {"beta.example": f"smtp:[{beta.address}]:25"}
        with OutriderServer(site("alpha.example", address, routes=routes)) as server:
            result = swaks_client.send(
                address, 25, sender="ann@alpha.example", recipients=["bob@beta.example"], content=ATTACHMENT
            )
            [event] = server.wait_event("failed", id=queue_id(result))
            [report] = wait_mailbox(server, "ann")
        assert " data=" not in beta.log()
    assert event["status"] == "5.3.4"
    # The body is over [delivery] bounce_full_limit: only the header section comes back.
    assert b"Subject: picture" in report
    assert len(report) < 20_000


@pytest.mark.covers("TLS-3", "TLS-6")
def test_a_client_whose_handshake_fails_may_come_back_in_clear(
    address: str, authority: CertificateAuthority
) -> None:
    settings = site("alpha.example", address, tls=authority.issue("mx.alpha.example"))
    with (
        OutriderServer(settings) as server,
        PostfixServer(
            loopback_address(),
            local_domains=["beta.example"],
            relay_to={"alpha.example": (address, 25)},
            client_tls="may",
            tls=authority.issue("mx.beta.example"),
            # Older than we take.
            main_cf={"smtp_tls_protocols": "TLSv1", "tls_medium_cipherlist": "ALL:@SECLEVEL=0"},
        ) as beta,
    ):
        beta.send("bob@beta.example", ["ann@alpha.example"], CONTENT)
        [message] = wait_mailbox(server, "ann")
        [failure, *_] = server.wait_event("tls_failed")
    assert failure["client"] == beta.address
    assert b" with ESMTP id " in headers_of(message)
