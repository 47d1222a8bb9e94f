"""What a client's certificate proves where none is demanded (ITP-2a, TLS-2b): names, and fingerprints.

Nothing here ever makes a server refuse mail (TLS-3): it is asked only when a rule, a relay setting or
EXTERNAL wants to know, and the answer "proves nothing" grants nothing and costs nothing. AMTP, which demands
a certificate and holds PTR and EHLO against it, asks `host_identity`.

Public CAs no longer issue certificates for clients, so a host's certificate with the *server* purpose is good
in the client's role as well, as between XMPP servers; a certificate for the client purpose is good too. Only
dNSNames count - no common name, no wildcard - and, under a private CA, the mailboxes (rfc822Name) of a user's
certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.verification import Store

from outrider.identity.authorities import CaSet, CaStores
from outrider.identity.certificates import (
    CertifiedNames,
    Fingerprints,
    chain_digest,
    fingerprints_of,
    names_of,
    read_chain,
)
from outrider.identity.checks import Check, Fault
from outrider.identity.known_chains import KnownChains
from outrider.identity.paths import Path, client_path, host_path


@dataclass(frozen=True, slots=True)
class ProvenClient:
    """A configured CA vouches for the names, and the handshake proved possession of the key."""

    names: tuple[str, ...]
    """Host names, lower-case A-labels, in the certificate's order; empty only for a user's certificate."""
    ca_set: CaSet
    fingerprints: Fingerprints
    mailboxes: tuple[str, ...] = ()
    """Of a user's certificate, in lower case; only a private CA proves them."""

    @property
    def label(self) -> str:
        """The first name, for trace fields and messages."""
        return (*self.names, *self.mailboxes)[0]


@dataclass(frozen=True, slots=True)
class CertificateRefusal:
    """No CA of ours vouches for it. `fingerprints` are still true, if there was a certificate."""

    reason: str
    """One named failure, for log and explain."""
    fingerprints: Fingerprints | None = None


ClientIdentity = ProvenClient | CertificateRefusal


def identify_client(chain: Sequence[bytes], stores: CaStores, now: float) -> ClientIdentity:
    """What the chain proves at `now` (seconds since the epoch). Never raises. About a millisecond."""
    return _identify(chain, stores, now)[0]


def _identify(chain: Sequence[bytes], stores: CaStores, now: float) -> tuple[ClientIdentity, float]:
    """The identity, and until when it holds."""
    prints = fingerprints_of(chain[0]) if chain else None
    found = _find(chain, stores, now)
    if isinstance(found, Fault) or prints is None:
        reason = found.reason if isinstance(found, Fault) else "no certificate was presented"
        return CertificateRefusal(reason, prints), now
    path, names, ca_set = found
    mailboxes = names.mailboxes if ca_set == "private" else ()
    until = min(path.not_after, stores.revocations.current.next_change(now))
    return ProvenClient(names.hosts, ca_set, prints, mailboxes), until


def _find(chain: Sequence[bytes], stores: CaStores, now: float) -> tuple[Path, CertifiedNames, CaSet] | Fault:
    certificates = read_chain(chain)
    if isinstance(certificates, Fault):
        return certificates
    names = names_of(certificates[0])
    if isinstance(names, Fault):
        return names
    fault = Fault(Check.UNKNOWN_CA, "no CA is configured for client certificates")
    for ca_set, store in stores.sets():
        path = _path(certificates, names, ca_set, store, now)
        if not isinstance(path, Fault):
            return stores.revocations.current.fault(path.certificates, now) or (path, names, ca_set)
        fault = Fault(path.check, f"by the {ca_set} CA set: {path.reason}")
    return fault


def _path(
    certificates: Sequence[x509.Certificate], names: CertifiedNames, ca_set: CaSet, store: Store, now: float
) -> Path | Fault:
    """A path for the server purpose, or for the client purpose; when there is none, the first's failure."""
    leaf, *others = certificates
    if not names.hosts:
        if names.mailboxes and ca_set == "private":
            return client_path(leaf, others, store, now)
        return Fault(Check.NAME, "the certificate names no host")
    path = host_path(leaf, others, x509.DNSName(names.hosts[0]), store, now)
    if isinstance(path, Fault) and path.check is Check.PURPOSE:
        as_client = client_path(leaf, others, store, now)
        return path if isinstance(as_client, Fault) else as_client
    return path


@dataclass(slots=True)
class ClientIdentifier:
    """`identify_client` with a configuration's CA sets and a memory, for the sessions of one peer."""

    stores: CaStores
    _known: KnownChains[ClientIdentity] = field(default_factory=KnownChains, repr=False)

    def identify(self, chain: Sequence[bytes], now: float) -> ClientIdentity:
        """As `identify_client`; an answer is remembered for as long as it holds, a refusal for a minute."""
        digest = chain_digest(chain)
        revocations = self.stores.revocations.current
        known = self._known.find(digest, now, revocations)
        if known is None:
            known, until = _identify(chain, self.stores, now)
            self._known.keep(digest, known, now, until, revocations)
        return known
