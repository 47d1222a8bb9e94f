"""The HTTP listener: metrics for Prometheus, and health for load balancers and service managers.

aiohttp's server protocol on our own listener. Everything is GET, nothing changes state, nothing shows a
message: addresses and subjects never appear in metrics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HttpService:
    """Answers ``/metrics``, ``/healthz`` (alive) and ``/readyz`` (takes mail)."""

    def __init__(self, metrics: Callable[[], Awaitable[bytes]], ready: Callable[[], Awaitable[str]]) -> None:
        """`metrics` gives the page; `ready` why mail is not taken, "" when it is. Both speak for all workers
        of the server, and may have to ask them."""
        self._metrics = metrics
        self._ready = ready
        self._server = web.Server(self._answer, access_log=None)

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        protocol: asyncio.Protocol = self._server()
        return protocol

    async def stop(self) -> None:
        """End what is open; running answers get two seconds."""
        await self._server.shutdown(2.0)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"}, text="only GET\n")
        if request.path == "/metrics":
            return web.Response(body=await self._metrics(), headers={"Content-Type": METRICS_TYPE})
        if request.path == "/healthz":
            return web.Response(text="alive\n")
        if request.path == "/readyz":
            why_not = await self._ready()
            return web.Response(status=503 if why_not else 200, text=f"{why_not or 'ready'}\n")
        return web.Response(status=404, text="known here: /metrics /healthz /readyz\n")
