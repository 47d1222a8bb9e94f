"""The authorities that a domain names for itself: which domain may be asked, and what its answer is worth.

A certificate whose issuer nobody here knows may say, in its issuerAltName, which domain issued it. If the
name that is to be proven is that domain or lies below it, the domain can be asked for its CA certificate in
public (MT2-24b): who answers for a domain in DNS may as well say who speaks for names below it. That is all
such an authority can do: it counts as constrained to that subtree, whatever else it certifies.

Pure. `AuthoritySource` is who asks (`reception/delegation_lookups.py`), by the ways that `AuthorityLookup`
stands for: a directory (`net/ldap_directory.py`), records (`dns/authority_records.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID
from publicsuffixlist import PublicSuffixList

from outrider.identity.certificates import normal_host, read_chain
from outrider.identity.checks import Fault

MAX_AUTHORITIES = 8
"""Of one domain: two generations of a CA, in two kinds of key, and room."""
MAX_AUTHORITY_OCTETS = 16_384
"""Of one certificate (MT2-24b bounds the whole answer besides)."""
MAX_ISSUER_NAMES = 4
"""dNSNames of an issuerAltName that are looked at."""

Via = Literal["ldap", "dns"]
_DIGESTS = {1: "sha256", 2: "sha512"}
"""TLSA matching types (RFC 6698 section 2.1.3); 0 is the whole."""


@dataclass(frozen=True, slots=True)
class PublishedAnchor:
    """A TLSA record of usage 2 (DANE-TA): the certificate that it means must come with the peer's chain."""

    selector: int
    """0 the certificate, 1 its SubjectPublicKeyInfo."""
    matching: int
    """0 the octets themselves, 1 SHA-256, 2 SHA-512."""
    data: bytes

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether this is the certificate that the record means. Never raises."""
        try:
            octets = _selected(certificate, self.selector)
        except Exception:  # a key that the library cannot write
            return False
        if self.matching == 0:
            return octets == self.data
        name = _DIGESTS.get(self.matching)
        return name is not None and hashlib.new(name, octets).digest() == self.data


def _selected(certificate: x509.Certificate, selector: int) -> bytes:
    if selector == 0:
        return certificate.public_bytes(Encoding.DER)
    if selector == 1:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    raise ValueError("an unknown selector")


@dataclass(frozen=True, slots=True)
class DelegatedAuthorities:
    """What a domain says of who issues for it. One object for as long as the answer is remembered."""

    domain: str
    """Lower-case A-labels."""
    via: Via
    secure: bool
    """DNSSEC vouched for the answer itself. Never so for a directory, which signs nothing."""
    how: str
    """For `how` of identities: ``DNS CERT, DNSSEC-secure``, ``LDAP at ldap.ehsco.com, unsigned LDAP over
    unsigned DNS``."""
    certificates: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    anchors: tuple[PublishedAnchor, ...] = field(default=(), repr=False)
    ttl_s: float = 0.0
    """For how long the publisher says that it holds; 0 = it does not say."""
    at: float = 0.0
    """When it was learnt, seconds since the epoch."""

    def for_chain(self, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        """The authorities for a peer that sent these certificates beside its own."""
        named = [one for one in others if any(anchor.matches(one) for anchor in self.anchors)]
        return (*self.certificates, *filter(is_authority, named))


class AuthorityLookupFailed(Exception):
    """No authority is known of the domain. `reason` is for the operator; `temporary` = it may be otherwise
    soon, without anybody's doing."""

    def __init__(self, reason: str, *, temporary: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.temporary = temporary


class LookupsExhausted(AuthorityLookupFailed):
    """A limit on look-ups was met, ours or that for the peer; nothing was asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, temporary=True)


class AuthorityLookup(Protocol):
    """One way to ask. Each call ends in bounded time, and reads a bounded answer."""

    async def find(self, domain: str) -> DelegatedAuthorities:
        """What the domain publishes, at least one authority. Raises AuthorityLookupFailed."""
        ...


class AuthoritySource(Protocol):
    """All ways to ask, with limits and memory (MT2-24b)."""

    async def authorities(
        self, domain: str, address: str, *, newer_than: float | None = None
    ) -> DelegatedAuthorities:
        """What the domain publishes; remembered, and the same object while it is.

        `address`: the peer's, whose look-ups are counted; "" for none. `newer_than`: what is remembered from
        before this time was no good, and may be asked for again. Raises AuthorityLookupFailed.
        """
        ...


def issuer_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names among the issuerAltName's dNSNames (RFC 5280 section 4.2.1.7). Never raises."""
    try:
        value = certificate.extensions.get_extension_for_oid(ExtensionOID.ISSUER_ALTERNATIVE_NAME).value
        if not isinstance(value, x509.IssuerAlternativeName):
            return ()
        written = value.get_values_for_type(x509.DNSName)[:MAX_ISSUER_NAMES]
    except Exception:  # no such extension, or hostile DER
        return ()
    return tuple(dict.fromkeys(filter(None, (normal_host(one) for one in written if one.isascii()))))


def is_within(name: str, domain: str) -> bool:
    """Whether a name is the domain or lies below it, on a label boundary. Both in lower-case A-labels."""
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def is_public_suffix(domain: str) -> bool:
    """Whether strangers register names directly below the domain (co.uk, github.io), or it is a top-level
    domain: nobody speaks for all of these (MT2-24b)."""
    return bool(_suffixes().is_public(domain))


def registered_domain(domain: str) -> str:
    """The domain that somebody has registered, in which this name lies: those within one are in one hand. A
    public suffix is its own."""
    return str(_suffixes().privatesuffix(domain) or domain)


@cache
def _suffixes() -> PublicSuffixList:
    """The list that the library brings; top-level domains that it does not know count as public."""
    return PublicSuffixList(accept_unknown=True)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it says that it is a CA's. Never raises."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except Exception:  # no such extension, or hostile DER
        return False


def _is_named(certificate: x509.Certificate) -> bool:
    """Whether subject and issuer can be read at all."""
    try:
        return bool(certificate.subject) and bool(certificate.issuer)
    except Exception:  # hostile DER
        return False


def read_published(ders: Sequence[bytes]) -> tuple[tuple[x509.Certificate, ...], str]:
    """CA certificates as a domain published them (DER), and what is wrong with those left out ("" = nothing).

    Never raises. Certificates that are too large or malformed, weak keys, certificates of no authority and
    those beyond `MAX_AUTHORITIES` are left out: one bad entry must not hide a good one.
    """
    found: dict[bytes, x509.Certificate] = {}
    wrong: dict[str, None] = {}
    if len(ders) > MAX_AUTHORITIES:
        wrong[f"more than {MAX_AUTHORITIES} certificates"] = None
    for der in ders[:MAX_AUTHORITIES]:
        read = read_chain([der]) if len(der) <= MAX_AUTHORITY_OCTETS else None
        if read is None:
            wrong[f"a certificate of more than {MAX_AUTHORITY_OCTETS} octets"] = None
        elif isinstance(read, Fault):
            wrong[read.reason.replace("of the chain ", "")] = None
        elif not is_authority(read[0]) or not _is_named(read[0]):
            wrong["a certificate of no authority"] = None
        else:
            found[der] = read[0]
    return tuple(found.values()), "; ".join(wrong)
