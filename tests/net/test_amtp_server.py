"""The AMTP driver over real sockets and TLS; who the client is, the reception in memory says."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.net.smtp_server_harness import Bench, Client, bench
from tests.net.test_smtp_server_tls import authenticator, client_context, server_tls_with
from tests.peers.certificates import CertificateAuthority

from outrider.model.envelope import Arrival
from outrider.model.reply import Reply
from outrider.net.amtp_server import AmtpServer
from outrider.net.tls_context import ServerTls
from outrider.protocols.amtp.replies import AUTHENTICATION_FAILED, IDENTITY_UNKNOWN
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.reception.interface import Decision, Session
from outrider.testing.reception import HELLO, MemoryReception

PLAIN = base64.b64encode(b"\0ann\0secret").decode()


@pytest.fixture
def server_tls(authority: CertificateAuthority) -> ServerTls:
    """The server's certificate; clients are asked for theirs."""
    return server_tls_with(authority.issue("mx.example"))


def proves(connection: Arrival) -> Callable[[Session, str, str], Decision]:
    """An answer to EHLO that makes the host a proven one."""

    def answer(session: Session, _verb: str, _name: str) -> Decision:
        session.connection = connection
        return HELLO

    return answer


@asynccontextmanager
async def amtp_bench(reception: MemoryReception, server_tls: ServerTls, **more: Any) -> AsyncIterator[Bench]:
    options: dict[str, Any] = {"protocol": "amtp", "settings": ServerSettings("mx.example"), **more}
    async with bench(reception, make=AmtpServer, tls=server_tls, implicit_tls=True, **options) as at:
        yield at


async def greeted(at: Bench, authority: CertificateAuthority) -> Client:
    """A client with a certificate that has read the greeting."""
    context: ssl.SSLContext = client_context(authority, authority.issue("mail.client.example"))
    client = await at.connect(ssl=context, server_hostname="mx.example")
    assert await client.reply() == 220
    return client


@pytest.mark.covers("AMTP-1", "AMTP-3")
async def test_the_certificate_reaches_reception_whatever_it_is_worth(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    chains: list[int] = []

    def answer(session: Session, _verb: str, _name: str) -> Decision:
        assert session.tls is not None
        chains.append(len(session.tls.peer_chain))
        return AUTHENTICATION_FAILED

    stranger = CertificateAuthority(authority.folder / "stranger")
    async with amtp_bench(MemoryReception(greeted_answer=answer), server_tls) as at:
        for own in (None, stranger.issue("mail.client.example")):
            client = await at.connect(ssl=client_context(authority, own), server_hostname="mx.example")
            assert await client.reply() == 220
            assert await client.say("EHLO mail.client.example") == 504
            assert client.text == "504 5.7.8 Authentication failed\r\n"
            assert await client.say("MAIL FROM:<a@b.example> MPC=com/optin") == 503
            assert await client.say("NOOP") == 250
            assert await client.say("QUIT") == 221
    assert chains == [0, 1]


@pytest.mark.covers("AMTP-3")
async def test_a_late_answer_may_be_451_and_asked_for_again(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    answers = [IDENTITY_UNKNOWN, HELLO]

    async def late(_session: Session) -> Reply:
        await asyncio.sleep(0)
        return answers.pop(0)

    def answer(session: Session, _verb: str, _name: str) -> Decision:
        session.connection = Arrival.AMTP_PUBLIC
        return late(session)

    async with amtp_bench(MemoryReception(greeted_answer=answer), server_tls) as at:
        client = await greeted(at, authority)
        assert await client.say("EHLO mail.client.example") == 451
        assert await client.say("EHLO mail.client.example") == 250
        assert await client.say("MAIL FROM:<a@b.example> MPC=com/optin") == 250


@pytest.mark.covers("AMTP-10", "AMTP-19")
async def test_a_public_connection_hears_codes_and_no_logins(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    answer = proves(Arrival.AMTP_PUBLIC)
    reception = MemoryReception(greeted_answer=answer, declarations=("DENY=pol/*", "ALLOW=pol/optin"))
    async with amtp_bench(reception, server_tls, authenticator=authenticator()) as at:
        client = await greeted(at, authority)
        assert await client.say("EHLO mail.client.example") == 250
        lines = client.text.split("\r\n")
        assert [line[4:] for line in lines if "MPC" in line] == ["MPC DENY=pol/*", "MPC ALLOW=pol/optin"]
        assert "AUTH" not in client.text
        assert "STARTTLS" not in client.text
        assert await client.say(f"AUTH PLAIN {PLAIN}") == 502


@pytest.mark.covers("AMTP-19", "AMTP-20")
async def test_a_private_connection_logs_in_and_says_ehlo_again(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    answer = proves(Arrival.AMTP_PRIVATE)
    reception = MemoryReception(greeted_answer=answer, declarations=("DENY=com/*",), login_wanted=True)
    async with amtp_bench(reception, server_tls, authenticator=authenticator()) as at:
        client = await greeted(at, authority)
        assert await client.say("EHLO mail.client.example") == 250
        assert "AUTH " in client.text
        assert "MPC" not in client.text
        assert await client.say("MAIL FROM:<a@b.example> MPC=com/optin") == 530
        assert await client.say(f"AUTH PLAIN {PLAIN}") == 235
        assert await client.say("EHLO mail.client.example") == 250
        assert "250-MPC DENY=com/*\r\n" in client.text
        assert await client.say("MAIL FROM:<a@b.example> MPC=net/individual") == 250
        assert reception.sessions[0].with_protocol == "AMTPA"


@pytest.mark.covers("AMTP-19")
async def test_a_login_that_reception_refuses_is_none(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    refusal = Reply(535, "5.7.8", "The certificate does not name this login")
    answer = proves(Arrival.AMTP_PRIVATE)
    reception = MemoryReception(greeted_answer=answer, login_wanted=True, login_answer=refusal)
    async with amtp_bench(reception, server_tls, authenticator=authenticator()) as at:
        client = await greeted(at, authority)
        assert await client.say("EHLO mail.client.example") == 250
        assert await client.say(f"AUTH PLAIN {PLAIN}") == 535
        assert await client.say("MAIL FROM:<a@b.example> MPC=com/optin") == 530
        assert reception.sessions[0].login == ""
        await at.told.wait_for("login failed s1 PLAIN ann")


@pytest.mark.covers("AMTP-14")
async def test_a_message_arrives_with_its_code(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    reception = MemoryReception(greeted_answer=proves(Arrival.AMTP_PUBLIC))
    async with amtp_bench(reception, server_tls) as at:
        client = await greeted(at, authority)
        assert await client.say("EHLO mail.client.example") == 250
        client.send(b"MAIL FROM:<a@b.example> MPC=Net/Individual\r\nRCPT TO:<b@mx.example>\r\nDATA\r\n")
        assert await client.replies(3) == [250, 250, 354]
        client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        assert await client.reply() == 250
        [received] = reception.received
        assert str(received.transaction.request.mpc) == "net/individual"
        assert received.session.with_protocol == "AMTP"
