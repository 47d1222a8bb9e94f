"""The SMTP and LMTP server on asyncio: drives `ServerSession`, and carries its questions to reception.

`smtp_connection` has the loop, `session_connection` time and end; here is what happens at each event of the
core.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import termios
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from outrider.identity.interface import (
    AuthContext,
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
from outrider.net.smtp_connection import SmtpConnection
from outrider.net.smtp_server_observer import SmtpServerObserver
from outrider.net.smtp_service import SmtpService
from outrider.net.tls import tls_server_side
from outrider.net.tls_info import TlsExportError, TlsInfo
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
from outrider.reception.interface import Session, Transaction


class SmtpServer:
    """Makes a protocol for each connection that a listener accepts: the listener's `ProtocolFactory`."""

    def __init__(self, service: SmtpService) -> None:
        self.service = service
        """What new sessions work with; exchanged by a reload, sessions under way keep theirs."""
        self._background: set[asyncio.Task[None]] = set()

    def __call__(self, connection: AcceptedConnection) -> asyncio.Protocol:
        """The protocol for a new connection."""
        service = self.service
        protocol = self._protocol(connection)
        if not service.implicit_tls or service.tls is None:
            return protocol
        return tls_server_side(protocol, service.tls, times=service.tls_times, on_failed=protocol.tls_failed)

    def _protocol(self, connection: AcceptedConnection) -> SmtpServerProtocol:
        return SmtpServerProtocol(self.service, connection, self)

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


class SmtpServerProtocol(SmtpConnection):
    """One connection."""

    __slots__ = ("_exchange", "_exchange_mechanism", "_incoming", "_large", "_server", "_transaction")

    def __init__(self, service: SmtpService, connection: AcceptedConnection, server: SmtpServer) -> None:
        """Nothing happens before `connection_made`."""
        super().__init__(service, connection)
        self._server = server
        self._transaction: Transaction | None = None
        self._incoming = IncomingContent(service.reception.inline_limit)
        self._large: LargeMessage | None = None
        self._exchange: Exchange | None = None
        self._exchange_mechanism = ""

    def _new_core(self, now: float, wall_offset: float) -> ServerSession:
        return ServerSession(self._service.settings, now, wall_offset=wall_offset)

    def _tls_entered(self, info: TlsInfo) -> None:
        self._exchange = None
        super()._tls_entered(info)

    def _tidy_up(self) -> None:
        self._abandon_transaction(self._why)

    # -- greeting and hello --------------------------------------------------------------------------------

    def _greet(self) -> None:
        if self._tls_info is None and _octets_waiting(self._connection):
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
                self._prepare_offers()
            self._answer(reply)

        self._settle(self._service.reception.greeted(self._session, event.verb, event.name), decided)

    def _prepare_offers(self) -> None:
        """What the reply to EHLO will offer is settled before it is given."""
        self._core.auth_mechanisms = self._offered_mechanisms()

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
                waiting = large.write(incoming.take())
                if waiting is not None:
                    self._wait_for(waiting, _nothing)
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
        self._begin_tls(self._service.tls, self._service.tls_times, self._tls_ready)

    def _tls_ready(self, _info: TlsInfo) -> None:
        self._core.tls_started(self._loop.time())
        self._advance()

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
        self._peer_ended = True

    def _session_failed(self, event: SessionFailed) -> None:
        self._why = event.why

    _handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]] = {
        HelloReceived: _hello_received,
        MailReceived: _mail_received,
        RecipientReceived: _recipient_received,
        ContentStarted: _content_started,
        ContentReceived: _content_received,
        ContentEnded: _content_ended,
        ContentRefused: _content_refused,
        TransactionReset: _transaction_reset,
        StartTlsReceived: _start_tls,
        AuthStarted: _auth_started,
        AuthAnswered: _auth_answered,
        AuthAborted: _auth_aborted,
        CommandRefused: _command_refused,
        QuitReceived: _quit_received,
        SessionFailed: _session_failed,
    }


def _nothing(_result: None) -> None:
    """Go on."""


def _channel_binding(info: TlsInfo) -> bytes | None:
    try:
        return info.tls_exporter_channel_binding()
    except TlsExportError:
        return None


def _octets_waiting(connection: AcceptedConnection | None) -> bool:
    """Whether the client has sent something before it could have seen a greeting."""
    wire = None if connection is None else connection.socket
    if wire is None or wire.fileno() < 0:
        return False
    try:
        answer = fcntl.ioctl(wire.fileno(), termios.FIONREAD, b"\0\0\0\0")
    except OSError as error:
        if error.errno in (errno.EBADF, errno.ENOTTY, errno.EINVAL):
            return False  # already gone, or no socket that could tell
        raise
    return answer != b"\0\0\0\0"
