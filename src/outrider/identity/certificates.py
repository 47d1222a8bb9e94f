"""Certificates as peers send them: read within bounds, and the names in them. Nothing is believed here.

Every name that leaves this file is a lower-case host name of A-labels, or a mail address with such a domain.
A name of another form (a wildcard, a NUL, a final dot, an address written as a name) is left out: it proves
nobody, and the certificate's other names are none the worse for it (SEC-142, SEC-143).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import idna
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from outrider.identity.checks import Check, Fault

MAX_CHAIN = 10
"""Certificates that a peer may send: a leaf and three authorities are usual."""
MAX_CHAIN_OCTETS = 131_072
MAX_NAMES = 250
"""Alternative names of a certificate; more are nothing that a mail host needs (SEC-149)."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Smaller keys can be forged, larger ones only cost time (SEC-148)."""
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")
_MAX_TEXT = 255
_SRV_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7")
"""id-on-dnsSRV, RFC 4985 section 2."""
_IA5_STRING = 0x16
_SHORT_LENGTH = 0x80
"""DER: lengths below this stand in one octet."""


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
class CertifiedNames:
    """What a certificate says of its holder. Only a path to an authority makes it worth anything."""

    hosts: tuple[str, ...] = ()
    """dNSNames that are whole host names, in the certificate's order."""
    services: tuple[str, ...] = ()
    """SRVNames (RFC 4985), like ``_amtp.bank.example``."""
    mailboxes: tuple[str, ...] = ()
    """rfc822Names."""
    common_name: str = ""
    """The subject's only common name, as written; "" for none or several."""
    oddities: tuple[str, ...] = ()
    """Why other names were left out, each kind once."""


def fingerprints_of(der: bytes) -> Fingerprints:
    """Fingerprints of one certificate; never raises."""
    digest = hashlib.sha256(der).hexdigest()
    try:
        key = x509.load_der_x509_certificate(der).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # hostile DER: the library may raise nearly anything
        return Fingerprints(digest)
    return Fingerprints(digest, hashlib.sha256(spki).hexdigest())


def chain_digest(chain: Sequence[bytes]) -> bytes:
    """One digest for a whole chain (DER), to remember it by."""
    return hashlib.sha256(b"".join(hashlib.sha256(der).digest() for der in chain)).digest()


def read_chain(chain: Sequence[bytes]) -> list[x509.Certificate] | Fault:
    """Parse a peer's chain (DER, leaf first) within bounds; never raises.

    Length and keys are looked at before any signature is: a giant key costs nothing (SEC-147 to SEC-149).
    """
    if not chain:
        return Fault(Check.NO_CERTIFICATE, "no certificate was presented")
    if len(chain) > MAX_CHAIN or sum(map(len, chain)) > MAX_CHAIN_OCTETS:
        limit = f"more than {MAX_CHAIN} certificates or {MAX_CHAIN_OCTETS // 1024} KiB"
        return Fault(Check.CHAIN_TOO_LONG, f"the certificate chain is too long ({limit})")
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        faults = [fault for one in certificates if (fault := _key_fault(one)) is not None]
    except Exception:  # hostile DER: the library may raise nearly anything
        return Fault(Check.MALFORMED, "a certificate of the chain is malformed")
    return faults[0] if faults else certificates


def _key_fault(certificate: x509.Certificate) -> Fault | None:
    match certificate.public_key():
        case rsa.RSAPublicKey(key_size=bits) if bits < MIN_RSA_BITS:
            return Fault(
                Check.WEAK_KEY, f"an RSA key of the chain has {bits} bits; {MIN_RSA_BITS} are needed"
            )
        case rsa.RSAPublicKey(key_size=bits) if bits > MAX_RSA_BITS:
            return Fault(
                Check.WEAK_KEY, f"an RSA key of the chain has {bits} bits; {MAX_RSA_BITS} are the most"
            )
        case rsa.RSAPublicKey() | ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return None
        case ec.EllipticCurvePublicKey(curve=curve) if isinstance(curve, _CURVES):
            return None
        case _:
            return Fault(Check.WEAK_KEY, "a key of the chain is of a kind not in use")


def names_of(leaf: x509.Certificate) -> CertifiedNames | Fault:
    """The names in a certificate that are fit to be held against anything; never raises."""
    try:
        common = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        names = _alternative_names(leaf)
    except Exception:  # a name that is no text, a duplicated extension, ...
        return Fault(Check.MALFORMED, "the names in the certificate are malformed")
    if len(names) > MAX_NAMES:
        return Fault(Check.NAME, f"the certificate has more than {MAX_NAMES} names")
    written = [name.value for name in names if isinstance(name, x509.DNSName)]
    hosts = dict.fromkeys(name.lower() for name in written if _is_plain(name))
    odd = dict.fromkeys(_oddity(name) for name in written if not _is_plain(name))
    services = [_service(name) for name in names if isinstance(name, x509.OtherName)]
    boxes = [normal_mailbox(name.value) for name in names if isinstance(name, x509.RFC822Name)]
    return CertifiedNames(
        tuple(hosts),
        tuple(filter(None, services)),
        tuple(filter(None, boxes)),
        common[0] if len(common) == 1 else "",
        tuple(odd),
    )


def _alternative_names(leaf: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _is_plain(name: str) -> bool:
    """In ASCII from the beginning: some letters of other alphabets have an ASCII one as their lower case."""
    return name.isascii() and is_host_name(name.lower())


def _oddity(name: str) -> str:
    if "*" in name:
        return "a wildcard"
    if "\0" in name:
        return "a NUL in a name"
    if name.endswith("."):
        return "a final dot in a name"
    return "a name that is no host name"


def _service(name: x509.OtherName) -> str:
    """An SRVName as ``_service.domain``; "" for other kinds and malformed ones."""
    value = name.value
    if name.type_id != _SRV_NAME or len(value) < 2 or value[0] != _IA5_STRING:
        return ""
    head = 2 if value[1] < _SHORT_LENGTH else 3  # a name has 255 octets at most: one more octet of length
    if head == 3 and value[1] != 0x81:
        return ""
    if len(value) < head or value[head - 1] != len(value) - head:
        return ""
    text = value[head:].decode("ascii", "replace").lower()
    service, dot, domain = text.partition(".")
    known = dot and re.fullmatch(r"_[a-z0-9-]{1,15}", service) and is_host_name(domain)
    return text if known else ""


def service_name(service: str, domain: str) -> x509.OtherName:
    """An SRVName for a certificate: ``_amtp.bank.example`` (RFC 4985). Raises ValueError for a bad domain."""
    if not is_host_name(domain):
        raise ValueError(f"{domain!r} is not a domain name")
    text = f"_{service}.{domain}".encode("ascii")
    length = bytes([len(text)]) if len(text) < _SHORT_LENGTH else bytes([0x81, len(text)])
    return x509.OtherName(_SRV_NAME, bytes([_IA5_STRING]) + length + text)


def is_host_name(name: str) -> bool:
    """Whether a lower-case text is a full host name: letters, digits and hyphens, at least two labels, no
    wildcard, no final dot, and not an IPv4 address."""
    return _HOST_NAME.fullmatch(name) is not None


def normal_host(text: str) -> str:
    """A host name as lower-case A-labels (U-labels are converted); "" for anything else. Never raises."""
    if len(text) > _MAX_TEXT:
        return ""
    try:
        name = (text if text.isascii() else idna.encode(text, uts46=True).decode("ascii")).lower()
    except UnicodeError:  # idna.IDNAError among them
        return ""
    return name if is_host_name(name) else ""


def normal_mailbox(text: str) -> str:
    """A mail address to compare logins by: the domain as `normal_host`, all in lower case; "" for none."""
    local, at, domain = text.rpartition("@")
    host = normal_host(domain)
    plain = local.isascii() and local.isprintable()
    return f"{local.lower()}@{host}" if at and local and plain and host else ""


def common_name_host(names: CertifiedNames) -> str:
    """The common name where it is a host name; "" else."""
    return normal_host(names.common_name) if names.common_name.isascii() else ""


def moment(now: float) -> datetime:
    """Seconds since the epoch as the library wants a time: UTC, without saying so."""
    return datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
