"""AMDP's calls: aiohttp's client on our own way of connecting, so that all goes where it was decided to go.

`_Connector` makes connections as everything else in the house does: our resolver, the guard of private
addresses, our dialling, our TLS transport, and the verifier that knows the configured CA sets and their
revocations. aiohttp adds what it is good at: HTTP/1.1 and a pool for each host. Nothing else of it is used:
no redirects, cookies, proxies, compression, credentials of the environment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from outrider.holding.web import JSON, CallAnswer, CallFailed, IPAddress
from outrider.identity.authorities import CaStores
from outrider.identity.server_tls import TlsRefusal, verify_server
from outrider.net.amdp_web_targets import (
    AddressLookup,
    UnprovenAddresses,
    check_target,
    checked_addresses,
)
from outrider.net.dialling import DialFailed, Dialling
from outrider.net.tls import TlsTimes, start_tls_client
from outrider.net.tls_context import ClientContext
from outrider.net.tls_info import TlsHandshakeError
from outrider.routing.private_addresses import AddressGuard

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

PIECE: Final = 262_144
"""Octets of a streamed answer handed out at a time, at most."""
_REPEATABLE: Final = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
)
"""The other side closed an idle connection while we wrote to it, most likely."""


@dataclass(frozen=True, slots=True)
class CallerSettings:
    """What calls may cost."""

    timeout_s: float = 30.0
    """For a whole call; of a streamed one, until its answer begins (waiting for a connection included)."""
    concurrency: int = 4
    """Connections at once to one host (AMDP-12)."""
    connections: int = 1000
    """At once in all."""
    idle_s: float = 15.0
    """How long an unused connection is kept."""
    progress_s: float = 30.0
    """Of a streamed answer so many octets must come in this time of waiting, or all that is left
    (SEC-184)."""
    progress_octets: int = 65_536
    unproven_per_minute: int = 10
    """Connections to an address that prove nothing (AMDP-12)."""


@dataclass(frozen=True, slots=True)
class CallerParts:
    """What connections are made with; a reload makes a new caller."""

    lookup: AddressLookup
    guard: AddressGuard
    stores: CaStores
    """CAs that may vouch for the hosts that are called."""
    dialling: Dialling = field(default_factory=Dialling)
    context: ClientContext = field(default_factory=ClientContext)
    clock: Callable[[], float] = time.time
    """Seconds since the epoch, for the dates of certificates."""


class AmdpWebCaller:
    """Implements `holding.web.WebCaller`. Belongs to one event loop.

    A POST may reach the other side twice, when its connection broke before the answer: every service of AMDP
    takes a repetition for what it is, as the queue repeats its calls after a crash too.
    """

    def __init__(self, parts: CallerParts, settings: CallerSettings | None = None) -> None:
        """Nothing is opened before the first call."""
        self._parts = parts
        self._settings = settings or CallerSettings()
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        """See `WebCaller`."""
        return await self._whole("GET", host, port, path, None, limit)

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        """See `WebCaller`."""
        return await self._whole("POST", host, port, path, body, limit)

    def stream(
        self, host: str, port: int, path: str, body: bytes, *, limit: int
    ) -> AbstractAsyncContextManager[StreamedCallAnswer]:
        """See `WebCaller`."""
        return self._streamed(host, port, path, body, limit)

    async def aclose(self) -> None:
        """Close all connections; calls under way and later ones fail."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    # -- one call --------------------------------------------------------------------------------------

    async def _whole(
        self, method: str, host: str, port: int, path: str, body: bytes | None, limit: int
    ) -> CallAnswer:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await self._begin(method, host, port, path, body)
                try:
                    octets = await _read(response, host, limit)
                finally:
                    response.release()  # closes the connection where something is left to read
        except TimeoutError:
            raise CallFailed(f"{host}: no whole answer within {self._settings.timeout_s:g} s") from None
        return CallAnswer(response.status, octets, response.content_type, response.address)

    @asynccontextmanager
    async def _streamed(
        self, host: str, port: int, path: str, body: bytes, limit: int
    ) -> AsyncIterator[StreamedCallAnswer]:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await self._begin("POST", host, port, path, body)
        except TimeoutError:
            raise CallFailed(f"{host}: no answer within {self._settings.timeout_s:g} s") from None
        try:
            yield StreamedCallAnswer(response, host, limit, self._settings)
        finally:
            response.release()

    async def _begin(self, method: str, host: str, port: int, path: str, body: bytes | None) -> _Response:
        """The answer's head. Raises CallFailed, TimeoutError."""
        check_target(host, port, path)
        url = URL(f"https://{host}:{port}{path}", encoded=True)
        headers = {"Content-Type": JSON} if body is not None else {}
        for attempt in (1, 2):
            if self._is_closed:
                raise CallFailed("the server is stopping")
            try:
                response = await self._open_session().request(
                    method, url, data=body, headers=headers, allow_redirects=False
                )
            except _REPEATABLE as error:
                if attempt == 2:
                    raise CallFailed(f"{host}: the connection broke") from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise CallFailed(f"{host}: {_words(error)}") from error
            else:
                return _checked(response, host)
        raise AssertionError("the second attempt answers or raises")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(self._parts, self._settings),
                response_class=_Response,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # ours, around whole calls
                skip_auto_headers=("Accept-Encoding",),
                headers={"User-Agent": "Outrider"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class StreamedCallAnswer:
    """Implements `holding.web.StreamedAnswer`."""

    def __init__(self, response: _Response, host: str, limit: int, settings: CallerSettings) -> None:
        self.status = response.status
        said = response.content_length
        self.length = -1 if said is None else said
        self.address = response.address
        self._response = response
        self._host = host
        self._limit = limit
        self._settings = settings

    async def pieces(self) -> AsyncIterator[bytes]:
        """See `StreamedAnswer`. Time counts while we wait for the other side, not while our caller works."""
        if self.length > self._limit:
            raise CallFailed(f"{self._host}: the answer is larger than {self._limit} octets", temporary=False)
        loop = asyncio.get_running_loop()
        octets, waited_s, moved = 0, 0.0, 0
        while True:
            began = loop.time()
            piece = await self._piece(self._settings.progress_s - waited_s)
            if not piece:
                return
            octets += len(piece)
            if octets > self._limit:
                raise CallFailed(
                    f"{self._host}: the answer is larger than {self._limit} octets", temporary=False
                )
            waited_s, moved = waited_s + loop.time() - began, moved + len(piece)
            if moved >= self._settings.progress_octets:
                waited_s, moved = 0.0, 0
            yield piece

    async def _piece(self, within_s: float) -> bytes:
        try:
            async with asyncio.timeout(max(within_s, 0.0)):
                return await self._response.content.read(PIECE)
        except TimeoutError:
            raise CallFailed(f"{self._host}: the answer comes too slowly") from None
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed(f"{self._host}: the answer broke off") from error


def _checked(response: aiohttp.ClientResponse, host: str) -> _Response:
    assert isinstance(response, _Response)  # the session's response_class
    if 300 <= response.status < 400:
        response.close()
        raise CallFailed(f"{host}: answers {response.status}; redirections are not followed")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        response.close()
        raise CallFailed(f"{host}: the answer is encoded, which nobody asked for")
    return response


async def _read(response: _Response, host: str, limit: int) -> bytes:
    """The whole body, of bounded size. Raises CallFailed."""
    body = bytearray()
    try:
        while piece := await response.content.read(PIECE):
            body += piece
            if len(body) > limit:
                response.close()
                raise CallFailed(f"{host}: the answer is larger than {limit} octets", temporary=False)
    except (aiohttp.ClientError, OSError) as error:
        raise CallFailed(f"{host}: the answer broke off") from error
    return bytes(body)


def _words(error: Exception) -> str:
    """What went wrong, in words of ours: nothing that the other side wrote."""
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is no HTTP"
    return "the call failed" if isinstance(error, aiohttp.ClientError) else str(error) or type(error).__name__


# -- aiohttp, connecting our way --------------------------------------------------------------------------


class _Response(aiohttp.ClientResponse):
    """Knows who answered: by the end of the answer the connection may be back in the pool."""

    address: IPAddress

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            self.address = ip_address(connection.transport.get_extra_info("peername")[0])
        return await super().start(connection)


class _Connector(aiohttp.BaseConnector):
    """Connects to addresses that were checked, and to hosts that have proven their name."""

    def __init__(self, parts: CallerParts, settings: CallerSettings) -> None:
        super().__init__(
            keepalive_timeout=settings.idle_s,
            limit=settings.connections,
            limit_per_host=settings.concurrency,
        )
        self._parts = parts
        self._unproven = UnprovenAddresses(settings.unproven_per_minute, time.monotonic)
        self._times = TlsTimes(handshake_s=settings.timeout_s)

    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        """aiohttp's hook for connectors: an open connection to the request's host. Raises CallFailed."""
        host, port = req.url.raw_host or "", req.url.port or 443
        failed: CallFailed | None = None
        for address in await checked_addresses(self._parts.lookup, self._parts.guard, host):
            try:
                async with self._unproven.attempt(address):
                    return await self._connect(host, port, address)
            except CallFailed as error:
                failed = CallFailed(f"{host} [{address}]:{port}: {error}")
        raise failed or CallFailed(f"{host}: has no address")

    async def _connect(self, host: str, port: int, address: IPAddress) -> ResponseHandler:
        try:
            raw = await self._parts.dialling.dial(address, port, _Placeholder)
        except DialFailed as error:
            raise CallFailed(str(error)) from error
        handler: ResponseHandler = self._factory()
        try:
            secured = await start_tls_client(
                raw.transport,
                handler,
                self._parts.context,
                server_hostname=host,
                alpn_protocols=(b"http/1.1",),
                announce=True,
                times=self._times,
            )
        except TlsHandshakeError as error:
            raise CallFailed(f"TLS failed: {error.failure.reason}") from error
        chain = secured.info.peer_chain if secured.info is not None else ()
        verdict = verify_server(chain, host, self._parts.stores, self._parts.clock())
        if isinstance(verdict, TlsRefusal):
            secured.abort()
            raise CallFailed(verdict.reason)
        return handler


class _Placeholder(asyncio.Protocol):
    """Holds the connection until TLS takes it."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
