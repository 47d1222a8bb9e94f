"""What fuzzing has found, each kept from coming back."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable

import pytest
from cryptography import x509

from outrider.identity.authorities import read_authorities
from outrider.identity.certificates import read_chain
from outrider.identity.jws import JwsError, Signer
from outrider.identity.revocation import read_revocation_list
from outrider.message.objects.envelope import read_envelope
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import read_headers
from outrider.runtime.starting import silence_libraries
from outrider.trust.issuers import issuer_domains
from tests.fuzz import der
from tests.fuzz.recorded import recorded


def leaf(version: bytes = b"\x02", serial: bytes = b"\x05", issuer_tag: int = 0x0C) -> bytes:
    """A host's certificate with something else in it; its signature is wrong then."""
    certificate = der.parse(recorded().one("chains", "host"))[0]
    (numbered, number, _, issuer) = elements(elements(certificate)[0])[:4]
    elements(numbered)[0].content = version
    number.content = serial
    for node in issuer.nodes():
        if node.tag == 0x0C:
            node.tag, node.content = issuer_tag, b"\x00x"
    return certificate.octets()


def elements(node: der.Node) -> list[der.Node]:
    assert isinstance(node.content, list)
    return node.content


def as_pem(octets: bytes) -> bytes:
    text = base64.encodebytes(octets)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


@pytest.mark.covers("MT2-5", "SEC-133")
@pytest.mark.parametrize(
    ("read", "name", "word", "padded"),
    [
        (read_envelope, "envelopes/draft", b'part="headers"', b'part="headers "'),
        (read_envelope, "envelopes/draft", b'notify="FAILURE"', b'notify=" FAILURE"'),
        (read_envelope, "envelopes/draft", b'critical="true"', b'critical="&#10;true"'),
        (read_headers, "headers/open", b'ending="open"', b'ending="open&#9;"'),
        (read_headers, "headers/mail", b'errors="true"', b'errors=" true"'),
    ],
)
def test_words_of_the_schema_stand_without_blanks(
    read: Callable[[bytes], object], name: str, word: bytes, padded: bytes
) -> None:
    """RELAX NG compares tokens unless told to compare strings: these ended a session with a ValueError."""
    good = recorded().one(*name.split("/"))
    read(good)
    assert word in good
    with pytest.raises(ObjectError, match="as the schema wants it"):
        read(good.replace(word, padded))


@pytest.mark.covers("SEC-149")
def test_an_issuer_whose_name_is_bits_has_no_domains() -> None:
    """The library raises TypeError for it."""
    octets = leaf(issuer_tag=0x03)
    with pytest.raises(TypeError):
        list(x509.load_der_x509_certificate(octets).issuer)
    assert issuer_domains(octets) == ()


@pytest.mark.covers("SEC-149")
def test_a_version_that_there_is_not_is_damage() -> None:
    damaged = as_pem(leaf(version=b"\x0a"))
    with pytest.raises(ValueError, match="version"):
        read_authorities(damaged)
    with pytest.raises(JwsError, match="not readable PEM"):
        Signer.from_pem(damaged, recorded().one("signer", "key"))


@pytest.mark.covers("SEC-150")
def test_a_list_with_a_broken_issuer_is_refused_by_its_name() -> None:
    crl = der.parse(recorded().one("lists", "root"))[0]
    issuer = elements(elements(crl)[0])[2]
    elements(issuer)[0].content = b""
    with pytest.raises(ValueError, match=r"^file\.crl: .*malformed"):
        read_revocation_list(crl.octets(), "file.crl")


@pytest.mark.covers("SEC-149")
def test_a_peers_certificate_writes_nothing_to_standard_error() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        read_chain([leaf(serial=b"\x00")])
        loud = len(heard)
        silence_libraries()
        read_chain([leaf(serial=b"\x00")])
    assert loud > 0
    assert len(heard) == loud
