"""What a client's certificate proves (ITP-2a, TLS-2b): names under a configured CA, and fingerprints.

Nothing here ever makes a server refuse mail (TLS-3): it is asked only when a rule, a relay setting or
EXTERNAL wants to know, and the answer "proves nothing" grants nothing and costs nothing.

Paths are validated by the `cryptography` library's verifier. Public CAs no longer issue certificates for
clients, so a host's certificate with the *server* purpose is good in the client's role as well, as between
XMPP servers; a certificate for the client purpose is good too. The public and the private CA set are never
mixed: each is tried for itself, and the answer says which one vouched. Only dNSNames of the alternative names
count - no common name, no wildcard.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

MAX_CHAIN = 10
MAX_CHAIN_OCTETS = 131_072
MAX_NAMES = 100
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Smaller keys can be forged, larger ones only cost time (SEC-148)."""
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{1,63}")
_CACHED = 1000
_CACHE_S = 60.0

CaSet = Literal["public", "private"]


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """SHA-256, 64 lower-case hexadecimal digits each."""

    certificate: str
    public_key: str = ""
    """Of the SubjectPublicKeyInfo: survives a renewal that keeps the key; "" for a malformed certificate."""

    def match(self, wanted: str) -> bool:
        """Whether the certificate or its key is the one pinned (64 digits, see `normal_fingerprint`)."""
        return wanted in (self.certificate, self.public_key) and bool(wanted)


@dataclass(frozen=True, slots=True)
class ProvenClient:
    """A configured CA vouches for the names, and the handshake proved possession of the key."""

    names: tuple[str, ...]
    """Host names, lower-case A-labels, in the certificate's order."""
    ca_set: CaSet
    fingerprints: Fingerprints


@dataclass(frozen=True, slots=True)
class CertificateRefusal:
    """No CA of ours vouches for it. `fingerprints` are still true, if there was a certificate."""

    reason: str
    """One named failure, for log and explain."""
    fingerprints: Fingerprints | None = None


ClientIdentity = ProvenClient | CertificateRefusal


@dataclass(frozen=True, slots=True)
class CaStores:
    """The CA sets; None for an empty one, which vouches for nobody (SEC-156)."""

    public: Store | None = None
    private: Store | None = None

    @classmethod
    def of(
        cls, public: Sequence[x509.Certificate] = (), private: Sequence[x509.Certificate] = ()
    ) -> CaStores:
        """From parsed CA certificates."""
        return cls(Store(list(public)) if public else None, Store(list(private)) if private else None)


def fingerprints_of(der: bytes) -> Fingerprints:
    """Fingerprints of one certificate; never raises."""
    digest = hashlib.sha256(der).hexdigest()
    try:
        key = x509.load_der_x509_certificate(der).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # hostile DER: the library may raise nearly anything
        return Fingerprints(digest)
    return Fingerprints(digest, hashlib.sha256(spki).hexdigest())


def identify_client(chain: Sequence[bytes], stores: CaStores, now: float) -> ClientIdentity:
    """What the chain proves at `now` (seconds since the epoch). Never raises. About a millisecond."""
    if not chain:
        return CertificateRefusal("the client presented no certificate")
    if len(chain) > MAX_CHAIN or sum(map(len, chain)) > MAX_CHAIN_OCTETS:
        return CertificateRefusal("the certificate chain is too long")
    prints = fingerprints_of(chain[0])
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        names = _host_names(certificates[0])
        _check_keys(certificates)
    except _Unfit as error:
        return CertificateRefusal(str(error), prints)
    except Exception:
        return CertificateRefusal("a certificate of the chain is malformed", prints)
    return _validate(certificates, names, stores, now, prints)


class _Unfit(Exception):
    pass


def _host_names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The alternative names fit to prove a client: whole host names, no wildcard, nothing odd (SEC-142)."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise _Unfit("the certificate has no subject alternative names") from None
    listed = extension.value.get_values_for_type(x509.DNSName)[:MAX_NAMES]
    names = tuple(dict.fromkeys(name.lower() for name in listed if _HOST_NAME.fullmatch(name.lower())))
    if not names:
        raise _Unfit("the certificate names no host")
    return names


def _check_keys(certificates: Sequence[x509.Certificate]) -> None:
    for certificate in certificates:
        match certificate.public_key():
            case rsa.RSAPublicKey(key_size=bits) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
                continue
            case ec.EllipticCurvePublicKey(curve=curve) if isinstance(curve, _CURVES):
                continue
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                continue
            case _:
                raise _Unfit("a key of the chain is too weak, too large, or of a kind not in use")


def _validate(
    certificates: Sequence[x509.Certificate],
    names: tuple[str, ...],
    stores: CaStores,
    now: float,
    prints: Fingerprints,
) -> ClientIdentity:
    reason = "no CA is configured for client certificates"
    sets: tuple[tuple[CaSet, Store | None], ...] = (("private", stores.private), ("public", stores.public))
    for ca_set, store in sets:
        if store is None:
            continue
        failure = _path_failure(certificates, names[0], store, now)
        if failure is None:
            return ProvenClient(names, ca_set, prints)
        reason = f"no path to a CA of the {ca_set} set: {failure}"
    return CertificateRefusal(reason, prints)


def _path_failure(
    certificates: Sequence[x509.Certificate], name: str, store: Store, now: float
) -> str | None:
    """None when a path exists for the server purpose or for the client purpose, else the first's failure."""
    leaf, *others = certificates
    when = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    builder = PolicyBuilder().store(store).time(when).max_chain_depth(MAX_CHAIN)
    try:
        builder.build_server_verifier(x509.DNSName(name)).verify(leaf, others)
    except VerificationError as error:
        try:
            builder.build_client_verifier().verify(leaf, others)
        except VerificationError:
            return str(error)[:200]
    except ValueError as error:
        return str(error)[:200]
    return None


@dataclass(slots=True)
class ClientIdentifier:
    """`identify_client` with a configuration's CA sets and a short memory, for sessions of one peer."""

    stores: CaStores
    _known: OrderedDict[bytes, tuple[float, ClientIdentity]] = field(default_factory=OrderedDict, repr=False)

    def identify(self, chain: Sequence[bytes], now: float) -> ClientIdentity:
        """As `identify_client`; an answer is remembered for a minute."""
        key = hashlib.sha256(b"".join(hashlib.sha256(der).digest() for der in chain)).digest()
        known = self._known.get(key)
        if known is not None and 0 <= now - known[0] < _CACHE_S:
            return known[1]
        identity = identify_client(chain, self.stores, now)
        self._known[key] = (now, identity)
        self._known.move_to_end(key)
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return identity
