"""A bundle is fetched by https from where it may be, whole, and not without end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

import pytest
from aiohttp import web
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority

from outrider.dns.resolver import ResolverSettings
from outrider.identity.signed_document import MAX_OCTETS
from outrider.routing.private_addresses import AddressGuard
from outrider.runtime.bundle_fetch import FetchFailed, fetch

NO_DNS = ResolverSettings(())
LOOPBACK = AddressGuard((IPv4Network("127.0.0.0/8"),))
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(
    handler: Handler, authority: CertificateAuthority, *names: str
) -> AsyncIterator[tuple[str, int]]:
    """An https server on an address of its own."""
    address = loopback_address()
    tls = authority.issue(*(names or ("ca.group.example",)), addresses=[address])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, address, 8443, ssl_context=context)
    await site.start()
    try:
        yield address, 8443
    finally:
        await runner.cleanup()


async def good(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=b"a bundle")


async def fetched(url: str, authority: CertificateAuthority, guard: AddressGuard = LOOPBACK) -> bytes:
    return await asyncio.to_thread(fetch, url, NO_DNS, guard, [authority.authority])


async def test_what_is_there_is_fetched(authority: CertificateAuthority) -> None:
    async with serving(good, authority) as (address, port):
        assert await fetched(f"https://{address}:{port}/b", authority) == b"a bundle"


async def test_a_name_leads_where_it_may(authority: CertificateAuthority) -> None:
    async with serving(good, authority) as (address, port):
        with BindServer({"group.example": f"ca A {address}"}) as names:
            dns = ResolverSettings.from_config([f"{names.address}:{names.port}"])
            url, files = f"https://ca.group.example:{port}/b", [authority.authority]
            assert await asyncio.to_thread(fetch, url, dns, LOOPBACK, files) == b"a bundle"
            with pytest.raises(FetchFailed, match="loopback or private"):
                await asyncio.to_thread(fetch, url, dns, AddressGuard(), files)
            with pytest.raises(FetchFailed):
                await asyncio.to_thread(fetch, url.replace("ca.", "none."), dns, LOOPBACK, files)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/b",
        "https://[::1]/b",
        "https://[::ffff:127.0.0.1]/b",
        "https://10.0.0.1/b",
        "https://169.254.169.254/latest",
        "https://0.0.0.0/b",
        "https://127.1/b",
        "https://0x7f000001/b",
        "https://2130706433/b",
        "https://localhost/b",
        "http://192.0.2.1/b",
        "file:///etc/passwd",
        "https://",
        "https:///b",
        "nonsense",
        "https://[/b",
    ],
)
async def test_where_nothing_is_fetched(url: str, authority: CertificateAuthority) -> None:
    with pytest.raises(FetchFailed):
        await fetched(url, authority, AddressGuard())


async def test_a_private_address_is_refused_before_it_is_spoken_to(authority: CertificateAuthority) -> None:
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return await good(request)

    async with serving(handler, authority) as (address, port):
        with pytest.raises(FetchFailed, match="loopback or private"):
            await fetched(f"https://{address}:{port}/b", authority, AddressGuard())
    assert asked == []


async def test_a_certificate_of_another_ca_is_not_believed(
    authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = CertificateAuthority(tmp_path_factory.mktemp("other"))
    async with serving(good, authority) as (address, port):
        with pytest.raises(FetchFailed, match="certificate"):
            await fetched(f"https://{address}:{port}/b", other)


async def _redirect(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def _missing(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=404)


async def _endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2 * MAX_OCTETS // 65536):
        await response.write(b" " * 65536)
    return response


@pytest.mark.parametrize(
    ("handler", "says"), [(_redirect, "302"), (_missing, "404"), (_endless, "larger than")]
)
async def test_answers_that_are_not_taken(
    authority: CertificateAuthority, handler: Handler, says: str
) -> None:
    async with serving(handler, authority) as (address, port):
        with pytest.raises(FetchFailed, match=says):
            await fetched(f"https://{address}:{port}/b", authority)
