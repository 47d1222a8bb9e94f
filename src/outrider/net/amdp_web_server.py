"""The HTTPS listener of AMDP's services: aiohttp's server protocol on our own listener and TLS transport.

Bounded in every direction (SEC-203 to SEC-205). Headers: by size and number in aiohttp's parser, and by time:
a connection whose next request has no whole header section `idle_s` after the last answer is closed, however
it trickles. Body: by size and time. Answers: a client that does not take a piece within `slow_reader_s` is
closed; behind 32 unanswered requests nothing more is read (SEC-180). Nothing of a fault is told to the peer
(SEC-215); paths and queries hold secrets and are never logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from outrider.holding.web import GoneMeanwhile, IPAddress, WebResponse, WebService
from outrider.net.amdp_web_request import (
    BAD_REQUEST,
    METHODS,
    NOT_FOUND,
    RequestRefused,
    read_host,
    read_path,
    read_request,
)
from outrider.net.listener import AcceptedConnection
from outrider.net.listener_limits import unmapped
from outrider.net.tls import TlsTimes, tls_server_side
from outrider.net.tls_context import ServerTls
from outrider.net.tls_info import TlsFailure

DRAIN_S: Final = 30.0
"""For an answer that is under way when the listener stops; the listener's own grace is no longer."""
PIECE: Final = 65_536
"""Octets of a stream written at a time."""
PLAIN: Final = "text/plain; charset=utf-8"
STANDARD_HEADERS: Final = {
    "Server": "Outrider",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer; a service may say otherwise. Not "Python/3.x aiohttp/3.y": nobody needs to know."""

_SILENT = logging.Logger("outrider.web", level=logging.CRITICAL + 1)
"""aiohttp's own complaints; what matters of them goes to the observer."""


class AmdpWebObserver(Protocol):
    """What the server tells log and metrics. Must neither wait nor raise."""

    def request_answered(self, method: str, status: int) -> None:
        """One more answer."""

    def web_tls_failed(self, client: IPAddress, failure: TlsFailure) -> None:
        """A handshake failed (TLS-6)."""

    def service_broke(self, error: BaseException) -> None:
        """A fault of ours, answered with 500 or broken off: the traceback is for the operator alone."""


class SilentAmdpWebObserver:
    """Keeps it all to itself."""

    def request_answered(self, method: str, status: int) -> None:
        """Nothing."""

    def web_tls_failed(self, client: IPAddress, failure: TlsFailure) -> None:
        """Nothing."""

    def service_broke(self, error: BaseException) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class AmdpWebTimes:
    """How long clients may take, in seconds."""

    idle_s: float = 30.0
    """From one answer to the end of the next request's header section. Longer than our caller keeps an idle
    connection (15 s), so that it does not write to one that is being closed."""
    body_s: float = 30.0
    """For the whole body of a request."""
    slow_reader_s: float = 60.0
    """For a piece of an answer."""
    tls: TlsTimes = field(default_factory=TlsTimes)


class AmdpWebServer:
    """Makes a protocol for each connection that a listener accepts: the listener's `ProtocolFactory`."""

    def __init__(
        self,
        services: Sequence[WebService],
        tls: ServerTls | None,
        *,
        observer: AmdpWebObserver | None = None,
        times: AmdpWebTimes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """The first service that `serves` a request answers it. `tls` None is HTTP in the clear, for a proxy
        in front on the same machine. Made inside a running loop."""
        self.services = tuple(services)
        """Exchanged by a reload: requests from then on go to the new ones."""
        self.tls = tls
        """Exchanged likewise, for connections from then on."""
        self._observer = observer or SilentAmdpWebObserver()
        self._times = times or AmdpWebTimes()
        self._clock = clock
        self._server = _Server(self._answer, self._observer, self._times.idle_s)

    def __call__(self, connection: AcceptedConnection) -> asyncio.Protocol:
        """The protocol for a new connection."""
        handler = self._server()
        handler.client = unmapped(connection.peer.host) if connection.peer else IPv4Address(0)
        connection.on_drain(handler.drain)
        if self.tls is None:
            return handler

        def failed(failure: TlsFailure) -> None:
            self._observer.web_tls_failed(handler.client, failure)

        return tls_server_side(handler, self.tls, times=self._times.tls, on_failed=failed)

    async def stop(self) -> None:
        """End what is open; running answers get two seconds."""
        self._server.pre_shutdown()
        await self._server.shutdown(2.0)

    # -- one request -----------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = request.protocol
        assert isinstance(handler, _Handler)  # our own factory made it
        try:
            return await self._respond(request, handler.client)
        except RequestRefused as refused:
            return self._refusal(request, refused)

    async def _respond(self, request: web.BaseRequest, client: IPAddress) -> web.StreamResponse:
        if request.method not in METHODS:
            raise RequestRefused(405, "only GET, HEAD and POST")
        host = read_host(request)
        path, query = read_path(request.raw_path)
        service = next((one for one in self.services if one.serves(host, path)), None)
        if service is None:
            raise RequestRefused(404, NOT_FOUND)
        asked = await read_request(request, host, path, query, client, self._clock(), self._times.body_s)
        given = await service.answer(asked)
        self._observer.request_answered(request.method, given.status)
        if given.stream is None:
            return web.Response(status=given.status, body=given.body, headers=_headers(given))
        return await self._send(request, given, given.stream)

    def _refusal(self, request: web.BaseRequest, refused: RequestRefused) -> web.Response:
        method = request.method if request.method in METHODS else "other"
        self._observer.request_answered(method, refused.status)
        headers = STANDARD_HEADERS | {"Content-Type": PLAIN}
        if refused.status == 405:
            headers["Allow"] = "GET, HEAD, POST"
        response = web.Response(status=refused.status, body=f"{refused}\n".encode(), headers=headers)
        if refused.status == 400 or not request.content.is_eof():
            response.force_close()  # SEC-203; and the rest of a body is not waited for
        return response

    async def _send(
        self, request: web.BaseRequest, given: WebResponse, stream: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        """A large answer, as fast as the client takes it."""
        response = web.StreamResponse(status=given.status, headers=_headers(given))
        response.content_length = given.length
        try:
            await response.prepare(request)
            if request.method != "HEAD":
                await self._copy(stream, response, given.length)
        except GoneMeanwhile:
            raise ConnectionError("it was withdrawn or has expired while it was sent") from None
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return response

    async def _copy(self, stream: AsyncIterator[bytes], response: web.StreamResponse, length: int) -> None:
        left = length
        async for octets in stream:
            left -= len(octets)
            if left < 0:
                break
            for start in range(0, len(octets), PIECE):
                await self._write(response, octets[start : start + PIECE])
        if left:
            raise ValueError("a stream had another length than was said")

    async def _write(self, response: web.StreamResponse, piece: bytes) -> None:
        try:
            async with asyncio.timeout(self._times.slow_reader_s):
                await response.write(piece)
        except TimeoutError:
            raise ConnectionError("the client takes nothing") from None


def _headers(given: WebResponse) -> dict[str, str]:
    return {**STANDARD_HEADERS, "Content-Type": given.content_type, **given.headers}


# -- aiohttp's server, with our manner of failing ---------------------------------------------------------


class _Handler(RequestHandler):
    """One connection."""

    __slots__ = ("client", "ending", "observer")

    client: IPAddress
    observer: AmdpWebObserver
    ending: asyncio.Task[None]

    def drain(self) -> None:
        """The listener stops: finish the request that is being answered, and close."""
        self.close()
        self.ending = asyncio.get_running_loop().create_task(self.shutdown(DRAIN_S))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A constant answer and the end of the connection; faults of ours go to the observer (SEC-215)."""
        if status >= 500 and not isinstance(exc, ConnectionError):
            self.observer.service_broke(exc or TimeoutError("a service waited for too long"))
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        self.observer.request_answered("other" if status < 500 else request.method, status)
        words = BAD_REQUEST if status < 500 else "cannot answer now"
        headers = STANDARD_HEADERS | {"Content-Type": PLAIN}
        response = web.Response(status=status, body=f"{words}\n".encode(), headers=headers)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes the handlers."""

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        observer: AmdpWebObserver,
        idle_s: float,
    ) -> None:
        super().__init__(answer)
        self._observer = observer
        self._idle_s = idle_s

    def __call__(self) -> _Handler:
        handler = _Handler(
            self,
            loop=self._loop,
            keepalive_timeout=self._idle_s,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way of saying "none"
            logger=_SILENT,
            lingering_time=0,
            auto_decompress=False,
        )
        handler.client = IPv4Address(0)
        handler.observer = self._observer
        return handler
