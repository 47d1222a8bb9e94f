"""Accepting connections: limits, PROXY headers, running out of descriptors, stopping with grace.

A :class:`Listener` accepts by itself (`add_reader` on the listening socket) and hands each socket to the loop
afterwards. So what is refused costs one `accept` and one `send`, and asyncio and uvloop behave alike when
descriptors run out.

When a connection ends is learnt from its *socket*, which is closed exactly once whoever owns it: protocols
replace one another on a transport (a PROXY header, then SMTP, then TLS), sockets do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, Final, Protocol

from outrider.net.accept_turns import BATCH, LEAVE_S, LEAVES, REST_S, AcceptTurns
from outrider.net.listener_limits import (
    ConnectionLimits,
    IPAddress,
    IPNetwork,
    Refusal,
    is_within,
    unmapped,
)
from outrider.net.listener_proxy import ProxyGate
from outrider.net.listener_sockets import describe
from outrider.wire.proxy_protocol import ProxyAddress, ProxyHeader

ACCEPT_BATCH: Final = 64
"""Connections taken before the sessions already open get their turn."""
RETRY_S: Final = 0.5
"""How long nothing is accepted after descriptors or memory ran out."""
ABORT_WAIT_S: Final = 5.0
"""How long aborted connections may take to be gone."""
HOSTS_KEPT: Final = 1024
"""Addresses that need not be read again."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Address = ProxyAddress
"""An IP address and a port."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """What one listener allows and says."""

    name: str
    """For logs and metrics: ``smtp 192.0.2.1:25``."""
    max_connections: int = 1000
    """0 = no limit."""
    refusal: bytes = b""
    """What a client hears that is turned away, such as a 421 reply with CRLF; b"" where plain octets would
    mean nothing (TLS from the first octet)."""
    proxy_networks: tuple[IPNetwork, ...] = ()
    """Connections from these networks must begin with a PROXY header, which is believed. Everybody else's is
    a direct connection, in which such a header is just a wrong command."""
    proxy_timeout_s: float = 5.0
    """For the whole header; its sender has it ready (specification, section 2: at least 3 s)."""


class ListenerObserver(Protocol):
    """Told what a listener does, for log and metrics. Called on the loop; must not wait or raise."""

    def connection_opened(self, connection: AcceptedConnection) -> None:
        """A connection was admitted; its protocol is made next."""

    def connection_closed(self, connection: AcceptedConnection) -> None:
        """Its socket is closed."""

    def connection_refused(self, listener: str, peer: str, refusal: Refusal, detail: str) -> None:
        """One was turned away; `detail` says more, or is ""."""

    def accept_failed(self, listener: str, error: OSError) -> None:
        """Descriptors or memory ran out: nothing is accepted for a moment."""


class SilentObserver:
    """Keeps it all to itself."""

    def connection_opened(self, connection: AcceptedConnection) -> None:
        """Nothing."""

    def connection_closed(self, connection: AcceptedConnection) -> None:
        """Nothing."""

    def connection_refused(self, listener: str, peer: str, refusal: Refusal, detail: str) -> None:
        """Nothing."""

    def accept_failed(self, listener: str, error: OSError) -> None:
        """Nothing."""


class AcceptedConnection:
    """A connection, as the listener introduces it to its protocol."""

    __slots__ = (
        "_drain_callbacks",
        "draining",
        "introduced",
        "listener",
        "local",
        "peer",
        "proxied",
        "socket",
        "starting",
        "transport",
        "wire_peer",
    )

    def __init__(self, listener: str, peer: Address | None, local: Address | None) -> None:
        self.listener = listener
        """The listener's name."""
        self.peer = peer
        """Who is at the other end, a PROXY header heeded. None on a unix socket."""
        self.local = local
        """Where it connected to, a PROXY header heeded. None on a unix socket."""
        self.wire_peer = peer
        """Who sends the packets: the proxy, if there is one."""
        self.proxied = False
        """A PROXY header gave `peer` and `local`."""
        self.introduced = False
        """Its protocol has been made."""
        self.draining = False
        """The listener is stopping: finish what is under way and close."""
        self.socket: socket.socket | None = None
        """The socket, to be looked at only; None where there is none."""
        self.starting: asyncio.Task[None] | None = None
        """Hands the socket to the loop."""
        self.transport: asyncio.Transport | None = None
        """The raw transport."""
        self._drain_callbacks: list[Callable[[], None]] = []

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the listener begins to stop; at once if it already has."""
        if self.draining:
            callback()
        else:
            self._drain_callbacks.append(callback)

    def drain(self) -> None:
        """Tell the protocol to come to an end."""
        self.draining = True
        callbacks, self._drain_callbacks = self._drain_callbacks, []
        for callback in callbacks:
            callback()

    def ended(self) -> None:
        """It is closed: let go of what leads back here, so that all of it goes at once."""
        self._drain_callbacks.clear()
        self.socket = self.transport = None

    def __str__(self) -> str:
        return "unix" if self.peer is None else str(self.peer)


ProtocolFactory = Callable[[AcceptedConnection], asyncio.Protocol]


class Listener:
    """One listening socket and its connections.

    `factory` makes the protocol of each. For implicit TLS it returns `tls.tls_server_side(...)`.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: ProtocolFactory,
        settings: ListenerSettings,
        limits: ConnectionLimits,
        observer: ListenerObserver | None = None,
        turns: AcceptTurns | None = None,
    ) -> None:
        """Takes over `listening` (from `listener_sockets.open_socket`); nothing happens before `start`.

        `turns` is for a socket at which other processes accept too.
        """
        self._turns = turns
        self._socket = listening
        self._family = listening.family
        self.where = describe(listening)
        """The socket's address, as in logs."""
        self._key = self.where.encode("utf-8", "surrogateescape")
        self.port = 0 if listening.family == socket.AF_UNIX else int(listening.getsockname()[1])
        """The TCP port; 0 for a unix socket."""
        self._factory = factory
        self.settings = settings
        """May be replaced while running; open connections keep to what they began with."""
        self._limits = limits
        self._observer = observer or SilentObserver()
        self._loop = asyncio.get_running_loop()
        self._connections: set[AcceptedConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._accepting = False
        self._stopping = False
        self._aborting = False
        self._pause: asyncio.TimerHandle | None = None
        self._reserve = _Reserve()

    @property
    def open(self) -> int:
        """Connections now."""
        return len(self._connections)

    def start(self) -> None:
        """Accept connections from now on."""
        self._accepting = True
        self._loop.add_reader(self._socket, self._accept_ready)

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let every connection finish for up to `grace_s` seconds, abort the rest.

        Those already in the kernel's queue are told the refusal. A protocol learns of it through
        `AcceptedConnection.on_drain`; one that did not ask is left alone until the grace ends.
        """
        self.stop_accepting()
        for connection in tuple(self._connections):
            connection.drain()
        if not await self._all_gone(grace_s):
            self._aborting = True
            for connection in tuple(self._connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await self._all_gone(ABORT_WAIT_S)
        self._reserve.close()

    def stop_accepting(self) -> None:
        """Close the listening socket; open connections are not touched. Safe to call again.

        A unix socket's path stays: it may be systemd's, and `open_socket` replaces one that nobody serves.
        """
        if self._stopping:
            return
        self._stopping = True
        if self._accepting:
            self._loop.remove_reader(self._socket)
            self._accept(ACCEPT_BATCH)
        if self._pause is not None:
            self._pause.cancel()
        self._socket.close()

    async def _all_gone(self, limit_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._empty.wait()
        return not self._connections

    # -- accepting -----------------------------------------------------------------------------------

    def _accept_ready(self) -> None:
        if self._turns is None:
            self._accept(ACCEPT_BATCH)
            return
        for taken in range(BATCH):
            if self._turns.is_others():
                self._leave_for(LEAVE_S, self._turns)
                return
            if not self._accept(1):
                if not taken and self._pause is None and self._turns.may_rest():
                    self._leave_for(REST_S, self._turns)
                return

    def _leave_for(self, time_s: float, turns: AcceptTurns) -> None:
        """Leave what comes to the other workers for a moment."""
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(time_s, self._look_again, turns, 1)

    def _look_again(self, turns: AcceptTurns, looks: int) -> None:
        """Have the others taken what was left to them? If they are too busy, it is taken after all."""
        self._pause = None
        if turns.is_others() and _has_waiting(self._socket):
            if looks < LEAVES:
                self._pause = self._loop.call_later(LEAVE_S, self._look_again, turns, looks + 1)
                return
            self._accept(BATCH)
        if self._pause is None:
            self._loop.add_reader(self._socket, self._accept_ready)

    def _accept(self, most: int) -> bool:
        """Take up to so many connections; False when there are no more."""
        for _ in range(most):
            try:
                accepted, name = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._exhausted(error)
                    return False
                continue  # ECONNABORTED and the network's own errors concern that connection only
            self._admit(accepted, name)
        return True

    def _exhausted(self, error: OSError) -> None:
        """No descriptor for the next client: tell those in the queue, then leave the loop in peace."""
        self._observer.accept_failed(self.settings.name, error)
        self._reserve.close()
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, name = self._socket.accept()
            except OSError:
                break
            self._turn_away(accepted, _peer_text(name), Refusal.NO_DESCRIPTORS)
        self._reserve.open()
        if not self._stopping:
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(RETRY_S, self._accept_again)

    def _accept_again(self) -> None:
        self._pause = None
        self._reserve.open()
        self._loop.add_reader(self._socket, self._accept_ready)

    def _admit(self, accepted: socket.socket, name: Any) -> None:
        peer = _address(self._family, name)
        behind_proxy = peer is not None and is_within(peer.host, self.settings.proxy_networks)
        place = self._take_place(None if peer is None or behind_proxy else peer.host)
        if isinstance(place, Refusal):
            self._turn_away(accepted, _peer_text(name), place)
            return
        connection = AcceptedConnection(self.settings.name, peer, _local_address(self._family, accepted))
        self._connections.add(connection)
        self._empty.clear()
        counted = _CountedSocket(accepted, self._family, partial(self._gone, connection, place))
        connection.socket = counted
        make = self._gate(connection, place) if behind_proxy else partial(self._introduce, connection)
        connection.starting = self._loop.create_task(self._begin(counted, connection, make))

    def _take_place(self, address: IPAddress | None) -> _Place | Refusal:
        if self._stopping:
            return Refusal.STOPPING
        limits = self._limits
        if not limits.enter_at(self._key, len(self._connections), self.settings.max_connections):
            return Refusal.LISTENER_FULL
        if not limits.enter():
            limits.leave_at(self._key)
            return Refusal.SERVER_FULL
        place = _Place(limits, self._key)
        if address is not None and not place.claim(address):
            place.give_back()
            return Refusal.ADDRESS_FULL
        return place

    def _turn_away(self, accepted: socket.socket, peer: str, refusal: Refusal) -> None:
        with accepted, contextlib.suppress(OSError):
            accepted.setblocking(False)
            if self.settings.refusal:
                accepted.send(self.settings.refusal)
            accepted.shutdown(socket.SHUT_WR)
        self._observer.connection_refused(self.settings.name, peer, refusal, "")

    # -- a connection's life -------------------------------------------------------------------------

    async def _begin(
        self, counted: _CountedSocket, connection: AcceptedConnection, make: Callable[[], asyncio.Protocol]
    ) -> None:
        try:  # the loop makes the socket non-blocking
            transport, _ = await self._loop.connect_accepted_socket(make, counted)
        except OSError:
            counted.close()  # reset while it waited
            return
        except Exception as error:
            counted.close()
            context = {"message": f"{self.settings.name}: no protocol for a connection", "exception": error}
            self._loop.call_exception_handler(context)
            return
        connection.transport = transport
        connection.starting = None
        if self._aborting:
            transport.abort()

    def _introduce(self, connection: AcceptedConnection) -> asyncio.Protocol:
        protocol = self._factory(connection)
        connection.introduced = True
        self._observer.connection_opened(connection)
        return protocol

    def _gone(self, connection: AcceptedConnection, place: _Place) -> None:
        place.give_back()
        self._connections.discard(connection)
        connection.ended()
        if connection.introduced:
            self._observer.connection_closed(connection)
        if not self._connections:
            self._empty.set()

    def _gate(self, connection: AcceptedConnection, place: _Place) -> Callable[[], ProxyGate]:
        """What makes the protocol of a connection that begins with a PROXY header."""

        def opened(transport: asyncio.Transport, header: ProxyHeader, rest: bytes) -> None:
            if header.source is not None:
                connection.peer, connection.local = header.source, header.destination
                connection.proxied = True
            if connection.peer is not None and not place.claim(connection.peer.host):
                self._refuse_relayed(transport, connection)
                return
            protocol = self._introduce(connection)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            if rest and not transport.is_closing():
                protocol.data_received(rest)

        def failed(_transport: asyncio.Transport, reason: str) -> None:
            name = self.settings.name
            self._observer.connection_refused(name, str(connection), Refusal.PROXY_HEADER, reason)

        return lambda: ProxyGate(self.settings.proxy_timeout_s, opened, failed)

    def _refuse_relayed(self, transport: asyncio.Transport, connection: AcceptedConnection) -> None:
        transport.set_protocol(asyncio.Protocol())
        transport.write(self.settings.refusal)
        transport.close()
        self._observer.connection_refused(self.settings.name, str(connection), Refusal.ADDRESS_FULL, "")


class _Place:
    """One connection's share of the limits."""

    __slots__ = ("_address", "_limits", "_listener")

    def __init__(self, limits: ConnectionLimits, listener: bytes) -> None:
        self._limits = limits
        self._listener = listener
        self._address: IPAddress | None = None

    def claim(self, address: IPAddress) -> bool:
        """Count it for `address` too; False if that has too many."""
        if not self._limits.enter_from(address):
            return False
        self._address = address
        return True

    def give_back(self) -> None:
        self._limits.leave()
        self._limits.leave_at(self._listener)
        if self._address is not None:
            self._limits.leave_from(self._address)


class _CountedSocket(socket.socket):
    """Says once when it is closed: by `close` (asyncio) or by `detach` (uvloop, which closes it itself)."""

    def __init__(self, accepted: socket.socket, family: int, on_close: Callable[[], None]) -> None:
        self._on_close: Callable[[], None] | None = on_close
        super().__init__(family, socket.SOCK_STREAM, accepted.proto, fileno=accepted.detach())

    def close(self) -> None:
        super().close()
        self._tell()

    def detach(self) -> int:
        descriptor = super().detach()
        self._tell()
        return descriptor

    def _tell(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


class _Reserve:
    """A descriptor kept for bad times: given up, it lets a client be told why it is turned away."""

    def __init__(self) -> None:
        self._descriptor = -1
        self.open()

    def open(self) -> None:
        if self._descriptor < 0:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _has_waiting(listening: socket.socket) -> bool:
    """Whether a connection could be accepted."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    return bool(poll.poll(0))


def _address(family: int, name: Any) -> Address | None:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return Address(_host(name[0]), int(name[1]))


@lru_cache(maxsize=HOSTS_KEPT)
def _host(text: str) -> IPAddress:
    """An address as the kernel writes it; our own is the same every time, and many a client comes again."""
    return unmapped(ip_address(text.partition("%")[0]))  # a link-local address comes with its interface


def _local_address(family: int, accepted: socket.socket) -> Address | None:
    try:
        return _address(family, accepted.getsockname())
    except OSError:
        return None


def _peer_text(name: Any) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
