"""One attempt to open a session with one address: what SMTP and AMTP have in common.

Connecting, the handshake, the answer to EHLO; and how each failure is worded for the trail and classed for
delivery. What the certificate has to prove, and what may go on without TLS, is each protocol's own affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar, cast

from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet
from outrider.model.result import DeliveryResult, Kind
from outrider.net.client_link import Link
from outrider.net.client_settings import SmtpClientParts
from outrider.net.dialling import Destination, DialFailed, name_of
from outrider.net.tls import TlsTimes, TlsTransport, start_tls_client
from outrider.net.tls_context import ClientContext
from outrider.net.tls_files import TlsConfigError
from outrider.net.tls_info import TlsCause, TlsFailure, TlsInfo, TlsStage
from outrider.protocols.smtp.client_events import Event, SessionEnded, SessionOpened
from outrider.protocols.smtp.client_offers import Offers
from outrider.protocols.smtp.client_results import ServerView, ending_result
from outrider.protocols.smtp.client_states import End

_SILENCE: Final = (TlsCause.TIMED_OUT, TlsCause.PEER_CLOSED)

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.Protocol)


class Attempt:
    """See the module. `tls_line` and `info` are filled in as they become known."""

    def __init__(self, parts: SmtpClientParts, hop: Hop, address: Destination) -> None:
        self.parts = parts
        self.hop = hop
        self.remote = name_of(hop.host, address, hop.port)
        self.tls_line = ""
        """The session's TLS for results and logs; "" in the clear."""
        self.tls_failed = False
        """TLS was tried and failed: what follows is in the clear."""
        self.info: TlsInfo | None = None
        self._address = address

    def view(self, offers: Offers | None = None) -> ServerView:
        """The server as results name it."""
        lmtp = self.hop.protocol == "lmtp"
        return ServerView(
            remote=self.remote,
            protocol=self.hop.protocol,
            tls=self.tls_line,
            promises_reports=lmtp or (offers is not None and "DSN" in offers),
            tls_failed=self.tls_failed,
        )

    # -- what can go wrong ---------------------------------------------------------------------------

    def deferred(self, status: str, text: str) -> DeliveryResult:
        """The mail waits, for this reason."""
        return DeliveryResult(Kind.DEFERRED, status, text, 0, self.remote, self.hop.protocol, self.tls_line)

    def unmet(self, status: str, text: str) -> RequirementUnmet:
        """A requirement of ours is not met; the sentence says which."""
        return RequirementUnmet(self.deferred(status, text))

    def ended(self, ended: SessionEnded) -> ConnectFailed:
        """The session ended before it was open. A server that sent a reply has answered."""
        ending = ended.ending
        if ending.how is End.MALFORMED:
            self.parts.observer.server_misbehaved(self.remote, ending.stage.value, ending.text)
        return ConnectFailed(ending_result(ending, self.view()), answered=ending.reply is not None)

    def handshake_failed(self, failure: TlsFailure) -> ConnectFailed:
        """Where TLS is all there is. A host that takes the connection and says nothing is out of reach; any
        word of TLS is an answer."""
        self.parts.observer.handshake_failed(self.remote, failure, False)
        silent = failure.stage is TlsStage.HELLO and failure.cause in _SILENCE
        return ConnectFailed(self.deferred("4.7.5", str(failure)), answered=not silent)

    # -- steps ---------------------------------------------------------------------------------------

    async def dial(self, factory: Callable[[], _ProtocolT]) -> _ProtocolT:
        """Connect in the clear. Raises ConnectFailed."""
        try:
            return await self.parts.settings.dialling.dial(self._address, self.hop.port, factory)
        except DialFailed as failure:
            raise ConnectFailed(self.deferred("4.4.1", str(failure))) from None

    async def dial_for_tls(self) -> asyncio.Transport:
        """Connect, for TLS from the first octet. Raises ConnectFailed."""
        try:
            wire = await self.parts.settings.dialling.dial(self._address, self.hop.port, _Wire)
        except DialFailed as failure:
            raise ConnectFailed(self.deferred("4.4.1", str(failure))) from None
        return wire.transport

    async def handshake(
        self,
        link: Link[Event],
        wire: asyncio.Transport,
        context: Callable[[], ClientContext],
        name: str,
        *,
        announce: bool,
    ) -> TlsTransport:
        """TLS on `wire`, for the host `name` (SNI); `announce` for a link that has not been connected yet.

        Raises RequirementUnmet where our own certificate is at fault, TlsHandshakeError.
        """
        transport = await self.secured(link, wire, context, name, announce=announce)
        link.use(transport)
        return transport

    async def secured(
        self,
        protocol: asyncio.Protocol,
        wire: asyncio.Transport,
        context: Callable[[], ClientContext],
        name: str,
        *,
        announce: bool,
        alpn: tuple[bytes, ...] = (),
    ) -> TlsTransport:
        """As `handshake`, for a protocol that is no `Link`."""
        try:
            transport = await start_tls_client(
                wire,
                protocol,
                context(),
                server_hostname=_server_name(name),
                alpn_protocols=alpn,
                announce=announce,
                times=TlsTimes(handshake_s=self.parts.settings.handshake_timeout_s),
            )
        except TlsConfigError as error:
            wire.abort()
            raise self.unmet("4.3.5", f"our certificate cannot be used: {error}") from None
        self.info = info_of(transport)
        return transport

    async def opened(self, link: Link[Event]) -> Offers:
        """Wait for the answer to EHLO. Raises ConnectFailed."""
        event = await link.event()
        if isinstance(event, SessionEnded):
            raise self.ended(event)
        if not isinstance(event, SessionOpened):
            raise AssertionError(f"{type(event).__name__} where the core can only give SessionOpened")
        return event.offers


def info_of(transport: TlsTransport) -> TlsInfo:
    """The facts of a session whose handshake is done."""
    if transport.info is None:
        raise AssertionError("TLS without a handshake")
    return transport.info


class _Wire(asyncio.Protocol):
    """Holds a new connection until TLS takes it over."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)


def _server_name(name: str) -> str:
    """For SNI: a host name, never an address or the path of a socket (RFC 6066 section 3)."""
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return "" if "/" in name or not name.isascii() else name
    return ""
