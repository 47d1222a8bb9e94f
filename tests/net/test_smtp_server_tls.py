"""STARTTLS, implicit TLS and AUTH over real sockets, with real certificates and the real authenticator."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import scramp
from tests.net.smtp_server_harness import HEAD, LIMIT_S, Bench, Client, bench
from tests.peers.certificates import CertificateAuthority, TlsFiles

from outrider.identity.authenticator import SaslAuthenticator
from outrider.identity.credentials import UserTable, make_user
from outrider.identity.login_limits import LoginLimits
from outrider.net.tls import TlsTimes
from outrider.net.tls_context import ServerContexts, ServerTls
from outrider.net.tls_files import CertificateFiles
from outrider.protocols.smtp.server_settings import ServerSettings

SUBMISSION = ServerSettings("mx.example", tls_offered=True, auth_after_tls=True)
NUL_PLAIN = base64.b64encode(b"\0ann\0secret").decode()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """A CA of the test's own."""
    return CertificateAuthority(tmp_path)


@pytest.fixture
def server_tls(authority: CertificateAuthority) -> ServerTls:
    """The server's certificate; clients are asked for theirs."""
    return server_tls_with(authority.issue("mx.example"))


def server_tls_with(files: TlsFiles) -> ServerTls:
    contexts = ServerContexts(CertificateFiles(files.certificate, files.key))
    return ServerTls(contexts, (b"smtp",), request_client_certificate=True)


def client_context(authority: CertificateAuthority, own: TlsFiles | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.authority))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def authenticator(failures: int = 10) -> SaslAuthenticator:
    ann = make_user("ann", "secret", salt=b"s" * 16, scram_salt=b"t" * 16, senders=("*",))
    nonces: Iterator[str] = (f"nonce-number-{n:020}" for n in range(1000))
    return SaslAuthenticator(
        UserTable((ann,)),
        LoginLimits(failures, failures, 600.0),
        make_nonce=lambda: next(nonces),
        secret=b"k" * 32,
    )


async def secured(at: Bench, context: ssl.SSLContext) -> Client:
    """A client that has done STARTTLS, and has not said EHLO again."""
    client = await at.greeted()
    assert "STARTTLS" in client.text
    assert await client.say("STARTTLS") == 220
    await client.writer.start_tls(context, server_hostname="mx.example")
    return client


@pytest.mark.covers("TLS-1", "SEC-36", "SEC-37")
async def test_after_starttls_everything_is_new(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls) as at:
        client = await secured(at, client_context(authority))
        assert await client.say("MAIL FROM:<a@a.example>") == 503
        assert await client.say("EHLO other.example") == 250
        assert "STARTTLS" not in client.text
        assert (await client.mail())[-1] == 250
        session = at.reception.received[0].session
        assert session.hello_name == "other.example"
        assert session.with_protocol == "ESMTPS"
        assert session.tls is not None
        assert session.tls.version == "TLSv1.3"
        assert session.tls.server_name == "mx.example"
        assert session.tls.peer_chain == ()
        assert at.reception.sessions[0] is not session
        assert await client.say("QUIT") == 221
        assert await client.end() == b""


@pytest.mark.covers("TLS-2b", "TLS-3")
async def test_an_unknown_client_certificate_reaches_reception(
    authority: CertificateAuthority, server_tls: ServerTls, tmp_path: Path
) -> None:
    stranger = CertificateAuthority(tmp_path / "stranger").issue("client.example")
    async with bench(settings=SUBMISSION, tls=server_tls) as at:
        client = await secured(at, client_context(authority, stranger))
        assert await client.say("EHLO client.example") == 250
        assert (await client.mail())[-1] == 250
        session = at.reception.received[0].session
        assert session.tls is not None
        leaf = ssl.PEM_cert_to_DER_cert(stranger.certificate.read_text().partition("-----END")[0] + PEM_END)
        assert session.tls.peer_chain[0] == leaf


PEM_END = "-----END CERTIFICATE-----\n"


@pytest.mark.covers("TLS-1", "SEC-32", "SEC-35")
@pytest.mark.parametrize("behind", [b"EHLO inject.example\r\n", b"\x16\x03\x01", b"EHL"])
async def test_octets_behind_starttls_end_the_session(server_tls: ServerTls, behind: bytes) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls) as at:
        client = await at.greeted()
        client.send(b"STARTTLS\r\n" + behind)
        assert await client.reply() == 554
        assert await client.end() == b""
        client.leave()
        assert await at.told.wait_for("ended") == "ended s1 octets behind STARTTLS 0"


@pytest.mark.covers("TLS-3", "SEC-39")
@pytest.mark.parametrize(
    "hello", [b"this is no TLS\r\n", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", b""]
)
async def test_a_failed_handshake_costs_nothing_but_the_connection(
    server_tls: ServerTls, hello: bytes
) -> None:
    times = TlsTimes(handshake_s=0.3, linger_s=0.2)
    async with bench(settings=SUBMISSION, tls=server_tls, tls_times=times) as at:
        client = await at.greeted()
        assert await client.say("STARTTLS") == 220
        client.send(hello)
        said = await client.end()
        assert b"250" not in said
        assert (await at.told.wait_for("tls failed")).startswith("tls failed s1 ")
        client.leave()
        assert await at.told.wait_for("ended") == "ended s1 TLS handshake failed 0"
        in_the_clear = await at.greeted()
        assert (await in_the_clear.mail())[-1] == 250


@pytest.mark.covers("SEC-40", "SEC-44")
async def test_content_cut_off_under_tls_is_not_taken(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls) as at:
        for begin in (b"DATA\r\nhalf\r\n", b"BDAT 10 LAST\r\nhalf"):
            client = await secured(at, client_context(authority))
            assert await client.say("EHLO a.example") == 250
            client.send(HEAD + begin)
            await client.replies(2)
            client.reset()
        while len(at.reception.abandoned_because) < 2:
            await asyncio.sleep(0.01)
        assert at.reception.received == []


@pytest.mark.covers("TLS-6", "SMTP-1")
async def test_implicit_tls(authority: CertificateAuthority, server_tls: ServerTls) -> None:
    async with bench(tls=server_tls, implicit_tls=True) as at:
        client = await at.connect(ssl=client_context(authority), server_hostname="mx.example")
        assert await client.reply() == 220
        assert await client.say("EHLO a.example") == 250
        assert "STARTTLS" not in client.text
        assert await client.say("STARTTLS") == 503
        assert (await client.mail())[-1] == 250
        assert at.reception.received[0].session.with_protocol == "ESMTPS"
        assert await client.say("QUIT") == 221
        client.leave()


@pytest.mark.covers("SEC-214")
async def test_draining_ends_sessions_under_tls(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls) as at:
        client = await secured(at, client_context(authority))
        stopping = asyncio.create_task(at.listener.stop(LIMIT_S))
        assert await client.reply() == 421
        assert await client.end() == b""
        client.leave()
        await stopping


@pytest.mark.covers("SMTP-2b", "SEC-104")
async def test_passwords_only_under_tls(authority: CertificateAuthority, server_tls: ServerTls) -> None:
    async with bench(
        settings=SUBMISSION, tls=server_tls, authenticator=authenticator(), protocol="submission"
    ) as at:
        client = await at.greeted()
        assert "PLAIN" not in client.text
        assert await client.say(f"AUTH PLAIN {NUL_PLAIN}") == 538
        assert await client.say("STARTTLS") == 220
        await client.writer.start_tls(client_context(authority), server_hostname="mx.example")
        assert await client.say("EHLO a.example") == 250
        assert "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n" in client.text
        assert await client.say(f"AUTH PLAIN {NUL_PLAIN}") == 235
        assert await client.say(f"AUTH PLAIN {NUL_PLAIN}") == 503
        assert (await client.mail())[-1] == 250
        session = at.reception.received[0].session
        assert (session.login, session.login_mechanism) == ("ann", "PLAIN")
        assert session.with_protocol == "ESMTPSA"
        assert await at.told.wait_for("login succeeded") == "login succeeded s1 ann PLAIN password"
        assert not any("secret" in line or NUL_PLAIN in line for line in at.told.lines)


@pytest.mark.covers("SMTP-2b", "SEC-105")
async def test_a_wrong_password_waits_and_may_try_again(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls, authenticator=authenticator()) as at:
        client = await secured(at, client_context(authority))
        assert await client.say("EHLO a.example") == 250
        assert await client.say("AUTH PLAIN") == 334
        assert await client.say("*") == 501
        assert await client.say("AUTH PLAIN !!!") == 501
        wrong = base64.b64encode(b"\0ann\0wrong").decode()
        assert await client.say(f"AUTH PLAIN {wrong}") == 535
        assert await client.say("AUTH LOGIN") == 334
        assert await client.say(base64.b64encode(b"ann").decode()) == 334
        assert await client.say("A" * 13_000) == 500
        assert await client.say("AUTH LOGIN") == 334
        assert await client.say(base64.b64encode(b"ann").decode()) == 334
        assert await client.say(base64.b64encode(b"secret").decode()) == 235
        failures = [line for line in at.told.lines if line.startswith("login failed")]
        assert len(failures) == 4


@pytest.mark.covers("SMTP-2b", "SEC-108")
async def test_scram_needs_no_tls(server_tls: ServerTls) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls, authenticator=authenticator()) as at:
        client = await at.greeted()
        assert "250-AUTH SCRAM-SHA-256\r\n" in client.text
        scram = scramp.ScramClient(["SCRAM-SHA-256"], "ann", "secret")
        assert await client.say(f"AUTH SCRAM-SHA-256 {encoded(scram.get_client_first())}") == 334
        scram.set_server_first(decoded(client.text))
        assert await client.say(encoded(scram.get_client_final())) == 334
        scram.set_server_final(decoded(client.text))
        assert await client.say("") == 235
        assert (await client.mail())[-1] == 250
        assert at.reception.received[0].session.client_address == ip_address("127.0.0.1")


def encoded(text: Any) -> str:
    return base64.b64encode(str(text).encode()).decode()


def decoded(reply: str) -> str:
    return base64.b64decode(reply[4:]).decode()


@pytest.mark.covers("SMTP-2b", "SEC-91")
async def test_a_client_that_goes_while_its_password_is_checked(
    authority: CertificateAuthority, server_tls: ServerTls
) -> None:
    async with bench(settings=SUBMISSION, tls=server_tls, authenticator=authenticator()) as at:
        client = await secured(at, client_context(authority))
        assert await client.say("EHLO a.example") == 250
        client.send(f"AUTH PLAIN {NUL_PLAIN}\r\n".encode())
        await client.writer.drain()
        client.reset()
        await at.told.wait_for("ended")
        assert not any(line.startswith("broke") for line in at.told.lines)
