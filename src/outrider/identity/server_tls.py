"""Is it the server that we wanted? What a server's certificate chain proves to us as client (TLS-4a, SEC-51).

Two ways to an answer: a path to a configured CA together with the name (RFC 5280, RFC 9525), and a pinned
fingerprint of the certificate or its key. The public and the private CA set are each tried for themselves,
never mixed, and the answer says which one vouched. Nothing here is asked about an opportunistic session's
right to go on; there the answer is only recorded (TLS-6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from outrider.identity.client_certificate import (
    MAX_CHAIN,
    MAX_CHAIN_OCTETS,
    MAX_RSA_BITS,
    CaSet,
    CaStores,
    fingerprints_of,
)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ProvenServer:
    """The server is who it should be."""

    name: str
    """The name or address that was proven; "" when a fingerprint was."""
    how: str
    """``public CA``, ``private CA``, ``fingerprint of the certificate``, ``fingerprint of the key``."""

    def __str__(self) -> str:
        return f"verified {self.name} ({self.how})" if self.name else f"verified ({self.how})"


@dataclass(frozen=True, slots=True)
class TlsRefusal:
    """It is not proven; why, in one sentence without anything that the peer chose."""

    reason: str


def verify_server(
    chain: Sequence[bytes], host: str, stores: CaStores, now: float
) -> ProvenServer | TlsRefusal:
    """Whether a CA of ours vouches for the holder of this chain (DER, leaf first) under the name `host`.

    `host` is a name as A-labels or an IP address (in brackets or not); `now` in seconds since the epoch.
    Never raises; takes about a millisecond.
    """
    if not chain:
        return TlsRefusal("the server presented no certificate")
    if len(chain) > MAX_CHAIN or sum(map(len, chain)) > MAX_CHAIN_OCTETS:
        return TlsRefusal("the certificate chain is too long")
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        oversized = any(_is_oversized(certificate) for certificate in certificates)
        subject = _subject(host)
    except Exception:  # hostile DER: the library may raise nearly anything
        return TlsRefusal("a certificate of the chain is malformed, or the host's name is none")
    if oversized:
        return TlsRefusal("an RSA key of the chain is too large")
    return _try_sets(certificates, subject, stores, now)


def _is_oversized(certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    return isinstance(key, rsa.RSAPublicKey) and key.key_size > MAX_RSA_BITS


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    text = host.removeprefix("[").removesuffix("]")
    text = text[5:] if text[:5].lower() == "ipv6:" else text
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text.rstrip(".").lower())


def _try_sets(
    certificates: Sequence[x509.Certificate],
    subject: x509.DNSName | x509.IPAddress,
    stores: CaStores,
    now: float,
) -> ProvenServer | TlsRefusal:
    sets: tuple[tuple[CaSet, Store | None], ...] = (("private", stores.private), ("public", stores.public))
    failures: list[str] = []
    for ca_set, store in sets:
        if store is None:
            continue
        failure = _path_failure(certificates, subject, store, now)
        if failure is None:
            return ProvenServer(str(subject.value), f"{ca_set} CA")
        failures.append(failure)
    if not failures:
        return TlsRefusal("no CA is configured")
    # The same fault of the leaf (its name, its dates) is found in both sets and said once.
    return TlsRefusal("; ".join(dict.fromkeys(failures)))


def _path_failure(
    certificates: Sequence[x509.Certificate],
    subject: x509.DNSName | x509.IPAddress,
    store: Store,
    now: float,
) -> str | None:
    when = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    leaf, *others = certificates
    try:
        policy = PolicyBuilder().store(store).time(when).max_chain_depth(MAX_CHAIN)
        policy.build_server_verifier(subject).verify(leaf, others)
    except VerificationError as error:
        return _in_our_words(str(error), leaf, when)
    except ValueError:
        return "the host's name cannot stand in a certificate"
    return None


def _in_our_words(error: str, leaf: x509.Certificate, when: datetime) -> str:
    """The faults that operators meet, plainly; else the library's words up to where the peer's begin."""
    if leaf.not_valid_after_utc.replace(tzinfo=None) < when:
        return f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if leaf.not_valid_before_utc.replace(tzinfo=None) > when:
        return f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}"
    words = error.removeprefix("validation failed: ").partition(" (")[0]
    if "subjectAltName" in words:
        return "the certificate is for another name"
    if leaf.issuer == leaf.subject:
        return "the certificate is self-signed"
    return "no path to a configured CA" if "candidates exhausted" in words else words[:200]


def match_fingerprint(chain: Sequence[bytes], wanted: Iterable[str]) -> ProvenServer | TlsRefusal:
    """Whether the leaf or its key is pinned: SHA-256 in hexadecimal, colons and case do not matter.

    A pin needs no CA, no name and no dates: the operator has vouched for this very key. Never raises.
    """
    if not chain:
        return TlsRefusal("the server presented no certificate")
    prints = fingerprints_of(chain[0])
    pins = {pin.replace(":", "").strip().lower() for pin in wanted}
    pins = {pin for pin in pins if _FINGERPRINT.fullmatch(pin)}
    if prints.certificate in pins:
        return ProvenServer("", "fingerprint of the certificate")
    if prints.public_key in pins:
        return ProvenServer("", "fingerprint of the key")
    return TlsRefusal(f"no pinned fingerprint matches (the certificate's is {prints.certificate})")


def ca_stores(public: Sequence[bytes], private: Sequence[bytes]) -> CaStores:
    """CA sets from the contents of PEM files. Raises ValueError when a file holds no readable certificate."""
    return CaStores.of(_certificates(public), _certificates(private))


def _certificates(files: Sequence[bytes]) -> list[x509.Certificate]:
    return [certificate for pem in files for certificate in x509.load_pem_x509_certificates(pem)]
