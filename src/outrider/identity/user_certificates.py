"""Certificates of users: bound to a mail address and to nothing else (MT2-22).

What a user certificate proves is its rfc822Names, for the purpose emailProtection. Everything else in it, the
person's name above all, somebody wrote there: it is `claimed` unless the operator trusts the CA to have
looked (the *trusted* set). Hosts hold such certificates too, as ``process@domain``, to sign errors and
control messages with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.identity.certificates import MAX_NAMES, fingerprints_of, names_of, normal_host
from outrider.identity.checks import Check, Fault
from outrider.identity.paths import Purposes
from outrider.model.facts import Provenance

MAIL_PURPOSE: Purposes = frozenset({ExtendedKeyUsageOID.EMAIL_PROTECTION})
PROCESS = "process"
"""The local part of the certificates that hosts sign control messages with."""
_MAX_LOCAL_PART = 64
_MAX_DESCRIPTIONS = 8
_MAX_TEXT = 200
_DESCRIPTIVE = {
    NameOID.COMMON_NAME: "common name",
    NameOID.GIVEN_NAME: "given name",
    NameOID.SURNAME: "surname",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.TITLE: "title",
    NameOID.ORGANIZATION_NAME: "organization",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "unit",
    NameOID.LOCALITY_NAME: "locality",
    NameOID.COUNTRY_NAME: "country",
}


@dataclass(frozen=True, slots=True)
class Description:
    """Something that a certificate says of its holder beside name and address."""

    kind: str
    """``common name``, ``organization``, ..."""
    value: str
    """Printable, at most 200 characters."""
    provenance: Provenance
    """CLAIMED, or VOUCHED when the CA is in the trusted set. Never more."""


def normal_address(text: str) -> str:
    """A mail address to hold certificates against: the local part exactly as it is, the domain in lower-case
    A-labels (RFC 5280 section 7.5); "" for what is none, or is not ASCII."""
    local, at, domain = text.rpartition("@")
    host = normal_host(domain)
    plain = local.isascii() and local.isprintable() and len(local) <= _MAX_LOCAL_PART
    return f"{local}@{host}" if at and local and plain and host else ""


def domain_of(address: str) -> str:
    """The domain of a `normal_address`."""
    return address.rpartition("@")[2]


def addresses_of(leaf: x509.Certificate) -> tuple[str, ...] | Fault:
    """The rfc822Names of a certificate that are mail addresses. Never raises."""
    names = names_of(leaf)  # its limits, and its refusal of malformed ones
    if isinstance(names, Fault):
        return names
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        written = found.get_values_for_type(x509.RFC822Name)[:MAX_NAMES]
    except x509.ExtensionNotFound:
        written = []
    addresses = tuple(dict.fromkeys(filter(None, map(normal_address, written))))
    return addresses or Fault(Check.NAME, "the certificate has no rfc822Name")


def descriptions_of(leaf: x509.Certificate, provenance: Provenance) -> tuple[Description, ...]:
    """What the subject says beside the names that are proven. Never raises."""
    try:
        written = [(_DESCRIPTIVE[one.oid], str(one.value)) for one in leaf.subject if one.oid in _DESCRIPTIVE]
    except Exception:  # hostile DER
        return ()
    texts = [(kind, "".join(filter(str.isprintable, value))[:_MAX_TEXT]) for kind, value in written]
    return tuple(Description(kind, text, provenance) for kind, text in texts[:_MAX_DESCRIPTIONS] if text)


def is_trusted(path: Sequence[x509.Certificate], trusted: frozenset[str]) -> bool:
    """Whether an authority of the path (leaf first) is in the trusted set: SHA-256 of certificates."""
    prints = (fingerprints_of(one.public_bytes(Encoding.DER)) for one in path[1:])
    return bool(trusted) and any(one.certificate in trusted for one in prints)
