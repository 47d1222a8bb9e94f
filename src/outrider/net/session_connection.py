"""One connection of any protocol on asyncio: transport, loop, time, end. What is said is its subclass's.

What is decided at once is answered within the read that asked: no task, no further turn of the loop. What
must be waited for - a look-up, the disk, a password - stops the session, and nothing is read from its client
before the answer is there. Three brakes bound what a connection holds (SEC-61): reading stops when octets
come while a decision is pending or a large body is being written down, and while the peer does not take our
replies.

**Time.** The core says by when the client must have done something. One timer a connection looks at that,
every few seconds at the least, so that stress is felt soon. The driver adds its own two: a client that does
not take our replies (SEC-89), and one that does not leave.

**Ends.** A client that is sent away may still be sending; closing at once would reset the connection and
could destroy the reply on its way. So we close our side, listen a little longer and throw away what comes.

**Faults.** An exception in anything called from here ends that session and is told to the observer; the
client learns no more than its protocol's word for it (SEC-215).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar, cast

from outrider.model.reply import Reply
from outrider.net.listener import AcceptedConnection
from outrider.net.tls import TlsTimes, TlsTransport, start_tls_server
from outrider.net.tls_context import ServerTls
from outrider.net.tls_info import TlsFailure, TlsInfo
from outrider.reception.interface import Decision, Session, TlsSummary

LOOK_S: Final = 10.0
"""How often, at the least, a connection's time is looked at."""
LINGER_S: Final = 5.0
"""How long a client that was sent away may take to leave."""
LINGER_OCTETS: Final = 1_048_576
"""What it may still send meanwhile."""
SHORTEST_LOOK_S: Final = 0.01
"""A timer that is due already comes a little later, not at once again."""

_T = TypeVar("_T")


class SessionCore(Protocol):
    """What the cores of all servers have in common."""

    @property
    def is_closed(self) -> bool:
        """Nothing more will be said or heard; no event is left either."""
        ...

    def receive(self, octets: bytes, now: float) -> None:
        """Octets from the client."""

    def receive_eof(self, now: float) -> None:
        """The client sends no more."""

    def bytes_to_send(self) -> bytes:
        """Everything for the wire since the last call."""
        ...

    def deadline(self) -> float | None:
        """When `timed_out` is to be called."""
        ...

    def timed_out(self, now: float) -> None:
        """`deadline` may have passed."""


class SessionObserver(Protocol):
    """What every session tells. Must neither wait nor raise."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """The connection is closed; `messages` were taken in it."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """A fault of ours ended the session: the traceback is for the operator alone (SEC-215)."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """A handshake failed (TLS-6). Nothing else follows from it (TLS-3)."""


class SessionConnection(asyncio.Protocol):
    """The connection; subclasses deal with the core's events."""

    __slots__ = (
        "_closing_at",
        "_connection",
        "_core",
        "_discarded",
        "_draining",
        "_is_broken",
        "_is_lost",
        "_is_reading",
        "_loop",
        "_messages",
        "_observer",
        "_peer_ended",
        "_pending",
        "_session",
        "_slow_reader_s",
        "_stressed",
        "_timer",
        "_tls_info",
        "_transport",
        "_why",
        "_write_paused_at",
    )

    _core: SessionCore

    def __init__(
        self,
        connection: AcceptedConnection | None,
        core: SessionCore,
        session: Session,
        observer: SessionObserver,
        slow_reader_s: float,
    ) -> None:
        """Nothing happens before `connection_made`. `slow_reader_s` is what the peer may take to read what we
        have said, once a buffer is full (SEC-89). `connection` is None for one that we have opened."""
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._core = core
        self._session = session
        self._observer = observer
        self._slow_reader_s = slow_reader_s
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tls_info: TlsInfo | None = None

        self._pending: asyncio.Future[Any] | None = None
        """What the session waits for; events and octets are held back meanwhile."""
        self._is_reading = True
        self._write_paused_at = 0.0
        """Since when the peer does not take our replies; 0 = it does."""
        self._closing_at = 0.0
        """Since when we want to be rid of the connection."""
        self._discarded = 0
        self._peer_ended = False
        """It sends no more, or has said so."""
        self._is_lost = False
        self._is_broken = False
        self._draining = False
        self._stressed = False
        self._why = "connection lost"
        self._messages = 0

    # -- what a subclass says ------------------------------------------------------------------------------

    def _greet(self) -> None:
        """The connection stands: say or ask the first thing."""
        raise NotImplementedError

    def _take_events(self) -> None:
        """Take events of the core and deal with them, until it has none, or one must be waited for, or the
        peer does not take our replies. Where `_draining`, end the session as soon as it may be ended."""
        raise NotImplementedError

    def _end_broken(self) -> None:
        """A fault of ours: end the session, with the protocol's word for it if there is one."""
        raise NotImplementedError

    def _tls_from_start(self) -> None:
        """The connection began with TLS."""

    def _tls_entered(self, info: TlsInfo) -> None:
        """TLS is on, and what was said before it forgotten."""

    def _heed_stress(self) -> None:
        """See whether the server is nearly full, and set `_stressed`."""

    def _longest_look_s(self) -> float:
        """How long the time may go without being looked at."""
        return LOOK_S

    def _tidy_up(self) -> None:
        """The connection is gone and nothing is pending."""

    # -- called by the transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there (for implicit TLS: the handshake is done)."""
        # uvloop's transports do all that asyncio's do without being of that class.
        self._transport = cast(asyncio.Transport, transport)
        if isinstance(transport, TlsTransport):
            self._enter_tls(transport)
            self._tls_from_start()
        self._look_at_time()
        self._guarded(self._greet)
        if self._connection is not None:
            self._connection.on_drain(self.drain)

    def data_received(self, data: bytes) -> None:
        """Octets from the client."""
        core = self._core
        if core.is_closed:
            self._discard(data)
            return
        core.receive(data, self._loop.time())
        if self._pending is None:
            self._heed_stress()
            self._advance()
        else:
            self._read(False)

    def eof_received(self) -> bool:
        """The client sends no more. It still gets the answers to what it sent (SEC-62)."""
        if self._closing_at:
            return False
        self._peer_ended = True
        self._core.receive_eof(self._loop.time())
        self._advance()
        return True

    def pause_writing(self) -> None:
        """The client does not take our replies as fast as we give them: give no more."""
        self._write_paused_at = self._loop.time()

    def resume_writing(self) -> None:
        """There is room again."""
        self._write_paused_at = 0.0
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. What is pending is let finish: a commit may not be broken off."""
        del exc
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending is None:
            self._leave()

    def _enter_tls(self, transport: TlsTransport) -> None:
        info = transport.info
        if info is None:
            raise AssertionError("TLS without a handshake")
        self._tls_info = info
        summary = TlsSummary(info.version, info.cipher, info.peer_chain, info.server_name)
        self._session = self._session.after_tls(summary)
        self._tls_entered(info)

    def _begin_tls(self, tls: ServerTls | None, times: TlsTimes, go_on: Callable[[TlsInfo], None]) -> None:
        """The client has asked for it: say so, and shake hands; `go_on` is called under TLS."""
        transport = self._transport
        if tls is None or transport is None:
            raise AssertionError("TLS was offered without a certificate")

        def ready(secured: TlsTransport, info: TlsInfo) -> None:
            self._transport = secured
            self._enter_tls(secured)
            go_on(info)

        self._send()
        self._is_reading = True
        self._transport = start_tls_server(
            transport, self, tls, times=times, on_ready=ready, on_failed=self.tls_failed
        )

    # -- called by the listener --------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is stopping: end now, or after the message under way."""
        self._draining = True
        self._advance()

    def tls_failed(self, failure: TlsFailure) -> None:
        """The handshake failed; the connection is closing (TLS-3: nothing is held against the client)."""
        self._why = "TLS handshake failed"
        self._observer.tls_failed(self._session, failure)

    # -- the loop ------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take events and deal with them, until the core has none or one must be waited for."""
        self._guarded(self._take_events)

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._is_lost or self._transport is None:
            return
        try:
            work()
        except Exception as error:
            self._break(error)
        self._send()
        self._mind_reading()

    def _send(self) -> None:
        transport = self._transport
        octets = self._core.bytes_to_send()
        if transport is None or self._closing_at:
            return
        if octets:
            transport.write(octets)
        if self._core.is_closed and self._pending is None:
            self._close()

    def _mind_reading(self) -> None:
        """Stop or go on reading, as fits. While a decision is pending, the octets that come decide."""
        if self._write_paused_at and not self._closing_at:
            self._read(False)
        elif self._pending is None:
            self._read(True)

    def _read(self, wanted: bool) -> None:
        transport = self._transport
        if wanted is self._is_reading or transport is None or transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _break(self, error: BaseException) -> None:
        """A fault of ours: this session ends, no other hears of it."""
        self._observer.session_broke(self._session, error)
        if self._is_broken:
            self._abort()
            return
        self._is_broken = True
        self._end_broken()
        self._guarded(self._take_events)

    def _wait_for(self, awaitable: Awaitable[_T], then: Callable[[_T], None]) -> None:
        """Hold the session until `awaitable` has a result, and go on with `then`."""

        def ready(done: asyncio.Future[_T]) -> None:
            self._pending = None
            if done.cancelled():
                self._abort()  # the loop is being shut down
            elif self._is_lost:
                self._finish_lost(done)
            else:
                self._guarded(go_on)

        def go_on() -> None:
            then(future.result())
            self._take_events()

        future = asyncio.ensure_future(awaitable)
        self._pending = future
        future.add_done_callback(ready)

    def _finish_lost(self, done: asyncio.Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            self._observer.session_broke(self._session, error)
        self._leave()

    def _settle(self, decision: Decision, then: Callable[[Reply], None]) -> None:
        if isinstance(decision, Reply):
            then(decision)
        else:
            self._wait_for(decision, then)

    # -- time ----------------------------------------------------------------------------------------------

    def _look_at_time(self) -> None:
        """The timer: see whether anybody is late, and look again when somebody could be."""
        now = self._loop.time()
        if self._is_overdue(now):
            self._abort()
            return
        self._heed_stress()
        self._core.timed_out(now)
        if not self._closing_at:
            self._advance()
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        own = LINGER_S if self._closing_at else self._slow_reader_s
        wait = min(self._longest_look_s(), own)
        deadline = self._core.deadline()
        if deadline is not None:
            wait = min(wait, deadline - now)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(wait, SHORTEST_LOOK_S), self._look_at_time)

    def _is_overdue(self, now: float) -> bool:
        if self._closing_at and now >= self._closing_at + LINGER_S:
            return True
        patience = LOOK_S if self._stressed else self._slow_reader_s
        return bool(self._write_paused_at) and now >= self._write_paused_at + patience

    # -- the end -------------------------------------------------------------------------------------------

    def _close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._closing_at = now = self._loop.time()
        if not self._peer_ended and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()  # see the module: leave the last word to the client
        else:
            transport.close()
        self._set_timer(now)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > LINGER_OCTETS:
            self._abort()

    def _leave(self) -> None:
        """Nothing is pending and nobody is there: tidy up."""
        self._tidy_up()
        self._transport = None
        self._observer.session_ended(self._session, self._why, self._messages)
