"""Documents signed by a host's key: good ones are read, all others refused."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.signed_document import MAX_OCTETS, DocumentError, read_document, sign_document
from outrider.identity.spoken_words import spoken
from tests.identity.partner_papers import altered, new_site

KIND = "test"
SITE = new_site()
OTHER = new_site("mx.forger.example")
PAYLOAD = b'{"a": 1}'
DOCUMENT = sign_document(PAYLOAD, KIND, SITE.host.certificate_pem, SITE.host.key_pem)


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_what_is_signed_can_be_read(key: str) -> None:
    site = new_site(key=key)
    octets = sign_document(PAYLOAD, KIND, site.host.certificate_pem, site.host.key_pem)
    document = read_document(octets, KIND)
    assert document.payload == PAYLOAD
    assert document.chain[0] == site.host.certificate.public_bytes(Encoding.DER)
    assert len(document.words.split()) == 10
    assert document.words == read_document(octets, KIND).words


def _flip(text: str) -> str:
    return ("B" if text[0] == "A" else "A") + text[1:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: parts["payload"].update(a=2), "changed, or damaged"),
        (lambda parts: parts["protected"].update(alg="none"), "algorithm"),
        (lambda parts: parts["protected"].update(alg="HS256"), "algorithm"),
        (lambda parts: parts["protected"].update(alg="ES384"), "algorithm"),
        (lambda parts: parts["protected"].update(crit=["x"]), "no signed document"),
        (lambda parts: parts["protected"].update(jwk={}), "no signed document"),
        (lambda parts: parts["protected"].pop("x5c"), "no signed document"),
        (lambda parts: parts["protected"].update(x5c=[]), "no certificate chain"),
        (lambda parts: parts["protected"].update(x5c=["AAAA"]), "malformed"),
        (lambda parts: parts["protected"].update(x5c=parts["protected"]["x5c"] * 11), "too long"),
        (lambda parts: parts.update(signature=_flip(parts["signature"])), "changed, or damaged"),
        (lambda parts: parts.update(signature=""), "no signed document"),
        (lambda parts: parts.update(signature="AAAA"), "changed, or damaged"),
        (lambda parts: parts.update(signature=parts["signature"] + "="), "no signed document"),
    ],
)
def test_a_tampered_document_is_refused(change: Any, says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        read_document(altered(DOCUMENT, change), KIND)


def test_the_signature_counts_for_its_own_certificate_only() -> None:
    """Who puts his own certificate in place of the signer's, or signs under another's name, gains nothing."""
    strange = [base64.b64encode(OTHER.host.certificate.public_bytes(Encoding.DER)).decode()]
    with pytest.raises(DocumentError, match="changed, or damaged"):
        read_document(altered(DOCUMENT, lambda parts: parts["protected"].update(x5c=strange)), KIND)
    with pytest.raises(DocumentError, match="does not belong"):
        sign_document(PAYLOAD, KIND, SITE.host.certificate_pem, OTHER.host.key_pem)


def test_a_document_is_of_one_kind() -> None:
    with pytest.raises(DocumentError, match="not of the kind"):
        read_document(DOCUMENT, "another")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"{" * 100_000,
        b'{"payload": 1, "protected": 2, "signature": 3}',
        b'{"payload": "!", "protected": "!", "signature": "!"}',
        DOCUMENT[:-40],
        DOCUMENT.replace(b'"payload"', b'"pay"'),
        DOCUMENT + b" " * MAX_OCTETS,
    ],
)
def test_what_is_no_document(octets: bytes) -> None:
    with pytest.raises(DocumentError):
        read_document(octets, KIND)


@given(st.binary(max_size=300))
def test_any_octets_raise_one_error(octets: bytes) -> None:
    with pytest.raises(DocumentError):
        read_document(octets, KIND)


@given(st.integers(0, len(DOCUMENT) - 1), st.integers(1, 255))
def test_any_changed_octet_is_noticed_or_means_nothing(position: int, change: int) -> None:
    octets = bytearray(DOCUMENT)
    octets[position] ^= change
    try:
        document = read_document(bytes(octets), KIND)
    except DocumentError:
        return
    assert document.payload == PAYLOAD  # white space between the parts
    assert document.digest == read_document(DOCUMENT, KIND).digest


def test_the_openssl_command_agrees_with_the_signature(tmp_path: Path) -> None:
    """An independent witness: the signature over the two parts, as RFC 7515 section 5.1 has it."""
    parts = json.loads(DOCUMENT)
    signature = base64.urlsafe_b64decode(parts["signature"] + "==")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    (tmp_path / "signature").write_bytes(utils.encode_dss_signature(r, s))
    (tmp_path / "signed").write_bytes(f"{parts['protected']}.{parts['payload']}".encode())
    public = SITE.host.certificate.public_key()
    (tmp_path / "key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    words = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "signed"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Verified OK", done.stderr


def test_keys_that_sign_nothing() -> None:
    for key in (rsa.generate_private_key(65537, 1024), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(DocumentError):
            sign_document(PAYLOAD, KIND, SITE.host.certificate_pem, _pem(key))
    with pytest.raises(DocumentError, match="readable PEM"):
        sign_document(PAYLOAD, KIND, b"no certificate", SITE.host.key_pem)
    with pytest.raises(DocumentError, match="readable PEM"):
        sign_document(PAYLOAD, KIND, SITE.host.certificate_pem, b"no key")


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    octets: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return octets


def test_words_differ_with_every_octet() -> None:
    assert len({spoken(bytes([octet])) for octet in range(256)}) == 256
    assert all(word.isascii() and word.isalpha() for word in spoken(bytes(range(256))).split())


def test_the_key_is_the_same_over_renewals() -> None:
    again = sign_document(b"{}", KIND, SITE.host.certificate_pem, SITE.host.key_pem)
    first, second = read_document(DOCUMENT, KIND), read_document(again, KIND)
    assert first.key_fingerprint == second.key_fingerprint
    assert first.words != second.words
    assert isinstance(SITE.host.key, ec.EllipticCurvePrivateKey)
