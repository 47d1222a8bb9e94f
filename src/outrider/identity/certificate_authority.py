"""A small certificate authority: makes certificates that strict verifiers accept. Pure computation, no files.

For partners who run a private CA, for the playground and for tests. The profile is RFC 5280's as web clients
enforce it: alternative names only (never critical unless the subject is empty), key identifiers on both
sides, CA bit and key usage critical, random serials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from typing import Literal

import idna
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.identity.certificates import service_name
from outrider.identity.delegated_authorities import issuer_names

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KeyType = Literal["ec", "rsa"]
Kind = Literal["public", "private"]

_RSA_BITS = 2048
_MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_HOST = 253


class Purpose(Enum):
    """What a certificate may be used for (extended key usage)."""

    SERVER = ExtendedKeyUsageOID.SERVER_AUTH
    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
    MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION


_HOST_PURPOSES: dict[Kind, tuple[Purpose, ...]] = {
    # Public CAs have stopped issuing for clients; hosts present a server certificate in both roles.
    "public": (Purpose.SERVER,),
    "private": (Purpose.SERVER, Purpose.CLIENT),
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key. `chain` holds the intermediate authorities, nearest first, not the root."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def certificate_pem(self) -> bytes:
        """The certificate and its chain, as `[tls] certificate` wants them."""
        return b"".join(_pem(certificate) for certificate in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        """The key, PKCS #8, not encrypted: write it where only its owner can read."""
        return _key_pem(self.key)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What distinguishes one end certificate from another."""

    subject: x509.Name
    alternatives: Sequence[x509.GeneralName]
    purposes: Sequence[Purpose]
    key: PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate that no longer counts."""

    serial: int
    at: datetime
    reason: x509.ReasonFlags | None = None


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """Below which domains an authority may, or may not, issue (RFC 5280 section 4.2.1.10)."""

    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def extension(self) -> x509.NameConstraints:
        """The extension; raises ValueError if there is nothing to constrain, or for a bad name."""
        permitted, excluded = (
            [x509.DNSName(_host(name)) for name in names] or None for names in (self.permitted, self.excluded)
        )
        return x509.NameConstraints(permitted, excluded)


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """An authority: a CA certificate, its key, and the chain from it towards the root (root excluded).

    `kind` decides what host certificates are for when the caller does not say: a public authority issues
    for servers only, a private one for servers and clients.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    kind: Kind = "private"
    chain: tuple[x509.Certificate, ...] = ()
    issuer_domain: str = ""
    """The domain that publishes this authority (MT2-24b): stated as issuerAltName in what it issues."""

    @classmethod
    def create(
        cls,
        common_name: str,
        not_before: datetime,
        days: int = 3650,
        *,
        kind: Kind = "private",
        key: KeyType = "ec",
        path_length: int | None = None,
        constraints: NameConstraints | None = None,
        issuer_domain: str = "",
    ) -> CertificateAuthority:
        """Make a root authority.

        `path_length` bounds the intermediate authorities below it (None = no bound). Raises ValueError for
        a name over 64 characters, a naive or impossible time, constraints that constrain nothing.
        """
        private = generate_key(key)
        name = _subject(common_name)
        builder = _authority_builder(private, name, path_length, constraints)
        builder = _valid(builder.issuer_name(name), not_before, days)
        certificate = builder.sign(private, hashes.SHA256())
        return cls(certificate, private, kind, issuer_domain=issuer_domain)

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes, kind: Kind = "private") -> CertificateAuthority:
        """Load an authority: its certificate, then its chain without the root, and its key (not encrypted).

        Raises ValueError if the first certificate is not an authority's, or the key is not its own.
        """
        own, *chain = x509.load_pem_x509_certificates(certificate)
        private = serialization.load_pem_private_key(key, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("the key is neither elliptic-curve nor RSA")
        if own.public_key() != private.public_key():
            raise ValueError("the key does not belong to the certificate")
        if not _is_authority(own):
            raise ValueError("the certificate is not an authority's")
        return cls(own, private, kind, tuple(chain))

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate: for others to trust, if this is a root."""
        return _pem(self.certificate)

    @property
    def bundle_pem(self) -> bytes:
        """The certificate and its chain, as `from_pem` reads them."""
        return b"".join(_pem(certificate) for certificate in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        """The key, PKCS #8, not encrypted: write it where only its owner can read."""
        return _key_pem(self.key)

    def issue_host(
        self,
        names: Sequence[str],
        not_before: datetime,
        days: int = 90,
        *,
        purposes: Sequence[Purpose] | None = None,
        addresses: Sequence[str] = (),
        mailboxes: Sequence[str] = (),
        services: Sequence[tuple[str, str]] = (),
        key: KeyType = "ec",
    ) -> Issued:
        """Issue for a host's DNS names (U- or A-labels; the first label may be `*`) and IP addresses.

        `mailboxes` are (ASCII) mail addresses of whoever the host belongs to (AMTP-19); `services` the right
        to serve a domain, as SRVNames (RFC 4985): ``("amtp", "bank.example")``. It ends with the authority
        itself, if that is earlier. Raises ValueError without any name or address, or for a bad one.
        """
        hosts = [_host_or_wildcard(name) for name in names]
        alternatives: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        alternatives += [x509.IPAddress(ip_address(address)) for address in addresses]
        if not alternatives:
            raise ValueError("a host certificate needs a name or an address")
        alternatives += [x509.RFC822Name(_mailbox(mailbox)) for mailbox in mailboxes]
        alternatives += [service_name(service, _host(domain)) for service, domain in services]
        subject = _subject(next((host for host in hosts if len(host) <= _MAX_COMMON_NAME), None))
        leaf = _Leaf(subject, alternatives, purposes or _HOST_PURPOSES[self.kind], generate_key(key))
        return self._issue(leaf, not_before, days)

    def issue_user(
        self,
        mail_address: str,
        not_before: datetime,
        days: int = 365,
        *,
        hosts: Sequence[str] = (),
        key: KeyType = "ec",
    ) -> Issued:
        """Issue for a person, named by an (ASCII) mail address, for TLS clients and signatures (RFC 8550).

        `hosts`: what the person's machine says at EHLO, for private AMTP connections (AMTP-19). Raises
        ValueError for a bad address or name.
        """
        address = _mailbox(mail_address)
        subject = _subject(address if len(address) <= _MAX_COMMON_NAME else None)
        purposes = (Purpose.CLIENT, Purpose.MAIL)
        alternatives = [x509.RFC822Name(address), *(x509.DNSName(_host(host)) for host in hosts)]
        leaf = _Leaf(subject, alternatives, purposes, generate_key(key))
        return self._issue(leaf, not_before, days)

    def renew(self, old: Issued, not_before: datetime, days: int = 90, *, new_key: bool = False) -> Issued:
        """Issue again for the same subject, names and purposes, and the same key unless told otherwise: pins
        of the key then go on to hold. Raises ValueError for one that is not ours, or is an authority's."""
        try:
            old.certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            raise ValueError("this authority did not issue the certificate") from None
        if _is_authority(old.certificate):
            raise ValueError("the certificate is an authority's; make a new one")
        extensions = old.certificate.extensions
        try:
            names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            raise ValueError("the certificate states no names or no purpose; make a new one") from None
        purposes = [purpose for purpose in Purpose if purpose.value in usage]
        kind: KeyType = "rsa" if isinstance(old.key, rsa.RSAPrivateKey) else "ec"
        key = generate_key(kind) if new_key else old.key
        domain = next(iter(issuer_names(old.certificate)), self.issuer_domain)
        issuer = replace(self, issuer_domain=domain)
        return issuer._issue(_Leaf(old.certificate.subject, list(names), purposes, key), not_before, days)

    def issue_authority(
        self,
        common_name: str,
        not_before: datetime,
        days: int = 1825,
        *,
        key: KeyType = "ec",
        path_length: int | None = 0,
        constraints: NameConstraints | None = None,
    ) -> CertificateAuthority:
        """Make an intermediate authority; arguments as for `create`.

        Whether it keeps to the path length and constraints of those above it is for verifiers to judge.
        """
        private = generate_key(key)
        builder = _authority_builder(private, _subject(common_name), path_length, constraints)
        certificate = self._sign(builder, not_before, days)
        chain = self._chain_below()
        return CertificateAuthority(certificate, private, self.kind, chain, self.issuer_domain)

    def revocation_list(
        self, revoked: Iterable[Revocation], issued_at: datetime, days: int = 7, *, number: int = 1
    ) -> x509.CertificateRevocationList:
        """Return the signed list (CRL) of what is revoked; `number` must grow from list to list."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_aware(issued_at))
            .next_update(_aware(issued_at) + timedelta(days=days))
            .add_extension(self._key_identifier(), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for entry in revoked:
            builder = builder.add_revoked_certificate(_revoked(entry))
        return builder.sign(self.key, hashes.SHA256())

    def extended_list(
        self,
        old: x509.CertificateRevocationList | None,
        revoked: Iterable[Revocation],
        issued_at: datetime,
        days: int = 7,
    ) -> x509.CertificateRevocationList:
        """The list that follows `old` (None = this is the first), with more revoked.

        Raises ValueError if the old one is not signed by this authority.
        """
        if old is None:
            return self.revocation_list(revoked, issued_at, days)
        if not old.is_signature_valid(self.certificate.public_key()):  # type: ignore[arg-type]
            raise ValueError("the old list is not signed by this authority")
        known = {entry.serial_number: _revocation(entry) for entry in old}
        for one in revoked:
            known.setdefault(one.serial, one)
        number = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        return self.revocation_list(known.values(), issued_at, days, number=number)

    def _issue(self, leaf: _Leaf, not_before: datetime, days: int) -> Issued:
        usage = x509.ExtendedKeyUsage([purpose.value for purpose in leaf.purposes])
        builder = (
            _builder(leaf.key, leaf.subject)
            # RFC 5280 section 4.2.1.6: critical if, and only if, the subject says nothing.
            .add_extension(x509.SubjectAlternativeName(leaf.alternatives), critical=not list(leaf.subject))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_leaf_usage(leaf), critical=True)
            .add_extension(usage, critical=False)
        )
        if self.issuer_domain:
            names = x509.IssuerAlternativeName([x509.DNSName(_host(self.issuer_domain))])
            builder = builder.add_extension(names, critical=False)
        return Issued(self._sign(builder, not_before, days), leaf.key, self._chain_below())

    def _sign(self, builder: x509.CertificateBuilder, not_before: datetime, days: int) -> x509.Certificate:
        builder = _valid(builder, not_before, days, self.certificate.not_valid_after_utc)
        return (
            builder.issuer_name(self.certificate.subject)
            .add_extension(self._key_identifier(), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:  # an old authority, loaded from PEM
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)

    def _chain_below(self) -> tuple[x509.Certificate, ...]:
        """What those whom we issue for present beside their own certificate: nothing if we are a root."""
        is_root = self.certificate.issuer == self.certificate.subject
        return self.chain if is_root else (self.certificate, *self.chain)


def generate_key(kind: KeyType) -> PrivateKey:
    """Make a private key: elliptic-curve P-256, or RSA of 2048 bits."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)


def _builder(key: PrivateKey, subject: x509.Name) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority_builder(
    key: PrivateKey, subject: x509.Name, path_length: int | None, constraints: NameConstraints | None
) -> x509.CertificateBuilder:
    builder = (
        _builder(key, subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints.extension(), critical=True)
    return builder


def _leaf_usage(leaf: _Leaf) -> x509.KeyUsage:
    """Mail is encrypted to its recipient's certificate (RFC 8550 section 4.4.2, MT2-4); a host only signs."""
    return _key_usage(authority=False, decrypts=leaf.key if Purpose.MAIL in leaf.purposes else None)


def _key_usage(authority: bool, decrypts: PrivateKey | None = None) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        # TLS 1.2 and newer with forward secrecy only signs
        key_encipherment=isinstance(decrypts, rsa.RSAPrivateKey),
        data_encipherment=False,
        key_agreement=isinstance(decrypts, ec.EllipticCurvePrivateKey),
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _valid(
    builder: x509.CertificateBuilder, not_before: datetime, days: int, no_later_than: datetime | None = None
) -> x509.CertificateBuilder:
    start = _aware(not_before)
    end = start + timedelta(days=days)
    if no_later_than is not None:
        end = min(end, no_later_than)
    return builder.not_valid_before(start).not_valid_after(end)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment


def _subject(common_name: str | None) -> x509.Name:
    if common_name is None:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host_or_wildcard(name: str) -> str:
    return f"*.{_host(name[2:])}" if name.startswith("*.") else _host(name)


def _mailbox(mail_address: str) -> str:
    """Return a mail address with its domain as lower-case A-labels; raises ValueError for what is none."""
    local, at, domain = mail_address.rpartition("@")
    if not (local and at and local.isascii() and local.isprintable()):
        raise ValueError(f"{mail_address!r} is not an ASCII mail address")
    return f"{local}@{_host(domain)}"


def _host(name: str) -> str:
    """Return a host name as lower-case A-labels; raises ValueError for what is none."""
    try:
        host = (name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")).lower()
    except UnicodeError as error:  # idna.IDNAError among them
        raise ValueError(f"{name!r} is not a host name") from error
    if len(host) > _MAX_HOST or not _HOST.fullmatch(host):
        raise ValueError(f"{name!r} is not a host name")
    return host


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _revoked(entry: Revocation) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(_aware(entry.at))
    if entry.reason is not None:
        builder = builder.add_extension(x509.CRLReason(entry.reason), critical=False)
    return builder.build()


def _revocation(entry: x509.RevokedCertificate) -> Revocation:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        reason = None
    return Revocation(entry.serial_number, entry.revocation_date_utc, reason)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
