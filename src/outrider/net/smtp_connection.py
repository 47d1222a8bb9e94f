"""One connection of the SMTP family on asyncio: transport, loop, time, end. What is said is its subclass's.

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

**Faults.** An exception in anything called from here ends that session with 421 and is told to the observer;
the client sees no more than the 421 (SEC-215).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar, cast

from outrider.model.reply import Reply
from outrider.net.listener import AcceptedConnection
from outrider.net.smtp_service import SmtpService
from outrider.net.tls import TlsTransport
from outrider.net.tls_info import TlsFailure, TlsInfo
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_events import Event
from outrider.reception.interface import Decision, TlsSummary

LOOK_S: Final = 10.0
"""How often, at the least, a connection's time is looked at."""
LINGER_S: Final = 5.0
"""How long a client that was sent away may take to leave."""
LINGER_OCTETS: Final = 1_048_576
"""What it may still send meanwhile."""
SHORTEST_LOOK_S: Final = 0.01
"""A timer that is due already comes a little later, not at once again."""
REPLIES_AT_ONCE: Final = 256
"""Replies that gather before they are sent although the client's commands are not all read."""

_T = TypeVar("_T")


class SmtpConnection(asyncio.Protocol):
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
        "_peer_ended",
        "_pending",
        "_service",
        "_session",
        "_stressed",
        "_timer",
        "_tls_info",
        "_transport",
        "_why",
        "_write_paused_at",
    )

    _handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]] = {}
    """What deals with each event of the core."""

    def __init__(self, service: SmtpService, connection: AcceptedConnection) -> None:
        """Nothing happens before `connection_made`."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        wall_time = service.clock()
        self._loop = loop
        self._service = service
        self._connection = connection
        self._core = self._new_core(now, wall_time - now)
        self._session = service.new_session(connection, wall_time)
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
        self._is_lost = False
        self._is_broken = False
        self._draining = False
        self._stressed = False
        self._why = "connection lost"
        self._messages = 0

    # -- what a subclass says ------------------------------------------------------------------------------

    def _new_core(self, now: float, wall_offset: float) -> ServerSession:
        raise NotImplementedError

    def _greet(self) -> None:
        raise NotImplementedError

    def _tls_entered(self) -> None:
        """TLS is on, and what was said before it forgotten."""

    def _tidy_up(self) -> None:
        """The connection is gone and nothing is pending."""

    # -- called by the transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there (for implicit TLS: the handshake is done)."""
        # uvloop's transports do all that asyncio's do without being of that class.
        self._transport = cast(asyncio.Transport, transport)
        if isinstance(transport, TlsTransport):
            self._enter_tls(transport)
            self._core.tls_from_start()
        self._look_at_time()
        self._guarded(self._greet)
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
        self._tls_entered()
        self._service.observer.tls_started(self._session, info)

    # -- called by the listener --------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is stopping: end now, or after the message under way."""
        self._draining = True
        self._advance()

    def tls_failed(self, failure: TlsFailure) -> None:
        """The handshake failed; the connection is closing (TLS-3: nothing is held against the client)."""
        self._why = "TLS handshake failed"
        self._service.observer.tls_failed(self._session, failure)

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

    def _take_events(self) -> None:
        core, handlers = self._core, self._handlers
        while self._pending is None and not self._write_paused_at:
            if self._draining and not core.in_transaction and not core.is_waiting:
                core.shut_down(replies.SHUTTING_DOWN, "server stopping")
            event = core.next_event()
            if event is None:
                return
            handlers[type(event)](self, event)
            if core.replies_waiting >= REPLIES_AT_ONCE:
                self._send()

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
        self._service.observer.session_broke(self._session, error)
        if self._is_broken:
            self._abort()
            return
        self._is_broken = True
        self._core.shut_down(replies.INTERNAL_ERROR, "internal error")
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
            self._service.observer.session_broke(self._session, error)
        self._leave()

    def _settle(self, decision: Decision, then: Callable[[Reply], None]) -> None:
        if isinstance(decision, Reply):
            then(decision)
        else:
            self._wait_for(decision, then)

    def _answer(self, reply: Reply) -> None:
        self._core.reply(reply, self._loop.time())

    # -- time ----------------------------------------------------------------------------------------------

    def _look_at_time(self) -> None:
        """The timer: see whether anybody is late, and look again when somebody could be."""
        now = self._loop.time()
        if self._is_overdue(now):
            self._abort()
            return
        self._heed_stress()
        self._core.timed_out(now)
        if self._core.is_closed and not self._closing_at:
            self._advance()
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        limits = self._core.limits
        own = LINGER_S if self._closing_at else self._service.slow_reader_s
        wait = min(LOOK_S, own, limits.command_timeout_s, limits.data_timeout_s)
        deadline = self._core.deadline()
        if deadline is not None:
            wait = min(wait, deadline - now)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(wait, SHORTEST_LOOK_S), self._look_at_time)

    def _is_overdue(self, now: float) -> bool:
        if self._closing_at and now >= self._closing_at + LINGER_S:
            return True
        patience = LOOK_S if self._stressed else self._service.slow_reader_s
        return bool(self._write_paused_at) and now >= self._write_paused_at + patience

    def _heed_stress(self) -> None:
        """While the server is nearly full: short time-outs and no second chance, for all sessions."""
        stressed = self._service.gauge.is_stressed()
        if stressed is not self._stressed:
            self._stressed = stressed
            limits = self._service.settings.limits
            self._core.limits = limits.under_stress() if stressed else limits

    # -- the end -------------------------------------------------------------------------------------------

    def _close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._closing_at = now = self._loop.time()
        may_still_send = not self._peer_ended and self._why != "QUIT"
        if may_still_send and transport.can_write_eof() and not transport.is_closing():
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
        self._service.observer.session_ended(self._session, self._why, self._messages)
