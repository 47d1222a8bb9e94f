"""Who is the host at the other end of an AMTP connection? Pure; DNS answers and time come as arguments.

**A server looks at a client** in two steps, so that the costly one is done once for each peer:

1. `HostIdentifier.examine` at the handshake: chain, keys, names, path, dates, purpose, revocation. What it
   finds is remembered by the chain's digest until the first date on the path or the next list of revocations.
2. `HostIdentifier.judge` at EHLO: the name that the client gives, and on public connections the PTR record of
   its address, against the certificate (AMTP-2a). All three must be one name; two of them agreeing is not
   enough (SEC-152).

A client of a *private* CA (or one pinned by its fingerprint) has no PTR to show; a *public* CA must have
certified the name as a dNSName, for the server purpose: public CAs issue for no other (AMTP-2b).

**A client looks at a server** with `ServerJudge.judge`: what is proven is the right to take the recipient
domain's mail (AMTP-5). The name of a host that an unsigned SRV record led to proves nothing, as who forges
it has a valid certificate for a host of his own: such a server is merely `claimed`.

Either way the answer is an identity and how it was proven, or a `HostRefusal` that names one check. The order
of the checks is that of `identity.checks.Check`; the verdict on a path is `cryptography`'s, never our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.verification import Store

from outrider.config.schema import Amtp
from outrider.identity.authorities import CaSet, CaStores
from outrider.identity.certificates import (
    CertifiedNames,
    Fingerprints,
    chain_digest,
    common_name_host,
    fingerprints_of,
    names_of,
    normal_host,
    normal_mailbox,
    read_chain,
)
from outrider.identity.checks import TEMPORARY, Check, Fault
from outrider.identity.credentials import normal_fingerprint
from outrider.identity.known_chains import KnownChains
from outrider.identity.paths import (
    CLIENT_PURPOSE,
    HOST_PURPOSES,
    SERVER_PURPOSE,
    Path,
    host_path,
    path_by_policy,
)
from outrider.model.envelope import Arrival

MAX_PTR_NAMES = 10
"""Of an address: names beyond these are not looked at (AMTP-2a)."""
AMTP_SERVICE = "_amtp"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """`[amtp]`, as far as it is about who a client is."""

    forward_confirm: bool = True
    """A PTR name counts only if it leads back to the address."""
    common_name: bool = False
    """Under a private CA (or a pinned fingerprint) the subject's only common name stands in for a missing
    dNSName."""
    require_client_purpose: bool = False
    """A certificate of a private CA must have the clientAuth purpose, and say so."""
    private_fingerprints: frozenset[str] = frozenset()
    """SHA-256 of certificates or keys (64 lower-case digits) whose holders are private hosts."""

    @classmethod
    def of(cls, amtp: Amtp) -> HostSettings:
        """From the configuration. Raises ValueError, naming the key, for a bad fingerprint."""
        pins: set[str] = set()
        for number, text in enumerate(amtp.private_fingerprints):
            try:
                pins.add(normal_fingerprint(text))
            except ValueError as error:
                raise ValueError(f"amtp.private_fingerprints[{number}]: {error}") from None
        return cls(amtp.forward_confirm, amtp.common_name, amtp.require_client_purpose, frozenset(pins))


@dataclass(frozen=True, slots=True)
class ReverseNames:
    """What DNS said of the client's address: a snapshot for the session (SEC-155).

    For a look-up that failed as a whole set `failure`; no names at all means that there is no PTR record.
    """

    confirmed: tuple[str, ...] = ()
    """PTR names that have the address."""
    rejected: tuple[str, ...] = ()
    """PTR names that have not."""
    undecided: tuple[str, ...] = ()
    """PTR names that could not be looked up."""
    failure: str = ""
    """Why nothing is known for the moment: a time-out, SERVFAIL."""


@dataclass(frozen=True, slots=True)
class HostCertificate:
    """A client's certificate that stands for its names; whether the client is that host is asked at EHLO."""

    hosts: tuple[str, ...]
    """Never empty."""
    connection: Arrival
    """AMTP_PUBLIC or AMTP_PRIVATE."""
    how: str
    """``public CA``, ``private CA``, ``private CA, common name``, ``fingerprint of the certificate``, ..."""
    authority: str
    """The name of the CA at the path's end (RFC 4514), "" for a pinned certificate."""
    fingerprints: Fingerprints
    not_after: float
    """When the first certificate of the path ends, seconds since the epoch."""
    mailboxes: tuple[str, ...] = ()
    common_name: str = ""
    not_before: float = 0.0
    """When the last certificate of the path begins."""


@dataclass(frozen=True, slots=True)
class ProvenHost:
    """The client is this host."""

    name: str
    """Lower-case A-labels: the name of the certificate, of EHLO, and on public connections of the PTR."""
    certificate: HostCertificate

    @property
    def connection(self) -> Arrival:
        """AMTP_PUBLIC or AMTP_PRIVATE."""
        return self.certificate.connection

    @property
    def how(self) -> str:
        """The warrant for facts and log: ``public CA, EHLO, PTR``."""
        checks = ("EHLO", "PTR") if self.connection is Arrival.AMTP_PUBLIC else ("EHLO",)
        return ", ".join((self.certificate.how, *checks))


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """Not proven, for one reason. The peer hears 504, or 451 if `temporary` (AMTP-3), and not the reason."""

    check: Check
    reason: str
    """For the operator: log, event and explain."""
    fingerprints: Fingerprints | None = None
    """True all the same, if there was a certificate."""

    @property
    def temporary(self) -> bool:
        """Whether it may be otherwise later, without anybody's doing."""
        return self.check in TEMPORARY


@dataclass(slots=True)
class HostIdentifier:
    """A server's view of its clients, with a memory of the chains it has seen. One for each configuration."""

    stores: CaStores
    settings: HostSettings = field(default_factory=HostSettings)
    _known: KnownChains[HostCertificate | HostRefusal] = field(default_factory=KnownChains, repr=False)

    def examine(self, chain: Sequence[bytes], now: float) -> HostCertificate | HostRefusal:
        """Step 1: what the client's chain (DER, leaf first) is worth at `now`, seconds since the epoch.

        Never raises. A millisecond for a new chain, microseconds for a known one; the objects are shared by
        all sessions of a peer.
        """
        digest = chain_digest(chain)
        revocations = self.stores.revocations.current
        known = self._known.find(digest, now, revocations)
        if known is None:
            known, until = examine_client(chain, self.stores, self.settings, now)
            self._known.keep(digest, known, now, until, revocations)
        return known

    def judge(
        self, certificate: HostCertificate, hello_name: str, reverse: ReverseNames | None
    ) -> ProvenHost | HostRefusal:
        """Step 2: see `judge_hello`."""
        return judge_hello(certificate, hello_name, reverse, self.settings)


def judge_hello(
    certificate: HostCertificate,
    hello_name: str,
    reverse: ReverseNames | None,
    settings: HostSettings,
) -> ProvenHost | HostRefusal:
    """Whether EHLO's argument, the certificate and the address name one host (AMTP-2a, AMTP-19).

    `reverse` may be None for private connections, whose PTR is not asked. Never raises.
    """
    name = normal_host(hello_name)
    fault: Fault | None = None
    if name not in certificate.hosts:
        fault = _name_fault(certificate, hello_name, name, reverse)
    elif certificate.connection is Arrival.AMTP_PUBLIC:
        fault = _ptr_fault(name, reverse or ReverseNames(failure="it was not asked"), settings)
    if fault is not None:
        return HostRefusal(fault.check, fault.reason, certificate.fingerprints)
    return ProvenHost(name, certificate)


def _name_fault(
    certificate: HostCertificate, hello_name: str, name: str, reverse: ReverseNames | None
) -> Fault:
    """Which of the names stands alone: EHLO's, or the certificate's."""
    certified = _listed(certificate.hosts)
    if reverse is not None and name and name in reverse.confirmed:
        return Fault(Check.NAME, f"EHLO and PTR say {name}, the certificate is for {certified}")
    said = name or f"{hello_name[:100]!r}, which is no host name"
    return Fault(Check.EHLO_MISMATCH, f"EHLO says {said}, the certificate is for {certified}")


def _ptr_fault(name: str, reverse: ReverseNames, settings: HostSettings) -> Fault | None:
    """Among the PTR names of the address must be the one that certificate and EHLO agree on."""
    confirmed, rejected, undecided = (
        tuple(one.lower() for one in names[:MAX_PTR_NAMES])
        for names in (reverse.confirmed, reverse.rejected, reverse.undecided)
    )
    every = (*confirmed, *rejected, *undecided)
    if name in (confirmed if settings.forward_confirm else every):
        return None
    if reverse.failure:
        return Fault(
            Check.PTR_TIMEOUT, f"the PTR record of the address could not be learnt: {reverse.failure}"
        )
    if name in undecided:
        return Fault(Check.PTR_TIMEOUT, f"the addresses of the PTR name {name} could not be learnt")
    if name in rejected:
        return Fault(Check.PTR_NOT_FORWARD, f"the PTR name {name} does not lead back to the address")
    if not every:
        return Fault(Check.PTR_NONE, "the address has no PTR record")
    return Fault(Check.PTR_MISMATCH, f"PTR says {_listed(every)}, certificate and EHLO say {name}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True, slots=True)
class _Presented:
    """A chain that could be read, and what its leaf says."""

    leaf: x509.Certificate
    others: tuple[x509.Certificate, ...]
    names: CertifiedNames
    prints: Fingerprints

    @classmethod
    def read(cls, chain: Sequence[bytes]) -> _Presented | Fault:
        certificates = read_chain(chain)
        if isinstance(certificates, Fault):
            return certificates
        names = names_of(certificates[0])
        if isinstance(names, Fault):
            return names
        return cls(certificates[0], tuple(certificates[1:]), names, fingerprints_of(chain[0]))


def _refusal(fault: Fault, chain: Sequence[bytes]) -> HostRefusal:
    return HostRefusal(fault.check, fault.reason, fingerprints_of(chain[0]) if chain else None)


def examine_client(
    chain: Sequence[bytes], stores: CaStores, settings: HostSettings, now: float
) -> tuple[HostCertificate | HostRefusal, float]:
    """`HostIdentifier.examine` without memory; the second value is until when the answer holds at most."""
    presented = _Presented.read(chain)
    if isinstance(presented, Fault):
        return _refusal(presented, chain), now
    if any(presented.prints.match(pin) for pin in settings.private_fingerprints):
        found = _pinned(presented, settings, now)
    else:
        found = _by_sets(presented, stores, settings, now)
    if isinstance(found, Fault):
        return _refusal(found, chain), now
    return found, min(found.not_after, stores.revocations.current.next_change(now))


def _pinned(presented: _Presented, settings: HostSettings, now: float) -> HostCertificate | Fault:
    """A certificate that the operator vouches for (AMTP-19): no path, but its dates and names hold."""
    leaf, prints = presented.leaf, presented.prints
    hosts = presented.names.hosts or _by_common_name(presented.names, settings)
    if not hosts:
        return _nameless(presented.names)
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now > end.timestamp():
        return Fault(Check.EXPIRED, f"the pinned certificate expired on {end:%Y-%m-%d}")
    if now < begin.timestamp():
        return Fault(Check.NOT_YET_VALID, f"the pinned certificate is not valid before {begin:%Y-%m-%d}")
    what = "certificate" if prints.certificate in settings.private_fingerprints else "key"
    names = presented.names
    return HostCertificate(
        hosts=hosts,
        connection=Arrival.AMTP_PRIVATE,
        how=f"fingerprint of the {what}",
        authority="",
        fingerprints=prints,
        not_after=end.timestamp(),
        mailboxes=names.mailboxes,
        common_name=names.common_name,
        not_before=begin.timestamp(),
    )


def _by_sets(
    presented: _Presented, stores: CaStores, settings: HostSettings, now: float
) -> HostCertificate | Fault:
    """The private set first: the sets have no CA in common, so that at most one can vouch."""
    faults: list[Fault] = []
    for ca_set, store in stores.sets():
        found = _path(presented, ca_set, store, settings, now)
        if isinstance(found, Fault):
            faults.append(found)
            continue
        path, hosts, how = found
        revoked = stores.revocations.current.fault(path.certificates, now)
        return revoked or HostCertificate(
            hosts=hosts,
            connection=Arrival.AMTP_PRIVATE if ca_set == "private" else Arrival.AMTP_PUBLIC,
            how=how,
            authority=path.authority,
            fingerprints=presented.prints,
            not_after=path.not_after,
            mailboxes=presented.names.mailboxes,
            common_name=presented.names.common_name,
            not_before=path.not_before,
        )
    return _most_telling(faults)


def _path(
    presented: _Presented, ca_set: CaSet, store: Store, settings: HostSettings, now: float
) -> tuple[Path, tuple[str, ...], str] | Fault:
    """A path in one set, the host names that it proves, and how."""
    leaf, others, names = presented.leaf, presented.others, presented.names
    hosts = names.hosts or (_by_common_name(names, settings) if ca_set == "private" else ())
    if not hosts:
        return _nameless(names)
    if ca_set == "public":
        path = host_path(leaf, others, x509.DNSName(hosts[0]), store, now)
        return path if isinstance(path, Fault) else (path, hosts, "public CA")
    demanded = settings.require_client_purpose
    purposes = CLIENT_PURPOSE if demanded else HOST_PURPOSES
    path = path_by_policy(leaf, others, store, now, purposes, demanded=demanded)
    if isinstance(path, Fault):
        return path
    if names.hosts:
        return path, hosts, "private CA"
    if path.constrained:
        # A constraint on dNSNames says nothing to a verifier about a common name (RFC 5280 4.2.1.10).
        return Fault(
            Check.NAME_CONSTRAINTS, "the CA's names are constrained, and a common name cannot be checked"
        )
    return path, hosts, "private CA, common name"


def _by_common_name(names: CertifiedNames, settings: HostSettings) -> tuple[str, ...]:
    host = common_name_host(names) if settings.common_name else ""
    return (host,) if host else ()


def _nameless(names: CertifiedNames) -> Fault:
    why = f" but {' and '.join(names.oddities)}" if names.oddities else ""
    return Fault(Check.NAME, f"the certificate has no dNSName of a host{why}")


def _most_telling(faults: Sequence[Fault]) -> Fault:
    """Of what each CA set objects to, the fault to tell: one that is about more than not knowing the CA."""
    if not faults:
        return Fault(Check.UNKNOWN_CA, "no CA is configured")
    return next((one for one in faults if one.check is not Check.UNKNOWN_CA), faults[0])


def certificate_names_login(certificate: HostCertificate, login: str) -> bool:
    """Whether a login is one that the certificate names (AMTP-19): an rfc822Name, a host name, or the common
    name, as a whole and in any case."""
    wanted = normal_mailbox(login) or login.lower()
    known = (*certificate.mailboxes, *certificate.hosts, certificate.common_name.lower())
    return bool(wanted) and wanted in known


@dataclass(frozen=True, slots=True)
class ServerQuestion:
    """Whom a client wants to find at the other end (AMTP-5)."""

    recipient_domain: str
    """A-labels; "" when only the host counts (a relay of ours, reached by a private route)."""
    target: str
    """The host that we connected to: from SRV, or as the operator wrote it."""
    srv_secure: bool = False
    """The SRV answer was DNSSEC-secure (ITP-2c)."""
    partner_hosts: frozenset[str] = frozenset()
    """Hosts that the operator wrote down for this domain: in the partner entry, or in a route."""
    service: str = AMTP_SERVICE
    """Of the SRV record, and of an SRVName that proves the right to the domain's mail by it."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server whose certificate holds, and what that proves."""

    name: str
    """The name that the certificate was held against: the recipient domain, or the target."""
    how: str
    """For record and explain: ``dNSName of the recipient domain, public CA``."""
    proven: bool
    """It may take the recipient domain's mail. False = claimed: good for opportunistic sending only."""
    ca_set: CaSet
    not_after: float
    """When the first certificate of the path ends, seconds since the epoch."""

    def __str__(self) -> str:
        return f"{'verified' if self.proven else 'claimed'} {self.name} ({self.how})"


@dataclass(slots=True)
class ServerJudge:
    """A client's view of its servers by one set of authorities, with a memory. A partner entry that names CAs
    of its own has a judge of its own."""

    stores: CaStores
    _known: KnownChains[ServerIdentity | HostRefusal] = field(default_factory=KnownChains, repr=False)

    def judge(
        self, chain: Sequence[bytes], question: ServerQuestion, now: float
    ) -> ServerIdentity | HostRefusal:
        """What the server's chain (DER, leaf first) proves. Never raises; cheap for a known chain."""
        warrant = _target_warrant(question)
        asked = repr((question.recipient_domain, question.target, warrant, question.service))
        key = chain_digest((*chain, asked.encode()))
        revocations = self.stores.revocations.current
        known = self._known.find(key, now, revocations)
        if known is None:
            known, until = judge_server(chain, question, self.stores, now)
            self._known.keep(key, known, now, until, revocations)
        return known


def judge_server(
    chain: Sequence[bytes], question: ServerQuestion, stores: CaStores, now: float
) -> tuple[ServerIdentity | HostRefusal, float]:
    """`ServerJudge.judge` without memory; the second value is until when the answer holds at most."""
    presented = _Presented.read(chain)
    judged = presented if isinstance(presented, Fault) else _judge_server(presented, question, stores, now)
    if isinstance(judged, Fault):
        return _refusal(judged, chain), now
    return judged, min(judged.not_after, stores.revocations.current.next_change(now))


def _judge_server(
    presented: _Presented, question: ServerQuestion, stores: CaStores, now: float
) -> ServerIdentity | Fault:
    faults: list[Fault] = []
    for ca_set, store in stores.sets():
        found = _server_path(presented, question, store, now)
        if isinstance(found, Fault):
            faults.append(found)
            continue
        path, name, how, proven = found
        revoked = stores.revocations.current.fault(path.certificates, now)
        return revoked or ServerIdentity(name, f"{how}, {ca_set} CA", proven, ca_set, path.not_after)
    return _most_telling(faults)


def _server_path(
    presented: _Presented, question: ServerQuestion, store: Store, now: float
) -> tuple[Path, str, str, bool] | Fault:
    """The best that a path in one set proves: the domain before the host, proven before claimed."""
    domain, target = normal_host(question.recipient_domain), normal_host(question.target)
    fault = Fault(Check.NAME, "neither domain nor server has a name that a certificate could prove")
    if domain:
        path = _domain_path(presented, domain, question.service, store, now)
        if not isinstance(path, Fault):
            return path
        fault = path
    # A path that is no good for the domain's name is none for the server's either.
    if not target or fault.check not in (Check.NAME, Check.NAME_CONSTRAINTS):
        return fault
    by_host = host_path(presented.leaf, presented.others, x509.DNSName(target), store, now)
    if isinstance(by_host, Fault):
        is_constrained = fault.check is Check.NAME_CONSTRAINTS and by_host.check is Check.NAME
        return fault if is_constrained else _not_that_server(by_host, domain, target)
    warrant = _target_warrant(question)
    return by_host, target, warrant or "host name, over an unsigned SRV record", bool(warrant)


def _domain_path(
    presented: _Presented, domain: str, service: str, store: Store, now: float
) -> tuple[Path, str, str, bool] | Fault:
    """A path that proves the right to the domain's mail: its dNSName, or its SRVName for this service."""
    leaf, others, names = presented.leaf, presented.others, presented.names
    path = host_path(leaf, others, x509.DNSName(domain), store, now)
    if not isinstance(path, Fault):
        return path, domain, "dNSName of the recipient domain", True
    if path.check is not Check.NAME or f"{service}.{domain}" not in names.services:
        return path
    path = path_by_policy(leaf, others, store, now, SERVER_PURPOSE)
    if isinstance(path, Fault):
        return path
    if path.constrained:
        # The verifier holds constraints against dNSNames only (RFC 4985 section 4 would have more).
        return Fault(
            Check.NAME_CONSTRAINTS, "the CA's names are constrained, and an SRVName cannot be checked"
        )
    return path, domain, "SRVName of the recipient domain", True


def _target_warrant(question: ServerQuestion) -> str:
    """Why the name of the host is enough; "" if it is not (AMTP-5b)."""
    if question.target.lower().rstrip(".") in question.partner_hosts:
        return "host name that the configuration gives"
    return "host name, over a DNSSEC-secure SRV record" if question.srv_secure else ""


def _not_that_server(fault: Fault, domain: str, target: str) -> Fault:
    if fault.check is not Check.NAME:
        return fault
    wanted = " or ".join(dict.fromkeys(filter(None, (domain, target))))
    return Fault(Check.NAME, f"the certificate is not for {wanted}")
