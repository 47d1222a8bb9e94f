"""Certificates that should be refused, each with one flaw, and an authority at hand. For tests only.

Good certificates come from `outrider.identity.certificate_authority`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.identity.certificate_authority import (
    CertificateAuthority,
    Issued,
    PrivateKey,
    Purpose,
    generate_key,
)

_DAY = timedelta(days=1)
_UNKNOWN_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one host: certificate with chain, key, and the root to check it by."""

    certificate: Path
    key: Path
    authority: Path


def write_tls_files(folder: Path, authority: CertificateAuthority, issued: Issued) -> TlsFiles:
    """Write a certificate, its key and the authority's own certificate into a folder."""
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
    folder.mkdir(parents=True, exist_ok=True)
    files.certificate.write_bytes(issued.certificate_pem)
    files.key.touch(mode=0o600)
    files.key.write_bytes(issued.key_pem)
    files.authority.write_bytes(authority.certificate_pem)
    return files


def issue_expired(authority: CertificateAuthority, name: str, now: datetime) -> Issued:
    """Valid until a second ago."""
    return _issue(authority, name, now - 30 * _DAY, now - timedelta(seconds=1))


def issue_not_yet_valid(authority: CertificateAuthority, name: str, now: datetime) -> Issued:
    """Valid from a day ahead."""
    return _issue(authority, name, now + _DAY, now + 30 * _DAY)


def issue_wildcard(authority: CertificateAuthority, domain: str, now: datetime) -> Issued:
    """For `*.domain` alone: good for servers below it, never proof of a client's name."""
    return authority.issue_host([f"*.{domain}"], now)


def issue_wrong_purpose(authority: CertificateAuthority, name: str, now: datetime) -> Issued:
    """For signing code, neither for servers nor clients."""
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    return _issue(authority, name, now, now + 30 * _DAY, usage=usage)


def issue_common_name_only(authority: CertificateAuthority, name: str, now: datetime) -> Issued:
    """The name stands in the subject only, there is no alternative name."""
    return _issue(authority, name, now, now + 30 * _DAY, alternatives=())


def issue_nameless(authority: CertificateAuthority, now: datetime) -> Issued:
    """Neither a subject nor an alternative name."""
    return _issue(authority, None, now, now + 30 * _DAY, alternatives=())


def issue_unknown_critical(authority: CertificateAuthority, name: str, now: datetime) -> Issued:
    """With a critical extension that nobody knows (SEC-145)."""
    unknown = x509.UnrecognizedExtension(_UNKNOWN_EXTENSION, b"\x05\x00")
    return _issue(authority, name, now, now + 30 * _DAY, critical=unknown)


def issue_weak_key(authority: CertificateAuthority, name: str, now: datetime) -> Issued:
    """For an RSA key of 1024 bits (SEC-148)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return _issue(authority, name, now, now + 30 * _DAY, key=key)


def issue_by_leaf(issuer: Issued, name: str, now: datetime) -> Issued:
    """Issued by a host's certificate, which is no authority (SEC-146)."""
    authority = CertificateAuthority(issuer.certificate, issuer.key)
    return _issue(authority, name, now, now + 30 * _DAY)


def issue_self_signed(name: str, now: datetime) -> Issued:
    """Signed by its own key."""
    key = generate_key("ec")
    # Stands in for an authority of the same name, so that subject and issuer agree.
    stand_in = CertificateAuthority.create(name, now)
    own = CertificateAuthority(stand_in.certificate, key)
    return _issue(own, name, now, now + 30 * _DAY, key=key)


def _issue(
    authority: CertificateAuthority,
    name: str | None,
    start: datetime,
    end: datetime,
    *,
    alternatives: Sequence[str] | None = None,
    usage: x509.ExtendedKeyUsage | None = None,
    critical: x509.ExtensionType | None = None,
    key: PrivateKey | None = None,
) -> Issued:
    """Issue with every detail open to be wrong."""
    key = key or generate_key("ec")
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name is not None else []
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(issuer_identifier, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            usage or x509.ExtendedKeyUsage([Purpose.SERVER.value, Purpose.CLIENT.value]), critical=False
        )
    )
    names = [name] if alternatives is None and name is not None else list(alternatives or ())
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in names]), critical=False
        )
    if critical is not None:
        builder = builder.add_extension(critical, critical=True)
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)
