"""MT2 peers that break the rules, say nothing, or take nothing: a defined end, and bounded memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.net.mt2_harness import CLIENT, PORT, SERVER, Site, hop, running, until
from tests.peers.certificates import CertificateAuthority

from outrider.identity.mt2_identity import Mt2Identity
from outrider.net.mt2_server import Mt2ServerProtocol
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.events import Limits

HELO = b"[1 HELO {0} (HOST=client.example)]\r\n"


@pytest.fixture
def server(address: str, authority: CertificateAuthority) -> Site:
    return Site(SERVER, address, authority, with_tls=False)


class Raw:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def line(self) -> str:
        async with asyncio.timeout(20):
            return (await self.reader.readuntil(b"]\r\n")).decode()

    async def rest(self) -> str:
        """Everything until the server closes."""
        async with asyncio.timeout(20):
            return (await self.reader.read()).decode()


@asynccontextmanager
async def talking(server: Site, tls: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(
        server.address, PORT, ssl=tls, server_hostname=SERVER if tls else None
    )
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def known(raw: Raw) -> None:
    """Past the greeting and HELO."""
    assert (await raw.line()).startswith("[* TMP 99.0.3.1 ")
    raw.say(HELO)
    assert (await raw.line()).startswith("[1 OK 99.0.2.1 ")


@pytest.mark.covers("MT2-7", "MT2-14")
@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"EHLO you\r\n", codes.MALFORMED),
        (b"[2 NOOP\r\n", codes.MALFORMED),
        (b"[" + b"x" * 10_000, codes.MALFORMED),
        (b"[1 NOOP]\r\n", codes.MALFORMED),
        (b"{9 5}\r\nhello", codes.MALFORMED),
        (
            b"[2 XFER a@b message/envelope {10} {0}]\r\n[3 XFER c@d message/envelope {10} {0}]\r\n",
            codes.NO_PIPELINING,
        ),
    ],
    ids=["no frame", "no bracket", "too long", "tag again", "data for nothing", "pipelining"],
)
async def test_a_broken_rule_ends_the_session(server: Site, octets: bytes, code: str) -> None:
    async with running(server), talking(server) as raw:
        await known(raw)
        raw.say(octets)
        said = await raw.rest()
        assert f" ERR {code} " in said
        raw.writer.close()
        await server.told.ended.wait()
    assert server.reception.committed == []
    assert any(line.startswith("misbehaved") for line in server.told.lines)


@pytest.mark.covers("MT2-15")
async def test_mail_before_an_identity_is_refused_without_an_octet_of_it(server: Site) -> None:
    async with running(server), talking(server) as raw:
        await raw.line()
        raw.say(b"[1 XFER a@b message/envelope {10} {0}]\r\n")
        assert await raw.line() == "[1 ERR 99.0.5.20 Identify first.]\r\n"
        raw.say(b"[2 QUIT]\r\n")
        assert (await raw.rest()).startswith("[2 OK ")


@pytest.mark.covers("MT2-12")
async def test_silence_is_answered_by_noop_and_then_by_the_end(
    address: str, authority: CertificateAuthority
) -> None:
    server = Site(SERVER, address, authority, with_tls=False, limits=Limits(idle_s=0.2, noop_s=0.2))
    async with running(server), talking(server) as raw:
        await known(raw)
        assert (await raw.line()).endswith(" NOOP]\r\n")
        assert codes.TIMED_OUT in await raw.rest()


@pytest.mark.covers("MT2-12")
async def test_data_that_trickles_ends_the_session(address: str, authority: CertificateAuthority) -> None:
    server = Site(SERVER, address, authority, with_tls=False, limits=Limits(rate_s=0.3, slowest_rate=5000))
    async with running(server), talking(server) as raw:
        await known(raw)
        raw.say(b"[2 XFER a@b message/envelope {10000} {0}]\r\n")
        assert " TMP 99.0.3.5 " in await raw.line()
        raw.say(b"{2 10000}\r\nto")
        assert codes.TIMED_OUT in await raw.rest()


@pytest.mark.covers("MT2-18c", "SEC-61")
async def test_who_takes_no_answers_is_not_read_from(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Mt2ServerProtocol] = []
    greet = Mt2ServerProtocol._greet

    def noted(self: Mt2ServerProtocol) -> None:
        made.append(self)
        greet(self)

    monkeypatch.setattr(Mt2ServerProtocol, "_greet", noted)
    flood = b"".join(b"[%d NOOP]\r\n" % tag for tag in range(2, 200_000))
    async with running(server), talking(server) as raw:
        await known(raw)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.say(flood)
        await until(lambda: not made[0]._is_reading)
        transport = made[0]._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 4_000_000
        raw.writer.transport.abort()
        await server.told.ended.wait()


@pytest.mark.covers("MT2-10a")
async def test_who_leaves_before_it_is_admitted_is_told_of_once(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: asyncio.Future[codes.Result] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(server.reception, "connected", lambda _: decided)
    async with running(server):
        async with talking(server) as raw:
            raw.writer.transport.abort()
        await asyncio.sleep(0.1)
        decided.set_result(codes.ok(codes.DONE))
        await server.told.ended.wait()
        await asyncio.sleep(0)
    assert [line.partition(" ")[0] for line in server.told.lines].count("ended") == 1


@pytest.mark.covers("MT2-10a", "MT2-15")
async def test_who_is_not_admitted_hears_why(server: Site) -> None:
    server.reception.connect_result = codes.err(codes.HOST_REFUSED, text="Not from there.")
    async with running(server), talking(server) as raw:
        assert await raw.rest() == "[* ERR 99.0.5.25 Not from there.]\r\n"


# --- TLS --------------------------------------------------------------------------------------------


def context(authority: CertificateAuthority, own: tuple[str, ...] = ()) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=authority.authority)
    if own:
        files = authority.issue(*own)
        found.load_cert_chain(files.certificate, files.key)
    return found


@pytest.mark.covers("MT2-9")
async def test_tls_is_1_3(address: str, authority: CertificateAuthority) -> None:
    server = Site(SERVER, address, authority)
    old = context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(server), talking(server, old) as raw:
        assert await raw.line() == "[* ERR 99.0.5.13 TLS 1.3 is required.]\r\n"
        assert await raw.rest() == ""


@pytest.mark.covers("MT2-10b")
async def test_the_tls_certificate_may_be_the_identity(address: str, authority: CertificateAuthority) -> None:
    server = Site(SERVER, address, authority)
    async with running(server), talking(server, context(authority, (CLIENT,))) as raw:
        await raw.line()
        raw.say(HELO)
        assert (await raw.line()).startswith("[1 OK 99.0.2.1 ")
    [found] = server.reception.found
    assert isinstance(found, Mt2Identity)
    assert found.name == CLIENT


@pytest.mark.covers("MT2-9", "MT2-11")
async def test_tls_by_option_begins_anew_with_another_nonce(
    address: str, authority: CertificateAuthority
) -> None:
    server = Site(SERVER, address, authority, implicit_tls=False)
    async with running(server), talking(server) as raw:
        before = await raw.line()
        assert "(TLS=ON" in before
        raw.say(b"[1 OPT (TLS=ON)]\r\n")
        assert (await raw.line()).startswith("[1 OK 99.0.2.2 ")
        await raw.writer.start_tls(context(authority, (CLIENT,)), server_hostname=SERVER)
        after = await raw.line()
        assert after.startswith("[* TMP 99.0.3.1 ")
        assert "TLS" not in after
        assert _nonce(before) != _nonce(after)
        raw.say(b"[2 HELO {0} (HOST=client.example)]\r\n")
        assert (await raw.line()).startswith("[2 OK 99.0.2.1 ")
    [found] = server.reception.found
    assert isinstance(found, Mt2Identity)


def _nonce(greeting: str) -> str:
    return greeting.partition("(NONCE=")[2].partition(")")[0]


@pytest.mark.covers("MT2-10b")
async def test_a_proof_for_another_connection_proves_nothing(
    address: str, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Site(SERVER, address, authority)
    client = Site(CLIENT, "", authority)
    stolen: list[bytes] = []
    find = Mt2ServerProtocol._find

    async def kept(self: Mt2ServerProtocol, event: object) -> object:
        stolen.append(event.certificate)  # type: ignore[attr-defined]
        return await find(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Mt2ServerProtocol, "_find", kept)
    async with running(server):
        connection = await client.connect(hop(server.address))
        await connection.close()
        async with talking(server, context(authority)) as raw:
            await raw.line()
            data = stolen[0]
            raw.say(b"[1 HELO {%d} (HOST=client.example)]\r\n" % len(data))
            assert (await raw.line()).startswith("[1 TMP 99.0.3.2 ")
            raw.say(b"{1 %d}\r\n" % len(data) + data)
            await raw.line()
    first, second = server.reception.found
    assert isinstance(first, Mt2Identity)
    assert not isinstance(second, Mt2Identity)
    assert "another" in second.reason
