"""Is it the server that we wanted? What a server's certificate chain proves to us as client (TLS-4a, SEC-51).

Two ways to an answer: a path to a configured CA together with the name (RFC 5280, RFC 9525), and a pinned
fingerprint of the certificate or its key. Nothing here is asked about an opportunistic session's right to go
on; there the answer is only recorded (TLS-6). Which names AMTP takes is told by `host_identity`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography import x509

from outrider.identity.authorities import CaStores
from outrider.identity.certificates import fingerprints_of, read_chain
from outrider.identity.checks import Fault
from outrider.identity.paths import host_path

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
    certificates = read_chain(chain)
    if isinstance(certificates, Fault):
        return TlsRefusal(certificates.reason)
    leaf, *others = certificates
    try:
        subject = _subject(host)
    except ValueError:
        return TlsRefusal("the host's name cannot stand in a certificate")
    failures: list[str] = []
    for ca_set, store in stores.sets():
        found = host_path(leaf, others, subject, store, now)
        if not isinstance(found, Fault):
            revoked = stores.revocations.current.fault(found.certificates, now)
            return TlsRefusal(revoked.reason) if revoked else ProvenServer(str(subject.value), f"{ca_set} CA")
        failures.append(found.reason)
    # The same fault of the leaf (its name, its dates) is found in both sets and said once.
    return TlsRefusal("; ".join(dict.fromkeys(failures)) or "no CA is configured")


def _subject(host: str) -> x509.DNSName | x509.IPAddress:
    text = host.removeprefix("[").removesuffix("]")
    text = text[5:] if text[:5].lower() == "ipv6:" else text
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text.rstrip(".").lower())


def match_fingerprint(chain: Sequence[bytes], wanted: Iterable[str]) -> ProvenServer | TlsRefusal:
    """Whether the leaf or its key is pinned: SHA-256 in hexadecimal, colons and case do not matter.

    A pin needs no CA, no name and no dates: the operator has vouched for this very key. Never raises.
    """
    if not chain:
        return TlsRefusal("no certificate was presented")
    prints = fingerprints_of(chain[0])
    pins = {pin.replace(":", "").strip().lower() for pin in wanted}
    pins = {pin for pin in pins if _FINGERPRINT.fullmatch(pin)}
    if prints.certificate in pins:
        return ProvenServer("", "fingerprint of the certificate")
    if prints.public_key in pins:
        return ProvenServer("", "fingerprint of the key")
    return TlsRefusal(f"no pinned fingerprint matches (the certificate's is {prints.certificate})")
