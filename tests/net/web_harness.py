"""AMDP's web server and caller on loopback, joined by real TLS, for tests of everything that talks HTTPS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, ip_address
from typing import Any

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority

from outrider.delivery.lookup import HostAddresses, LookupFailed, NoSuchName
from outrider.holding.web import WebRequest, WebResponse, WebService
from outrider.identity.authorities import ca_stores
from outrider.net.amdp_web_caller import AmdpWebCaller, CallerParts, CallerSettings
from outrider.net.amdp_web_server import AmdpWebServer, AmdpWebTimes, SilentAmdpWebObserver
from outrider.net.listener import Listener, ListenerSettings
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.listener_sockets import open_socket
from outrider.net.tls_context import ServerContexts, ServerTls
from outrider.net.tls_files import CertificateFiles
from outrider.routing.private_addresses import AddressGuard

LOOPBACK = AddressGuard((IPv4Network("127.0.0.0/8"),))
PORT = 8443
LIMIT_S = 60.0
OK = WebResponse(200, b"{}", "application/json")


class TableLookup:
    """Names by a table that a test may change while it runs."""

    def __init__(self, table: Mapping[str, Sequence[str] | LookupFailed]) -> None:
        self.table = dict(table)
        self.asked: list[str] = []

    async def addresses(self, host: str) -> HostAddresses:
        self.asked.append(host)
        found = self.table.get(host, NoSuchName("there is no such name"))
        if isinstance(found, LookupFailed):
            raise found
        return HostAddresses([ip_address(one) for one in found])


class Observed(SilentAmdpWebObserver):
    """Remembers what the server told."""

    def __init__(self) -> None:
        self.answered: list[tuple[str, int]] = []
        self.broken: list[BaseException] = []
        self.failures: list[str] = []

    def request_answered(self, method: str, status: int) -> None:
        self.answered.append((method, status))

    def service_broke(self, error: BaseException) -> None:
        self.broken.append(error)

    def web_tls_failed(self, client: object, failure: object) -> None:
        self.failures.append(str(failure))


@dataclass
class Echo:
    """A service that remembers what it was asked, and answers with what it was told to."""

    response: WebResponse = OK
    asked: list[WebRequest] = field(default_factory=list)
    host: str = "mhf-1.alpha.example"
    prefix: str = "/"
    waits_for: asyncio.Event | None = None

    def serves(self, host: str, path: str) -> bool:
        return host == self.host and path.startswith(self.prefix)

    async def answer(self, request: WebRequest) -> WebResponse:
        self.asked.append(request)
        if self.waits_for is not None:
            await self.waits_for.wait()
        return self.response


@dataclass
class Site:
    """A listener with services."""

    address: str
    port: int
    server: AmdpWebServer
    listener: Listener
    observed: Observed


@asynccontextmanager
async def web_site(
    authority: CertificateAuthority | None,
    services: Sequence[WebService],
    *names: str,
    times: AmdpWebTimes | None = None,
    valid_until: timedelta = timedelta(days=1),
) -> AsyncIterator[Site]:
    """A server on an address of its own, with a certificate for the names; without authority in the clear."""
    address = loopback_address()
    tls = None
    if authority is not None:
        files = authority.issue(*(names or ("mhf-1.alpha.example",)), valid_until=valid_until)
        contexts = ServerContexts(CertificateFiles(files.certificate, files.key), allow_expired=True)
        tls = ServerTls(contexts, (b"http/1.1",))
    observed = Observed()
    server = AmdpWebServer(services, tls, observer=observed, times=times)
    listener = Listener(
        open_socket(address, PORT),
        server,
        ListenerSettings(f"amdp {address}:{PORT}"),
        ConnectionLimits(total=0, per_address=0),
    )
    listener.start()
    try:
        yield Site(address, PORT, server, listener, observed)
    finally:
        await listener.stop(5.0)
        await server.stop()


@asynccontextmanager
async def web_caller(
    authority: CertificateAuthority,
    table: Mapping[str, Sequence[str] | LookupFailed],
    *,
    guard: AddressGuard = LOOPBACK,
    **settings: Any,
) -> AsyncIterator[AmdpWebCaller]:
    """A caller that finds names by a table and trusts the authority."""
    parts = CallerParts(
        TableLookup(table), guard, ca_stores(public=[authority.authority.read_bytes()], private=[])
    )
    caller = AmdpWebCaller(parts, CallerSettings(**({"timeout_s": LIMIT_S} | settings)))
    try:
        yield caller
    finally:
        await caller.aclose()


@asynccontextmanager
async def raw_connection(site: Site) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection in the clear, for what no library would send."""
    reader, writer = await asyncio.open_connection(site.address, site.port)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield reader, writer
    finally:
        writer.close()


async def said(site: Site, octets: bytes) -> bytes:
    """All that a server answers to these octets, until it closes the connection."""
    async with raw_connection(site) as (reader, writer):
        writer.write(octets)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def pieces_of(octets: bytes, size: int) -> AsyncIterator[bytes]:
    """A body as a service streams it."""
    for start in itertools.count(0, size):
        if start >= len(octets):
            return
        yield octets[start : start + size]
