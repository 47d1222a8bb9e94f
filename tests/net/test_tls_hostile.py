"""The TLS transport against peers that do not mean well: noise, old protocols, floods, forgeries."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from tests.net.tls_peers import LOOPS, App, connect, finished, pair, run_on, server_tls, tls_listening
from tests.net.tls_records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    KEY_UPDATE,
    KEY_UPDATE_REQUESTED,
    OldRecordWriter,
    RecordWriter,
    attacker,
    shake_hands,
)
from tests.peers.certificates import CertificateAuthority

from outrider.net.tls import TlsTimes
from outrider.net.tls_context import ClientContext, ServerContexts
from outrider.net.tls_engine import TlsEngine, TlsEngineError
from outrider.net.tls_info import (
    TlsCause,
    TlsExportError,
    TlsFailure,
    TlsHandshakeError,
    TlsSessionError,
    TlsStage,
)

both_loops = pytest.mark.parametrize("loop", list(LOOPS))

SHORT = TlsTimes(linger_s=0.05)
CLIENT_HELLO_1_1 = bytes.fromhex(
    "16030100350100003103022020202020202020202020202020202020202020202020202020202020202020"
    "00000a002f0035000ac013c01401000000"
)
SSLV2_HELLO = bytes.fromhex("802e01030300150000001000c02f00c03000c02b00c02c00002f00003500000a") + b"\x11" * 16


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "alpha")


@both_loops
@pytest.mark.covers("TLS-6", "SEC-39", "SEC-42")
@pytest.mark.parametrize(
    ("first", "cause", "reason", "alert"),
    [
        (b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n", TlsCause.NOT_TLS, "plain text where TLS must begin", ""),
        (b"EHLO client.example\r\n", TlsCause.NOT_TLS, "plain text where TLS must begin", ""),
        (SSLV2_HELLO, TlsCause.NOT_TLS, "an SSLv2 hello", ""),
        (b"\xff" * 100, TlsCause.NOT_TLS, "no TLS record", ""),
        (CLIENT_HELLO_1_1, TlsCause.REFUSED, "unsupported protocol", "sent protocol_version (70)"),
        (b"\x16\x03\x01\xff\xff" + bytes(10), TlsCause.REFUSED, "too long", "sent record_overflow (22)"),
        (b"\x16\x03\x01\x00\x05hello", TlsCause.REFUSED, "unexpected", "sent unexpected_message (10)"),
        (b"\x15\x03\x01\x00\x02\x02\x28", TlsCause.REFUSED, "unexpected", "sent unexpected_message (10)"),
    ],
)
def test_what_is_no_acceptable_hello_ends_the_connection(
    loop: str, first: bytes, cause: TlsCause, reason: str, alert: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App()
        async with tls_listening(server_tls(authority), server) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(first)
            answer = await reader.read()
            assert answer[:1] in (b"", b"\x15"), "an alert or nothing, never plain text"
            writer.close()
            await server.failed.wait()
        assert server.failure is not None
        assert (server.failure.cause, server.failure.alert) == (cause, alert)
        assert server.failure.stage is TlsStage.HELLO
        assert reason in server.failure.reason
        assert server.events == ["failed"]

    run_on(loop, work())


@both_loops
@pytest.mark.covers("TLS-6")
@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_old_versions_are_refused_with_their_alert(
    loop: str, version: int, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        connection = SSL.Connection(context)
        connection.set_connect_state()
        async with tls_listening(server_tls(authority), server) as address:
            reader, writer = await asyncio.open_connection(*address)
            with pytest.raises((SSL.Error, ConnectionResetError)):
                await shake_hands(connection, reader, writer)
            writer.close()
            await server.failed.wait()
        assert server.failure is not None
        assert server.failure.alert == "sent protocol_version (70)"

    run_on(loop, work())


@both_loops
@pytest.mark.covers("TLS-7", "SEC-43")
@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ((b"smtp",), "smtp"),
        ((b"http/1.1", b"smtp"), "smtp"),
        ((), ""),
        ((b"http/1.1",), None),
        ((b"imap", b"h2"), None),
    ],
)
def test_alpn_is_absent_or_ours(
    loop: str, offered: tuple[bytes, ...], agreed: str | None, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server, client = App(), App()
        tls = server_tls(authority, alpn_protocols=(b"smtp",))
        async with tls_listening(tls, server) as address:
            if agreed is None:
                with pytest.raises(TlsHandshakeError) as caught:
                    await connect(address, client, alpn_protocols=offered)
                assert caught.value.failure.alert == "received no_application_protocol (120)"
                await server.failed.wait()
                assert server.failure is not None
                assert server.failure.cause is TlsCause.NO_COMMON_PROTOCOL
                assert server.failure.alert == "sent no_application_protocol (120)"
            else:
                transport = await connect(address, client, alpn_protocols=offered)
                assert client.info.alpn == agreed
                await server.made.wait()
                assert server.info.alpn == agreed
                transport.close()
                await finished(client, server)

    run_on(loop, work())


# -- floods and forgeries inside a session ---------------------------------------------------------------


@both_loops
@pytest.mark.covers("SEC-40")
@pytest.mark.parametrize("message", [KEY_UPDATE, KEY_UPDATE_REQUESTED])
def test_a_flood_of_key_updates_ends_the_session(
    loop: str, message: bytes, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App()
        async with tls_listening(server_tls(authority), server, times=SHORT) as address:
            _, writer, records = await attacker(address)
            writer.write(records.record(APPLICATION_DATA, b"NOOP\r\n"))
            writer.write(b"".join(records.record(HANDSHAKE, message) for _ in range(20_000)))
            await finished(server)
            writer.close()
        assert isinstance(server.lost, TlsSessionError)
        assert server.lost.failure.cause is TlsCause.FLOODED
        assert server.lost.failure.stage is TlsStage.SESSION
        assert bytes(server.received) == b"NOOP\r\n"

    run_on(loop, work())


@both_loops
def test_an_honest_number_of_key_updates_is_fine(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server = App()
        async with tls_listening(server_tls(authority), server, times=SHORT) as address:
            _, writer, records = await attacker(address)
            for _ in range(40):
                writer.write(records.record(HANDSHAKE, KEY_UPDATE))
                writer.write(records.record(APPLICATION_DATA, b"x"))
            assert await server.octets(40) == b"x" * 40
            writer.write(records.record(ALERT, b"\x01\x00"))
            await finished(server)
            writer.close()
        assert server.events == ["made", "eof", "lost"]

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SEC-40")
def test_empty_records_without_end_are_an_error(loop: str, authority: CertificateAuthority) -> None:
    async def work() -> None:
        server = App()
        async with tls_listening(server_tls(authority), server, times=SHORT) as address:
            _, writer, records = await attacker(address)
            writer.write(b"".join(records.record(APPLICATION_DATA, b"") for _ in range(10_000)))
            await finished(server)
            writer.close()
        assert isinstance(server.lost, TlsSessionError)
        assert bytes(server.received) == b""

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SEC-40")
def test_a_forged_record_ends_the_session_behind_the_genuine_ones(
    loop: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App()
        async with tls_listening(server_tls(authority), server, times=SHORT) as address:
            _, writer, records = await attacker(address)
            forged = bytearray(records.record(APPLICATION_DATA, b"DATA\r\n"))
            genuine = RecordWriter(records._secret).record(APPLICATION_DATA, b"NOOP\r\n")
            writer.write(genuine + bytes(forged))  # the second repeats the first one's number
            await finished(server)
            writer.close()
        assert isinstance(server.lost, TlsSessionError)
        assert server.lost.failure.alert == "sent bad_record_mac (20)"
        assert bytes(server.received) == b"NOOP\r\n"
        assert "eof" not in server.events

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SEC-40")
def test_renegotiation_is_refused_and_asking_without_end_is_a_flood(
    loop: str, authority: CertificateAuthority
) -> None:
    async def work() -> None:
        server = App(echo=True)
        connection = old_client()
        async with tls_listening(server_tls(authority), server, times=SHORT) as address:
            reader, writer = await asyncio.open_connection(*address)
            await shake_hands(connection, reader, writer)
            records = OldRecordWriter(connection)
            hello = plain_hello()
            writer.write(records.record(HANDSHAKE, hello))
            writer.write(records.record(APPLICATION_DATA, b"NOOP\r\n"))
            connection.bio_write(await reader.read(65_536))
            with pytest.raises(SSL.Error, match="no renegotiation"):
                connection.recv(100)
            assert await server.octets(6) == b"NOOP\r\n"
            writer.write(b"".join(records.record(HANDSHAKE, hello) for _ in range(20_000)))
            await finished(server)
            writer.close()
        assert isinstance(server.lost, TlsSessionError)
        assert server.lost.failure.cause is TlsCause.FLOODED
        assert server.info.version == "TLSv1.2"

    run_on(loop, work())


def plain_hello() -> bytes:
    """A ClientHello without its record header."""
    connection = old_client()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65_536)[5:]


def old_client(options: int = 0) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256")
    context.set_options(options)
    connection = SSL.Connection(context)
    connection.set_connect_state()
    return connection


# -- engines on a table ----------------------------------------------------------------------------------


def engines(authority: CertificateAuthority, **client: Any) -> tuple[TlsEngine, TlsEngine]:
    contexts = ServerContexts(pair(authority.issue("mx.alpha.example")))
    server = contexts.engine(alpn_protocols=(), request_client_certificate=False)
    return server, ClientContext(**client).engine()


def joined(server: TlsEngine, client: TlsEngine) -> None:
    """Shake hands."""
    to_server = to_client = b""
    done = [False, False]
    while not all(done):
        done[1] = client.handshake(to_client) if not done[1] else client.read(to_client) == b""
        to_server = client.outgoing()
        done[0] = server.handshake(to_server) if not done[0] else server.read(to_server) == b""
        to_client = server.outgoing()
    assert client.read(to_client) == b""


def met_by(server: TlsEngine, client: SSL.Connection) -> None:
    """Shake hands with a client that is not ours."""
    done = False
    while not done:
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        done = server.handshake(client.bio_read(65_536))
        client.bio_write(server.outgoing())
    client.do_handshake()


def test_an_engine_is_freed_without_the_garbage_collector(authority: CertificateAuthority) -> None:
    server, client = engines(authority)
    joined(server, client)
    gone = weakref.ref(server._connection)
    info = server.info()
    gc.disable()
    try:
        del server, client
        assert gone() is not None, "the exporter in the session's facts needs it"
        del info
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("options", [0, 1])
def test_tls_1_2_exports_only_with_extended_master_secret(
    options: int, authority: CertificateAuthority
) -> None:
    contexts = ServerContexts(pair(authority.issue("mx.alpha.example")))
    server = contexts.engine(alpn_protocols=(), request_client_certificate=False)
    client = old_client(options)  # 1 is SSL_OP_NO_EXTENDED_MASTER_SECRET, which pyOpenSSL does not name
    met_by(server, client)
    info = server.info()
    assert info.version == "TLSv1.2"
    if options:
        with pytest.raises(TlsExportError, match="extended master secret"):
            info.tls_exporter_channel_binding()
    else:
        expected = client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        assert info.tls_exporter_channel_binding() == expected


@pytest.mark.parametrize("length", [0, -1, 8161])
def test_keying_material_has_a_sensible_length(length: int, authority: CertificateAuthority) -> None:
    server, client = engines(authority)
    joined(server, client)
    with pytest.raises(TlsExportError, match="octets"):
        server.info().export_keying_material(b"label", length)


@pytest.mark.covers("SEC-151")
@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_no_session_is_resumed(version: int, authority: CertificateAuthority) -> None:
    contexts = ServerContexts(pair(authority.issue("mx.alpha.example")))
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
    saved: SSL.Session | None = None
    for _ in range(2):
        server = contexts.engine(alpn_protocols=(), request_client_certificate=True)
        client = SSL.Connection(context)
        client.set_connect_state()
        if saved is not None:
            client.set_session(saved)
        met_by(server, client)
        with pytest.raises(SSL.WantReadError):
            client.recv(100)  # takes in the tickets of TLS 1.3
        saved = client.get_session()
        assert not server.info().session_reused
    assert saved is not None


def test_failures_and_facts_tell_no_secrets(authority: CertificateAuthority) -> None:
    server, client = engines(authority)
    joined(server, client)
    binding = server.info().tls_exporter_channel_binding()
    assert repr(binding)[2:-1] not in repr(server.info())
    assert "0x" not in repr(server.info()), "no objects inside, whose repr nobody has looked at"
    failure = server.describe(TlsCause.REFUSED, "bad record")
    assert str(failure) == "TLS failed at session (refused): bad record"


def alive(engine: TlsEngine, data: bytes) -> TlsFailure | None:
    """Feed a handshake; only the documented exception may come."""
    try:
        engine.handshake(data)
    except TlsEngineError as error:
        return error.failure
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_no_octets_break_the_engine(data: st.DataObject, authority: CertificateAuthority) -> None:
    contexts = _contexts(authority)
    server = contexts.engine(alpn_protocols=(b"smtp",), request_client_certificate=True)
    client = _client().engine(server_hostname="mx.alpha.example", alpn_protocols=(b"smtp",))
    client.handshake()
    hello = bytearray(client.outgoing())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(hello) - 1))
        hello[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        hello = hello or bytearray(b"\0")
    failure = alive(server, bytes(hello))
    answer = server.outgoing()
    assert answer or failure is not None or len(hello) < 2000
    alive(client, answer)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(first=st.binary(max_size=400))
def test_noise_is_refused_or_waited_on(first: bytes, authority: CertificateAuthority) -> None:
    server = _contexts(authority).engine(alpn_protocols=(), request_client_certificate=False)
    alive(server, first)
    assert server.outgoing()[:1] in (b"", b"\x15")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=st.data())
def test_changed_records_give_no_data(data: st.DataObject, authority: CertificateAuthority) -> None:
    server = _contexts(authority).engine(alpn_protocols=(), request_client_certificate=False)
    client = _client().engine()
    joined(server, client)
    client.write(b"MAIL FROM:<ann@alpha.example>\r\n")
    wire = bytearray(client.outgoing())
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))
    assert server.read(bytes(wire)) == b""
    assert not server.peer_closed


_made: dict[str, Any] = {}


def _contexts(authority: CertificateAuthority) -> ServerContexts:
    if "server" not in _made:
        _made["server"] = ServerContexts(pair(authority.issue("mx.alpha.example")))
    contexts: ServerContexts = _made["server"]
    return contexts


def _client() -> ClientContext:
    context: ClientContext = _made.setdefault("client", ClientContext())
    return context
