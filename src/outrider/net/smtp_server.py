"""The SMTP and LMTP server on asyncio: drives `ServerSession`, and carries its questions to reception.

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
import errno
import fcntl
import struct
import termios
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from outrider.identity.interface import (
    AuthContext,
    Authenticator,
    Challenge,
    CheckPassword,
    Exchange,
    Failed,
    Step,
    Succeeded,
)
from outrider.model.reply import Reply
from outrider.net.incoming_content import WRITE_OCTETS, IncomingContent, LargeMessage
from outrider.net.listener import AcceptedConnection
from outrider.net.server_limits import LoadGauge
from outrider.net.smtp_server_observer import SilentSmtpServerObserver, SmtpServerObserver
from outrider.net.tls import TlsTimes, TlsTransport, start_tls_server, tls_server_side
from outrider.net.tls_context import ServerTls
from outrider.net.tls_info import TlsExportError, TlsFailure, TlsInfo
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_events import (
    AuthAborted,
    AuthAnswered,
    AuthStarted,
    CommandRefused,
    ContentEnded,
    ContentReceived,
    ContentRefused,
    ContentStarted,
    Event,
    HelloReceived,
    MailReceived,
    QuitReceived,
    RecipientReceived,
    SessionFailed,
    StartTlsReceived,
    TransactionReset,
)
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.reception.interface import Decision, Reception, Session, TlsSummary, Transaction

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


@dataclass(frozen=True, slots=True)
class SmtpService:
    """What the sessions of one listener work with. A reload makes a new one, for sessions yet to come."""

    protocol: str
    """smtp, submission or lmtp: `Session.protocol`."""
    settings: ServerSettings
    reception: Reception
    new_session_id: Callable[[], str]
    gauge: LoadGauge
    tls: ServerTls | None = None
    implicit_tls: bool = False
    require_tls: bool = False
    """Passed on to reception, which alone acts on it (TLS-2)."""
    authenticator: Authenticator | None = None
    observer: SmtpServerObserver = field(default_factory=SilentSmtpServerObserver)
    tls_times: TlsTimes = field(default_factory=TlsTimes)
    slow_reader_s: float = 300.0
    """For the client to take what we have said, once a buffer is full (SEC-89)."""
    executor: Executor | None = None
    """Where passwords are checked; None is the loop's own."""
    clock: Callable[[], float] = time.time
    """The time of day, seconds since the epoch."""


class SmtpServer:
    """Makes a protocol for each connection that a listener accepts: the listener's `ProtocolFactory`."""

    def __init__(self, service: SmtpService) -> None:
        self.service = service
        """What new sessions work with; exchanged by a reload, sessions under way keep theirs."""
        self._background: set[asyncio.Task[None]] = set()

    def __call__(self, connection: AcceptedConnection) -> asyncio.Protocol:
        """The protocol for a new connection."""
        service = self.service
        protocol = SmtpServerProtocol(service, connection, self)
        if not service.implicit_tls or service.tls is None:
            return protocol
        return tls_server_side(protocol, service.tls, times=service.tls_times, on_failed=protocol.tls_failed)

    def finish_later(self, work: Awaitable[None], session: Session, observer: SmtpServerObserver) -> None:
        """See work to its end that outlives its session; a fault in it is told to the observer."""

        async def watched() -> None:
            try:
                await work
            except Exception as error:
                observer.session_broke(session, error)

        task = asyncio.get_running_loop().create_task(watched())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class SmtpServerProtocol(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_closing_at",
        "_connection",
        "_core",
        "_discarded",
        "_draining",
        "_exchange",
        "_exchange_mechanism",
        "_incoming",
        "_is_broken",
        "_is_lost",
        "_is_reading",
        "_large",
        "_loop",
        "_messages",
        "_peer_ended",
        "_pending",
        "_server",
        "_service",
        "_session",
        "_stressed",
        "_timer",
        "_tls_info",
        "_transaction",
        "_transport",
        "_why",
        "_write_paused_at",
    )

    def __init__(self, service: SmtpService, connection: AcceptedConnection, server: SmtpServer) -> None:
        """Nothing happens before `connection_made`."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        wall_time = service.clock()
        self._loop = loop
        self._service = service
        self._server = server
        self._connection = connection
        self._core = ServerSession(service.settings, now, wall_offset=wall_time - now)
        self._session = _new_session(service, connection, wall_time)
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

        self._transaction: Transaction | None = None
        self._incoming = IncomingContent(service.reception.inline_limit)
        self._large: LargeMessage | None = None
        self._messages = 0
        self._exchange: Exchange | None = None
        self._exchange_mechanism = ""

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
        core = self._core
        while self._pending is None and not self._write_paused_at:
            if self._draining and not core.in_transaction and not core.is_waiting:
                core.shut_down(replies.SHUTTING_DOWN, "server stopping")
            event = core.next_event()
            if event is None:
                return
            _HANDLERS[type(event)](self, event)
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
        self._abandon_transaction(self._why)
        self._transport = None
        self._service.observer.session_ended(self._session, self._why, self._messages)

    # -- greeting and hello --------------------------------------------------------------------------------

    def _greet(self) -> None:
        if self._tls_info is None and _octets_waiting(self._transport):
            # SEC-56: who talks before the greeting does not listen to it either.
            self._core.shut_down(replies.OUT_OF_STEP, "talked before the greeting")
            self._take_events()
            return
        self._settle(self._service.reception.connected(self._session), self._answer)
        self._take_events()

    def _hello_received(self, event: HelloReceived) -> None:
        def decided(reply: Reply) -> None:
            if reply.is_positive:
                self._session.hello_name = event.name
                self._session.extended = event.verb != "HELO"
                self._core.auth_mechanisms = self._offered_mechanisms()
            self._answer(reply)

        self._settle(self._service.reception.greeted(self._session, event.verb, event.name), decided)

    # -- a transaction -------------------------------------------------------------------------------------

    def _mail_received(self, event: MailReceived) -> None:
        service = self._service
        transaction, decision = service.reception.sender(self._session, event.request, service.clock())

        def decided(reply: Reply) -> None:
            if reply.is_positive:
                self._transaction = transaction
            self._answer(reply)

        self._settle(decision, decided)

    def _recipient_received(self, event: RecipientReceived) -> None:
        self._settle(self._service.reception.recipient(self._open_transaction(), event.request), self._answer)

    def _content_started(self, _event: ContentStarted) -> None:
        self._settle(self._service.reception.content_begins(self._open_transaction()), self._answer)

    def _content_received(self, event: ContentReceived) -> None:
        incoming, large = self._incoming, self._large
        incoming.add(event.octets)
        if large is not None:
            if len(incoming) >= WRITE_OCTETS:
                self._wait_for(large.write(incoming.take()), _nothing)
        elif incoming.outgrows_memory():
            large = LargeMessage(self._service.reception, self._open_transaction(), incoming.headers or b"")
            self._large = large
            self._wait_for(large.begin(incoming.take()), _nothing)

    def _content_ended(self, event: ContentEnded) -> None:
        # From here on the message is reception's, whatever becomes of the connection.
        transaction, self._transaction = self._open_transaction(), None
        incoming, self._incoming = self._incoming, IncomingContent(self._service.reception.inline_limit)
        large, self._large = self._large, None
        if large is None:
            content = incoming.content(is_ascii=event.is_ascii, is_binary=event.is_binary)
            answer = self._service.reception.finish(transaction, content)
        else:
            answer = self._finish_large(transaction, large, incoming.take(), event)
        self._wait_for(answer, self._message_decided)

    async def _finish_large(
        self, transaction: Transaction, large: LargeMessage, body: bytes, event: ContentEnded
    ) -> Reply:
        reply = await large.finish(body, is_ascii=event.is_ascii, is_binary=event.is_binary)
        if large.error is not None:
            self._service.observer.storing_failed(self._session, transaction.id, large.error)
        if large.refusal is not None:
            self._service.reception.abandoned(transaction, f"refused: {large.refusal}")
        return reply

    def _message_decided(self, reply: Reply) -> None:
        if reply.is_positive:
            self._messages += 1
        self._answer(reply)

    def _content_refused(self, event: ContentRefused) -> None:
        transaction = self._transaction
        if transaction is not None:
            self._service.observer.content_refused(self._session, transaction.id, event.reply)
        self._abandon_transaction(f"refused: {event.reply}")

    def _transaction_reset(self, event: TransactionReset) -> None:
        self._abandon_transaction(event.why)

    def _abandon_transaction(self, why: str) -> None:
        transaction, self._transaction = self._transaction, None
        large, self._large = self._large, None
        self._incoming = IncomingContent(self._service.reception.inline_limit)
        if large is not None:
            self._server.finish_later(large.abandon(), self._session, self._service.observer)
        if transaction is not None:
            self._service.reception.abandoned(transaction, why)

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise AssertionError("the core goes on with a transaction that reception never made")
        return self._transaction

    # -- STARTTLS ------------------------------------------------------------------------------------------

    def _start_tls(self, _event: StartTlsReceived) -> None:
        tls, transport = self._service.tls, self._transport
        if tls is None or transport is None:
            raise AssertionError("STARTTLS was offered without TLS")
        self._send()
        self._is_reading = True
        self._transport = start_tls_server(
            transport,
            self,
            tls,
            times=self._service.tls_times,
            on_ready=self._tls_ready,
            on_failed=self.tls_failed,
        )

    def _tls_ready(self, transport: TlsTransport, _info: TlsInfo) -> None:
        self._transport = transport
        self._enter_tls(transport)
        self._core.tls_started(self._loop.time())
        self._advance()

    def _enter_tls(self, transport: TlsTransport) -> None:
        info = transport.info
        if info is None:
            raise AssertionError("TLS without a handshake")
        self._tls_info = info
        summary = TlsSummary(info.version, info.cipher, info.peer_chain, info.server_name)
        self._session = self._session.after_tls(summary)
        self._exchange = None
        self._service.observer.tls_started(self._session, info)

    # -- AUTH ----------------------------------------------------------------------------------------------

    def _offered_mechanisms(self) -> tuple[str, ...]:
        authenticator = self._service.authenticator
        return () if authenticator is None else authenticator.mechanisms(self._context())

    def _context(self) -> AuthContext:
        info = self._tls_info
        return AuthContext(
            client_address=self._session.client_address,
            now=self._service.clock(),
            tls=info is not None,
            channel_binding=None if info is None else _channel_binding(info),
            peer_chain=() if info is None else info.peer_chain,
        )

    def _auth_started(self, event: AuthStarted) -> None:
        authenticator = self._service.authenticator
        if authenticator is None:
            raise AssertionError("AUTH was offered without an authenticator")
        self._exchange_mechanism = event.mechanism
        self._exchange, step = authenticator.begin(event.mechanism, event.initial, self._context())
        self._take_step(step)

    def _auth_answered(self, event: AuthAnswered) -> None:
        if self._exchange is None:
            raise AssertionError("an answer to no challenge")
        self._take_step(self._exchange.step(event.line))

    def _auth_aborted(self, _event: AuthAborted) -> None:
        self._exchange = None
        self._service.observer.login_failed(self._session, self._exchange_mechanism, "", "line too long")

    def _take_step(self, step: Step) -> None:
        if isinstance(step, Challenge):
            self._core.challenge(step.line, self._loop.time())
        elif isinstance(step, CheckPassword):
            checking = self._loop.run_in_executor(self._service.executor, step.check)
            self._wait_for(checking, self._password_checked)
        elif isinstance(step, Succeeded):
            self._logged_in(step)
        else:
            self._not_logged_in(step)

    def _password_checked(self, correct: bool) -> None:
        if self._exchange is None:
            raise AssertionError("a password without an exchange")
        self._take_step(self._exchange.checked(correct))

    def _logged_in(self, step: Succeeded) -> None:
        self._exchange = None
        self._session.login = step.login
        self._session.login_mechanism = step.mechanism
        self._service.observer.login_succeeded(self._session, step.how)
        self._answer(step.reply)

    def _not_logged_in(self, step: Failed) -> None:
        self._exchange = None
        self._service.observer.login_failed(self._session, self._exchange_mechanism, step.login, step.reason)
        if step.delay_s > 0:
            self._wait_for(asyncio.sleep(step.delay_s, step.reply), self._answer)
        else:
            self._answer(step.reply)

    # -- facts ---------------------------------------------------------------------------------------------

    def _command_refused(self, event: CommandRefused) -> None:
        self._service.observer.command_refused(self._session, event.verb, event.reply)

    def _quit_received(self, _event: QuitReceived) -> None:
        self._why = "QUIT"

    def _session_failed(self, event: SessionFailed) -> None:
        self._why = event.why


def _nothing(_result: None) -> None:
    """Go on."""


def _new_session(service: SmtpService, connection: AcceptedConnection, now: float) -> Session:
    peer, local = connection.peer, connection.local
    return Session(
        id=service.new_session_id(),
        protocol=service.protocol,
        client_address=None if peer is None else peer.host,
        client_port=0 if peer is None else peer.port,
        server_address=None if local is None else local.host,
        server_port=0 if local is None else local.port,
        listener=connection.listener,
        hostname=service.settings.hostname,
        started_at=now,
        require_tls=service.require_tls,
    )


def _channel_binding(info: TlsInfo) -> bytes | None:
    try:
        return info.tls_exporter_channel_binding()
    except TlsExportError:
        return None


def _octets_waiting(transport: asyncio.Transport | None) -> bool:
    """Whether the client has sent something before it could have seen a greeting."""
    wire = None if transport is None else transport.get_extra_info("socket")
    if wire is None:
        return False
    try:
        answer = fcntl.ioctl(wire.fileno(), termios.FIONREAD, b"\0\0\0\0")
    except OSError as error:
        if error.errno in (errno.EBADF, errno.ENOTTY, errno.EINVAL):
            return False  # already gone, or no socket that could tell
        raise
    (waiting,) = struct.unpack("i", answer)
    return bool(waiting > 0)


_HANDLERS: Final[dict[type[Event], Callable[[SmtpServerProtocol, Any], None]]] = {
    HelloReceived: SmtpServerProtocol._hello_received,
    MailReceived: SmtpServerProtocol._mail_received,
    RecipientReceived: SmtpServerProtocol._recipient_received,
    ContentStarted: SmtpServerProtocol._content_started,
    ContentReceived: SmtpServerProtocol._content_received,
    ContentEnded: SmtpServerProtocol._content_ended,
    ContentRefused: SmtpServerProtocol._content_refused,
    TransactionReset: SmtpServerProtocol._transaction_reset,
    StartTlsReceived: SmtpServerProtocol._start_tls,
    AuthStarted: SmtpServerProtocol._auth_started,
    AuthAnswered: SmtpServerProtocol._auth_answered,
    AuthAborted: SmtpServerProtocol._auth_aborted,
    CommandRefused: SmtpServerProtocol._command_refused,
    QuitReceived: SmtpServerProtocol._quit_received,
    SessionFailed: SmtpServerProtocol._session_failed,
}
