"""Opening an AMTP session with one address: connect, TLS both ways, who is it, EHLO, login
(draft-weinman-amtp-03).

The server is judged before a word is said to it (AMTP-5): its certificate proves the recipients' domain, or
its own name where that name came from somebody we believe. What it proves by an unsigned SRV record alone is
good enough where nobody demands more, and is recorded as claimed.

Whoever has spoken to us by TLS has answered: what it refuses then, our identity with 504 above all, makes the
mail wait (AMTP-8), and no other protocol is tried (ITP-7).
"""

from __future__ import annotations

import asyncio
from typing import Final

from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet, ServerTerms
from outrider.identity.host_identity import HostRefusal, ServerIdentity, ServerQuestion
from outrider.identity.server_tls import TlsRefusal
from outrider.net.client_attempt import Attempt, info_of
from outrider.net.client_link import Link
from outrider.net.client_login import log_in
from outrider.net.client_settings import SmtpClientParts, loop_time
from outrider.net.dialling import Destination
from outrider.net.smtp_opening import OpenSession, broken_after_handshake
from outrider.net.tls import TlsTransport
from outrider.net.tls_files import TlsConfigError
from outrider.net.tls_info import TlsHandshakeError
from outrider.protocols.amtp.client import AmtpClient
from outrider.protocols.smtp.client_events import ClientSettings, Event, SessionEnded
from outrider.protocols.smtp.client_states import End, Stage

_NO_TERMS: Final = ServerTerms("", must_prove=True)


class AmtpLink(Link[Event]):
    """A connection with its core."""

    def __init__(self, settings: ClientSettings) -> None:
        self.core = AmtpClient(settings, loop_time())
        super().__init__(self.core)


class AmtpOpening:
    """One attempt to open a session with one address."""

    def __init__(self, parts: SmtpClientParts, hop: Hop, address: Destination) -> None:
        self._attempt = Attempt(parts, hop, address)
        self._parts = parts
        self._hop = hop
        self._terms = hop.terms or _NO_TERMS

    async def run(self) -> tuple[OpenSession, AmtpClient]:
        """Open it. Raises ConnectFailed, RequirementUnmet."""
        wire = await self._attempt.dial_for_tls()
        link = AmtpLink(self._parts.settings.for_core())
        try:
            await self._handshake(link, wire)
            await self._opened(link)
            if self._hop.username:
                await log_in(self._attempt, link, link.core, certificate=True)
                link.core.say_hello_again(loop_time())  # AMTP-20: the list that holds for this login
                await self._opened(link)
        except BaseException:
            link.abort()
            raise
        attempt = self._attempt
        self._parts.observer.session_opened(attempt.remote, "amtp", attempt.tls_line)
        return OpenSession(link, link.core, attempt.view(link.core.offers)), link.core

    # -- who is it -----------------------------------------------------------------------------------

    async def _handshake(self, link: AmtpLink, wire: asyncio.Transport) -> None:
        tls = self._hop.tls
        try:
            transport = await self._attempt.handshake(
                link, wire, lambda: self._parts.tls.amtp_context(tls), self._target, announce=True
            )
        except TlsHandshakeError as error:
            raise self._attempt.handshake_failed(error.failure) from None
        self._judge(transport)

    @property
    def _target(self) -> str:
        return self._hop.tls.name or self._hop.host

    def _judge(self, transport: TlsTransport) -> None:
        """Before anything is said: is it the right server? (AMTP-5) Raises RequirementUnmet."""
        info, terms, target = info_of(transport), self._terms, self._target.lower().rstrip(".")
        named = frozenset({target}) if terms.named else frozenset()
        question = ServerQuestion(terms.domain, target, terms.srv_secure, named)
        try:
            found = self._parts.tls.judge_amtp(self._hop.tls, question, info, self._parts.clock())
        except TlsConfigError as error:
            raise self._attempt.unmet("4.3.5", f"the CAs for this server cannot be used: {error}") from None
        refused = isinstance(found, HostRefusal | TlsRefusal)
        self._attempt.tls_line = f"{info.version} {info.cipher} {'unverified' if refused else found}"
        if isinstance(found, HostRefusal | TlsRefusal):
            raise self._unproven(found.reason)
        proven = not isinstance(found, ServerIdentity) or found.proven
        if terms.must_prove and not proven:
            raise self._unproven(
                f"it proves only the name {target}, to which an unsigned SRV record led; a certificate for "
                f"{terms.domain}, DNSSEC, or a partner entry with this host is needed"
            )
        self._parts.observer.amtp_server_judged(self._attempt.remote, str(found), proven)

    def _unproven(self, reason: str) -> RequirementUnmet:
        whom = self._terms.domain or self._target
        return self._attempt.unmet("4.7.5", f"the server is not proven to be the one for {whom}: {reason}")

    # -- EHLO ----------------------------------------------------------------------------------------

    async def _opened(self, link: AmtpLink) -> None:
        event = await link.event()
        if isinstance(event, SessionEnded):
            raise self._ended(event, link)

    def _ended(self, event: SessionEnded, link: AmtpLink) -> ConnectFailed | RequirementUnmet:
        failed = self._attempt.ended(event)
        match event.ending.how:
            case End.NOT_BELIEVED:
                self._parts.observer.not_believed(self._attempt.remote, failed.result.text)
                return RequirementUnmet(failed.result)
            case End.LOST if event.ending.stage is Stage.GREETING:
                # TLS 1.3: a server that has judged our certificate by an alert does so after our handshake.
                return self._attempt.handshake_failed(broken_after_handshake(link.lost, event.ending.text))
            case _:
                return ConnectFailed(failed.result, answered=True)
