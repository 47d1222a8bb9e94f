"""The facts of a session, kept with what all its messages share: encoded facts and the half of Received."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from outrider.identity.authorities import CaSet
from outrider.identity.client_certificate import CertificateRefusal, ClientIdentifier, ProvenClient
from outrider.identity.host_identity import ProvenHost
from outrider.identity.mt2_identity import Mt2Identity, Mt2IdentityFailure, Way
from outrider.message.received import trace_origin
from outrider.model.envelope import Arrival
from outrider.model.facts import Fact, Facts, Provenance
from outrider.reception.interface import Session, TlsSummary
from outrider.routing.partners import Arrived

_MADE_HERE = (
    "protocol",
    "listener",
    "server.port",
    "client.address",
    "client.port",
    "client.name",
    "time.",
    "tls.",
    "login",
    "host",
    "amtp.",
    "mt2.",
    "partner",
)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class SessionFacts(Facts):
    """A session's facts; adding one drops what was derived from them."""

    __slots__ = ("_derived_from", "arrived", "client", "encoded", "host", "mt2", "origin")

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self.encoded: tuple[Fact, ...] | None = None
        self.origin = ""
        self.client: ProvenClient | CertificateRefusal | None = None
        """What the client's certificate proves; None = nobody asked yet, or there is none."""
        self.host: ProvenHost | None = None
        """The host that an AMTP client has proven to be."""
        self.mt2: Mt2Identity | None = None
        """Who an MT2 client has proven to be."""
        self.arrived: Arrived | None = None
        """How mail of this session comes, for partners' terms; None = nobody asked yet."""
        self._derived_from: tuple[str, str, TlsSummary | None] = ("", "", None)
        super().__init__(facts)

    def add(self, fact: Fact) -> None:
        """See `Facts`."""
        super().add(fact)
        self.encoded = None
        self.origin = ""

    def keep_up(self, session: Session) -> None:
        """Take over what the driver has set in the session since the last look."""
        seen = (session.hello_name, session.login, session.tls)
        hello, login, tls = self._derived_from
        if seen == (hello, login, tls):
            return
        self._derived_from = seen
        if session.hello_name != hello:
            self.claim("client.name", session.hello_name)
        if session.tls is not tls and session.tls is not None:
            self.prove("tls.version", session.tls.version, "TLS handshake")
            self.prove("tls.cipher", session.tls.cipher, "TLS handshake")
        if session.login != login:
            self.prove("login", session.login, f"AUTH {session.login_mechanism}")
            self.prove("login.mechanism", session.login_mechanism, "AUTH")

    def identify_client(self, session: Session, clients: ClientIdentifier | None, now: float) -> None:
        """Find out what the client's certificate proves, once; a certificate that proves nothing does no harm
        (TLS-3)."""
        if self.client is not None or clients is None or session.tls is None or not session.tls.peer_chain:
            return
        self.client = clients.identify(session.tls.peer_chain, now)
        prints = self.client.fingerprints
        if prints is not None:
            known = tuple(filter(None, (prints.certificate, prints.public_key)))
            self.prove("tls.client.fingerprint", known, "held by the peer of the handshake", now)
        if isinstance(self.client, ProvenClient):
            how = f"path to a CA of the {self.client.ca_set} set"
            self.prove("tls.client.name", (*self.client.names, *self.client.mailboxes), how, now)
            self.prove("tls.client.ca", self.client.ca_set, how, now)
        else:
            self.prove("tls.client.unproven", self.client.reason, "path validation", now)

    def host_proven(self, host: ProvenHost, now: float) -> None:
        """An AMTP client has proven who it is; a second EHLO that says the same adds nothing (AMTP-20)."""
        if self.host == host:
            return
        self.host = host
        self.arrived = None
        certificate, prints = host.certificate, host.certificate.fingerprints
        is_public = host.connection is Arrival.AMTP_PUBLIC
        self.client = ProvenClient(certificate.hosts, "public" if is_public else "private", prints)
        self.prove("host", host.name, host.how, now)
        self.prove("amtp.connection", "public" if is_public else "private", certificate.how, now)
        self.prove("tls.client.name", certificate.hosts, certificate.how, now)
        self.prove("tls.client.ca", self.client.ca_set, certificate.authority or certificate.how, now)
        known = tuple(filter(None, (prints.certificate, prints.public_key)))
        self.prove("tls.client.fingerprint", known, "held by the peer of the handshake", now)

    def mt2_identified(self, found: Mt2Identity | Mt2IdentityFailure, now: float) -> None:
        """What HELO's proof came to. A name that is only claimed proves nothing, but its issuer may be
        listed (MT2-25)."""
        prints = found.fingerprints
        proven = isinstance(found, Mt2Identity) and found.provenance is Provenance.PROVEN
        issuers = found.issuer_domains
        if issuers:
            worth = Provenance.PROVEN if proven else Provenance.CLAIMED
            self.add(Fact("mt2.issuer", issuers, worth, "issuer of the host's certificate", now))
        if prints is not None:
            known = tuple(filter(None, (prints.certificate, prints.public_key)))
            self.prove("tls.client.fingerprint", known, "key proven in HELO", now)
        if not isinstance(found, Mt2Identity):
            self.prove("tls.client.unproven", found.reason, "path validation", now)
            return
        self.add(Fact("host", found.name, found.provenance, found.how, now))
        if not proven or prints is None:
            return
        self.mt2, self.arrived = found, None
        ca_set: CaSet = "private" if found.is_private else "public"
        self.client = ProvenClient(found.names, ca_set, prints)
        way = "delegated" if found.way is Way.DELEGATED else ca_set
        self.prove("mt2.identity", way, found.how, now)
        self.prove("tls.client.name", found.names, found.how, now)
        self.prove("tls.client.ca", way, found.authority or found.how, now)

    def all_encoded(self) -> tuple[Fact, ...]:
        """Every fact; the same object until one is added, so that a spool need write it out only once."""
        if self.encoded is None:
            self.encoded = tuple(self)
        return self.encoded

    def trace_origin(self, session: Session) -> str:
        """The session's half of the Received field."""
        if not self.origin:
            name = self.value("client.ptr", Provenance.PROVEN)
            proven = next(iter(self.client.names), "") if isinstance(self.client, ProvenClient) else ""
            if self.host is not None:
                proven = self.host.name
            self.origin = trace_origin(
                helo=session.hello_name,
                address=session.client_text,
                client_name=name[0] if isinstance(name, tuple) and name else "",
                tls=str(session.tls) if session.tls else "",
                certificate_name=proven,
                host=session.hostname,
            )
        return self.origin


def facts_of(session: Session, now: float, wants_time: bool) -> SessionFacts:
    """The session's facts, begun when it is seen first and brought up to date."""
    facts = session.facts
    if not isinstance(facts, SessionFacts):
        # What STARTTLS left over (a PTR name) stays; what was said before it is made anew (TLS-1).
        kept = [fact for fact in facts if not fact.name.startswith(_MADE_HERE)]
        facts = SessionFacts((*kept, *_connection_facts(session, now, wants_time)))
        session.facts = facts
    facts.keep_up(session)
    return facts


def _connection_facts(session: Session, now: float, wants_time: bool) -> list[Fact]:
    known = [
        _proven("protocol", session.protocol, "our listener"),
        _proven("listener", session.listener, "our listener"),
        _proven("server.port", session.server_port, "our listener"),
    ]
    if session.client_address is not None:
        known.append(_proven("client.address", session.client_text, "TCP"))
        known.append(_proven("client.port", session.client_port, "TCP"))
    if wants_time:
        when = datetime.fromtimestamp(now, UTC)
        known.append(_proven("time.hour", when.hour, "our clock"))
        known.append(_proven("time.weekday", _WEEKDAYS[when.weekday()], "our clock"))
    return known


def _proven(name: str, value: str | int, how: str) -> Fact:
    return Fact(name, value, Provenance.PROVEN, how)
