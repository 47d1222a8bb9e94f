"""Between a transport and a client core: octets in, octets out, time, and waiting for the next event.

One coroutine at a time talks to a link. What happens while nobody waits - an idle server says goodbye - is
kept and found by `has_news`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar, cast

from outrider.net.tls_info import TlsConnectionError

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)


class ClientCore(Protocol[EventT_co]):
    """What the cores of all clients have in common."""

    def receive(self, octets: bytes, now: float) -> None:
        """Octets from the server."""

    def receive_eof(self, now: float, why: str = ...) -> None:
        """The connection has ended."""

    def next_event(self) -> EventT_co | None:
        """The next thing that happened."""
        ...

    def bytes_to_send(self) -> bytes:
        """Everything for the wire since the last call."""
        ...

    def deadline(self) -> float | None:
        """When `timed_out` is to be called."""
        ...

    def timed_out(self, now: float) -> None:
        """`deadline` has passed."""


class Link(asyncio.Protocol, Generic[EventT]):
    """One connection of one core."""

    def __init__(self, core: ClientCore[EventT]) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = core
        self._transport: asyncio.Transport | None = None
        self._events: deque[EventT] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._write_paused = False
        self.lost: Exception | None = None
        """Why the connection broke, where the transport has said so."""

    # -- called by the transport ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands (for implicit TLS: the handshake is done)."""
        self.use(transport)

    def data_received(self, data: bytes) -> None:
        """Octets from the server."""
        self._core.receive(data, self._loop.time())
        self._note()

    def eof_received(self) -> None:
        """The server sends no more; nor do we, so the transport closes."""
        self._core.receive_eof(self._loop.time())
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.lost = self.lost or exc
        self._write_paused = False
        self._core.receive_eof(self._loop.time(), _words(exc))
        self._note()

    def pause_writing(self) -> None:
        """The server does not take what we send as fast as we send it."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._write_paused = False
        self._wake()

    # -- used by the driver --------------------------------------------------------------------------

    def use(self, transport: asyncio.BaseTransport) -> None:
        """Write to this transport from now on (after STARTTLS: the one under TLS)."""
        # uvloop's transports have all the methods and are no subclass.
        self._transport = cast(asyncio.Transport, transport)

    @property
    def transport(self) -> asyncio.Transport:
        """The transport in use."""
        if self._transport is None:
            raise AssertionError("no connection has been made")
        return self._transport

    @property
    def has_news(self) -> bool:
        """Something has happened that nobody has asked about."""
        return bool(self._events)

    def peek(self) -> EventT | None:
        """What `event` would give next, if it is there already."""
        return self._events[0] if self._events else None

    async def event(self) -> EventT:
        """The core's next event. Comes to an end in bounded time: the core's deadlines see to it."""
        while True:
            self._note()
            if self._events:
                return self._events.popleft()
            await self._wait()

    async def wait_room(self) -> None:
        """Wait until the connection takes more octets, or something happens that makes it needless."""
        self._note()
        while self._write_paused and not self._events:
            await self._wait()

    def flush(self) -> None:
        """Give what the core has to say to the transport."""
        octets = self._core.bytes_to_send()
        if octets and not self.transport.is_closing():
            self.transport.write(octets)

    def close(self) -> None:
        """Close when everything has been written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- inside --------------------------------------------------------------------------------------

    def _note(self) -> None:
        while (event := self._core.next_event()) is not None:
            self._events.append(event)
        if self._transport is not None:
            self.flush()
        if self._events:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        deadline = self._core.deadline()
        timer = None if deadline is None else self._loop.call_at(deadline, self._time_passed, deadline)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _time_passed(self, deadline: float) -> None:
        # The loop may be a tick early; the deadline that was set is the one that counts.
        self._core.timed_out(max(deadline, self._loop.time()))
        self._note()
        self._wake()


def _words(error: Exception | None) -> str:
    if error is None:
        return "the server closed the connection"
    if isinstance(error, TlsConnectionError):
        return str(error)
    return "the connection broke"
