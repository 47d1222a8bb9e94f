"""Reading the PROXY header in front of a connection, before its real protocol sees anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from outrider.wire.proxy_protocol import MAX_HEADER_OCTETS, Incomplete, ProxyHeader, ProxyProtocolError, parse

HeaderCallback = Callable[[asyncio.Transport, ProxyHeader, bytes], None]
"""Called with the header and the octets that came behind it; replaces the protocol on the transport."""
FailedCallback = Callable[[asyncio.Transport, str], None]
"""Called with the reason, for the log; the connection is then aborted."""


class ProxyGate(asyncio.Protocol):
    """Holds a connection until its PROXY header is complete, wrong, late or never to come.

    Exactly one of the two callbacks is called, unless the connection resets first.
    """

    def __init__(self, timeout_s: float, on_header: HeaderCallback, on_failed: FailedCallback) -> None:
        self._timeout_s = timeout_s
        self._on_header = on_header
        self._on_failed = on_failed
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(
            self._timeout_s, self._fail, f"no PROXY header within {self._timeout_s:g} s"
        )

    def data_received(self, data: bytes) -> None:
        """Read as far as it goes."""
        self._buffer += data
        try:
            header = parse(self._buffer)
        except ProxyProtocolError as error:
            self._fail(str(error))
            return
        if isinstance(header, Incomplete):
            assert len(self._buffer) < MAX_HEADER_OCTETS, "the parser never asks for more"
            return
        transport, rest = self._transport, self._buffer[header.size :]
        self._close_gate()
        if transport is not None:
            self._on_header(transport, header, rest)

    def eof_received(self) -> None:
        """The proxy gave up."""
        self._fail("the connection ended in the PROXY header")

    def connection_lost(self, exc: Exception | None) -> None:
        """Reset, or aborted by us."""
        self._close_gate()

    def _fail(self, reason: str) -> None:
        transport = self._transport
        self._close_gate()
        if transport is not None:
            self._on_failed(transport, reason)
            transport.abort()

    def _close_gate(self) -> None:
        self._transport = None
        self._buffer = b""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
