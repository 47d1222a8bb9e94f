"""The QMTP server on asyncio: drives `QmtpServer`, and carries its packages to reception (QMTP-1).

A package brings the message first and says for whom it is afterwards, so nothing can be refused early. The
message is parked until the envelope is here - in memory while small, then in a file without a name - and only
then goes the way of every other: sender, recipients, content, commit. The answers leave when that is done.

While a package is being decided, or its message written down, nothing is read from the client; nor while it
does not take our answers (SEC-180). A refusal of the client itself is given to each recipient of what it
sends, since QMTP has no other place for it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Final, Protocol

from outrider.model.address import AddressError
from outrider.model.envelope import BodyType
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.net.incoming_content import IncomingContent, LargeMessage, settle, written
from outrider.net.listener import AcceptedConnection
from outrider.net.session_connection import SessionConnection
from outrider.net.smtp_service import new_session
from outrider.net.tls import TlsTimes, tls_server_side
from outrider.net.tls_context import ServerTls
from outrider.net.tls_info import TlsFailure
from outrider.protocols.qmtp.addresses import read_address
from outrider.protocols.qmtp.events import MessageOctets, PackageReceived, QmtpLimits, SessionEnded
from outrider.protocols.qmtp.server import QmtpServer as QmtpCore
from outrider.reception.interface import Reception, Session, Transaction

MEMORY_OCTETS: Final = 1_048_576
"""Of a message in parking; beyond it goes to a file."""
PIECE: Final = 262_144
"""Octets written to, or read from, the file at a time."""
HEADER_OCTETS: Final = 1_048_576
"""Of a header section in a message that does not stay in memory."""

BAD_SENDER: Final = Reply(553, "5.1.7", "Sender address is malformed")
HEADERS_TOO_LARGE: Final = Reply(552, "5.3.4", "Header section is too large")
CANNOT_STORE: Final = Reply(452, "4.3.1", "Cannot store the message now; try again later")


class QmtpServerObserver(Protocol):
    """What the driver tells log and metrics. Must neither wait nor raise."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """The connection is closed; `messages` were taken in it."""

    def package_refused(self, session: Session, recipients: int, reply: Reply) -> None:
        """A package was refused as a whole, for its form or size."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """A handshake failed (TLS-6)."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """A fault of ours ended the session: the traceback is for the operator alone (SEC-215)."""


class SilentQmtpServerObserver:
    """Keeps it all to itself."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """Nothing."""

    def package_refused(self, session: Session, recipients: int, reply: Reply) -> None:
        """Nothing."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """Nothing."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class QmtpService:
    """What the sessions of one listener work with. A reload makes a new one, for sessions yet to come."""

    hostname: str
    limits: QmtpLimits
    reception: Reception
    new_session_id: Callable[[], str]
    parking_folder: str | None = None
    """Where large messages wait for their envelope; None is the system's folder for temporary files."""
    tls: ServerTls | None = None
    """TLS from the first octet; None for QMTP as it is."""
    observer: QmtpServerObserver = field(default_factory=SilentQmtpServerObserver)
    tls_times: TlsTimes = field(default_factory=TlsTimes)
    slow_reader_s: float = 300.0
    """For the client to take our answers, once a buffer is full (SEC-89)."""
    clock: Callable[[], float] = time.time
    """The time of day, seconds since the epoch."""


class QmtpServer:
    """Makes a protocol for each connection that a listener accepts: the listener's `ProtocolFactory`."""

    def __init__(self, service: QmtpService) -> None:
        self.service = service
        """What new sessions work with; exchanged by a reload, sessions under way keep theirs."""

    def __call__(self, connection: AcceptedConnection) -> asyncio.Protocol:
        """The protocol for a new connection."""
        service = self.service
        protocol = QmtpServerProtocol(service, connection)
        if service.tls is None:
            return protocol
        return tls_server_side(protocol, service.tls, times=service.tls_times, on_failed=protocol.tls_failed)


class QmtpServerProtocol(SessionConnection):
    """One connection."""

    __slots__ = ("_parking", "_refusal", "_service")

    _core: QmtpCore

    def __init__(self, service: QmtpService, connection: AcceptedConnection) -> None:
        """Nothing happens before `connection_made`."""
        core = QmtpCore(service.limits, asyncio.get_running_loop().time())
        session = new_session(
            connection,
            session_id=service.new_session_id(),
            protocol="qmtp",
            hostname=service.hostname,
            now=service.clock(),
        )
        super().__init__(connection, core, session, service.observer, service.slow_reader_s)
        self._service = service
        self._parking = Parking(service.parking_folder)
        self._refusal: Reply | None = None

    def _greet(self) -> None:
        self._settle(self._service.reception.connected(self._session), self._admitted)
        self._take_events()

    def _admitted(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._refusal = reply

    def _take_events(self) -> None:
        while self._pending is None and not self._write_paused_at:
            event = self._core.next_event()
            if isinstance(event, MessageOctets):
                self._parking.add(event.octets)
                if self._parking.is_full:
                    self._wait_for(self._parking.write(), _nothing)
            elif isinstance(event, PackageReceived):
                self._wait_for(self._decide(event), self._decided)
            elif isinstance(event, SessionEnded):
                self._why = event.reason
            elif self._draining and not self._core.is_closed:
                self._core.shut_down("server stopping")
            else:
                return

    def _end_broken(self) -> None:
        # QMTP has no word for it: what was not answered is sent again.
        self._why = "internal error"
        self._abort()

    def _tidy_up(self) -> None:
        self._parking.clear()

    # -- a package -------------------------------------------------------------------------------------------

    def _decided(self, replies: Sequence[Reply]) -> None:
        self._core.answer(replies, self._loop.time())

    async def _decide(self, package: PackageReceived) -> list[Reply]:
        """The answers to a package, in the order of its recipients."""
        parking, self._parking = self._parking, Parking(self._service.parking_folder)
        try:
            if not package.recipients:
                return []
            refusal = package.fault or self._refusal or (CANNOT_STORE if parking.is_lost else None)
            if refusal is not None:
                self._service.observer.package_refused(self._session, len(package.recipients), refusal)
                return [refusal] * len(package.recipients)
            return await self._carry_out(package, parking)
        finally:
            parking.clear()

    async def _carry_out(self, package: PackageReceived, parking: Parking) -> list[Reply]:
        reception = self._service.reception
        request = _mail_request(package.sender, parking)
        if request is None:
            return [BAD_SENDER] * len(package.recipients)
        transaction, decision = reception.sender(self._session, request, self._service.clock())
        reply = await settle(decision)
        if transaction is None or not reply.is_positive:
            return [reply] * len(package.recipients)
        try:
            replies = [await self._recipient(transaction, one) for one in package.recipients]
            if not any(one.is_positive for one in replies):
                reception.abandoned(transaction, "no recipient was accepted")
                return replies
            verdict = await self._content(transaction, parking)
        except BaseException:
            reception.abandoned(transaction, "internal error")
            raise
        self._messages += verdict.is_positive
        return [verdict if one.is_positive else one for one in replies]

    async def _recipient(self, transaction: Transaction, octets: bytes) -> Reply:
        try:
            address = read_address(octets)
        except AddressError as error:
            return Reply(553, "5.1.3", f"Recipient address is malformed: {error}")
        return await settle(self._service.reception.recipient(transaction, RecipientRequest(address)))

    async def _content(self, transaction: Transaction, parking: Parking) -> Reply:
        reception = self._service.reception
        reply = await settle(reception.content_begins(transaction))
        if not reply.is_positive:
            reception.abandoned(transaction, f"refused: {reply}")
            return reply
        incoming = IncomingContent(reception.inline_limit)
        large: LargeMessage | None = None
        try:
            async for piece in parking.pieces():
                incoming.add(piece)
                if large is not None:
                    await written(large.write(incoming.take()))
                elif incoming.outgrows_memory():
                    large = LargeMessage(reception, transaction, incoming.headers or b"")
                    await large.begin(incoming.take())
                elif len(incoming) > HEADER_OCTETS + reception.inline_limit:
                    reception.abandoned(transaction, f"refused: {HEADERS_TOO_LARGE}")
                    return HEADERS_TOO_LARGE
            if large is None:
                content = incoming.content(is_ascii=parking.is_ascii, is_binary=False)
                return await reception.finish(transaction, content)
            return await self._finish_large(transaction, large, incoming.take(), parking)
        except BaseException:
            if large is not None:
                await large.abandon()
            raise

    async def _finish_large(
        self, transaction: Transaction, large: LargeMessage, rest: bytes, parking: Parking
    ) -> Reply:
        reply = await large.finish(rest, is_ascii=parking.is_ascii, is_binary=False)
        if large.refusal is not None:
            self._service.reception.abandoned(transaction, f"refused: {large.refusal}")
        return reply


class Parking:
    """A message whose envelope is not here yet."""

    def __init__(self, folder: str | None) -> None:
        self.is_ascii = True
        """No octet above 127 so far."""
        self.is_lost = False
        """It could not be written down; what comes is thrown away."""
        self._folder = folder
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def add(self, octets: bytes) -> None:
        """Append; when `is_full` then holds, `write` must be awaited before the next."""
        if not self.is_lost:
            self.is_ascii = self.is_ascii and octets.isascii()
            self._memory += octets

    @property
    def is_full(self) -> bool:
        """Memory has taken what it should."""
        return len(self._memory) >= (MEMORY_OCTETS if self._file is None else PIECE)

    async def write(self) -> None:
        """Move what is in memory to the file."""
        octets, self._memory = self._memory, bytearray()
        try:
            await asyncio.to_thread(self._append, octets)
        except OSError:
            self.is_lost = True  # no room: the client keeps the message and tries again

    def _append(self, octets: bytes | bytearray) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  closed by clear
        self._file.write(octets)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, in order. Raises OSError."""
        file = self._file
        if file is not None:
            await asyncio.to_thread(file.seek, 0)
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        yield bytes(self._memory)

    def clear(self) -> None:
        """Forget everything; safe to call again."""
        self._memory.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


def _mail_request(sender: bytes, parking: Parking) -> MailRequest | None:
    """What MAIL would ask for; None when the sender is no address."""
    body_type = BodyType.SEVEN_BIT if parking.is_ascii else BodyType.EIGHT_BIT
    if not sender:
        return MailRequest(None, body_type=body_type)
    try:
        address = read_address(sender)
    except AddressError:
        return None
    return MailRequest(address, body_type=body_type, smtputf8=not address.is_ascii)


def _nothing(_result: None) -> None:
    """Go on."""
