"""Sets of CA certificates as one site hands them to another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.findings import Finding, Level, day
from outrider.identity.signed_document import DocumentError

MAX_AUTHORITIES = 100


def parse_authorities(texts: Sequence[str]) -> tuple[x509.Certificate, ...]:
    """CA certificates from PEM texts, each once. Raises DocumentError for what is none or no authority's."""
    found: dict[bytes, x509.Certificate] = {}
    for text in texts:
        try:
            certificates = x509.load_pem_x509_certificates(text.encode())
            authorities = all(map(_is_authority, certificates))
        except Exception as error:  # hostile DER: the library may raise nearly anything
            raise DocumentError("a CA certificate in the file is malformed") from error
        if not authorities:
            raise DocumentError("a certificate in the CA set is not an authority's")
        found.update((one.public_bytes(Encoding.DER), one) for one in certificates)
    if len(found) > MAX_AUTHORITIES:
        raise DocumentError("the CA set is too large")
    return tuple(found.values())


def _is_authority(certificate: x509.Certificate) -> bool:
    certificate.public_key()  # an unreadable key is found here and not at the next handshake
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def authorities_pem(authorities: Iterable[x509.Certificate]) -> bytes:
    """The set written anew: nothing but certificates, whatever stood around them."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in authorities)


def authority_name(certificate: x509.Certificate) -> str:
    """An authority as operators know it, with the beginning of its fingerprint; never unprintable."""
    try:
        subject = certificate.subject.rfc4514_string()
    except Exception:  # hostile DER
        subject = "(unreadable)"
    text = "".join(one if one.isprintable() else "?" for one in subject)[:100]
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    return f"{text or '(no name)'} [{digest[:16]}]"


def authority_findings(
    authorities: Iterable[x509.Certificate], now: float, scope: str = ""
) -> Iterator[Finding]:
    """What is to be said of each; `scope` names what it may vouch for."""
    for one in authorities:
        name, end = authority_name(one), one.not_valid_after_utc.timestamp()
        if end <= now:
            yield Finding(Level.REFUSE, "CA set", f"{name} expired on {day(end)}")
        else:
            yield Finding(Level.OK, "CA set", f"{name}, until {day(end)}{scope}")
