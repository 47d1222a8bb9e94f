"""Carries mail by QMTP (QMTP-1): dialler and connection as `delivery.interface` wants them.

QMTP knows no TLS and no login: a hop that demands either is not dialled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from outrider.delivery.interface import ConnectFailed, Hop, Job, RequirementUnmet
from outrider.model.result import DeliveryResult, Kind
from outrider.net.client_link import Link
from outrider.net.client_observer import ClientObserver, SilentClientObserver
from outrider.net.client_settings import SmtpClientSettings, loop_time
from outrider.net.dialling import Destination, DialFailed, name_of
from outrider.net.outgoing_content import OutgoingContent, encode, prepare
from outrider.protocols.qmtp.addresses import write_address
from outrider.protocols.qmtp.client import QmtpClient, status_of
from outrider.protocols.qmtp.events import (
    Answer,
    ClientEnded,
    ClientEvent,
    PackageAnswered,
    PieceWanted,
    QmtpClientSettings,
    QmtpMail,
    QmtpOutcome,
)
from outrider.protocols.smtp.client_content import Unsendable

UNREADABLE: Final = "the stored message cannot be read"
_KINDS: Final = {Answer.TAKEN: Kind.RELAYED, Answer.NOT_NOW: Kind.DEFERRED, Answer.NOT_AT_ALL: Kind.FAILED}
"""QMTP carries no wish for reports, so what is taken is relayed (RFC 3464 section 2.3.3)."""


class QmtpLink(Link[ClientEvent]):
    """A connection with its core."""

    def __init__(self, settings: QmtpClientSettings) -> None:
        self.core = QmtpClient(settings)
        super().__init__(self.core)


class QmtpDialler:
    """Opens connections; one object for all destinations."""

    def __init__(self, settings: SmtpClientSettings, observer: ClientObserver | None = None) -> None:
        self.settings = settings
        self.observer: ClientObserver = observer or SilentClientObserver()

    async def connect(self, hop: Hop, address: Destination) -> QmtpConnection:
        """See `delivery.interface.Dialler`."""
        remote = name_of(hop.host, address, hop.port)
        if hop.tls.required or hop.username:
            what = f"TLS ({hop.tls.level})" if hop.tls.required else "a login"
            text = f"{what} is required, and QMTP has neither TLS nor login"
            raise RequirementUnmet(_deferred("4.7.4", text, remote))
        settings = QmtpClientSettings(self.settings.data_timeout_s, self.settings.command_timeout_s)
        try:
            link = await self.settings.dialling.dial(address, hop.port, lambda: QmtpLink(settings))
        except DialFailed as failure:
            raise ConnectFailed(_deferred("4.4.1", str(failure), remote)) from None
        self.observer.session_opened(remote, "qmtp", "")
        return QmtpConnection(link, remote, self.settings.recipients_per_message, self.observer)


class QmtpConnection:
    """An open connection: see `delivery.interface.Connection`."""

    def __init__(self, link: QmtpLink, remote: str, most_recipients: int, observer: ClientObserver) -> None:
        self._link = link
        self._core = link.core
        self._remote = remote
        self._most_recipients = most_recipients
        self._observer = observer

    @property
    def usable(self) -> bool:
        """Whether another message may follow."""
        return self._core.takes_mail and not self._link.has_news

    @property
    def description(self) -> str:
        """``mx.example [192.0.2.1]:209``."""
        return self._remote

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        """Carry the message; a result for every recipient of the job."""
        try:
            content = await _fit(job)
        except OSError:
            content = None
        if content is None:
            return dict.fromkeys(job.recipients, _deferred("4.3.0", UNREADABLE, self._remote))
        if isinstance(content, Unsendable):
            return dict.fromkeys(job.recipients, _failed(content.status, content.text))
        try:
            return await self._send(job, content)
        except BaseException:
            self.abort()
            raise

    async def close(self) -> None:
        """Close; QMTP has no farewell."""
        if self._core.takes_mail:
            self._link.close()
        else:
            # What is left in buffers belongs to a package that counts as failed.
            self._link.abort()

    def abort(self) -> None:
        """Close at once."""
        self._link.abort()

    # -- one job -------------------------------------------------------------------------------------

    async def _send(self, job: Job, content: OutgoingContent) -> dict[int, DeliveryResult]:
        envelope = job.message.envelope
        sender = write_address(envelope.sender)
        if sender is None:
            text = "the sender's address holds characters that cannot be sent"
            return dict.fromkeys(job.recipients, _failed("5.1.7", text))
        results: dict[int, DeliveryResult] = {}
        names: dict[int, bytes] = {}
        for position in job.recipients:
            name = write_address(envelope.recipients[position].address)
            if name is None:
                results[position] = _failed("5.1.3", "the address holds characters that cannot be sent")
            else:
                names[position] = name
        waiting = list(names)
        while waiting:
            size = self._most_recipients or len(waiting)
            batch, waiting = waiting[:size], waiting[size:]
            results.update(await self._package(sender, {n: names[n] for n in batch}, content))
        return results

    async def _package(
        self, sender: bytes, recipients: Mapping[int, bytes], content: OutgoingContent
    ) -> dict[int, DeliveryResult]:
        if not self._core.takes_mail:
            text = "the connection ended before this recipient's turn"
            return dict.fromkeys(recipients, _deferred("4.4.2", text, self._remote))
        whole = content.whole()
        pieces = None if whole is not None else content.pieces()
        found = content.survey
        mail = QmtpMail(sender, recipients, found.size, found.ends_with_crlf, whole)
        self._core.send_mail(mail, loop_time())
        while True:
            event = await self._link.event()
            if isinstance(event, PackageAnswered):
                self._look_for_misbehaviour()
                return {position: self._result(one) for position, one in event.outcomes.items()}
            if isinstance(event, PieceWanted) and pieces is not None:
                await self._link.wait_room()
                try:
                    octets, last = await pieces.next()
                except OSError:
                    self._core.abandon(UNREADABLE)  # in the middle of a netstring: nothing is delivered
                else:
                    self._core.send_content(octets, last=last, now=loop_time())

    def _look_for_misbehaviour(self) -> None:
        ended = self._link.peek()
        if isinstance(ended, ClientEnded) and ended.misbehaved:
            self._observer.server_misbehaved(self._remote, "answer", ended.reason)

    def _result(self, outcome: QmtpOutcome) -> DeliveryResult:
        if outcome.answer is not None:
            kind = _KINDS[outcome.answer]
            return DeliveryResult(kind, status_of(outcome), outcome.text, 0, self._remote, "qmtp")
        text = outcome.text
        if outcome.complete:
            text += "; the message may have been delivered"
        return _deferred("4.4.2", text, self._remote)


async def _fit(job: Job) -> OutgoingContent | Unsendable | None:
    """The content in a form that QMTP can carry: 8-bit and long lines may stay, stray octets may not."""
    content = await prepare(job.message)
    if content is None or isinstance(content, Unsendable) or not content.survey.stray:
        return content
    if not content.binary:
        return Unsendable("5.6.0", "message holds a stray CR, LF or NUL and cannot be sent safely")
    return await encode(content, eight_bit=True)


def _deferred(status: str, text: str, remote: str) -> DeliveryResult:
    return DeliveryResult(Kind.DEFERRED, status, text, 0, remote, "qmtp")


def _failed(status: str, text: str) -> DeliveryResult:
    return DeliveryResult(Kind.FAILED, status, text, 0, "", "qmtp")
