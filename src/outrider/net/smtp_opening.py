"""Opening a session with one address of one hop: connect, greeting, EHLO, TLS, EHLO anew, login.

TLS is negotiated as the hop demands (TLS-4a). What is demanded and not met ends in `RequirementUnmet` before
any mail is offered; a handshake that nobody demanded and that fails leads to a second connection, in the
clear (TLS-3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe
from typing import Final, cast

from outrider.config.schema import Config
from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet
from outrider.identity.sasl_client import ClientCredentials, ClientExchange, LoginImpossible, choose_exchange
from outrider.identity.server_tls import TlsRefusal
from outrider.model.reply import Reply
from outrider.model.result import DeliveryResult, Kind
from outrider.net.client_link import Link
from outrider.net.client_observer import ClientObserver
from outrider.net.client_tls import ClientTls, SeenStartTls
from outrider.net.dialling import Destination, DialFailed, Dialling, name_of
from outrider.net.tls import TlsTimes, TlsTransport, start_tls_client
from outrider.net.tls_files import TlsConfigError
from outrider.net.tls_info import (
    TlsCause,
    TlsConnectionError,
    TlsExportError,
    TlsFailure,
    TlsHandshakeError,
    TlsInfo,
    TlsStage,
)
from outrider.protocols.smtp.client import SmtpClient
from outrider.protocols.smtp.client_content import LongLines
from outrider.protocols.smtp.client_events import (
    ChallengeReceived,
    ClientSettings,
    Event,
    LoginEnded,
    SessionEnded,
    SessionOpened,
    StartTlsAccepted,
    StartTlsRefused,
)
from outrider.protocols.smtp.client_results import ServerView, ending_result
from outrider.protocols.smtp.client_states import End
from outrider.protocols.smtp.reply_reader import one_line

PROVING: Final = ("verify", "fingerprint", "mutual")
"""Levels at which the server must prove who it is."""
MAX_PASSWORD_FILE: Final = 4096


@dataclass(frozen=True, slots=True)
class SmtpClientSettings:
    """What holds for all connections. Times in seconds."""

    hostname: str
    dialling: Dialling = field(default_factory=Dialling)
    command_timeout_s: float = 300.0
    data_timeout_s: float = 600.0
    handshake_timeout_s: float = 30.0
    recipients_per_message: int = 100
    long_lines: LongLines = LongLines.ENCODE

    @classmethod
    def of(cls, config: Config) -> SmtpClientSettings:
        """As configured."""
        delivery, net = config.delivery, config.net
        return cls(
            hostname=config.hostname,
            dialling=Dialling(delivery.connect_timeout, net.source_address, net.source_address6),
            command_timeout_s=delivery.command_timeout,
            data_timeout_s=delivery.data_timeout,
            handshake_timeout_s=config.limits.handshake_timeout,
            recipients_per_message=delivery.recipients_per_message,
            long_lines=LongLines(delivery.long_lines),
        )

    def for_core(self, *, lmtp: bool) -> ClientSettings:
        """What of it concerns one session."""
        return ClientSettings(
            hello_name=self.hostname,
            lmtp=lmtp,
            greeting_timeout_s=self.command_timeout_s,
            command_timeout_s=self.command_timeout_s,
            data_timeout_s=self.data_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class SmtpClientParts:
    """What all sessions work with."""

    settings: SmtpClientSettings
    tls: ClientTls
    observer: ClientObserver
    clock: Callable[[], float]
    """The time of day, for certificates."""
    seen_starttls: SeenStartTls = field(default_factory=SeenStartTls)


class SmtpLink(Link[Event]):
    """A connection with its core."""

    def __init__(self, settings: ClientSettings, *, under_tls: bool = False) -> None:
        self.core = SmtpClient(settings, loop_time(), under_tls=under_tls)
        super().__init__(self.core)


def loop_time() -> float:
    """The clock of the cores."""
    return asyncio.get_running_loop().time()


class TlsFellThrough(Exception):
    """TLS failed, and the policy allows to go on without it, on a new connection (TLS-3)."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that is ready for mail."""

    link: SmtpLink
    server: ServerView


class Opening:
    """One attempt to open a session with one address."""

    def __init__(self, parts: SmtpClientParts, hop: Hop, address: Destination) -> None:
        self.tls_failed = False
        """TLS was tried and failed: what follows is in the clear."""
        self._parts = parts
        self._settings = parts.settings
        self._observer = parts.observer
        self._hop = hop
        self._address = address
        self._remote = name_of(hop.host, address, hop.port)
        self._tls_line = ""
        self._info: TlsInfo | None = None

    async def run(self, *, with_tls: bool) -> OpenSession:
        """Open it. Raises ConnectFailed, RequirementUnmet, and TlsFellThrough where that may be mended."""
        implicit = self._hop.protocol == "smtps"
        link = await self._dial(implicit=implicit)
        try:
            await self._opened(link)
            if with_tls and not implicit:
                await self._negotiate_tls(link)
            if self._hop.username:
                await self._log_in(link)
        except BaseException:
            link.abort()
            raise
        self._observer.session_opened(self._remote, self._hop.protocol, self._tls_line)
        return OpenSession(link, self._view(link.core))

    def _view(self, core: SmtpClient | None = None) -> ServerView:
        lmtp = self._hop.protocol == "lmtp"
        return ServerView(
            remote=self._remote,
            protocol=self._hop.protocol,
            tls=self._tls_line,
            promises_reports=lmtp or (core is not None and "DSN" in core.offers),
            tls_failed=self.tls_failed,
        )

    # -- what can go wrong ---------------------------------------------------------------------------

    def _deferred(self, status: str, text: str) -> DeliveryResult:
        return DeliveryResult(
            Kind.DEFERRED, status, text, 0, self._remote, self._hop.protocol, self._tls_line
        )

    def unmet(self, status: str, text: str) -> RequirementUnmet:
        """A requirement of ours is not met; the sentence says which."""
        return RequirementUnmet(self._deferred(status, text))

    def _ended(self, ended: SessionEnded) -> ConnectFailed:
        ending = ended.ending
        if ending.how is End.MALFORMED:
            self._observer.server_misbehaved(self._remote, ending.stage.value, ending.text)
        return ConnectFailed(ending_result(ending, self._view()))

    # -- connecting and greeting ---------------------------------------------------------------------

    async def _dial(self, *, implicit: bool) -> SmtpLink:
        settings = self._settings.for_core(lmtp=self._hop.protocol == "lmtp")
        dialling, address, port = self._settings.dialling, self._address, self._hop.port
        try:
            if not implicit:
                return await dialling.dial(address, port, lambda: SmtpLink(settings))
            wire = await dialling.dial(address, port, _Wire)
        except DialFailed as failure:
            raise ConnectFailed(self._deferred("4.4.1", str(failure))) from None
        link = SmtpLink(settings, under_tls=True)
        await self._handshake(link, wire.transport, announce=True)
        return link

    async def _opened(self, link: SmtpLink) -> None:
        event = await link.event()
        if isinstance(event, SessionEnded):
            raise self._ended(event)
        _expect(event, SessionOpened)

    # -- TLS -----------------------------------------------------------------------------------------

    async def _negotiate_tls(self, link: SmtpLink) -> None:
        hop = self._hop
        if "STARTTLS" not in link.core.offers:
            if self._parts.seen_starttls.has_vanished(hop.host):
                self._observer.starttls_vanished(self._remote)
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
            raise self._without_tls("4.7.0", event.ending.text, self._ended(event))
        _expect(event, StartTlsAccepted)
        await self._handshake(link, link.transport, announce=False)
        link.core.tls_begun(loop_time())
        await self._opened_under_tls(link)

    def _starttls_refused(self, reply: Reply) -> None:
        self._observer.starttls_refused(self._remote, reply.code, one_line(reply))
        self.tls_failed = True
        if self._hop.tls.required:
            text = f"TLS is required ({self._hop.tls.level}) but refused: {reply.code} {one_line(reply)}"
            raise self.unmet("4.7.4", text)

    def _without_tls(self, status: str, text: str, failure: ConnectFailed) -> Exception:
        if self._hop.tls.required:
            return self.unmet(status, f"TLS is required ({self._hop.tls.level}) but failed: {text}")
        return failure if self._hop.protocol == "smtps" else TlsFellThrough()

    async def _handshake(self, link: SmtpLink, wire: asyncio.Transport, *, announce: bool) -> None:
        name = self._hop.tls.name or self._hop.host
        try:
            context = self._parts.tls.context(self._hop.tls)
            transport = await start_tls_client(
                wire,
                link,
                context,
                server_hostname=_server_name(name),
                announce=announce,
                times=TlsTimes(handshake_s=self._settings.handshake_timeout_s),
            )
        except TlsConfigError as error:
            wire.abort()
            raise self.unmet("4.3.5", f"our certificate cannot be used: {error}") from None
        except TlsHandshakeError as error:
            raise self._handshake_failed(error.failure) from None
        link.use(transport)
        try:
            self._judge(transport, name)
        except BaseException:
            transport.abort()
            raise

    def _handshake_failed(self, failure: TlsFailure) -> Exception:
        goes_on = not self._hop.tls.required and self._hop.protocol != "smtps"
        self._observer.handshake_failed(self._remote, failure, goes_on)
        text = str(failure)
        return self._without_tls("4.7.5", text, ConnectFailed(self._deferred("4.7.5", text)))

    def _judge(self, transport: TlsTransport, name: str) -> None:
        info, requirement = transport.info, self._hop.tls
        if info is None:
            raise AssertionError("TLS without a handshake")
        proven = self._parts.tls.judge(requirement, name, info, self._parts.clock())
        self._info = info
        self._tls_line = f"{info.version} {info.cipher} "
        self._tls_line += "unverified" if isinstance(proven, TlsRefusal) else str(proven)
        if isinstance(proven, TlsRefusal) and requirement.level in PROVING:
            text = f"the server is not proven to be {name} ({requirement.level}): {proven.reason}"
            raise self.unmet("4.7.5", text)

    async def _opened_under_tls(self, link: SmtpLink) -> None:
        event = await link.event()
        if isinstance(event, SessionEnded):
            if event.ending.how is End.LOST:
                # In TLS 1.3 a server judges our certificate when our side of the handshake is complete, and
                # many a broken one fails with its first record: for the policy that is still the handshake.
                self._tls_line = ""
                raise self._handshake_failed(_broken_after_handshake(link.lost, event.ending.text))
            raise self._ended(event)
        _expect(event, SessionOpened)

    # -- login ---------------------------------------------------------------------------------------

    async def _log_in(self, link: SmtpLink) -> None:
        if not link.core.under_tls:
            raise self.unmet(
                "4.7.11", "a login is required but there is no TLS, and it is sent only under TLS"
            )
        mechanism = "?"
        try:
            exchange = choose_exchange(await self._credentials(), link.core.offers.mechanisms)
            mechanism = exchange.mechanism
            link.core.authenticate(mechanism, exchange.initial(), loop_time())
            await self._exchange(link, exchange)
        except LoginImpossible as problem:
            self._observer.login_failed(self._remote, mechanism, str(problem))
            raise self.unmet("4.7.8", f"login failed: {problem}") from None

    async def _exchange(self, link: SmtpLink, exchange: ClientExchange) -> None:
        while True:
            event = await link.event()
            if isinstance(event, ChallengeReceived):
                await self._respond(link.core, exchange, event.octets)
            elif isinstance(event, LoginEnded):
                if event.reply.is_positive:
                    exchange.check_success()
                    return
                raise LoginImpossible(f"{event.reply.code} {one_line(event.reply)}")
            elif isinstance(event, SessionEnded):
                raise self._ended(event)

    async def _respond(self, core: SmtpClient, exchange: ClientExchange, challenge: bytes) -> None:
        if exchange.is_expensive:
            response = await asyncio.to_thread(exchange.respond, challenge)
        else:
            response = exchange.respond(challenge)
        core.respond(response, loop_time())

    async def _credentials(self) -> ClientCredentials:
        hop, info = self._hop, self._info
        binding = None
        if info is not None and info.version == "TLSv1.3":
            # RFC 9266: in older versions servers expect other bindings by default.
            try:
                binding = info.tls_exporter_channel_binding()
            except TlsExportError:
                binding = None
        password = await asyncio.to_thread(_read_password, hop.password_file) if hop.password_file else ""
        has_certificate = hop.tls.level == "mutual" or bool(hop.tls.certificate)
        return ClientCredentials(hop.username, password, has_certificate, binding, token_urlsafe(24))


def _broken_after_handshake(error: Exception | None, text: str) -> TlsFailure:
    if isinstance(error, TlsConnectionError):
        return error.failure
    return TlsFailure(TlsStage.SESSION, TlsCause.PEER_CLOSED, f"{text} without a word under TLS", "", "")


class _Wire(asyncio.Protocol):
    """Holds a new connection until TLS takes it over."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)


def _expect(event: Event, kind: type[Event]) -> None:
    if not isinstance(event, kind):
        raise AssertionError(f"{type(event).__name__} where the core can only give {kind.__name__}")


def _server_name(name: str) -> str:
    """For SNI: a host name, never an address or the path of a socket (RFC 6066 section 3)."""
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return "" if "/" in name or not name.isascii() else name
    return ""


def _read_password(path: str) -> str:
    """The first line of the file. Raises LoginImpossible."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_PASSWORD_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise LoginImpossible(f"the password file {path} cannot be read") from None
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise LoginImpossible(f"the password file {path} has no first line")
    return password
