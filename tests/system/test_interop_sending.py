"""Outrider sends to each of the four peers: in clear and under TLS, 8-bit, UTF-8 addresses, refusals."""

from __future__ import annotations

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.exim import EximServer
from tests.peers.mailserver import MailServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.tools import Swaks, smtp_source
from tests.system.peer_pairs import PEERS, TLS_SERVERS, UTF8_PEERS, title
from tests.system.sites import (
    CONTENT,
    Settings,
    body_of,
    headers_of,
    queue_id,
    site,
    utf8_transaction,
    wait_mailbox,
)

_MIME = (
    b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
)
EIGHT_BIT = CONTENT.replace(b"\r\n\r\n", _MIME, 1) + "Grüße aus Köln\r\n".encode()


def alpha(address: str, peer: MailServer, **route: object) -> Settings:
    """Our site, with a way to the peer's domain."""
    way = {"to": f"smtp:[{peer.address}]:{peer.port}", **route}
    return site("alpha.example", address, routes={"beta.example": way})


@pytest.mark.covers("SMTP-1", "SMTP-3", "SMTP-7")
@pytest.mark.parametrize("receiving", PEERS, ids=title)
def test_in_clear_with_one_of_two_recipients_refused(
    receiving: type[MailServer], address: str, swaks_client: Swaks
) -> None:
    with (
        receiving(loopback_address(), local_domains=["beta.example"]) as beta,
        OutriderServer(alpha(address, beta)) as server,
    ):
        result = swaks_client.send(
            address,
            25,
            sender="ann@alpha.example",
            recipients=["bob@beta.example", "nobody@beta.example"],
            content=EIGHT_BIT,
        )
        assert result.accepted, result.transcript
        [message] = beta.wait_messages("bob")
        # The refused one comes back to the sender, who has a mailbox here.
        [report] = wait_mailbox(server, "ann")
        [failed] = server.wait_event("failed", id=queue_id(result))
        assert failed["recipient"] == "nobody@beta.example"
        server.wait_event("delivered", id=queue_id(result), recipient="bob@beta.example")
    assert b"Gr\xc3\xbc\xc3\x9fe aus K\xc3\xb6ln" in message
    assert body_of(message).startswith(b".a line that begins with a dot\n\nFrom here on\n")
    assert b"Action: failed" in report
    assert b"nobody@beta.example" in report
    assert b"Return-Path: <>" in headers_of(report)


@pytest.mark.covers("TLS-4a", "TLS-6")
@pytest.mark.parametrize("receiving", TLS_SERVERS, ids=title)
def test_under_verified_tls(
    receiving: type[MailServer], address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with receiving(
        loopback_address(),
        local_domains=["beta.example"],
        tls=authority.issue("mx.beta.example"),
        require_tls=True,
    ) as beta:
        settings = alpha(address, beta, tls="verify", tls_name="mx.beta.example")
        settings["tls"] = {"public_ca": [str(authority.authority)]}
        with OutriderServer(settings) as server:
            result = swaks_client.send(
                address, 25, sender="ann@alpha.example", recipients=["bob@beta.example"], content=CONTENT
            )
            assert result.accepted, result.transcript
            [message] = beta.wait_messages("bob")
            [event] = server.wait_event("delivered", id=queue_id(result))
    assert body_of(message) == body_of(CONTENT)
    assert "verified mx.beta.example" in str(event["tls"])
    assert b"TLS" in headers_of(message).partition(b"by mx.alpha.example")[0]


@pytest.mark.covers("SMTP-2a", "SMTP-3")
@pytest.mark.parametrize("receiving", UTF8_PEERS, ids=title)
def test_an_internationalized_address(receiving: type[MailServer], address: str) -> None:
    with (
        receiving(loopback_address(), local_domains=["beta.example"], users=["bøb"]) as beta,
        OutriderServer(alpha(address, beta)) as server,
    ):
        reply = utf8_transaction(address, "ann@alpha.example", "bøb@beta.example", EIGHT_BIT)
        assert reply.startswith(b"250 ")
        [message] = beta.wait_messages("bøb")
        server.wait_event("delivered", recipient="bøb@beta.example")
    assert body_of(message) == body_of(EIGHT_BIT)


@pytest.mark.covers("SMTP-3")
@pytest.mark.parametrize("receiving", PEERS, ids=title)
def test_many_messages_by_few_connections(receiving: type[MailServer], address: str) -> None:
    with receiving(loopback_address(), local_domains=["beta.example"]) as beta:
        settings = {**alpha(address, beta, concurrency=2), "log": {"level": "debug"}}
        with OutriderServer(settings) as server:
            sent = smtp_source(address, 25, messages=12, sessions=3, recipient="bob@beta.example")
            assert sent.status == 0, sent.output
            messages = beta.wait_messages("bob", 12)
            server.wait_event("delivered", 12)
            opened = server.log_events("connection_opened")
    assert len(messages) == 12
    assert 1 <= len(opened) <= 4


@pytest.mark.covers("SMTP-2a", "SMTP-3")
@pytest.mark.parametrize(
    ("receiving", "trace"), [(PostfixServer, " bdat=1 "), (EximServer, " K ")], ids=["postfix", "exim"]
)
def test_content_goes_by_chunks_where_offered(
    receiving: type[MailServer], trace: str, address: str, swaks_client: Swaks
) -> None:
    with receiving(loopback_address(), local_domains=["beta.example"]) as beta:
        settings = alpha(address, beta)
        # Postfix speaks of BDAT when the session ends.
        settings["delivery"]["idle_reuse"] = 0
        with OutriderServer(settings):
            result = swaks_client.send(
                address, 25, sender="ann@alpha.example", recipients=["bob@beta.example"], content=CONTENT
            )
            assert result.accepted, result.transcript
            [message] = beta.wait_messages("bob")
            beta.wait_log(trace)
    assert body_of(message) == body_of(CONTENT)
