"""The domain of who issued a certificate, for lists of issuers."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from outrider.model.address import AddressError, parse_domain

MAX_NAMES = 4


def issuer_domains(leaf: bytes) -> tuple[str, ...]:
    """Domains that a certificate (DER) gives for its issuer, in lower-case A-labels.

    They are the dNSNames of the issuerAltName (RFC 5280 section 4.2.1.7), or else the domain that the `DC`
    components of the issuer's name spell (RFC 2247). () for none, and for what is no certificate. Never
    raises.

    They are worth what the path to the issuer is worth: that is the caller's to prove.
    """
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        names = _alternative_names(certificate) or _from_components(certificate)
    except Exception:  # hostile DER: the library may raise nearly anything
        return ()
    return tuple(dict.fromkeys(filter(None, map(_domain, names[:MAX_NAMES]))))


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.ISSUER_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return []
    value = extension.value
    return value.get_values_for_type(x509.DNSName) if isinstance(value, x509.IssuerAlternativeName) else []


def _from_components(certificate: x509.Certificate) -> list[str]:
    parts = [str(one.value) for one in certificate.issuer.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)]
    # RFC 4514 section 2.1 writes a name from its end; in the certificate the top-level domain comes first.
    return [".".join(reversed(parts))] if parts else []


def _domain(text: str) -> str:
    try:
        name = parse_domain(text.removesuffix("."))
    except AddressError:
        return ""
    return "" if name.startswith("[") else name
