"""The TLS transport against the `openssl` program, in both roles: somebody else's idea of TLS."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.net.tls_peers import (
    LOOPS,
    App,
    connect,
    der_of,
    finished,
    listening,
    pair,
    run_on,
    server_tls,
    tls_listening,
)
from tests.peers.certificates import CertificateAuthority

from outrider.net.tls import start_tls_server
from outrider.net.tls_context import ClientContext, ServerTls
from outrider.net.tls_info import TlsCause, TlsConnectionError, TlsHandshakeError

pytestmark = pytest.mark.parametrize("loop", list(LOOPS))


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "alpha")


@asynccontextmanager
async def openssl(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the program; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        "openssl",
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def client_arguments(address: tuple[str, int], *more: object) -> tuple[object, ...]:
    return ("s_client", "-connect", f"{address[0]}:{address[1]}", "-nocommands", *more)


def streams(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@pytest.mark.covers("TLS-6")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_s_client_talks_verifies_and_exports(
    loop: str, version: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App(echo=True)
        files = authority.issue("client.example")
        tls = server_tls(authority, request_client_certificate=True, alpn_protocols=(b"smtp",))
        options = (
            *(version, "-servername", "mx.alpha.example", "-alpn", "smtp"),
            *("-CAfile", authority.authority, "-verify_return_error", "-verify_hostname", "mx.alpha.example"),
            *("-cert", files.certificate, "-key", files.key),
            *("-keymatexport", "EXPORTER-test", "-keymatexportlen", 32),
        )
        async with (
            tls_listening(tls, server) as address,
            openssl(*client_arguments(address, *options)) as process,
        ):
            stdin, stdout = streams(process)
            stdin.write(b"EHLO client.example\n")
            assert await server.octets(20) == b"EHLO client.example\n"
            output = await stdout.readuntil(b"EHLO client.example\n")
            stdin.write_eof()
            await finished(server)
            output += await stdout.read()
        assert b"Verification: OK" in output
        assert b"ALPN protocol: smtp" in output
        exported = re.search(rb"Keying material: ([0-9A-F]{64})", output)
        assert exported is not None
        assert server.info.export_keying_material(b"EXPORTER-test", 32) == bytes.fromhex(exported[1].decode())
        assert server.info.peer_chain == der_of(files.certificate) + der_of(authority.authority)
        assert (server.info.alpn, server.info.server_name) == ("smtp", "mx.alpha.example")
        assert server.info.version == {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version]

    run_on(loop, work())


class Smtp(App):
    """Just enough for ``-starttls smtp``."""

    def __init__(self, tls: ServerTls) -> None:
        super().__init__(echo=True)
        self.tls_settings = tls
        self.raw: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.raw = transport
        self.raw.write(b"220 mx.alpha.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self.transport is not None:
            super().data_received(data)
        elif data.startswith(b"EHLO"):
            self.raw.write(b"250-mx.alpha.example\r\n250 STARTTLS\r\n")
        elif data == b"STARTTLS\r\n":
            self.raw.write(b"220 go ahead\r\n")
            start_tls_server(
                self.raw, self, self.tls_settings, on_ready=self.tls_ready, on_failed=self.tls_failed
            )


@pytest.mark.covers("SMTP-2a", "TLS-3")
@pytest.mark.parametrize("certificate", ["none", "rogue"])
def test_s_client_upgrades_by_starttls(
    loop: str, certificate: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    async def work() -> None:
        rogue = CertificateAuthority(tmp_path / "rogue", "Nobody").issue("client.example")
        presented = ("-cert", rogue.certificate, "-key", rogue.key) if certificate == "rogue" else ()
        server = Smtp(server_tls(authority, request_client_certificate=True))
        async with (
            listening(lambda: server) as address,
            openssl(*client_arguments(address, "-starttls", "smtp", "-quiet", *presented)) as process,
        ):
            stdin, stdout = streams(process)
            stdin.write(b"EHLO again\n")
            await stdout.readuntil(b"EHLO again\n")
            stdin.write_eof()
            process.terminate()
            await finished(server)
        assert server.info.peer_chain == (der_of(rogue.certificate) if presented else ())

    run_on(loop, work())


@pytest.mark.covers("TLS-6", "TLS-7")
@pytest.mark.parametrize(
    ("options", "cause", "alert"),
    [
        (("-alpn", "http/1.1"), TlsCause.NO_COMMON_PROTOCOL, "sent no_application_protocol (120)"),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), TlsCause.REFUSED, "sent protocol_version (70)"),
        (("-tls1_2", "-cipher", "AES128-SHA"), TlsCause.REFUSED, "sent handshake_failure (40)"),
        (("-verify_return_error", "-CAfile", "rogue"), TlsCause.ALERTED, "received unknown_ca (48)"),
    ],
)
def test_s_client_is_refused_or_refuses(
    loop: str,
    options: tuple[str, ...],
    cause: TlsCause,
    alert: str,
    authority: CertificateAuthority,
    tmp_path: Path,
) -> None:
    rogue = CertificateAuthority(tmp_path / "rogue", "Nobody").authority

    async def work() -> None:
        server = App()
        arguments = (rogue if option == "rogue" else option for option in options)
        tls = server_tls(authority, alpn_protocols=(b"smtp",))
        async with (
            tls_listening(tls, server) as address,
            openssl(*client_arguments(address, *arguments)) as process,
        ):
            assert await process.wait() != 0
            await server.failed.wait()
        assert server.failure is not None
        assert (server.failure.cause, server.failure.alert) == (cause, alert)

    run_on(loop, work())


@asynccontextmanager
async def s_server(*arguments: object) -> AsyncIterator[tuple[str, int]]:
    """A server that sends every line back reversed."""
    async with openssl("s_server", "-accept", "127.0.0.1:0", "-rev", *arguments) as process:
        _, stdout = streams(process)
        line = b""
        while not line.startswith(b"ACCEPT"):
            line = await stdout.readline()
            assert line, "openssl ended"
        yield "127.0.0.1", int(line.rpartition(b":")[2])


@pytest.mark.covers("TLS-6", "TLS-4a")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_our_client_presents_its_certificate_to_s_server(
    loop: str, version: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        host, ours = authority.issue("mx.beta.example"), authority.issue("mx.alpha.example")
        client = App()
        arguments = ("-cert", host.certificate, "-key", host.key, "-CAfile", authority.authority)
        async with s_server(version, "-Verify", 2, "-verify_return_error", *arguments) as address:
            transport = await connect(
                address, client, ClientContext(pair(ours)), server_hostname="mx.beta.example"
            )
            transport.write(b"abc\n")
            assert await client.octets(4) == b"cba\n"
            assert client.info.peer_chain == der_of(host.certificate) + der_of(authority.authority)
            transport.close()
            await finished(client)

    run_on(loop, work())


@pytest.mark.covers("TLS-6")
@pytest.mark.parametrize(
    ("version", "who", "alert"),
    [
        ("-tls1_2", "nobody", "received handshake_failure (40)"),
        ("-tls1_3", "nobody", "received certificate_required (116)"),
        ("-tls1_2", "rogue", "received unknown_ca (48)"),
        ("-tls1_3", "rogue", "received unknown_ca (48)"),
    ],
)
def test_a_server_that_refuses_our_certificate_is_quoted(
    loop: str, version: str, who: str, alert: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    async def work() -> None:
        host = authority.issue("mx.beta.example")
        rogue = CertificateAuthority(tmp_path / "rogue", "Nobody").issue("mx.alpha.example")
        context = ClientContext(pair(rogue) if who == "rogue" else None)
        client = App()
        arguments = ("-cert", host.certificate, "-key", host.key, "-CAfile", authority.authority)
        async with s_server(version, "-Verify", 2, "-verify_return_error", *arguments) as address:
            failure: TlsConnectionError
            if version == "-tls1_2":
                with pytest.raises(TlsHandshakeError) as caught:
                    await connect(address, client, context)
                failure = caught.value
            else:
                await connect(address, client, context)
                await finished(client)
                assert isinstance(client.lost, TlsConnectionError)
                failure = client.lost
        assert failure.failure.cause is TlsCause.ALERTED
        assert failure.failure.alert == alert

    run_on(loop, work())


@pytest.mark.covers("TLS-6")
def test_a_weak_server_certificate_does_not_stop_opportunistic_encryption(loop: str, tmp_path: Path) -> None:
    async def work() -> None:
        key, certificate = tmp_path / "weak.key", tmp_path / "weak.pem"
        subject = ("-subj", "/CN=old.example", "-days", 1, "-nodes", "-keyout", key, "-out", certificate)
        async with openssl("req", "-x509", "-newkey", "rsa:1024", *subject) as process:
            assert await process.wait() == 0
        client = App()
        weak = ("-cert", certificate, "-key", key, "-cipher", "DEFAULT@SECLEVEL=0")
        async with s_server(*weak) as address:
            transport = await connect(address, client)
            transport.write(b"abc\n")
            assert await client.octets(4) == b"cba\n"
            transport.close()
            await finished(client)

    run_on(loop, work())
