"""The issuer's domain, out of certificates of every kind."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from outrider.trust.issuers import issuer_domains

_KEY = ec.generate_private_key(ec.SECP256R1())
_NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def certificate(*components: str, alternative: tuple[x509.GeneralName, ...] = ()) -> bytes:
    """A certificate whose issuer is named by `DC` components and an issuerAltName."""
    named = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, part) for part in components]
    issuer = x509.Name([*named, x509.NameAttribute(NameOID.COMMON_NAME, "Some CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.a.example")]))
        .issuer_name(issuer)
        .public_key(_KEY.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_BEFORE + datetime.timedelta(days=1))
    )
    if alternative:
        builder = builder.add_extension(x509.IssuerAlternativeName(alternative), critical=False)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("der", "domains"),
    [
        (certificate(), ()),
        (certificate("example", "ca"), ("ca.example",)),
        (certificate(alternative=(x509.DNSName("CA.Example"),)), ("ca.example",)),
        (certificate("com", "other", alternative=(x509.DNSName("ca.example"),)), ("ca.example",)),
        (certificate(alternative=(x509.RFC822Name("ca@a.example"),)), ()),
        (certificate(alternative=(x509.DNSName("a..b"), x509.DNSName("ok.example"))), ("ok.example",)),
        (
            certificate(alternative=tuple(x509.DNSName(f"c{n}.example") for n in range(50))),
            tuple(f"c{n}.example" for n in range(4)),
        ),
        (certificate("no domain", "at all"), ()),
        (b"", ()),
        (b"\x30\x03\x02\x01\x01", ()),
    ],
)
def test_where_the_domain_stands(der: bytes, domains: tuple[str, ...]) -> None:
    assert issuer_domains(der) == domains


_WHOLE = certificate("example", "ca", alternative=(x509.DNSName("ca.example"),))


@given(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255))
def test_a_damaged_certificate_raises_nothing(place: int, octet: int) -> None:
    damaged = _WHOLE[:place] + bytes([octet]) + _WHOLE[place + 1 :]
    for name in issuer_domains(damaged):
        assert name == name.lower()
