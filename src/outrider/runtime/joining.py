"""How the parts of an assembly are handed to each other. No decisions here: only who gets what."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from outrider.delivery.clock import SystemClock
from outrider.delivery.interface import (
    Connection,
    EnvelopeWatch,
    FreshMail,
    Hop,
    LocalTransport,
    RequirementUnmet,
)
from outrider.delivery.item_runner import Rules
from outrider.delivery.local import local_transports
from outrider.delivery.maildir import UniqueNames
from outrider.delivery.mt2_assembler import Mt2Assembler, OutgoingExtensions
from outrider.delivery.mt2_departure import Departure
from outrider.delivery.mt2_kept import KeptTransfers
from outrider.delivery.mt2_sealing import MessageSealer
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.reports import Reporting, reporting_for
from outrider.delivery.results import deferred
from outrider.delivery.service_hops import ServiceSending
from outrider.delivery.surroundings import Surroundings
from outrider.identity.authenticator import SaslAuthenticator
from outrider.identity.client_certificate import ClientIdentifier
from outrider.identity.login_limits import LoginLimits
from outrider.identity.trace import SealPaths
from outrider.lists.store import ListStoreThread
from outrider.maillog.amdp_web_log import AmdpWebLog
from outrider.maillog.client_log import ClientLog
from outrider.maillog.delegation_log import DelegationLog
from outrider.maillog.delivery_log import DeliveryLog
from outrider.maillog.emitter import Emitter
from outrider.maillog.extensions_log import ExtensionsLog
from outrider.maillog.lists_log import ListsLog
from outrider.maillog.metrics import Metrics
from outrider.maillog.network_log import NetworkLog
from outrider.maillog.session_log import SessionLog
from outrider.maillog.smtp_server_log import SmtpServerLog
from outrider.maillog.spool_log import SpoolLog
from outrider.maillog.trust_log import TrustLog
from outrider.model.envelope import Recipient
from outrider.model.reply import Reply
from outrider.net.amtp_client import AmtpDialler
from outrider.net.client_settings import SmtpClientParts, SmtpClientSettings
from outrider.net.listener import ListenerSettings
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.mt2_client import Mt2Dialler
from outrider.net.mt2_opening import Mt2ClientParts
from outrider.net.qmtp_client import QmtpDialler
from outrider.net.qmtp_server import QmtpService
from outrider.net.server_limits import LoadGauge, session_limits
from outrider.net.shared_counts import CountRow
from outrider.net.smtp_client import SmtpDialler
from outrider.net.smtp_service import SmtpService
from outrider.net.tls import TlsTimes
from outrider.net.tls_context import ServerTls
from outrider.protocols.qmtp.events import QmtpLimits
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.reception.ids import id_maker
from outrider.reception.lookups import FactSource
from outrider.reception.parts import ReceptionParts, SubmissionDesk
from outrider.reception.reception import MailReception
from outrider.reception.settings import ReceptionSettings
from outrider.routing.mail_exchangers import Ourselves
from outrider.routing.private_addresses import address_guard
from outrider.runtime.amtp_checks import mail_codes
from outrider.runtime.assembly import Assembly
from outrider.runtime.extension_parts import Extensions, list_commands, with_extensions
from outrider.runtime.listener_plans import ListenerPlan
from outrider.runtime.listing import make_list_gate, make_list_store, make_mailing, with_lists
from outrider.runtime.login_parts import login_limits
from outrider.runtime.lookup import DnsLookup
from outrider.runtime.private_files import write_private
from outrider.runtime.services_seen import ServicesSeen
from outrider.runtime.trust_parts import trust_source
from outrider.spool.interface import Spool

if TYPE_CHECKING:
    from outrider.holding.outgoing.handing_in import HandingIn
    from outrider.reception.amdp_envelopes import EnvelopeDesk

_ALPN = {
    "amtp": (b"amtp",),
    "smtp": (b"smtp",),
    "submission": (b"smtp",),
    "lmtp": (b"lmtp",),
    "qmtp": (b"qmtp",),
    "http": (b"http/1.1",),
}
_TOO_MANY = Reply(421, "4.3.2", "Too many connections; try again later")
_CHANCE = random.SystemRandom()


class Voices:
    """All that is told to log and metrics, one object for each room."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.metrics = Metrics()
        self.delivery = DeliveryLog(emitter, self.metrics)
        self.spool = SpoolLog(emitter, self.metrics)
        self.sessions = SessionLog(emitter, self.metrics)
        self.smtp = SmtpServerLog(emitter, self.metrics)
        self.network = NetworkLog(emitter, self.metrics)
        self.trust = TrustLog(emitter, self.metrics)
        self.delegation = DelegationLog(emitter, self.metrics)
        self.client = ClientLog(emitter, self.metrics)
        self.lists = ListsLog(emitter, self.metrics)
        self.extensions = ExtensionsLog(emitter, self.metrics)
        self.web = AmdpWebLog(emitter, self.metrics)


@dataclass(slots=True)
class Core:
    """What lives as long as the server does."""

    voices: Voices
    spool: Spool
    clock: SystemClock
    limits: ConnectionLimits
    gauge: LoadGauge
    logins: LoginLimits
    secret: bytes
    memory_is_short: Callable[[], bool]
    lists: ListStoreThread
    """Members of mailing lists, and who is away; opened when it is first needed."""
    extensions: Extensions
    """MT2 extensions and what they remember; opened likewise."""


class AmdpDelivery(Protocol):
    """What AMDP brings to delivery; see `amdp_parts.AmdpParts`."""

    transports: dict[str, LocalTransport]
    watch: EnvelopeWatch | None


class AmdpDesks(Protocol):
    """What AMDP brings to reception."""

    envelopes: EnvelopeDesk | None
    submissions: SubmissionDesk | None


@dataclass(slots=True)
class NoAmdp:
    """AMDP where no mail moves: commands beside a server that is stopped."""

    transports: dict[str, LocalTransport] = field(default_factory=dict)
    watch: EnvelopeWatch | None = None


def make_core(
    assembly: Assembly,
    voices: Voices,
    spool: Spool,
    memory_is_short: Callable[[], bool],
    row: CountRow | None = None,
) -> Core:
    """Made once, at start. `row` counts this worker's connections where there are several."""
    settings = assembly.config.limits
    limits = ConnectionLimits(
        total=settings.connections,
        per_address=settings.connections_per_address,
        exempt=assembly.relay_networks,
        shared=row,
    )
    return Core(
        voices=voices,
        spool=spool,
        clock=SystemClock(),
        limits=limits,
        gauge=LoadGauge(limits, settings.stress_at),
        logins=login_limits(assembly.config),
        secret=auth_secret(assembly),
        memory_is_short=memory_is_short,
        lists=make_list_store(assembly),
        extensions=Extensions(assembly, voices.extensions),
    )


def auth_secret(assembly: Assembly) -> bytes:
    """What the server's answers about unknown users are made with."""
    return lasting_secret(assembly.data_dir / "auth.secret")


def lasting_secret(path: Path) -> bytes:
    """32 random octets that stay the same over restarts (SEC-107: the salts told for unknown users)."""
    if path.exists():
        return path.read_bytes()
    secret = secrets.token_bytes(32)
    write_private(path, secret)
    return secret


def ourselves(assembly: Assembly) -> Ourselves:
    """By what we would know ourselves in somebody's MX records: mail from the Internet comes to port 25."""
    mail = [plan for plan in assembly.listeners if plan.settings.protocol in ("smtp", "qmtp")]
    names = {assembly.config.hostname.lower(), *(plan.hostname.lower() for plan in mail)}
    addresses = frozenset(
        ip_address(plan.settings.address)
        for plan in mail
        if not plan.settings.address.startswith("unix:") and not _is_any(plan.settings.address)
    )
    return Ourselves(frozenset(names), addresses)


def _is_any(address: str) -> bool:
    return ip_address(address).is_unspecified


def make_reporting(assembly: Assembly) -> Reporting:
    """How status reports are made."""
    new_id = id_maker(random.getrandbits)
    return reporting_for(assembly.config, assembly.recipients, assembly.routes, new_id, utc_offset)


def make_rules(assembly: Assembly, core: Core, lookup: DnsLookup, amdp: AmdpDelivery) -> Rules:
    """What delivery goes by."""
    config = assembly.config
    new_id = id_maker(random.getrandbits)
    names = UniqueNames(lambda: secrets.token_hex(4), config.hostname)
    around = Surroundings(
        lookup,
        config.net,
        address_guard(config.net.private_destinations),
        ourselves(assembly),
        _CHANCE.random,
    )
    planner = HopPlanner(around, services_spoken(assembly, core))
    mailing = make_mailing(assembly, new_id, utc_offset)
    return Rules(
        delivery=config.delivery,
        routes=assembly.routes,
        reporting=make_reporting(assembly),
        planner=planner,
        transports=with_extensions(
            with_lists(
                local_transports(config.delivery, assembly.recipients, names, core.voices.delivery)
                | amdp.transports,
                assembly,
                mailing,
                core.lists,
                core.voices.lists,
                list_commands(core.extensions.of(assembly), core.voices.extensions),
            ),
            assembly,
            core.extensions.of(assembly),
            mailing,
            core.voices.extensions,
        ),
        envelopes=amdp.watch,
        departure=Departure(
            message_sealer(assembly), wanted=config.mt2.hidden_part, handed_in=_handing_in(assembly)
        ),
    )


def _handing_in(assembly: Assembly) -> HandingIn | None:
    """How mail goes to a facility of AMDP that is another server."""
    if not assembly.config.amdp.roles:
        return None
    from outrider.runtime.gateway_parts import make_handing_in

    return make_handing_in(assembly)


def _announces_envelopes(assembly: Assembly, protocol: str) -> bool:
    """`ServerSettings.amdp`: whether a listener of that protocol takes AMDP's envelopes (AMDP-5a)."""
    amdp = assembly.config.amdp
    return protocol == "smtp" and "img" in amdp.roles and amdp.policy.amdp_share > 0


def message_sealer(assembly: Assembly) -> MessageSealer | None:
    """What seals mail on its way out (MT2-23a); None without a certificate for it."""
    sealing = assembly.mt2_keys.sealing
    return None if sealing is None else MessageSealer(sealing, time.time)


def mt2_assembler(
    assembly: Assembly, extensions: OutgoingExtensions, paths: SealPaths, kept: KeptTransfers
) -> Mt2Assembler | None:
    """What makes objects of mail that leaves by MT2 (MT2-28a). `paths` judge the seals of objects that come
    back from SMTP (MT2-28b); `kept` remembers what would not be made alike a second time."""
    sealer = message_sealer(assembly)
    if sealer is None:
        return None
    return Mt2Assembler(sealer, time.time, assembly.mt2_keys.header_certificates, extensions, paths, kept)


def services_spoken(assembly: Assembly, core: Core) -> tuple[ServiceSending, ...]:
    """The protocols found by SRV that we have a certificate for (AMTP-1, MT2-10a)."""
    config, failed = assembly.config, core.voices.delivery.spool_failed

    def seen(protocol: str, for_s: float) -> ServicesSeen:
        return ServicesSeen(assembly.data_dir, protocol, for_s, time.time, failed)

    spoken = []
    if assembly.client_tls.own is not None:
        spoken.append(ServiceSending("amtp", config.amtp.port, seen("amtp", config.amtp.seen_for)))
    if assembly.mt2_keys.sealing is not None:
        spoken.append(ServiceSending("mt2", config.mt2.port, seen("mt2", config.mt2.seen_for)))
    return tuple(spoken)


def make_sources(assembly: Assembly, core: Core, lookup: DnsLookup) -> FactSource | None:
    """Where facts come from that cost a look-up; None without DNS and lists. To be closed when replaced."""
    if not assembly.resolver.servers and not assembly.trust.lists:
        return None
    timeout_s = ReceptionSettings.of(assembly.config).lookup_timeout_s
    partners = assembly.amtp.partners
    trust = trust_source(assembly.trust, assembly.config, partners, lookup, core.voices.trust)
    return FactSource(lookup, core.voices.sessions, time.time, timeout_s, trust)


def make_reception(assembly: Assembly, parts: ReceptionParts) -> MailReception:
    """What all listeners hand their mail to."""
    return MailReception(ReceptionSettings.of(assembly.config, utc_offset=utc_offset(time.time())), parts)


def reception_parts(
    assembly: Assembly, core: Core, sources: FactSource | None, fresh: FreshMail, amdp: AmdpDesks
) -> ReceptionParts:
    """What reception works with, whatever the protocol."""
    config, voices, amtp = assembly.config, core.voices, assembly.amtp
    partner_identifiers = amtp.partner_identifiers()
    return ReceptionParts(
        spool=core.spool,
        fresh=fresh,
        recipients=assembly.recipients,
        destination_of=lambda recipient: _destination(assembly, recipient),
        policy=assembly.policy,
        observer=voices.sessions,
        make_id=id_maker(random.getrandbits),
        clock=time.time,
        users=assembly.users,
        clients=ClientIdentifier(assembly.ca_stores),
        sources=sources,
        hosts=amtp.prover(assembly.ca_stores, sources, partner_identifiers),
        codes=mail_codes(config, assembly.users),
        partners=amtp.terms(partner_identifiers),
        may_leave=assembly.routes.may_leave,
        lists=make_list_gate(assembly, core.lists, voices.lists),
        envelopes=amdp.envelopes,
        submissions=amdp.submissions,
        memory_is_short=core.memory_is_short,
        own_addresses=ourselves(assembly).addresses,
    )


def _destination(assembly: Assembly, recipient: Recipient) -> str:
    return assembly.routes.find(recipient).lane


def make_smtp_service(
    plan: ListenerPlan, assembly: Assembly, core: Core, reception: MailReception
) -> SmtpService:
    """What the sessions of one SMTP, submission, LMTP or AMTP listener work with."""
    limits = assembly.config.limits
    tls = None
    if plan.tls != "none" and assembly.server_tls is not None:
        tls = ServerTls(assembly.server_tls, _ALPN[plan.settings.protocol], plan.asks_for_certificate)
    settings = ServerSettings(
        hostname=plan.hostname,
        limits=session_limits(limits),
        lmtp=plan.settings.protocol == "lmtp",
        tls_offered=plan.tls == "starttls",
        auth_after_tls=plan.auth and plan.tls == "starttls",
        amdp=_announces_envelopes(assembly, plan.settings.protocol),
    )
    return SmtpService(
        protocol=plan.settings.protocol,
        settings=settings,
        reception=reception,
        new_session_id=lambda: secrets.token_hex(6),
        gauge=core.gauge,
        tls=tls,
        implicit_tls=plan.tls == "implicit",
        require_tls=plan.settings.require_tls,
        only_private=plan.settings.private,
        authenticator=make_authenticator(assembly, core) if plan.auth else None,
        observer=core.voices.smtp,
        tls_times=TlsTimes(handshake_s=limits.handshake_timeout),
    )


def make_qmtp_service(
    plan: ListenerPlan, assembly: Assembly, core: Core, reception: MailReception
) -> QmtpService:
    """What the sessions of one QMTP listener work with."""
    limits = session_limits(assembly.config.limits)
    tls = None
    if plan.tls == "implicit" and assembly.server_tls is not None:
        tls = ServerTls(assembly.server_tls, _ALPN["qmtp"], plan.asks_for_certificate)
    return QmtpService(
        hostname=plan.hostname,
        limits=QmtpLimits(
            message_size=limits.message_size,
            idle_timeout_s=limits.command_timeout_s,
            package_timeout_s=limits.data_timeout_s,
            slowest_rate=limits.min_data_rate,
        ),
        reception=reception,
        new_session_id=lambda: secrets.token_hex(6),
        parking_folder=str(assembly.data_dir),
        tls=tls,
        observer=core.voices.smtp,
        tls_times=TlsTimes(handshake_s=assembly.config.limits.handshake_timeout),
    )


def make_authenticator(assembly: Assembly, core: Core) -> SaslAuthenticator | None:
    """Who may log in; None without a users file."""
    if assembly.users is None:
        return None
    return SaslAuthenticator(
        assembly.users,
        core.logins,
        make_nonce=lambda: secrets.token_urlsafe(24),
        secret=core.secret,
        mechanisms=assembly.config.auth.mechanisms,
        clients=ClientIdentifier(assembly.ca_stores),
    )


class ProtocolDialler:
    """Sends each hop to the dialler of its protocol; a reload changes what new connections go by."""

    def __init__(self, assembly: Assembly, voices: Voices) -> None:
        settings = SmtpClientSettings.of(assembly.config)
        self._smtp = SmtpDialler(settings, assembly.client_tls, voices.client)
        self._amtp = AmtpDialler(self._smtp.parts)
        self._qmtp = QmtpDialler(settings, voices.client)
        self._mt2: Mt2Dialler | None = None

    @property
    def common(self) -> SmtpClientParts:
        """What the sessions of all protocols work with."""
        return self._smtp.parts

    def speak_mt2(self, parts: Mt2ClientParts | None) -> None:
        """From now on, by these parts; None: not at all."""
        if parts is None:
            self._mt2 = None
        elif self._mt2 is None:
            self._mt2 = Mt2Dialler(parts)
        else:
            self._mt2.parts = parts

    def reconfigure(self, assembly: Assembly) -> None:
        """Take over new settings, certificates and CA sets; what is known of hosts stays (TLS-5)."""
        settings = SmtpClientSettings.of(assembly.config)
        self._smtp.parts = replace(self._smtp.parts, settings=settings, tls=assembly.client_tls)
        self._amtp.parts = self._smtp.parts
        self._qmtp.settings = settings

    async def connect(self, hop: Hop, address: IPv4Address | IPv6Address | str) -> Connection:
        """See `delivery.interface.Dialler`."""
        if hop.protocol == "qmtp":
            return await self._qmtp.connect(hop, address)
        if hop.protocol == "amtp":
            return await self._amtp.connect(hop, address)
        if hop.protocol == "mt2":
            if self._mt2 is None:
                text = "mail by mt2 needs a certificate for this host in [mt2] or [tls]"
                raise RequirementUnmet(deferred("4.3.5", text, protocol="mt2"))
            return await self._mt2.connect(hop, address)
        return await self._smtp.connect(hop, address)


def listener_settings(plan: ListenerPlan) -> ListenerSettings:
    """What a listener itself has to know."""
    speaks_first = plan.settings.protocol in ("smtp", "submission", "lmtp") and plan.tls != "implicit"
    return ListenerSettings(
        name=plan.name,
        max_connections=plan.settings.max_connections,
        refusal=_TOO_MANY.encode() if speaks_first else b"",
        proxy_networks=plan.proxy_networks,
    )


def utc_offset(at: float) -> int:
    """Minutes east of UTC at a moment, as this machine's zone has it."""
    return time.localtime(at).tm_gmtoff // 60
