"""AMDP's calls: only to addresses that were checked, of hosts that prove their name, within bounds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest
from tests.net.web_harness import PORT, Echo, pieces_of, web_caller, web_site
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority

from outrider.delivery.lookup import LookupTemporary, NoSuchName
from outrider.holding.web import CallFailed, IPAddress, WebResponse
from outrider.net.amdp_web_caller import AmdpWebCaller
from outrider.net.amdp_web_targets import UnprovenAddresses, check_target
from outrider.routing.private_addresses import AddressGuard

HOST = "mhf-1.alpha.example"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(authority: CertificateAuthority, talk: Talk, *names: str) -> AsyncIterator[str]:
    """A TLS server that says what it likes; Python's ssl, not ours."""
    address = loopback_address()
    files = authority.issue(*(names or (HOST,)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, address, PORT, ssl=context)
    try:
        yield address
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(octets: bytes, *, then_waits: bool = False) -> Talk:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        await writer.drain()
        if then_waits:
            await asyncio.Event().wait()

    return talk


async def streamed(caller: AmdpWebCaller, limit: int) -> bytes:
    """A large answer, whole."""
    async with caller.stream(HOST, PORT, "/amdp/v1/message", b"{}", limit=limit) as answer:
        return b"".join([piece async for piece in answer.pieces()])


async def test_a_call_and_its_answer(authority: CertificateAuthority) -> None:
    service = Echo(WebResponse(200, b'{"a":1}', "application/json"))
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
    ):
        answer = await caller.post(HOST, PORT, "/amdp/v1/query", b'{"q":1}', limit=100)
        read = await caller.get(HOST, PORT, "/.well-known/amdp-policy?domain=beta.example", limit=100)
    assert (answer.status, answer.body, answer.content_type) == (200, b'{"a":1}', "application/json")
    assert answer.address == read.address == ip_address(site.address)
    post, get = service.asked
    assert (post.method, post.body, post.headers["content-type"]) == ("POST", b'{"q":1}', "application/json")
    assert (get.method, get.query, get.host) == ("GET", {"domain": "beta.example"}, HOST)
    for name in ("accept-encoding", "cookie", "authorization", "referer"):
        assert name not in post.headers
    assert post.headers["user-agent"] == "Outrider"


async def test_connections_are_kept_and_few(authority: CertificateAuthority) -> None:
    service = Echo()
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}, concurrency=3) as caller,
    ):
        for _ in range(10):
            await caller.post(HOST, PORT, "/", b"{}", limit=10)
        assert site.listener.open == 1
        service.waits_for = asyncio.Event()
        calls = [asyncio.create_task(caller.post(HOST, PORT, "/", b"{}", limit=10)) for _ in range(30)]
        while len(service.asked) < 13:
            await asyncio.sleep(0.01)
        assert site.listener.open == 3
        service.waits_for.set()
        assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 30
        assert site.listener.open == 3


async def test_a_connection_closed_meanwhile_is_made_anew(authority: CertificateAuthority) -> None:
    """The other side ends each connection after one answer, without saying so."""
    async with (
        scripted(authority, saying(GOOD)) as address,
        web_caller(authority, {HOST: [address]}) as caller,
    ):
        for _ in range(5):
            assert (await caller.get(HOST, PORT, "/", limit=10)).body == b"{}"


# -- where calls may go ----------------------------------------------------------------------------------


@pytest.mark.covers("SEC-185", "SEC-207")
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "2130706433",
        "0",
        "localhost",
        "localhost.",
        "[::1]",
        "::1",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "good@127.0.0.1",
        "mhf-1.alpha.example@127.0.0.1",
        "127.0.0.1#mhf-1.alpha.example",
        "mhf-1.alpha.example/x",
        "mhf-1.alpha.example:22",
        "mhf-1.alpha.example\r\nX: y",
        "mhf-1.älpha.example",
        "a" * 64 + ".example",
        "x." * 130 + "example",
        "",
    ],
)
async def test_a_host_is_a_domain_name_or_nothing(authority: CertificateAuthority, host: str) -> None:
    async with web_caller(authority, {host: ["127.0.0.1"]}, guard=AddressGuard()) as caller:
        with pytest.raises(CallFailed, match="no domain name") as failed:
            await caller.get(host, PORT, "/", limit=10)
    assert not failed.value.temporary


@pytest.mark.covers("SEC-185", "AMDP-9")
@pytest.mark.parametrize("port", [0, 22, 25, 80, 444, 1023, 65_536, -1])
def test_a_port_is_443_or_high(port: int) -> None:
    with pytest.raises(CallFailed, match="port"):
        check_target(HOST, port, "/")
    for good in (443, 1024, 65_535):
        check_target(HOST, good, "/")


@pytest.mark.parametrize("path", ["", "x", "//evil.example/", "/a b", "/a\r\nX: y", "/ä", "/" + "a" * 5000])
def test_a_path_is_one_line(path: str) -> None:
    with pytest.raises(CallFailed, match="path"):
        check_target(HOST, PORT, path)


@pytest.mark.covers("SEC-185", "SEC-207")
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.5",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1",
        "fc00::1",
    ],
)
async def test_names_do_not_lead_inside(authority: CertificateAuthority, address: str) -> None:
    async with web_caller(authority, {HOST: [address]}, guard=AddressGuard()) as caller:
        with pytest.raises(CallFailed, match="address") as failed:
            await caller.post(HOST, PORT, "/", b"{}", limit=10)
    assert not failed.value.temporary


@pytest.mark.covers("SEC-185")
async def test_of_mixed_addresses_only_the_allowed_are_tried(authority: CertificateAuthority) -> None:
    service, trap = Echo(), Echo()
    async with web_site(authority, [service]) as site, web_site(authority, [trap]) as inside:
        guard = AddressGuard((IPv4Network(f"{site.address}/32"),))
        async with web_caller(authority, {HOST: [inside.address, site.address]}, guard=guard) as caller:
            answer = await caller.get(HOST, PORT, "/", limit=10)
        assert answer.address == ip_address(site.address)
        assert trap.asked == []
        assert inside.observed.failures == []


@pytest.mark.covers("SEC-185", "SEC-155")
async def test_a_name_that_changes_its_address_is_checked_again(authority: CertificateAuthority) -> None:
    """Rebinding: the first answer is allowed, the next is not."""
    service, trap = Echo(), Echo()
    async with web_site(authority, [service]) as site, web_site(authority, [trap]) as inside:
        table = {HOST: [site.address]}
        guard = AddressGuard((IPv4Network(f"{site.address}/32"),))
        async with web_caller(authority, table, guard=guard, idle_s=0.0) as caller:
            await caller.get(HOST, PORT, "/", limit=10)
            caller._parts.lookup.table[HOST] = [inside.address]  # type: ignore[attr-defined]
            with pytest.raises(CallFailed, match="private address"):
                await caller.get(HOST, PORT, "/", limit=10)
    assert trap.asked == []


@pytest.mark.covers("SEC-185", "SEC-184")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirections_are_not_followed(authority: CertificateAuthority, status: int) -> None:
    target, trap = Echo(), Echo(host="mhf-1.beta.example")
    async with (
        web_site(authority, [target, trap], HOST, "mhf-1.beta.example") as site,
        web_caller(authority, {HOST: [site.address], "mhf-1.beta.example": [site.address]}) as caller,
    ):
        target.response = WebResponse(status, headers={"Location": f"https://mhf-1.beta.example:{PORT}/"})
        with pytest.raises(CallFailed, match="redirections"):
            await caller.post(HOST, PORT, "/", b"{}", limit=10)
    assert trap.asked == []


async def test_what_dns_does_not_know_is_for_now_or_for_good(authority: CertificateAuthority) -> None:
    table = {HOST: LookupTemporary("time-out"), "gone.alpha.example": NoSuchName("NXDOMAIN")}
    async with web_caller(authority, table) as caller:
        for host, temporary in ((HOST, True), ("gone.alpha.example", False)):
            with pytest.raises(CallFailed) as failed:
                await caller.get(host, PORT, "/", limit=10)
            assert failed.value.temporary is temporary


@pytest.mark.covers("SEC-207")
async def test_nothing_of_the_environment_counts(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login me password secret\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NETRC", str(netrc))
    service = Echo(WebResponse(200, b"{}", headers={"Set-Cookie": "a=b; Path=/"}))
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
    ):
        for _ in range(2):
            await caller.get(HOST, PORT, "/", limit=10)
    assert all(
        "cookie" not in asked.headers and "authorization" not in asked.headers for asked in service.asked
    )


# -- who answers -----------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-9", "SEC-51")
@pytest.mark.parametrize("case", ["another name", "another authority", "expired", "no TLS"])
async def test_the_host_proves_its_name(authority: CertificateAuthority, tmp_path: Path, case: str) -> None:
    service = Echo()
    issuer = CertificateAuthority(tmp_path / "x", "Stranger") if case == "another authority" else authority
    names = ("mhf-1.evil.example",) if case == "another name" else (HOST,)
    until = timedelta(days=-1 if case == "expired" else 1)
    async with (
        web_site(None if case == "no TLS" else issuer, [service], *names, valid_until=until) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
    ):
        with pytest.raises(CallFailed) as failed:
            await caller.post(HOST, PORT, "/", b"{}", limit=10)
    assert failed.value.temporary
    assert service.asked == []  # not one octet of the question went out


@pytest.mark.covers("AMDP-12", "SEC-207")
async def test_a_victim_is_not_hammered(authority: CertificateAuthority) -> None:
    """Whatever names lead to an address that proves none of them."""
    names = [f"mhf-1.forged-{number}.example" for number in range(40)]
    table = {name: [victim] for victim in [loopback_address()] for name in names}
    async with web_caller(authority, table, unproven_per_minute=5) as caller:
        calls = (caller.post(name, PORT, "/", b"{}", limit=10) for name in names)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, CallFailed) and one.temporary for one in results)
    assert 5 <= sum("cannot connect" in str(one) for one in results) < 10
    assert sum("too many" in str(one) for one in results) > 30


@pytest.mark.covers("AMDP-12")
async def test_a_holder_of_many_domains_is_reached_for_all(authority: CertificateAuthority) -> None:
    names = [f"mhf-1.d{number}.example" for number in range(20)]
    answers = [Echo(host=name) for name in names]
    async with (
        web_site(authority, answers, *names) as site,
        web_caller(authority, {name: [site.address] for name in names}, unproven_per_minute=3) as caller,
    ):
        calls = (caller.post(name, PORT, "/", b"{}", limit=10) for name in names)
        assert [one.status for one in await asyncio.gather(*calls)] == [200] * 20


@pytest.mark.covers("AMDP-12")
async def test_failures_are_forgotten_with_time_and_proof() -> None:
    now = 0.0
    addresses = UnprovenAddresses(2, lambda: now)
    victim, other = ip_address("192.0.2.1"), ip_address("192.0.2.2")

    async def attempt(address: IPAddress, *, good: bool = False) -> str:
        try:
            async with addresses.attempt(address):
                if not good:
                    raise CallFailed("no TLS")
        except CallFailed as error:
            return str(error)
        return "good"

    tries = [await attempt(victim) for _ in range(3)]
    assert tries[:2] == ["no TLS"] * 2
    assert "too many" in tries[2]
    assert await attempt(other) == "no TLS"
    now = 61.0
    assert await attempt(victim) == "no TLS"
    assert await attempt(victim, good=True) == "good"
    assert [await attempt(victim) for _ in range(2)] == ["no TLS"] * 2


async def test_the_next_address_is_tried(authority: CertificateAuthority) -> None:
    async with (
        web_site(authority, [Echo()]) as site,
        web_caller(authority, {HOST: [loopback_address(), site.address]}) as caller,
    ):
        assert (await caller.get(HOST, PORT, "/", limit=10)).address == ip_address(site.address)


# -- what an answer may be -------------------------------------------------------------------------------

HOSTILE = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "nothing": b"",
    "a head that ends": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a body that ends": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\n{}\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk that ends": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    "a large field": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"a" * 11,
    "too large, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"8\r\naaaaaaaa\r\n" * 1000,
    "too large, to the end": b"HTTP/1.0 200 OK\r\n\r\n" + b"a" * 100_000,
}


@pytest.mark.covers("SEC-184", "SEC-207")
@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE.keys())
async def test_no_answer_is_a_failure_of_the_call(authority: CertificateAuthority, octets: bytes) -> None:
    async with (
        scripted(authority, saying(octets)) as address,
        web_caller(authority, {HOST: [address]}) as caller,
    ):
        with pytest.raises(CallFailed) as failed:
            await caller.post(HOST, PORT, "/", b"{}", limit=10)
        assert "aaaa" not in str(failed.value)  # not its words


@pytest.mark.covers("SEC-184")
@pytest.mark.parametrize("status", [204, 206, 400, 401, 404, 429, 500, 503])
async def test_other_answers_are_told_as_they_are(authority: CertificateAuthority, status: int) -> None:
    async with (
        web_site(authority, [Echo(WebResponse(status, b""))]) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
    ):
        assert (await caller.get(HOST, PORT, "/", limit=10)).status == status


@pytest.mark.covers("SEC-207")
@pytest.mark.parametrize(
    "octets", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"]
)
async def test_an_answer_that_never_ends_is_given_up(authority: CertificateAuthority, octets: bytes) -> None:
    async with (
        scripted(authority, saying(octets, then_waits=True)) as address,
        web_caller(authority, {HOST: [address]}, timeout_s=0.5) as caller,
    ):
        with pytest.raises(CallFailed, match=r"within 0\.5 s") as failed:
            await caller.post(HOST, PORT, "/", b"{}", limit=10)
    assert failed.value.temporary


# -- large answers ---------------------------------------------------------------------------------------


async def test_a_large_answer_comes_in_pieces(authority: CertificateAuthority) -> None:
    octets = bytes(range(256)) * 8192
    service = Echo(WebResponse(200, stream=pieces_of(octets, 300_000), length=len(octets)))
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
        caller.stream(HOST, PORT, "/amdp/v1/message", b"{}", limit=len(octets)) as answer,
    ):
        assert (answer.status, answer.length) == (200, len(octets))
        assert answer.address == ip_address(site.address)
        pieces = [piece async for piece in answer.pieces()]
    assert b"".join(pieces) == octets
    assert max(map(len, pieces)) <= 262_144


async def test_who_leaves_early_ends_the_connection(authority: CertificateAuthority) -> None:
    octets = bytes(4_000_000)
    service = Echo(WebResponse(200, stream=pieces_of(octets, 65_536), length=len(octets)))
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
    ):
        async with caller.stream(HOST, PORT, "/", b"{}", limit=len(octets)) as answer:
            async for _ in answer.pieces():
                break
        service.response = WebResponse(200, b"{}")
        assert (await caller.post(HOST, PORT, "/", b"{}", limit=10)).body == b"{}"


@pytest.mark.covers("SEC-184")
@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"Content-Length: 1001\r\n\r\n" + bytes(1001), "larger"),
        (
            b"Transfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + bytes(512) + b"\r\n200\r\n" + bytes(512),
            "larger",
        ),
        (b"Content-Length: 900\r\n\r\nabc", "broke off"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", "broke off|no HTTP"),
    ],
    ids=["long", "endless", "short", "bad chunk"],
)
async def test_a_large_answer_is_what_it_may_be(
    authority: CertificateAuthority, octets: bytes, why: str
) -> None:
    async with (
        scripted(authority, saying(b"HTTP/1.1 200 OK\r\n" + octets)) as address,
        web_caller(authority, {HOST: [address]}) as caller,
    ):
        with pytest.raises(CallFailed, match=why):
            await streamed(caller, 1000)


@pytest.mark.covers("SEC-184")
async def test_a_holder_that_drips_is_given_up(authority: CertificateAuthority) -> None:
    """One octet at a time, each well within any time limit for a single read."""

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with (
        scripted(authority, drip) as address,
        web_caller(authority, {HOST: [address]}, progress_s=0.5) as caller,
    ):
        with pytest.raises(CallFailed, match="too slowly"):
            await streamed(caller, 1000)


@pytest.mark.covers("SEC-184")
async def test_our_own_slowness_is_not_the_holders(authority: CertificateAuthority) -> None:
    octets = bytes(2_000_000)
    service = Echo(WebResponse(200, stream=pieces_of(octets, 65_536), length=len(octets)))
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}, progress_s=20.0, progress_octets=1) as caller,
    ):
        got = 0
        async with caller.stream(HOST, PORT, "/", b"{}", limit=len(octets)) as answer:
            async for piece in answer.pieces():
                got += len(piece)
                await asyncio.sleep(0.01)
    assert got == len(octets)


async def test_closing_ends_calls_under_way(authority: CertificateAuthority) -> None:
    service = Echo(waits_for=asyncio.Event())
    async with (
        web_site(authority, [service]) as site,
        web_caller(authority, {HOST: [site.address]}) as caller,
    ):
        call = asyncio.create_task(caller.post(HOST, PORT, "/", b"{}", limit=10))
        while not service.asked:
            await asyncio.sleep(0.01)
        await caller.aclose()
        with pytest.raises(CallFailed):
            await call
        assert service.waits_for is not None
        service.waits_for.set()
