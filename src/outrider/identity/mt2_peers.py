"""Who is behind an MT2 certificate: a host, a user, or nobody that we can tell (MT2-22, MT2-24a to MT2-25).

From a chain (DER, leaf first) to an `Mt2Identity`, or an `Mt2IdentityFailure` that names one check. There
are three ways, in this order:

1. **The issuer is known**: one of our CAs has the name that the certificate, or one sent along above it,
   gives for its issuer. Then our CA sets decide, and their refusal is final (MT2-24a).
2. **The issuer is unknown**: the certificate's issuerAltName may name a domain, which is asked for its CA in
   public (MT2-24b, `delegated_authorities`). What is found counts as constrained to names at or below that
   domain; the certificate's other names are discarded.
3. **A gateway's word**: a host that the operator named, and that our own CA sets prove, has looked (MT2-24c).
   That is `vouched` for, not proven.

A host identity is bound to a host name, a user identity to a mail address (rfc822Name, emailProtection);
whatever else a certificate says is `claimed`, or `vouched` if its CA is in the trusted set (MT2-22).

Validity is not trust (MT2-25): an identity says that somebody may use a name, nothing more. The domains of
its issuer are part of it, and of a failure too, so that lists of issuers hold whatever becomes of the CA.

Paths are validated by `paths`, never here. Pure: time is an argument, look-ups are behind `AuthoritySource`.
Nothing here raises for what a peer sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cryptography import x509

from outrider.identity.authorities import CaStores
from outrider.identity.certificates import (
    Fingerprints,
    chain_digest,
    fingerprints_of,
    names_of,
    normal_host,
    read_chain,
)
from outrider.identity.checks import Check, Fault
from outrider.identity.delegated_authorities import (
    AuthorityLookupFailed,
    AuthoritySource,
    DelegatedAuthorities,
    LookupsExhausted,
    is_public_suffix,
    is_within,
    issuer_names,
)
from outrider.identity.host_identity import (
    HostCertificate,
    HostRefusal,
    HostSettings,
    ServerIdentity,
    ServerJudge,
    ServerQuestion,
    examine_client,
    judge_server,
)
from outrider.identity.known_chains import KnownChains
from outrider.identity.mt2_identity import (
    MT2_SERVICE,
    AnyCheck,
    Found,
    GatewayWord,
    Kind,
    Mt2Check,
    Mt2Identity,
    Mt2IdentityFailure,
    Mt2IdentitySettings,
    Way,
)
from outrider.identity.user_certificates import addresses_of, domain_of, normal_address
from outrider.identity.user_paths import UserCertificate, examine_user
from outrider.model.envelope import Arrival
from outrider.model.facts import Provenance
from outrider.trust.issuers import issuer_domains

__all__ = [
    "MT2_SERVICE",
    "Found",
    "GatewayWord",
    "Mt2Check",
    "Mt2Identity",
    "Mt2IdentityFailure",
    "Mt2IdentitySettings",
    "Mt2Peers",
    "PartnerCas",
    "Way",
]

_HOPELESS = frozenset(
    {
        Check.NO_CERTIFICATE, Check.MALFORMED, Check.WEAK_KEY, Check.NAME, Check.SELF_SIGNED,
        Check.EXPIRED, Check.NOT_YET_VALID, Check.REVOKED, Check.CRL_STALE,
    }
)  # fmt: skip
"""Refusals that no CA found elsewhere would change: nobody is asked."""
_CA_MAY_HAVE_CHANGED: frozenset[AnyCheck] = frozenset(
    {Check.UNKNOWN_CA, Check.PATH, Check.EXPIRED, Mt2Check.NO_AUTHORITY}
)
_MOST_TEXT = 200
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartnerCas:
    """The CAs of a partner entry: they vouch for its hosts and users and for nobody else."""

    covers_host: Callable[[str], bool]
    covers_domain: Callable[[str], bool]
    """Whether mail addresses of that domain are the partner's."""
    stores: CaStores = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Presented:
    """A chain that could be read."""

    leaf: x509.Certificate
    others: tuple[x509.Certificate, ...]
    issuers: frozenset[x509.Name]
    """The names of the leaf's issuer, and of those above it as far as the chain goes."""
    prints: Fingerprints


@dataclass(frozen=True, slots=True)
class _Judged:
    """A found identity, from when to when it holds."""

    found: Found
    since: float
    until: float
    revocations: object = field(repr=False)


class Mt2Peers:
    """Tells who peers are. One for each configuration; it remembers chains.

    Every `at` is in seconds since the epoch: the time now, or that of a seal (MT2-23c).
    """

    def __init__(
        self,
        stores: CaStores,
        settings: Mt2IdentitySettings | None = None,
        source: AuthoritySource | None = None,
        partners: Sequence[PartnerCas] = (),
    ) -> None:
        """`source` None: nobody is asked about unknown issuers (MT2-24b is a MAY)."""
        self.settings = settings or Mt2IdentitySettings()
        self._stores = stores
        self._source = source
        self._partners = tuple(partners)
        self._judge = ServerJudge(stores)
        self._known: KnownChains[_Judged] = KnownChains()
        self._delegated: KnownChains[_Judged] = KnownChains()

    # -- hosts -----------------------------------------------------------------------------------------

    async def host(self, chain: Sequence[bytes], expected_name: str | None, address: str, at: float) -> Found:
        """The host behind a chain. `expected_name`: who it says it is; None = whoever it is.

        `address`: the peer's, whose look-ups are counted; "" for none. To be called once the limits on
        connections have been passed (MT2-24b).
        """
        found = self.host_here(chain, expected_name, at)
        return await self._or_delegated("host", chain, expected_name, found, address, at)

    def host_here(self, chain: Sequence[bytes], expected_name: str | None, at: float) -> Found:
        """As `host`, by our own CA sets alone: nobody is asked (off-line verification, MT2-23c)."""
        return self._here("host", chain, expected_name, at)

    # -- users -----------------------------------------------------------------------------------------

    async def user(self, chain: Sequence[bytes], mailbox: str | None, at: float, address: str = "") -> Found:
        """The user, or ``process@domain``, behind a chain (MT2-22). `mailbox`: the address that it should be
        for; None = whoever it is. `address` as for `host`."""
        found = self.user_here(chain, mailbox, at)
        return await self._or_delegated("user", chain, mailbox, found, address, at)

    def user_here(self, chain: Sequence[bytes], mailbox: str | None, at: float) -> Found:
        """As `user`, by our own CA sets alone."""
        return self._here("user", chain, mailbox, at)

    # -- servers ---------------------------------------------------------------------------------------

    async def server(
        self,
        chain: Sequence[bytes],
        question: ServerQuestion,
        at: float,
        address: str = "",
        judge: ServerJudge | None = None,
    ) -> ServerIdentity | Mt2IdentityFailure:
        """Whether a server may take the recipient domain's mail: as AMTP-5, before our first XFER (MT2-10b).

        `judge`: by the CAs of a route or partner entry, which then alone decide; None = by ours, and by
        delegation where the issuer is unknown. `question.service` should be `MT2_SERVICE`.
        """
        found = (judge or self._judge).judge(chain, question, at)
        if isinstance(found, ServerIdentity):
            return found
        failure = _failure(found, chain)
        if judge is not None:
            return failure
        wanted = tuple(filter(None, (normal_host(question.recipient_domain), normal_host(question.target))))
        domain = self._domain_to_ask(chain, wanted, failure)
        if isinstance(domain, Mt2IdentityFailure):
            return domain
        return await self._ask(
            domain, address, failure, lambda published: self._server_by(chain, question, published, at)
        )

    # -- gateways --------------------------------------------------------------------------------------

    def by_gateway(self, gateway: Mt2Identity, word: GatewayWord) -> Found:
        """An identity that a gateway vouches for (MT2-24c): one that the operator named, and that our own CA
        sets have proven to be that host."""
        refused = self._gateway_fault(gateway)
        if refused is not None:
            return refused
        name = _normal(word.kind, word.name)
        if not name:
            reason = f"{gateway.name} vouches for {word.name[:100]!r}, which is no {word.kind}'s name"
            return Mt2IdentityFailure(Mt2Check.GATEWAY_WORD, reason)
        said = "".join(filter(str.isprintable, word.how))[:_MOST_TEXT]
        how = f"word of gateway {gateway.name}" + (f": {said}" if said else "")
        return Mt2Identity(word.kind, name, (name,), Way.GATEWAY, how, Provenance.VOUCHED)

    def is_gateway(self, identity: Mt2Identity) -> bool:
        """Whether its word is taken (MT2-24c)."""
        return self._gateway_fault(identity) is None

    def _gateway_fault(self, identity: Mt2Identity) -> Mt2IdentityFailure | None:
        if identity.kind != "host" or identity.name not in self.settings.gateways:
            reason = f"{identity.name} is not one of [mt2.validation] interior_gateways"
            return Mt2IdentityFailure(Mt2Check.GATEWAY_UNKNOWN, reason)
        if identity.provenance is not Provenance.PROVEN or identity.way not in (Way.PUBLIC, Way.PRIVATE):
            reason = f"{identity} is not proven by our own CA sets"
            return Mt2IdentityFailure(Mt2Check.GATEWAY_UNPROVEN, reason)
        return None

    # -- way 1: our own CA sets ------------------------------------------------------------------------

    def _here(self, kind: Kind, chain: Sequence[bytes], expected: str | None, at: float) -> Found:
        name = None if expected is None else _normal(kind, expected)
        if name == "":
            said = f"{(expected or '')[:100]!r}, which is no {kind}'s name"
            return _misnamed(kind, f"the peer says {said}", chain)
        key = _key(kind, chain, name)
        revocations = self._stores.revocations.current
        known = self._known.find(key, at, revocations)
        if known is None:
            known = self._judge_here(kind, chain, name, at)
            self._known.keep(key, known, known.since, known.until, revocations)
        return known.found

    def _judge_here(self, kind: Kind, chain: Sequence[bytes], name: str | None, at: float) -> _Judged:
        certificate, until = _examine(kind, chain, self._stores, self.settings, at)
        if isinstance(certificate, HostRefusal):
            for stores in self._partner_stores(kind, name):
                theirs, until_then = _examine(kind, chain, stores, Mt2IdentitySettings(), at)
                if not isinstance(theirs, HostRefusal):
                    certificate, until = theirs, until_then
                    break
        if isinstance(certificate, HostRefusal):
            return _Judged(_failure(certificate, chain), at, until, None)
        way = Way.PRIVATE if certificate.connection is Arrival.AMTP_PRIVATE else Way.PUBLIC
        found = _bound(kind, certificate, name, way, certificate.how, issuer_domains(chain[0]))
        return _Judged(found, certificate.not_before, until, None)

    def _partner_stores(self, kind: Kind, name: str | None) -> list[CaStores]:
        if name is None:
            return []
        if kind == "host":
            return [one.stores for one in self._partners if one.covers_host(name)]
        return [one.stores for one in self._partners if one.covers_domain(domain_of(name))]

    # -- way 2: what the issuer's domain says ------------------------------------------------------------

    async def _or_delegated(
        self, kind: Kind, chain: Sequence[bytes], expected: str | None, found: Found, address: str, at: float
    ) -> Found:
        """What was found, or what the issuer's domain has to say where our own CAs have nothing."""
        if isinstance(found, Mt2Identity):
            return found
        wanted = None if expected is None else (_normal(kind, expected),)
        domain = self._domain_to_ask(chain, wanted, found, kind)
        if isinstance(domain, Mt2IdentityFailure):
            return domain
        if wanted is not None and wanted[0] not in (names := _names_presented(chain, kind)):
            reason = f"the peer says {wanted[0]}, the certificate is for {_listed(names)}"
            return _misnamed(kind, reason, chain)
        return await self._ask(
            domain, address, found, lambda published: self._by_published(kind, chain, expected, published, at)
        )

    def _domain_to_ask(
        self,
        chain: Sequence[bytes],
        wanted: tuple[str, ...] | None,
        failure: Mt2IdentityFailure,
        kind: Kind = "host",
    ) -> str | Mt2IdentityFailure:
        """Whether there is a domain to be asked, and which: all that can be told without asking (MT2-24b)."""
        if not isinstance(failure.check, Check) or failure.check in _HOPELESS:
            return failure
        presented = _read(chain)
        if isinstance(presented, Fault):
            return failure
        if self._is_issuer_known(presented, kind, wanted):
            reason = f"{failure.reason}; the issuer has the name of one of our CAs, which is final"
            return replace(failure, reason=reason)
        names = _names_in(presented.leaf, kind) if wanted is None else wanted
        domain = _issuing_domain(presented.leaf, _domains(kind, names), failure)
        if isinstance(domain, str) and self._source is None:
            reason = f"the issuer is not known, and {domain} is not asked about it"
            return replace(failure, check=Mt2Check.LOOKUPS_OFF, reason=reason)
        return domain

    def _is_issuer_known(self, presented: _Presented, kind: Kind, wanted: tuple[str, ...] | None) -> bool:
        """Whether a CA of ours has the name of the issuer, or of one above it in the chain (MT2-24a)."""
        stores = [self._stores]
        for name in wanted or ():
            stores += self._partner_stores(kind, name)
        return any(ours.subject in presented.issuers for one in stores for ours in one.authorities)

    async def _ask(
        self,
        domain: str,
        address: str,
        failure: Mt2IdentityFailure,
        judge: Callable[[DelegatedAuthorities], T | Mt2IdentityFailure],
    ) -> T | Mt2IdentityFailure:
        """Ask the domain, and judge by what it says. What is remembered may be from before the domain changed
        its CA (MT2-25): if nothing fits it, it is asked for anew."""
        assert self._source is not None
        try:
            published = await self._source.authorities(domain, address)
            found = judge(published)
            if isinstance(found, Mt2IdentityFailure) and found.check in _CA_MAY_HAVE_CHANGED:
                newer = await self._source.authorities(domain, address, newer_than=published.at)
                found = found if newer is published else judge(newer)
        except LookupsExhausted as error:
            return replace(failure, check=Mt2Check.LOOKUPS_EXHAUSTED, reason=error.reason)
        except AuthorityLookupFailed as error:
            check = Mt2Check.LOOKUP_FAILED if error.temporary else Mt2Check.NO_AUTHORITY
            return replace(failure, check=check, reason=error.reason)
        return found

    def _by_published(
        self,
        kind: Kind,
        chain: Sequence[bytes],
        expected: str | None,
        published: DelegatedAuthorities,
        at: float,
    ) -> Found:
        name = None if expected is None else _normal(kind, expected)
        key = _key(kind, chain, name)
        known = self._delegated.find(key, at, published)
        revocations = self._stores.revocations.current
        if known is None or known.revocations is not revocations:
            known = self._judge_published(kind, chain, name, published, at)
            self._delegated.keep(key, known, known.since, known.until, published)
        return known.found

    def _judge_published(
        self, kind: Kind, chain: Sequence[bytes], name: str | None, published: DelegatedAuthorities, at: float
    ) -> _Judged:
        revocations = self._stores.revocations.current
        stores = self._stores_of(chain, published)
        if isinstance(stores, Mt2IdentityFailure):
            return _Judged(stores, at, at, revocations)
        settings = replace(self.settings, hosts=HostSettings())
        certificate, until = _examine(kind, chain, stores, settings, at)
        if isinstance(certificate, HostRefusal):
            return _Judged(_failure(certificate, chain, published), at, until, revocations)
        certificate = _confined(certificate, published.domain)
        found = _bound(kind, certificate, name, Way.DELEGATED, _how(published), (published.domain,))
        if isinstance(found, Mt2Identity):
            found = replace(found, is_private=False, provenance=self._provenance(published))
        return _Judged(found, certificate.not_before, until, revocations)

    def _server_by(
        self, chain: Sequence[bytes], question: ServerQuestion, published: DelegatedAuthorities, at: float
    ) -> ServerIdentity | Mt2IdentityFailure:
        stores = self._stores_of(chain, published)
        if isinstance(stores, Mt2IdentityFailure):
            return stores
        confined = replace(
            question,
            recipient_domain=_kept(question.recipient_domain, published.domain),
            target=_kept(question.target, published.domain),
        )
        judged, _ = judge_server(chain, confined, stores, at)
        if isinstance(judged, HostRefusal):
            return _failure(judged, chain, published)
        how = f"{judged.how.removesuffix(', private CA')}, {_how(published)}"
        proven = judged.proven and self._provenance(published) is Provenance.PROVEN
        return replace(judged, how=how, proven=proven, ca_set="public")

    def _stores_of(
        self, chain: Sequence[bytes], published: DelegatedAuthorities
    ) -> CaStores | Mt2IdentityFailure:
        """The domain's authorities as a CA set, without those that stand under one of ours."""
        presented = _read(chain)
        if isinstance(presented, Fault):
            return Mt2IdentityFailure(presented.check, presented.reason)
        failure = Mt2IdentityFailure(
            Mt2Check.NO_AUTHORITY,
            f"none of the certificates sent along is one that {published.domain} publishes ({published.how})",
            issuer_names(presented.leaf),
            presented.prints,
        )
        if not published.secure and self.settings.unsigned == "refuse":
            reason = f"the CA of {published.domain} came by {published.how}"
            return replace(failure, check=Mt2Check.UNSIGNED, reason=reason)
        offered = published.for_chain(presented.others)
        ours = {one.subject for one in self._stores.authorities}
        usable = [one for one in offered if one.subject not in ours and one.issuer not in ours]
        if offered and not usable:
            reason = f"{published.domain} publishes a CA that is ours, or stands under one of ours"
            return replace(failure, check=Mt2Check.ISSUER_KNOWN, reason=reason)
        return CaStores.of(private=usable, revocations=self._stores.revocations) if usable else failure

    def _provenance(self, published: DelegatedAuthorities) -> Provenance:
        believed = published.secure or self.settings.unsigned == "proven"
        return Provenance.PROVEN if believed else Provenance.CLAIMED


# -- hosts and users alike ---------------------------------------------------------------------------------


def _examine(
    kind: Kind, chain: Sequence[bytes], stores: CaStores, settings: Mt2IdentitySettings, at: float
) -> tuple[HostCertificate | UserCertificate | HostRefusal, float]:
    if kind == "host":
        return examine_client(chain, stores, settings.hosts, at)
    return examine_user(chain, stores, settings.trusted, at)


def _bound(
    kind: Kind,
    certificate: HostCertificate | UserCertificate,
    name: str | None,
    way: Way,
    how: str,
    issuers: tuple[str, ...],
) -> Found:
    """The identity, if the certificate is for the name that the peer goes by (MT2-22)."""
    names = certificate.hosts if isinstance(certificate, HostCertificate) else certificate.addresses
    if name is not None and name not in names:
        reason = f"the peer says {name}, the certificate is for {_listed(names)}"
        return replace(
            _misnamed(kind, reason, ()), issuer_domains=issuers, fingerprints=certificate.fingerprints
        )
    if not names:
        reason = f"none of the certificate's names lies at or below {issuers[0]}"
        return Mt2IdentityFailure(Mt2Check.ISSUER_NOT_PARENT, reason, issuers, certificate.fingerprints)
    first = name or names[0]
    return Mt2Identity(
        kind=kind,
        name=first,
        names=(first, *(one for one in names if one != first)),
        way=way,
        how=how,
        provenance=Provenance.PROVEN,
        authority=certificate.authority,
        issuer_domains=issuers,
        fingerprints=certificate.fingerprints,
        not_after=certificate.not_after,
        is_private=certificate.connection is Arrival.AMTP_PRIVATE,
        descriptions=certificate.descriptions if isinstance(certificate, UserCertificate) else (),
    )


def _confined(
    certificate: HostCertificate | UserCertificate, domain: str
) -> HostCertificate | UserCertificate:
    """The certificate without the names that are not the domain's to certify (MT2-24b)."""
    if isinstance(certificate, HostCertificate):
        hosts = tuple(one for one in certificate.hosts if is_within(one, domain))
        return replace(certificate, hosts=hosts, mailboxes=(), common_name="")
    addresses = tuple(one for one in certificate.addresses if is_within(domain_of(one), domain))
    return replace(certificate, addresses=addresses)


def _how(published: DelegatedAuthorities) -> str:
    return f"delegated CA of {published.domain} ({published.how})"


def _kept(name: str, domain: str) -> str:
    host = normal_host(name)
    return host if is_within(host, domain) else ""


def _normal(kind: Kind, name: str) -> str:
    return normal_host(name) if kind == "host" else normal_address(name)


def _domains(kind: Kind, names: tuple[str, ...]) -> tuple[str, ...]:
    return names if kind == "host" else tuple(map(domain_of, names))


def _issuing_domain(
    leaf: x509.Certificate, names: Sequence[str], failure: Mt2IdentityFailure
) -> str | Mt2IdentityFailure:
    """The domain that says that it has issued the certificate, if it may for one of these host names."""
    claimed = issuer_names(leaf)
    if not claimed:
        reason = f"{failure.reason}; it has no issuerAltName with a domain to be asked"
        return replace(failure, check=Mt2Check.ISSUER_UNNAMED, reason=reason)
    above = [one for one in claimed if any(is_within(name, one) for name in names)]
    if not above:
        reason = f"the issuer's domain {claimed[0]} is not {_listed(names)}, nor above it"
        return replace(failure, check=Mt2Check.ISSUER_NOT_PARENT, reason=reason)
    own = [one for one in above if not is_public_suffix(one)]
    if not own:
        reason = f"the issuer's domain {above[0]} is one below which anybody registers names"
        return replace(failure, check=Mt2Check.ISSUER_PUBLIC_SUFFIX, reason=reason)
    return max(own, key=len)


def _names_presented(chain: Sequence[bytes], kind: Kind) -> tuple[str, ...]:
    presented = _read(chain)
    return () if isinstance(presented, Fault) else _names_in(presented.leaf, kind)


def _names_in(leaf: x509.Certificate, kind: Kind) -> tuple[str, ...]:
    """Host names, or addresses, in a certificate of which nothing is believed yet."""
    if kind == "user":
        addresses = addresses_of(leaf)
        return () if isinstance(addresses, Fault) else addresses
    names = names_of(leaf)
    return () if isinstance(names, Fault) else names.hosts


def _read(chain: Sequence[bytes]) -> _Presented | Fault:
    certificates = read_chain(chain)
    if isinstance(certificates, Fault):
        return certificates
    leaf, *others = certificates
    try:
        issuers = {leaf.issuer}
        for _ in others:  # in whatever order they were sent
            issuers |= {one.issuer for one in others if one.subject in issuers}
    except Exception:  # hostile DER: a name that is none
        return Fault(Check.MALFORMED, "a name in the certificate chain is malformed")
    return _Presented(leaf, tuple(others), frozenset(issuers), fingerprints_of(chain[0]))


def _key(kind: Kind, chain: Sequence[bytes], name: str | None) -> bytes:
    return chain_digest((*chain, repr((kind, name)).encode()))


def _failure(
    refusal: HostRefusal, chain: Sequence[bytes], published: DelegatedAuthorities | None = None
) -> Mt2IdentityFailure:
    where = f" (by the CA of {published.domain}: {published.how})" if published is not None else ""
    issuers = issuer_domains(chain[0]) if chain else ()
    return Mt2IdentityFailure(refusal.check, f"{refusal.reason}{where}", issuers, refusal.fingerprints)


def _misnamed(kind: Kind, reason: str, chain: Sequence[bytes]) -> Mt2IdentityFailure:
    check: AnyCheck = Mt2Check.HOST_NAME if kind == "host" else Mt2Check.ADDRESS
    issuers = issuer_domains(chain[0]) if chain else ()
    return Mt2IdentityFailure(check, reason, issuers, fingerprints_of(chain[0]) if chain else None)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) or "no name that counts"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
