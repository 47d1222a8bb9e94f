"""Opening a session with one address of one hop: connect, greeting, EHLO, TLS, EHLO anew, login.

TLS is negotiated as the hop demands (TLS-4a). What is demanded and not met ends in `RequirementUnmet` before
any mail is offered; a handshake that nobody demanded and that fails leads to a second connection, in the
clear (TLS-3).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet
from outrider.identity.server_tls import TlsRefusal
from outrider.model.reply import Reply
from outrider.net.client_attempt import Attempt, info_of
from outrider.net.client_link import Link
from outrider.net.client_login import log_in
from outrider.net.client_settings import SmtpClientParts, loop_time
from outrider.net.dialling import Destination
from outrider.net.tls import TlsTransport
from outrider.net.tls_info import TlsCause, TlsConnectionError, TlsFailure, TlsHandshakeError, TlsStage
from outrider.protocols.smtp.client import SmtpClient
from outrider.protocols.smtp.client_events import (
    ClientSettings,
    Event,
    SessionEnded,
    SessionOpened,
    StartTlsAccepted,
    StartTlsRefused,
)
from outrider.protocols.smtp.client_results import ServerView
from outrider.protocols.smtp.client_states import End
from outrider.protocols.smtp.reply_reader import one_line

PROVING: Final = ("verify", "fingerprint", "mutual")
"""Levels at which the server must prove who it is."""


class SmtpLink(Link[Event]):
    """A connection with its core."""

    def __init__(self, settings: ClientSettings, *, under_tls: bool = False) -> None:
        self.core = SmtpClient(settings, loop_time(), under_tls=under_tls)
        super().__init__(self.core)


class TlsFellThrough(Exception):
    """TLS failed, and the policy allows to go on without it, on a new connection (TLS-3)."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that is ready for mail."""

    link: Link[Event]
    core: SmtpClient
    server: ServerView


class Opening:
    """One attempt to open a session with one address."""

    def __init__(self, parts: SmtpClientParts, hop: Hop, address: Destination) -> None:
        self._attempt = Attempt(parts, hop, address)
        self._parts = parts
        self._hop = hop

    @property
    def tls_failed(self) -> bool:
        """TLS was tried and failed: what follows is in the clear."""
        return self._attempt.tls_failed

    @tls_failed.setter
    def tls_failed(self, failed: bool) -> None:
        self._attempt.tls_failed = failed

    def unmet(self, status: str, text: str) -> RequirementUnmet:
        """A requirement of ours is not met; the sentence says which."""
        return self._attempt.unmet(status, text)

    async def run(self, *, with_tls: bool) -> OpenSession:
        """Open it. Raises ConnectFailed, RequirementUnmet, and TlsFellThrough where that may be mended."""
        implicit = self._hop.protocol == "smtps"
        link = await self._dial(implicit=implicit)
        try:
            await self._attempt.opened(link)
            if with_tls and not implicit:
                await self._negotiate_tls(link)
            if self._hop.username:
                tls = self._hop.tls
                certificate = tls.level == "mutual" or bool(tls.certificate)
                await log_in(self._attempt, link, link.core, certificate=certificate)
        except BaseException:
            link.abort()
            raise
        attempt = self._attempt
        self._parts.observer.session_opened(attempt.remote, self._hop.protocol, attempt.tls_line)
        return OpenSession(link, link.core, attempt.view(link.core.offers))

    async def _dial(self, *, implicit: bool) -> SmtpLink:
        settings = self._parts.settings.for_core(lmtp=self._hop.protocol == "lmtp")
        if not implicit:
            return await self._attempt.dial(lambda: SmtpLink(settings))
        wire = await self._attempt.dial_for_tls()
        link = SmtpLink(settings, under_tls=True)
        await self._handshake(link, wire, announce=True)
        return link

    # -- TLS -----------------------------------------------------------------------------------------

    async def _negotiate_tls(self, link: SmtpLink) -> None:
        hop = self._hop
        if "STARTTLS" not in link.core.offers:
            if self._parts.seen_starttls.has_vanished(hop.host):
                self._parts.observer.starttls_vanished(self._attempt.remote)
            if hop.tls.required:
                raise self.unmet(
                    "4.7.4", f"TLS is required ({hop.tls.level}) but the server does not offer it"
                )
            return
        self._parts.seen_starttls.offered(hop.host)
        link.core.start_tls(loop_time())
        event = await link.event()
        if isinstance(event, StartTlsRefused):
            self._starttls_refused(event.reply)
            return
        if isinstance(event, SessionEnded):
            # A server that neither begins TLS nor refuses it is met again in the clear, if that is allowed.
            raise self._without_tls("4.7.0", event.ending.text, self._attempt.ended(event))
        _expect(event, StartTlsAccepted)
        await self._handshake(link, link.transport, announce=False)
        link.core.tls_begun(loop_time())
        await self._opened_under_tls(link)

    def _starttls_refused(self, reply: Reply) -> None:
        self._parts.observer.starttls_refused(self._attempt.remote, reply.code, one_line(reply))
        self.tls_failed = True
        if self._hop.tls.required:
            text = f"TLS is required ({self._hop.tls.level}) but refused: {reply.code} {one_line(reply)}"
            raise self.unmet("4.7.4", text)

    def _without_tls(self, status: str, text: str, failure: ConnectFailed) -> Exception:
        if self._hop.tls.required:
            return self.unmet(status, f"TLS is required ({self._hop.tls.level}) but failed: {text}")
        return failure if self._hop.protocol == "smtps" else TlsFellThrough()

    async def _handshake(self, link: SmtpLink, wire: asyncio.Transport, *, announce: bool) -> None:
        tls = self._hop.tls
        name = tls.name or self._hop.host
        try:
            transport = await self._attempt.handshake(
                link, wire, lambda: self._parts.tls.context(tls), name, announce=announce
            )
        except TlsHandshakeError as error:
            raise self._handshake_failed(error.failure) from None
        try:
            self._judge(transport, name)
        except BaseException:
            transport.abort()
            raise

    def _handshake_failed(self, failure: TlsFailure) -> Exception:
        goes_on = not self._hop.tls.required and self._hop.protocol != "smtps"
        self._parts.observer.handshake_failed(self._attempt.remote, failure, goes_on)
        text = str(failure)
        refused = ConnectFailed(self._attempt.deferred("4.7.5", text), answered=True)
        return self._without_tls("4.7.5", text, refused)

    def _judge(self, transport: TlsTransport, name: str) -> None:
        info, requirement = info_of(transport), self._hop.tls
        proven = self._parts.tls.judge(requirement, name, info, self._parts.clock())
        refused = isinstance(proven, TlsRefusal)
        self._attempt.tls_line = f"{info.version} {info.cipher} {'unverified' if refused else proven}"
        if isinstance(proven, TlsRefusal) and requirement.level in PROVING:
            text = f"the server is not proven to be {name} ({requirement.level}): {proven.reason}"
            raise self.unmet("4.7.5", text)

    async def _opened_under_tls(self, link: SmtpLink) -> None:
        event = await link.event()
        if isinstance(event, SessionEnded):
            if event.ending.how is End.LOST:
                # In TLS 1.3 a server judges our certificate when our side of the handshake is complete, and
                # many a broken one fails with its first record: for the policy that is still the handshake.
                self._attempt.tls_line = ""
                raise self._handshake_failed(broken_after_handshake(link.lost, event.ending.text))
            raise self._attempt.ended(event)
        _expect(event, SessionOpened)


def broken_after_handshake(error: Exception | None, text: str) -> TlsFailure:
    """Why a session broke before its first reply under TLS."""
    if isinstance(error, TlsConnectionError):
        return error.failure
    return TlsFailure(TlsStage.SESSION, TlsCause.PEER_CLOSED, f"{text} without a word under TLS", "", "")


def _expect(event: Event, kind: type[Event]) -> None:
    if not isinstance(event, kind):
        raise AssertionError(f"{type(event).__name__} where the core can only give {kind.__name__}")
