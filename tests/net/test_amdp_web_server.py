"""AMDP's web listener: what reaches a service, what is refused before, and what attacks cost."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.net.web_harness import PORT, Echo, pieces_of, raw_connection, said, web_caller, web_site
from tests.peers.certificates import CertificateAuthority

from outrider.holding.web import MOST_ASKED, GoneMeanwhile, WebRequest, WebResponse
from outrider.net.amdp_web_server import AmdpWebTimes

HOST = "mhf-1.alpha.example"
GET = (
    b"GET /amdp/v1/x?a=1&a=2&b=%C3%A4 HTTP/1.1\r\nHost: MHF-1.alpha.example:8443\r\nConnection: close\r\n\r\n"
)


def request(target: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    """One request, after which the connection is closed."""
    lines = (f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: close", *fields)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@pytest.mark.covers("SEC-205")
async def test_a_service_sees_one_form_of_a_request() -> None:
    service = Echo(WebResponse(200, b"yes"))
    async with web_site(None, [service]) as site:
        answer = await said(site, GET)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"yes"
    asked = service.asked[0]
    assert (asked.method, asked.host, asked.path) == ("GET", HOST, "/amdp/v1/x")
    assert asked.query == {"a": "1", "b": "ä"}
    assert str(asked.client).startswith("127.")
    for field in (
        b"X-Content-Type-Options: nosniff",
        b"Referrer-Policy: no-referrer",
        b"Cache-Control: no-store",
    ):
        assert field in head
    assert b"Server: Outrider\r\n" in head
    assert b"aiohttp" not in head.lower()


async def test_names_and_services_are_told_apart() -> None:
    first, second = Echo(WebResponse(200, b"first"), prefix="/a"), Echo(WebResponse(200, b"second"))
    async with web_site(None, [first, second]) as site:
        assert (await said(site, request("/a/b"))).endswith(b"first")
        assert (await said(site, request("/b"))).endswith(b"second")


@pytest.mark.covers("SEC-205")
@pytest.mark.parametrize(
    "host", ["mail.evil.example", "127.0.0.1", "localhost", "[::1]", "mhf-1.alpha.example.evil.example", ""]
)
async def test_a_foreign_host_is_not_served(host: str) -> None:
    service = Echo()
    async with web_site(None, [service]) as site:
        answer = await said(site, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"404", b"400")
    assert service.asked == []


@pytest.mark.covers("SEC-186", "SEC-200")
@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/a/../b",
        "/a/./b",
        "/..%2f..%2fetc",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//evil.example/",
        "/a//b",
        "/a/",
        "/a\\..\\b",
        "/a%5c..%5cb",
        "/a%00",
        "/a%0d%0aSet-Cookie:x",
        "/%c0%af",
        "/a%ff",
        "/a%2fb",
    ],
)
async def test_a_path_that_leads_elsewhere_is_not_found(target: str) -> None:
    service = Echo()
    async with web_site(None, [service]) as site:
        answer = await said(site, request(target))
    assert answer.split(b" ")[1] in (b"404", b"400")
    assert service.asked == []


@pytest.mark.covers("SEC-186")
async def test_a_path_is_decoded_once() -> None:
    service = Echo()
    async with web_site(None, [service]) as site:
        await said(site, request("/%252e%252e%252fx;/y"))
    assert service.asked[0].path == "/%2e%2e%2fx;/y"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
async def test_other_methods_are_refused(method: str) -> None:
    service = Echo()
    async with web_site(None, [service]) as site:
        answer = await said(site, request("/", method=method))
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD, POST\r\n" in answer
    assert service.asked == []


CHUNKED = b"Transfer-Encoding: chunked\r\n"
FIELDS = {
    "both lengths": b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a length with a sign": b"Content-Length: +3\r\n\r\nabc",
    "a folded field": b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"Content-Length : 3\r\n\r\nabc",
    "a strange coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a chunk's size beyond all": CHUNKED + b"\r\nfffffffffffffffff\r\n",
    "NUL in a field": b"X: a\0b\r\n\r\n",
    "two hosts": b"Host: i\r\n\r\n",
}
SMUGGLED = {name: b"POST / HTTP/1.1\r\nHost: h\r\n" + fields for name, fields in FIELDS.items()} | {
    "bare LF": b"GET / HTTP/1.1\nHost: h\n\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no HTTP": b"EHLO mail.example\r\n",
}


@pytest.mark.covers("SEC-203")
@pytest.mark.parametrize("octets", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_two_readings_of_a_request_are_none(octets: bytes) -> None:
    """The second request, hidden behind the first, is never answered."""
    service = Echo(host="h")
    async with web_site(None, [service]) as site:
        answer = await said(site, octets + b"GET /hidden HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answer.split(b" ")[1] == b"400"
    assert answer.count(b"HTTP/1.") == 1
    assert answer.endswith(b"\r\n\r\nbad request\n")
    assert service.asked == []


@pytest.mark.covers("SEC-204")
@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 9000 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 1000 + b"\r\n", b"400"),
        (b"GET /?" + b"a=b&" * 30 + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n", b"413"),
    ],
    ids=["target", "field", "fields", "parameters", "body"],
)
async def test_too_much_is_refused_at_once(octets: bytes, status: bytes) -> None:
    service = Echo(host="h")
    async with web_site(None, [service]) as site:
        answer = await said(site, octets)
    assert answer.split(b" ")[1] == status
    assert service.asked == []


@pytest.mark.covers("SEC-204")
async def test_a_body_without_length_is_counted() -> None:
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    service = Echo()
    async with web_site(None, [service]) as site:
        most = MOST_ASKED // 65_536
        head = request("/", "Transfer-Encoding: chunked", method="POST")
        good = await said(site, head + chunk * most + b"0\r\n\r\n")
        bad = await said(site, head + chunk * (most + 1) + b"0\r\n\r\n")
    assert good.startswith(b"HTTP/1.1 200 ")
    assert len(service.asked[0].body) == MOST_ASKED
    assert bad.startswith(b"HTTP/1.1 413 ") or bad == b""
    assert len(service.asked) == 1


@pytest.mark.covers("SEC-204")
async def test_a_compressed_body_is_not_unpacked() -> None:
    service = Echo()
    async with web_site(None, [service]) as site:
        octets = b"\x1f\x8b\x08\x00not really"
        fields = ("Content-Encoding: gzip", f"Content-Length: {len(octets)}")
        await said(site, request("/", *fields, method="POST", body=octets))
    assert service.asked[0].body == octets


@pytest.mark.covers("SEC-204")
async def test_headers_that_trickle_end_the_connection() -> None:
    """However it trickles: the time runs from the connection's begin."""
    service = Echo()
    times = AmdpWebTimes(idle_s=0.5)
    async with web_site(None, [service], times=times) as site, raw_connection(site) as (reader, writer):

        async def trickle() -> None:
            writer.write(b"GET / HTTP/1.1\r\n")
            while not writer.is_closing():
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        try:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        finally:
            trickling.cancel()
    assert service.asked == []


@pytest.mark.covers("SEC-204")
async def test_a_body_that_trickles_is_refused() -> None:
    service = Echo()
    async with web_site(None, [service], times=AmdpWebTimes(body_s=0.3)) as site:
        answer = await said(site, request("/", "Content-Length: 10", method="POST", body=b"12"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert service.asked == []


@pytest.mark.covers("SEC-180")
async def test_who_takes_no_answers_is_read_no_further() -> None:
    """Requests behind a slow answer wait in the client's own socket."""
    waits_for = asyncio.Event()
    service = Echo(waits_for=waits_for)
    async with web_site(None, [service]) as site, raw_connection(site) as (reader, writer):
        one = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {'a' * 4000}\r\n\r\n".encode()
        blocked = False
        for _ in range(5000):
            writer.write(one)
            try:
                async with asyncio.timeout(0.5):
                    await writer.drain()
            except TimeoutError:
                blocked = True
                break
        assert blocked
        waits_for.set()
        assert (await reader.readexactly(13)).startswith(b"HTTP/1.1 200 ")


async def test_a_stream_is_sent_whole_and_closed() -> None:
    octets = bytes(range(256)) * 4096
    closed = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        try:
            async for piece in pieces_of(octets, 100_000):
                yield piece
        finally:
            closed.set()

    service = Echo(WebResponse(200, content_type="message/rfc822", stream=stream(), length=len(octets)))
    async with web_site(None, [service]) as site:
        answer = await said(site, request("/", method="POST"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == octets
    assert closed.is_set()
    assert f"Content-Length: {len(octets)}\r\n".encode() in head
    assert b"chunked" not in head


async def test_head_tells_the_length_and_sends_nothing() -> None:
    service = Echo(WebResponse(200, stream=pieces_of(b"secret", 3), length=6))
    async with web_site(None, [service]) as site:
        answer = await said(site, request("/", method="HEAD"))
    assert b"Content-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.covers("SEC-215")
async def test_a_broken_service_tells_the_operator_and_nobody_else() -> None:
    class Broken(Echo):
        async def answer(self, request: WebRequest) -> WebResponse:
            raise RuntimeError("the secret is 4711")

    async with web_site(None, [Broken()]) as site:
        answer = await said(site, request("/"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"4711" not in answer
    assert b"Runtime" not in answer
    assert "4711" in str(site.observed.broken[0])


async def test_a_stream_that_breaks_is_cut_off() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"some"
        raise OSError("disk")

    service = Echo(WebResponse(200, stream=stream(), length=10))
    async with web_site(None, [service]) as site:
        answer = await said(site, request("/"))
    assert answer.endswith(b"\r\n\r\nsome")  # fewer than was said: the client knows
    assert [str(error) for error in site.observed.broken] == ["disk"]


@pytest.mark.covers("SEC-188", "AMDP-6")
async def test_what_is_gone_while_it_is_sent_is_cut_off_and_no_fault_of_ours() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"some"
        raise GoneMeanwhile("withdrawn")

    service = Echo(WebResponse(200, stream=stream(), length=10))
    async with web_site(None, [service]) as site:
        answer = await said(site, request("/"))
    assert answer.endswith(b"\r\n\r\nsome")
    assert site.observed.broken == []


async def test_a_client_that_reads_nothing_is_let_go() -> None:
    closed = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65_536)
        finally:
            closed.set()

    service = Echo(WebResponse(200, stream=stream(), length=1 << 40))
    times = AmdpWebTimes(slow_reader_s=0.3)
    async with web_site(None, [service], times=times) as site, raw_connection(site) as (_, writer):
        writer.write(request("/"))
        await closed.wait()
    assert site.observed.broken == []


@pytest.mark.covers("SEC-198")
async def test_no_field_is_injected_into_an_answer() -> None:
    service = Echo(WebResponse(200, headers={"Content-Disposition": "x\r\nSet-Cookie: a=b"}))
    async with web_site(None, [service]) as site:
        answer = await said(site, request("/"))
    assert b"\r\nSet-Cookie" not in answer
    assert answer == b"" or answer.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("under_way", [True, False])
async def test_stopping_finishes_what_is_under_way(under_way: bool) -> None:
    waits_for = asyncio.Event()
    service = Echo(WebResponse(200, b"done"), waits_for=waits_for)
    async with web_site(None, [service]) as site, raw_connection(site) as (reader, writer):
        if under_way:
            writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        while not (service.asked if under_way else site.listener.open):
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(site.listener.stop(60))
        await asyncio.sleep(0)
        waits_for.set()
        answer = await reader.read()
        await stopping
    assert answer.endswith(b"done") is under_way


async def test_over_tls_by_a_client_of_its_own(authority: CertificateAuthority) -> None:
    """aiohttp with Python's ssl: ALPN http/1.1, keep-alive, the certificate by name."""
    service = Echo(WebResponse(200, b"ok"))
    async with web_site(authority, [service]) as site:
        context = ssl.create_default_context(cafile=str(authority.authority))
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                url = f"https://{site.address}:{PORT}/x"
                options = {"ssl": context, "server_hostname": HOST, "headers": {"Host": HOST}}
                async with session.post(url, data=b"{}", **options) as response:  # type: ignore[arg-type]
                    assert await response.read() == b"ok"
        assert site.listener.open <= 1
    assert [asked.body for asked in service.asked] == [b"{}"] * 3


async def test_a_failed_handshake_is_told(authority: CertificateAuthority) -> None:
    async with web_site(authority, [Echo()]) as site:
        await said(site, b"GET / HTTP/1.1\r\n\r\n")
        assert "not_tls" in site.observed.failures[0]


async def test_reload_exchanges_the_services(authority: CertificateAuthority) -> None:
    old, new = Echo(WebResponse(200, b"old")), Echo(WebResponse(200, b"new"))
    async with web_site(authority, [old]) as site, web_caller(authority, {HOST: [site.address]}) as caller:
        assert (await caller.get(HOST, PORT, "/", limit=10)).body == b"old"
        site.server.services = (new,)
        assert (await caller.get(HOST, PORT, "/", limit=10)).body == b"new"
