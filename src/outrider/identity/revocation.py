"""Certificates that their authority has taken back: lists of revocations (CRLs, RFC 5280 section 5).

Which lists there are is the operator's business: `[tls] crl` names files, something else fetches them, and no
address found in a certificate is ever asked (SEC-150). The rule is hard where there is a list and soft
where there is none: an authority without a list is not asked about; one whose newest list has run out proves
nothing until there is a newer one, as a list that has stopped coming is how a revocation would be suppressed.

A list counts for the authority whose key signed it, not for whoever has its name. It must be a whole list
(no delta), for certificates of its own issuer (not indirect), and say when the next one comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from outrider.identity.checks import Check, Fault

NEVER = float("inf")
_MAX_KEYS = 256
_HARMLESS = (x509.CRLNumber, x509.AuthorityKeyIdentifier, x509.FreshestCRL, x509.IssuerAlternativeName)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list, read and indexed."""

    source: str
    """The file that it came from, for messages."""
    issuer: x509.Name
    next_update: float
    """Seconds since the epoch."""
    serials: frozenset[int] = field(repr=False)
    crl: x509.CertificateRevocationList = field(repr=False)

    def is_signed_by(self, authority: x509.Certificate) -> bool:
        """Whether this authority's key has signed it."""
        try:
            return self.crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
        except Exception:  # a key of another kind than the signature
            return False


def read_revocation_list(
    content: bytes, source: str, authorities: Iterable[x509.Certificate] = ()
) -> RevocationList:
    """Read a list, PEM or DER. Raises ValueError, with a sentence, for one that cannot be used.

    Where `authorities` has its issuer, one of them must have signed it. The list of an authority further down
    is held against that one's key when a path shows it.
    """
    crl = _parse(content, source)
    _check_extensions(crl, source)
    try:
        issuer, next_update = crl.issuer, crl.next_update_utc
        serials = frozenset(entry.serial_number for entry in crl)
    except Exception:  # read only now, and the library may raise nearly anything
        raise ValueError(f"{source}: the list's issuer, dates or entries are malformed") from None
    if next_update is None:
        raise ValueError(f"{source}: the list does not say when the next one comes")
    found = RevocationList(source, issuer, next_update.timestamp(), serials, crl)
    named = [one for one in authorities if one.subject == issuer]
    if named and not any(found.is_signed_by(one) for one in named):
        raise ValueError(f"{source}: the list is not signed by the CA that it names")
    return found


def _parse(content: bytes, source: str) -> x509.CertificateRevocationList:
    try:
        if b"-----BEGIN X509 CRL-----" in content:
            return x509.load_pem_x509_crl(content)
        return x509.load_der_x509_crl(content)
    except Exception:  # the library may raise nearly anything for a damaged file
        raise ValueError(f"{source}: this is no list of revocations (CRL), neither PEM nor DER") from None


def _check_extensions(crl: x509.CertificateRevocationList, source: str) -> None:
    try:
        extensions = list(crl.extensions)
    except Exception:
        raise ValueError(f"{source}: the list's extensions are malformed") from None
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            raise ValueError(f"{source}: this is a delta list; give the whole one")
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl or value.only_some_reasons is not None:
                raise ValueError(f"{source}: this is an indirect list, or one for some reasons only")
        elif extension.critical and not isinstance(value, _HARMLESS):
            raise ValueError(f"{source}: the list has a critical extension that is not known")


class RevocationSet:
    """All lists of a configuration at one time. Made anew when a file changes; never changed itself."""

    def __init__(self, lists: Sequence[RevocationList] = ()) -> None:
        self.lists = tuple(lists)
        self._by_issuer: dict[x509.Name, list[RevocationList]] = {}
        for one in lists:
            self._by_issuer.setdefault(one.issuer, []).append(one)
        self._by_key: dict[bytes, RevocationList | None] = {}

    def fault(self, path: Sequence[x509.Certificate], now: float) -> Fault | None:
        """Why a validated path (leaf first, authority last) proves nothing after all; None if it does."""
        if not self._by_issuer:
            return None
        for certificate, issuer in pairwise(path):
            found = self._list_of(issuer)
            if found is None:
                continue
            if certificate.serial_number in found.serials:
                what = "the certificate" if certificate is path[0] else "a CA certificate of the path"
                serial = f"{certificate.serial_number:x}"
                return Fault(Check.REVOKED, f"{what} was revoked (serial {serial}, {found.source})")
            if now > found.next_update:
                return Fault(Check.CRL_STALE, f"the list of revocations {found.source} has run out")
        return None

    def next_change(self, now: float) -> float:
        """When the next list that still holds runs out, seconds since the epoch; `NEVER` without lists."""
        return min((one.next_update for one in self.lists if one.next_update > now), default=NEVER)

    def _list_of(self, authority: x509.Certificate) -> RevocationList | None:
        """The newest list that this authority's own key signed."""
        named = self._by_issuer.get(authority.subject)
        if named is None:
            return None
        spki = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key = hashlib.sha256(authority.subject.public_bytes() + spki).digest()
        if key not in self._by_key:
            if len(self._by_key) >= _MAX_KEYS:
                self._by_key.clear()
            signed = [one for one in named if one.is_signed_by(authority)]
            self._by_key[key] = max(signed, key=lambda one: one.next_update, default=None)
        return self._by_key[key]


@dataclass(slots=True)
class Revocations:
    """Where the lists of the moment are found, by all who ask; a changed file exchanges `current`."""

    current: RevocationSet = field(default_factory=RevocationSet)
