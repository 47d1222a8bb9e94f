"""A stranger's server at arm's length: octets between it and a library that wants a socket, counted.

The library gets one end of a pair of local sockets, and never learns of the server. What comes from there is
handed on up to a limit; then, or when the caller has waited long enough, both sides are cut off, and the
library finds its connection closed.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast


class Relay:
    """One connection. `outer` is the protocol of the connection to the server, made by the caller."""

    def __init__(self, most_octets: int) -> None:
        self.outer = Outer(self)
        self.is_oversized = False
        self._room = most_octets
        self._inner: asyncio.Transport | None = None
        self._early: list[bytes] = []

    async def open(self) -> socket.socket:
        """The library's end, blocking; the caller's to close. To be called when the server is connected."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            self._inner, _ = await loop.create_unix_connection(lambda: _Inner(self), sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        for data in self._early:
            self._inner.write(data)
        return theirs

    def close(self) -> None:
        """Cut both sides off."""
        for transport in (self._inner, self.outer.transport):
            if transport is not None:
                transport.abort()

    def from_server(self, data: bytes) -> None:
        """Hand on what fits."""
        self._room -= len(data)
        if self._room < 0:
            self.is_oversized = True
            self.close()
        elif self._inner is None:
            self._early.append(data)
        else:
            self._inner.write(data)

    def server_ended(self) -> None:
        """The library hears of it as the end of its connection, once it has read what came before."""
        if self._inner is not None:
            self._inner.close()

    def from_library(self, data: bytes) -> None:
        """Hand on."""
        if self.outer.transport is not None:
            self.outer.transport.write(data)


class Outer(asyncio.Protocol):
    """The server's side. Under TLS it is connected twice: by the wire, then by the TLS transport."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The latest transport is the one to use."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Hand on."""
        self._relay.from_server(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the library."""
        self._relay.server_ended()


class _Inner(asyncio.Protocol):
    """The library's side."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        """Hand on."""
        self._relay.from_library(data)
