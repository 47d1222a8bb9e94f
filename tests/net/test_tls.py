"""The TLS transport between two ends of our own, on both event loops."""

from __future__ import annotations

import asyncio
import hashlib
import socket
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
from tests.peers.certificates import DAY, CertificateAuthority

from outrider.net.tls import TlsTimes, start_tls_client, start_tls_server
from outrider.net.tls_context import ClientContext, ServerContexts, ServerTls
from outrider.net.tls_files import CertificateFiles
from outrider.net.tls_info import (
    TlsCause,
    TlsHandshakeError,
    TlsStage,
    TlsTruncatedError,
)

pytestmark = pytest.mark.parametrize("loop", list(LOOPS))


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "alpha")


@pytest.mark.covers("TLS-6")
def test_octets_go_both_ways_and_both_ends_close_cleanly(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server, client = App(echo=True), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client, server_hostname="mx.alpha.example")
            transport.write(b"EHLO client.example\r\n")
            assert await client.octets(21) == b"EHLO client.example\r\n"
            transport.close()
            await finished(client, server)
        assert server.events == ["made", "eof", "lost"]
        assert client.events == ["made", "lost"]
        assert server.lost is client.lost is None
        assert server.info.version == client.info.version == "TLSv1.3"
        assert server.info.server_name == "mx.alpha.example"
        assert server.info.cipher == client.info.cipher
        assert server.info.group == client.info.group != ""
        assert server.info.alpn == ""
        assert str(server.info).startswith("TLSv1.3 TLS_AES_")

    run_on(loop, work())


@pytest.mark.covers("TLS-3", "SMTP-2b")
@pytest.mark.parametrize("kind", ["none", "good", "expired", "rogue", "server_only", "with_chain"])
def test_any_client_certificate_reaches_the_application(
    loop: str, kind: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    rogue = CertificateAuthority(tmp_path / "rogue", "Nobody trusts this")
    certificates = {
        "none": None,
        "good": pair(authority.issue("client.example")),
        "expired": pair(authority.issue("client.example", valid_until=-DAY)),
        "rogue": pair(rogue.issue("mx.alpha.example")),
        "server_only": pair(authority.issue("client.example", client=False)),
        "with_chain": with_chain(authority, tmp_path),
    }

    async def work() -> None:
        files = certificates[kind]
        server, client = App(echo=True), App()
        context = ClientContext(files, allow_expired=True)
        tls = server_tls(authority, request_client_certificate=True)
        async with tls_listening(tls, server) as address:
            transport = await connect(address, client, context)
            transport.write(b"NOOP")
            assert await client.octets(4) == b"NOOP"
            transport.close()
            await finished(client, server)
        assert server.info.peer_chain == (() if files is None else der_of(files.certificate))
        assert len(server.info.peer_certificates()) == {"none": 0, "with_chain": 2}.get(kind, 1)
        assert client.info.peer_chain == der_of(tls.contexts.certificate_expiry()[0].path)

    run_on(loop, work())


def with_chain(authority: CertificateAuthority, folder: Path) -> CertificateFiles:
    files = authority.issue("client.example")
    chain = folder / "chain.pem"
    chain.write_bytes(files.certificate.read_bytes() + authority.authority.read_bytes())
    return CertificateFiles(chain, files.key)


def test_a_server_that_does_not_ask_gets_no_certificate(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server, client = App(), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client, ClientContext(pair(authority.issue("c.example"))))
            transport.close()
            await finished(client, server)
        assert server.info.peer_chain == ()

    run_on(loop, work())


def test_both_ends_export_the_same_keying_material(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        bindings = []
        for _ in range(2):
            server, client = App(), App()
            async with tls_listening(server_tls(authority), server) as address:
                transport = await connect(address, client)
                await server.made.wait()
                bindings.append(client.info.tls_exporter_channel_binding())
                assert server.info.tls_exporter_channel_binding() == bindings[-1]
                one = client.info.export_keying_material(b"EXPERIMENTAL outrider", 48, b"context")
                assert server.info.export_keying_material(b"EXPERIMENTAL outrider", 48, b"context") == one
                assert server.info.export_keying_material(b"EXPERIMENTAL outrider", 48, b"other") != one
                assert len(one) == 48
                transport.close()
                await finished(client, server)
        assert [len(binding) for binding in bindings] == [32, 32]
        assert bindings[0] != bindings[1]

    run_on(loop, work())


# -- STARTTLS ------------------------------------------------------------------------------------------


class Starter(App):
    """A server's application that upgrades on ``STARTTLS``."""

    def __init__(self, tls: ServerTls, **options: Any) -> None:
        super().__init__(echo=True)
        self.tls_settings = tls
        self.options = options
        self.raw: Any = None
        self.clear = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.raw = transport
        self.raw.write(b"220 mx.alpha.example\r\n")

    def data_received(self, data: bytes) -> None:
        if self.transport is not None:
            super().data_received(data)
            return
        self.clear += data
        line, end, rest = self.clear.partition(b"STARTTLS\r\n")
        if end:
            self.clear = line + end
            self.raw.write(b"220 go ahead\r\n")
            self.upgrade(self.raw, rest)

    def upgrade(self, raw: Any, rest: bytes) -> None:
        start_tls_server(
            raw,
            self,
            self.tls_settings,
            initial_data=rest,
            on_ready=self.tls_ready,
            on_failed=self.tls_failed,
            **self.options,
        )


class Line(App):
    """A client's application on a plain connection, before and after its upgrade."""

    raw: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.raw = transport


async def dial(address: tuple[str, int]) -> Line:
    _, client = await asyncio.get_running_loop().create_connection(Line, *address)
    return client


@pytest.mark.covers("TLS-1", "SMTP-2a")
def test_a_live_connection_is_upgraded(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server = Starter(server_tls(authority))
        async with listening(lambda: server) as address:
            client = await dial(address)
            client.raw.write(b"EHLO a\r\nSTARTTLS\r\n")
            await client.until(lambda: client.received.endswith(b"220 go ahead\r\n"))
            client.received.clear()
            transport = await start_tls_client(client.raw, client, ClientContext())
            transport.write(b"EHLO b\r\n")
            assert await client.octets(8) == b"EHLO b\r\n"
            transport.close()
            await finished(client, server)
        assert server.clear == b"EHLO a\r\nSTARTTLS\r\n"
        assert bytes(server.received) == b"EHLO b\r\n"
        assert server.events == ["made", "ready", "eof", "lost"]

    run_on(loop, work())


@pytest.mark.covers("SEC-35")
def test_a_hello_in_the_segment_of_starttls_goes_to_tls(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server = Starter(server_tls(authority))
        async with listening(lambda: server) as address:
            client = await dial(address)
            await client.until(lambda: b"\r\n" in client.received)
            gate: Any = Holding(client.raw)
            client.raw.pause_reading()
            starting = asyncio.ensure_future(start_tls_client(gate, client, ClientContext()))
            await asyncio.sleep(0)
            client.raw.write(b"STARTTLS\r\n" + gate.held)
            await client.made.wait()
            with pytest.raises(TlsHandshakeError):
                await starting  # this client reads the plain 220 as TLS; the server has seen a proper hello
            await finished(server)
        assert server.failure is not None
        assert server.failure.stage is TlsStage.NEGOTIATION
        assert bytes(server.received) == b""

    run_on(loop, work())


class Holding:
    """A raw transport whose writes are held back."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.held = b""

    def write(self, data: bytes) -> None:
        self.held += data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@pytest.mark.covers("TLS-1", "SEC-32", "SEC-33")
@pytest.mark.parametrize("behind", [b"EHLO inject\r\n", b"RSET\r\n", b"EHL", b"NOOP\r\n" * 10_000])
def test_plain_text_behind_starttls_never_becomes_application_data(
    loop: str, behind: bytes, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = Starter(server_tls(authority))
        async with listening(lambda: server) as address:
            client = await dial(address)
            client.raw.write(b"STARTTLS\r\n" + behind)
            await finished(server)
            client.raw.abort()
        assert server.failure is not None
        assert server.failure.cause is TlsCause.NOT_TLS
        assert server.failure.reason == "plain text where TLS must begin"
        assert isinstance(server.lost, TlsHandshakeError)
        assert bytes(server.received) == b""
        assert server.events == ["made", "failed", "lost"]

    run_on(loop, work())


def test_data_right_behind_the_handshake_is_delivered(loop: str, authority: CertificateAuthority) -> None:
    class Greeting(App):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.tls.write(b"220 mx.alpha.example\r\n")

    async def work() -> None:
        server, client = Greeting(), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            transport.write(b"EHLO first\r\n")
            assert await client.octets(22) == b"220 mx.alpha.example\r\n"
            assert await server.octets(12) == b"EHLO first\r\n"
            transport.close()
            await finished(client, server)
        assert client.events[0] == "made"

    run_on(loop, work())


def test_what_one_callback_writes_is_one_raw_write(loop: str, authority: CertificateAuthority) -> None:
    class Talkative(Starter):
        def upgrade(self, raw: Any, rest: bytes) -> None:
            self.raw = Counting(raw)
            super().upgrade(self.raw, rest)

        def data_received(self, data: bytes) -> None:
            if self.transport is None:
                super().data_received(data)
                return
            self.raw.writes = 0
            for _ in range(100):
                self.tls.write(b"250 2.1.5 recipient ok\r\n")
            self.tls.writelines([b"354 ", bytearray(b"go"), memoryview(b"\r\n")])

    async def work() -> None:
        server = Talkative(server_tls(authority))
        async with listening(lambda: server) as address:
            client = await dial(address)
            client.raw.write(b"STARTTLS\r\n")
            await client.until(lambda: client.received.endswith(b"220 go ahead\r\n"))
            client.received.clear()
            transport = await start_tls_client(client.raw, client, ClientContext())
            transport.write(b"RCPT...")
            expected = b"250 2.1.5 recipient ok\r\n" * 100 + b"354 go\r\n"
            assert await client.octets(len(expected)) == expected
            assert server.raw.writes == 1
            transport.write(b"once")
            transport.write(b"more")
            await server.made.wait()
            transport.close()
            await finished(client, server)

    run_on(loop, work())


class Counting:
    """A raw transport that counts writes."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.raw.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


# -- flow control --------------------------------------------------------------------------------------

LARGE = 20_000_000


class SlowReader(App):
    """Takes a little, then stops reading for a while; keeps a digest instead of the octets."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self.count = 0
        self.pauses = 0
        self.resting = False

    def data_received(self, data: bytes) -> None:
        assert not self.resting, "data was delivered while reading was paused"
        self.digest.update(data)
        self.count += len(data)
        self._news.set()
        if self.count // 1_000_000 > self.pauses:
            self.pauses += 1
            self.resting = True
            self.tls.pause_reading()
            asyncio.get_running_loop().call_later(0.003, self.go_on)

    def go_on(self) -> None:
        self.resting = False
        self.tls.resume_reading()


async def send_large(app: App) -> tuple[str, int]:
    """Write LARGE octets as the flow allows; their digest, and the most that ever waited."""
    digest, most, block = hashlib.sha256(), 0, bytes(range(256)) * 400
    for number in range(LARGE // len(block)):
        await app.writable.wait()
        piece = number.to_bytes(4, "big") + block[4:]
        digest.update(piece)
        app.tls.write(piece)
        most = max(most, app.tls.get_write_buffer_size())
    left = LARGE % len(block)
    digest.update(block[:left])
    app.tls.write(block[:left])
    return digest.hexdigest(), most


@pytest.mark.covers("SEC-61")
def test_twenty_megabytes_each_way_to_slow_readers(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server, client = SlowReader(), SlowReader()
        async with tls_listening(server_tls(authority), server) as address:
            await connect(address, client)
            await server.made.wait()
            sent = await asyncio.gather(send_large(client), send_large(server))
            await server.until(lambda: server.count == LARGE)
            await client.until(lambda: client.count == LARGE)
            client.tls.close()
            await finished(client, server)
        assert server.digest.hexdigest() == sent[0][0]
        assert client.digest.hexdigest() == sent[1][0]
        for (_, most), app in zip(sent, (client, server), strict=True):
            assert "pause" in app.events
            assert app.events.count("pause") == app.events.count("resume")
            assert most < 65_536 + 2 * 102_400, "what waits is bounded by the high-water mark and one write"

    run_on(loop, work())


def test_one_large_write_arrives_whole_before_close(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server, client = SlowReader(), App()
        data = bytes(range(256)) * 20_000
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            changing = bytearray(data)
            transport.write(changing)
            changing[:] = bytes(len(changing))  # the caller may reuse its buffer at once
            transport.write(memoryview(data)[7:1007:2])
            transport.close()
            transport.write(b"too late")
            await finished(client, server)
        assert server.digest.digest() == hashlib.sha256(data + data[7:1007:2]).digest()
        assert server.lost is None

    run_on(loop, work())


@pytest.mark.covers("SEC-89")
def test_a_peer_that_never_reads_cannot_hold_a_closing_connection(
    loop: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server, client = App(), App()
        times = TlsTimes(linger_s=0.05)
        async with tls_listening(server_tls(authority), server, times=times) as address:
            transport = await connect(address, client)
            await server.made.wait()
            transport.pause_reading()
            server.tls.write(bytes(LARGE))
            assert not server.writable.is_set()
            server.tls.close()
            await finished(server)
            transport.abort()
            await finished(client)

    run_on(loop, work())


def test_what_comes_while_reading_is_paused_waits_also_the_end(
    loop: str, authority: CertificateAuthority
) -> None:
    class Pausing(App):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.tls.pause_reading()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.tls.pause_reading()

    async def work() -> None:
        server, client = Pausing(), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            transport.write(b"one")
            transport.close()
            await server.made.wait()
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert server.events == ["made"]
            assert not server.tls.is_reading()
            assert bytes(server.received) == b""
            server.tls.resume_reading()
            assert await server.octets(3) == b"one"
            assert server.events == ["made"]
            server.tls.resume_reading()
            await finished(server, client)
        assert server.events == ["made", "eof", "lost"]

    run_on(loop, work())


# -- ending --------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-40", "SEC-44")
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_connection_that_breaks_off_is_never_a_proper_end(
    loop: str, how: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server, client = App(), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            transport.write(b"DATA\r\nhalf a mess")
            await server.octets(17)
            if how == "reset":
                wire = transport.get_extra_info("socket")
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            transport.abort()
            await finished(client, server)
        assert "eof" not in server.events
        kind = TlsTruncatedError if how == "fin" else ConnectionError
        assert isinstance(server.lost, kind)

    run_on(loop, work())


def test_a_half_closed_connection_carries_the_answer(loop: str, authority: CertificateAuthority) -> None:
    class Answering(App):
        def eof_received(self) -> bool:
            super().eof_received()
            asyncio.get_running_loop().call_later(0.01, self.answer)
            return True

        def answer(self) -> None:
            self.tls.write(b"250 2.0.0 queued\r\n")
            self.tls.close()

    async def work() -> None:
        server, client = Answering(), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            transport.write(b".\r\n")
            await asyncio.sleep(0)
            transport._engine.close()  # close_notify, as a peer does that reads on
            transport._send_outgoing()
            assert await client.octets(18) == b"250 2.0.0 queued\r\n"
            await finished(client, server)
        assert server.events == ["made", "eof", "lost"]
        assert server.lost is None

    run_on(loop, work())


@pytest.mark.covers("SEC-44")
def test_plain_text_behind_close_notify_is_ignored(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server, client = App(keep_open=True), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            transport._engine.write(b"BDAT 10\r\nhalf")
            transport._engine.close()
            transport._send_outgoing()
            assert transport._raw is not None
            transport._raw.write(b"MAIL FROM:<mallory@example.org>\r\n")
            await server.until(lambda: "eof" in server.events)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert bytes(server.received) == b"BDAT 10\r\nhalf"
            server.tls.close()
            await finished(server, client)

    run_on(loop, work())


@pytest.mark.covers("SEC-39")
@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_silence_in_the_handshake_ends_at_the_deadline(
    loop: str, first: bytes, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App()
        times = TlsTimes(handshake_s=0.05)
        async with tls_listening(server_tls(authority), server, times=times) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(first)
            assert await reader.read() == b""
            writer.close()
            await server.failed.wait()
        assert server.failure is not None
        assert server.failure.cause is TlsCause.TIMED_OUT
        assert server.failure.stage is TlsStage.HELLO
        assert server.failure.peer.startswith("127.0.0.1:")
        assert server.events == ["failed"], "an application that never saw the connection hears nothing else"

    run_on(loop, work())


def test_a_client_is_told_why_the_handshake_failed(loop: str, authority: CertificateAuthority) -> None:
    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"454 4.7.0 TLS not available\r\n")
            transport.close()

    async def work() -> None:
        client = App()
        async with listening(Deaf) as address:
            with pytest.raises(TlsHandshakeError) as caught:
                await connect(address, client)
        assert caught.value.failure.stage is TlsStage.HELLO
        assert caught.value.failure.cause in (TlsCause.NOT_TLS, TlsCause.PEER_CLOSED)
        assert client.events == []

    run_on(loop, work())


def test_an_upgrade_of_a_lost_connection_fails_once(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        accepted: list[Line] = []

        def accept() -> Line:
            accepted.append(Line())
            return accepted[-1]

        async with listening(accept) as address:
            client = await dial(address)
            await asyncio.sleep(0.01)
            client.raw.abort()
            with pytest.raises(TlsHandshakeError) as caught:
                await start_tls_client(client.raw, client, ClientContext())
            assert caught.value.failure.cause is TlsCause.PEER_CLOSED
            await finished(client)
            (server,) = accepted
            await finished(server)
            start_tls_server(server.raw, server, server_tls(authority), on_failed=server.tls_failed)
            assert server.failure is None, "callbacks come after the call"
            await server.failed.wait()
        assert client.events == ["made", "lost"]

    run_on(loop, work())


def test_a_cancelled_client_leaves_no_connection(loop: str) -> None:
    class Silent(asyncio.Protocol):
        def __init__(self) -> None:
            self.ended = asyncio.Event()

        def connection_lost(self, exc: Exception | None) -> None:
            self.ended.set()

    async def work() -> None:
        server, client = Silent(), App()
        async with listening(lambda: server) as address:
            attempt = asyncio.ensure_future(connect(address, client))
            await asyncio.sleep(0.01)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            await server.ended.wait()
        assert client.events == []

    run_on(loop, work())


def test_what_the_transport_knows(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server, client = App(), App()
        async with tls_listening(server_tls(authority), server) as address:
            transport = await connect(address, client)
            assert transport.get_extra_info("peername")[:2] == address
            assert transport.get_extra_info("tls_info") is transport.info
            assert transport.get_extra_info("sslcontext") is not None
            assert transport.get_extra_info("no such thing", 7) == 7
            assert transport.get_protocol() is client
            assert not transport.is_closing()
            assert not transport.can_write_eof()
            assert transport.get_write_buffer_limits() == (16_384, 65_536)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            with pytest.raises(ValueError, match="water marks"):
                transport.set_write_buffer_limits(high=1, low=2)
            other = App()
            transport.set_protocol(other)
            await server.made.wait()
            server.tls.write(b"for the other")
            assert await other.octets(13) == b"for the other"
            transport.close()
            assert transport.is_closing()
            transport.close()
            await finished(other, server)

    run_on(loop, work())


@pytest.mark.covers("TLS-7")
def test_certificates_are_replaced_while_a_session_goes_on(
    loop: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    async def work() -> None:
        first, second = authority.issue("mx.alpha.example"), authority.issue("mx.alpha.example")
        used = CertificateFiles(tmp_path / "mx.pem", tmp_path / "mx.key")
        install(first, used)
        contexts = ServerContexts(used)
        tls = ServerTls(contexts)
        old_server, old_client, new_server, new_client = App(echo=True), App(), App(), App()
        async with tls_listening(tls, old_server) as address:
            before = await connect(address, old_client)
            assert not contexts.files_changed()
            install(second, used)
            assert contexts.files_changed()
            contexts.reload()
            assert not contexts.files_changed()
            async with tls_listening(tls, new_server) as new_address:
                after = await connect(new_address, new_client)
                assert after.info is not None
                assert before.info is not None
                assert after.info.peer_chain == der_of(second.certificate)
                assert before.info.peer_chain == der_of(first.certificate)
                before.write(b"still here")
                assert await old_client.octets(10) == b"still here"
                before.close()
                after.close()
                await finished(old_client, old_server, new_client, new_server)

    run_on(loop, work())


def install(source: Any, target: CertificateFiles) -> None:
    target.certificate.write_bytes(source.certificate.read_bytes())
    target.key.touch(mode=0o600)
    target.key.write_bytes(source.key.read_bytes())
