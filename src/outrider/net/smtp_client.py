"""Carries mail by SMTP, submission and LMTP: the dialler's and the connection's half of `delivery.interface`.

Opening a session goes: connect, greeting and EHLO, TLS as the hop demands (TLS-4a), EHLO anew, login. What is demanded
and not met ends in `RequirementUnmet` before any mail is offered; a handshake that nobody demanded and that fails
costs a second connection, in the clear (TLS-3).

Time is bounded everywhere: by the dialler while connecting, by the handshake's limit, by the core's deadlines for
everything else, the taking of our octets included (SEC-88, SEC-89).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe
from typing import Final

from outrider.config.schema import Config
from outrider.delivery.interface import ConnectFailed, Hop, Job, RequirementUnmet
from outrider.identity.sasl_client import ClientCredentials, ClientExchange, LoginImpossible, choose_exchange
from outrider.identity.server_tls import TlsRefusal
from outrider.model.reply import Reply
from outrider.model.result import DeliveryResult, Kind
from outrider.net.client_link import Link
from outrider.net.client_observer import ClientObserver, SilentClientObserver
from outrider.net.client_tls import ClientTls, SeenStartTls
from outrider.net.dialling import Destination, DialFailed, Dialling, name_of
from outrider.net.outgoing_content import OutgoingContent, encode, prepare
from outrider.net.tls import TlsTimes, TlsTransport, start_tls_client
from outrider.net.tls_files import TlsConfigError
from outrider.net.tls_info import TlsExportError, TlsFailure, TlsHandshakeError, TlsInfo, TlsSessionError
from outrider.protocols.smtp.client import SmtpClient
from outrider.protocols.smtp.client_content import Carriage, LongLines, Unsendable, carriage
from outrider.protocols.smtp.client_events import (
    ChallengeReceived,
    ClientSettings,
    ContentWanted,
    Event,
    LoginEnded,
    Mail,
    SessionEnded,
    SessionOpened,
    StartTlsAccepted,
    StartTlsRefused,
    TransactionEnded,
)
from outrider.protocols.smtp.client_plan import (
    BatchLimits,
    Sortable,
    batch_limits,
    next_batch,
    prepare_mail,
    too_large,
    unsendable_for_all,
    unsendable_recipients,
)
from outrider.protocols.smtp.client_results import (
    ServerView,
    ending_result,
    outcome_result,
    reply_result,
    unsendable_result,
)
from outrider.protocols.smtp.client_states import End, State
from outrider.protocols.smtp.reply_reader import one_line

NOT_YET: Final = ("dane", "mta-sts")
"""Levels of [delivery] tls that are not supported: the configuration refuses them, and so does this room."""
PROVING: Final = ("verify", "fingerprint", "mutual")
MAX_PASSWORD_FILE: Final = 4096

Results = Mapping[int, DeliveryResult]


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


class SmtpDialler:
    """Opens sessions; one object for all destinations."""

    def __init__(
        self,
        settings: SmtpClientSettings,
        tls: ClientTls,
        observer: ClientObserver | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is the time of day, for certificates."""
        self.settings = settings
        self.tls = tls
        self.observer: ClientObserver = observer or SilentClientObserver()
        self.clock = clock
        self.seen_starttls = SeenStartTls()

    async def connect(self, hop: Hop, address: Destination) -> SmtpConnection:
        """See `delivery.interface.Dialler`."""
        opening = _Opening(self, hop, address)
        if hop.tls.level in NOT_YET:
            raise opening.unmet("4.7.0", f"the TLS policy {hop.tls.level} is not supported yet")
        if hop.tls.level == "none":
            return await opening.run(with_tls=False)
        try:
            return await opening.run(with_tls=True)
        except _TlsFailed:
            # TLS-3: nobody demands it, so the mail may go in the clear, on a connection of its own.
            opening.tls_failed = True
            return await opening.run(with_tls=False)


class _TlsFailed(Exception):
    """The handshake failed, and the policy allows to go on without TLS."""


class _Opening:
    """One attempt to open a session with one address."""

    def __init__(self, dialler: SmtpDialler, hop: Hop, address: Destination) -> None:
        self.tls_failed = False
        """An earlier try with TLS failed: this one is in the clear."""
        self._dialler = dialler
        self._settings = dialler.settings
        self._observer = dialler.observer
        self._hop = hop
        self._address = address
        self._remote = name_of(hop.host, address, hop.port)
        self._tls_line = ""
        self._info: TlsInfo | None = None

    async def run(self, *, with_tls: bool) -> SmtpConnection:
        """Open it. Raises ConnectFailed, RequirementUnmet, and _TlsFailed where that may be mended."""
        implicit = self._hop.protocol == "smtps"
        core, link = await self._dial(implicit=implicit)
        try:
            await self._opened(link)
            if with_tls and not implicit:
                await self._negotiate_tls(core, link)
            if self._hop.username:
                await self._log_in(core, link)
        except BaseException:
            link.abort()
            raise
        self._observer.session_opened(self._remote, self._hop.protocol, self._tls_line)
        return SmtpConnection(core, link, self._view(core), self._settings, self._observer)

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

    async def _dial(self, *, implicit: bool) -> tuple[SmtpClient, Link[Event]]:
        loop = asyncio.get_running_loop()
        settings = self._settings.for_core(lmtp=self._hop.protocol == "lmtp")
        try:
            if implicit:
                wire = await self._settings.dialling.dial(self._address, self._hop.port, _Wire)
                core = SmtpClient(settings, loop.time(), under_tls=True)
                link = Link[Event](core)
                await self._handshake(link, wire.transport, announce=True)
            else:
                core = SmtpClient(settings, loop.time())
                link = await self._settings.dialling.dial(
                    self._address, self._hop.port, lambda: Link[Event](core)
                )
        except DialFailed as failure:
            raise ConnectFailed(self._deferred("4.4.1", str(failure))) from None
        return core, link

    async def _opened(self, link: Link[Event]) -> None:
        event = await link.event()
        if isinstance(event, SessionEnded):
            raise self._ended(event)
        _expect(event, SessionOpened)

    # -- TLS -----------------------------------------------------------------------------------------

    async def _negotiate_tls(self, core: SmtpClient, link: Link[Event]) -> None:
        hop = self._hop
        if "STARTTLS" not in core.offers:
            if self._dialler.seen_starttls.has_vanished(hop.host):
                self._observer.starttls_vanished(self._remote)
            if hop.tls.required:
                raise self.unmet(
                    "4.7.4", f"TLS is required ({hop.tls.level}) but the server does not offer it"
                )
            return
        self._dialler.seen_starttls.offered(hop.host)
        core.start_tls(_now())
        event = await link.event()
        if isinstance(event, StartTlsRefused):
            self._starttls_refused(event.reply)
            return
        if isinstance(event, SessionEnded):
            # A server that neither begins TLS nor refuses it is met again in the clear, if that is allowed.
            raise self._without_tls("4.7.0", event.ending.text, self._ended(event))
        _expect(event, StartTlsAccepted)
        await self._handshake(link, link.transport, announce=False)
        core.tls_begun(_now())
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
        return failure if self._hop.protocol == "smtps" else _TlsFailed()

    async def _handshake(self, link: Link[Event], wire: asyncio.Transport, *, announce: bool) -> None:
        name = self._hop.tls.name or self._hop.host
        try:
            context = self._dialler.tls.context(self._hop.tls)
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
        proven = self._dialler.tls.judge(requirement, name, info, self._dialler.clock())
        self._info = info
        self._tls_line = f"{info.version} {info.cipher} "
        self._tls_line += "unverified" if isinstance(proven, TlsRefusal) else str(proven)
        if isinstance(proven, TlsRefusal) and requirement.level in PROVING:
            text = f"the server is not proven to be {name} ({requirement.level}): {proven.reason}"
            raise self.unmet("4.7.5", text)

    async def _opened_under_tls(self, link: Link[Event]) -> None:
        event = await link.event()
        if isinstance(event, SessionEnded):
            if isinstance(link.lost, TlsSessionError):
                # TLS 1.3: how the server likes our certificate is known only after our side of the handshake.
                self._tls_line = ""
                raise self._handshake_failed(link.lost.failure)
            raise self._ended(event)
        _expect(event, SessionOpened)

    # -- login ---------------------------------------------------------------------------------------

    async def _log_in(self, core: SmtpClient, link: Link[Event]) -> None:
        if not core.under_tls:
            raise self.unmet(
                "4.7.11", "a login is required but there is no TLS, and it is sent only under TLS"
            )
        mechanism = "?"
        try:
            exchange = choose_exchange(await self._credentials(), core.offers.mechanisms)
            mechanism = exchange.mechanism
            core.authenticate(mechanism, exchange.initial(), _now())
            await self._exchange(core, link, exchange)
        except LoginImpossible as problem:
            self._observer.login_failed(self._remote, mechanism, str(problem))
            raise self.unmet("4.7.8", f"login failed: {problem}") from None

    async def _exchange(self, core: SmtpClient, link: Link[Event], exchange: ClientExchange) -> None:
        while True:
            event = await link.event()
            if isinstance(event, ChallengeReceived):
                await self._respond(core, exchange, event.octets)
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
        core.respond(response, _now())

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


class _Wire(asyncio.Protocol):
    """Holds a new connection until TLS takes it over."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = transport  # type: ignore[assignment]


class SmtpConnection:
    """An open session: see `delivery.interface.Connection`."""

    def __init__(
        self,
        core: SmtpClient,
        link: Link[Event],
        server: ServerView,
        settings: SmtpClientSettings,
        observer: ClientObserver,
    ) -> None:
        self._core = core
        self._link = link
        self._server = server
        self._settings = settings
        self._observer = observer
        self._batch_limits = batch_limits(settings.recipients_per_message, core.offers)

    @property
    def usable(self) -> bool:
        """Whether another message may follow."""
        return self._core.takes_mail and not self._link.has_news

    @property
    def description(self) -> str:
        """``mx.example [192.0.2.1]:25``."""
        return self._server.remote

    async def send(self, job: Job) -> Results:
        """Carry the message; a result for every recipient of the job."""
        try:
            return await self._send(job)
        except OSError:
            # Of the spool, not of the network: that reaches us through the core.
            self._core.abandon("the stored message cannot be read")
            self.abort()
            return self._all_deferred(job.recipients, "4.3.0", "the stored message cannot be read")
        except BaseException:
            self.abort()
            raise

    async def close(self) -> None:
        """QUIT with a short wait, then close. Never raises."""
        if self._core.state is State.READY:
            self._core.quit(_now())
            try:
                while not isinstance(await self._link.event(), SessionEnded):
                    pass
            finally:
                self._link.close()
        else:
            self._link.close()

    def abort(self) -> None:
        """Close at once."""
        self._link.abort()

    # -- one job -------------------------------------------------------------------------------------

    async def _send(self, job: Job) -> Results:
        content = await prepare(job.message)
        if content is None:
            return self._all_deferred(job.recipients, "4.3.0", "the stored message has no content")
        envelope = job.message.envelope
        sortable = Sortable(envelope, envelope.smtputf8 and content.survey.eight_bit_headers)
        refusal = unsendable_for_all(sortable, self._core.offers)
        fitting = refusal or await self._fit(content, smtputf8=envelope.smtputf8)
        if isinstance(fitting, Unsendable):
            return dict.fromkeys(job.recipients, unsendable_result(fitting, self._server))
        refused = unsendable_recipients(sortable, job.recipients, self._core.offers)
        results = {position: unsendable_result(why, self._server) for position, why in refused.items()}
        waiting = [position for position in job.recipients if position not in refused]
        while waiting:
            waiting = await self._one_transaction(job, fitting, waiting, results)
        return results

    async def _fit(self, content: OutgoingContent, *, smtputf8: bool) -> OutgoingContent | Unsendable:
        """The content in a form that this server takes, or why there is none."""
        offers = self._core.offers
        how = carriage(
            content.survey,
            binary=content.binary,
            smtputf8=smtputf8,
            offers=offers,
            long_lines=self._settings.long_lines,
        )
        if isinstance(how, Unsendable):
            return how
        if how is not Carriage.AS_IS:
            encoded = await encode(content, eight_bit=how is Carriage.ENCODE)
            if isinstance(encoded, Unsendable):
                return encoded
            content = encoded
        return too_large(content.survey.size, offers) or content

    async def _one_transaction(
        self, job: Job, content: OutgoingContent, waiting: Sequence[int], results: dict[int, DeliveryResult]
    ) -> list[int]:
        """Send to as many as one transaction takes; who is still waiting afterwards."""
        if not self._core.takes_mail:
            # After an earlier transaction of this job: its peculiar end, or MAILMAX of the server.
            text = "the session ended before this recipient's turn"
            results.update(self._all_deferred(waiting, "4.4.2", text))
            return []
        batch = next_batch(job.message.envelope, waiting, self._batch_limits)
        mail = prepare_mail(
            job.message.envelope,
            batch,
            content.survey,
            self._core.offers,
            binary=content.binary,
            content=content.whole(),
        )
        ended = await self._transaction(mail, content)
        results.update((n, outcome_result(one, self._server)) for n, one in ended.outcomes.items())
        if ended.postponed:
            self._batch_limits = BatchLimits(len(ended.outcomes), self._batch_limits.domains)
        done = ended.outcomes.keys()
        return [position for position in waiting if position not in done]

    async def _transaction(self, mail: Mail, content: OutgoingContent) -> TransactionEnded:
        core, link = self._core, self._link
        pieces = None if mail.content is not None else content.pieces()
        core.send_mail(mail, _now())
        while True:
            event = await link.event()
            if isinstance(event, TransactionEnded):
                self._look_for_misbehaviour()
                return event
            if isinstance(event, ContentWanted) and pieces is not None:
                await link.wait_room()
                octets, last = await pieces.next()
                core.send_content(octets, last=last, now=_now())

    def _look_for_misbehaviour(self) -> None:
        ending = self._link.peek()
        if isinstance(ending, SessionEnded) and ending.ending.how is End.MALFORMED:
            self._observer.server_misbehaved(
                self._server.remote, ending.ending.stage.value, ending.ending.text
            )

    def _all_deferred(self, recipients: Sequence[int], status: str, text: str) -> dict[int, DeliveryResult]:
        server = self._server
        result = DeliveryResult(Kind.DEFERRED, status, text, 0, server.remote, server.protocol, server.tls)
        return dict.fromkeys(recipients, result)


def _now() -> float:
    return asyncio.get_running_loop().time()


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
