"""A document signed with a host's certificate key: a JSON Web Signature in one JSON object (RFC 7515).

The form is the flattened serialization of section 7.2.2 with one signature, so any JOSE library can check
what we write. What we read is held to much less than the standard allows: one protected header of exactly
three members, an algorithm that the certificate's own key dictates (no negotiation, no ``none``), the chain
inside (``x5c``), canonical base64url, bounded sizes.

A good signature proves that the holder of the leaf's key has written this, nothing more. Who that is, is for
the caller to find out: by the certificate's path, by a key known from before, or by words over the telephone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from outrider.identity.certificates import MAX_CHAIN, MAX_RSA_BITS, MIN_RSA_BITS, fingerprints_of
from outrider.identity.spoken_words import spoken

MAX_OCTETS = 1024 * 1024
"""A bundle of a hundred authorities is a quarter of that."""
SPOKEN_OCTETS = 10
"""80 bits: nobody searches for a second document of the same words."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class DocumentError(ValueError):
    """The document cannot be made or is not to be believed; the text says why, without the peer's words."""


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A document whose signature is good."""

    payload: bytes
    chain: tuple[bytes, ...] = field(repr=False)
    """The signer's certificates, DER, leaf first; believed by nobody yet."""
    digest: bytes = field(repr=False)
    """SHA-256 of all that is signed, header and payload."""

    @property
    def words(self) -> str:
        """The digest for reading over the telephone."""
        return spoken(self.digest[:SPOKEN_OCTETS])

    @property
    def key_fingerprint(self) -> str:
        """SHA-256 of the signer's public key: the same over renewals that keep the key."""
        return fingerprints_of(self.chain[0]).public_key


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: str
    typ: str
    x5c: list[str]


class _Flattened(msgspec.Struct, forbid_unknown_fields=True):
    payload: str
    protected: str
    signature: str


def sign_document(payload: bytes, kind: str, certificate_pem: bytes, key_pem: bytes) -> bytes:
    """The signed document as JSON text. `kind` is its ``typ``; the certificate's file holds its chain too.

    Raises DocumentError for files that do not fit together or keys of a kind not in use.
    """
    chain, key = _read_pair(certificate_pem, key_pem)
    algorithm = _algorithm(chain[0].public_key())
    header = {
        "alg": algorithm.name,
        "typ": kind,
        "x5c": [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain],
    }
    protected = _encode(json.dumps(header, separators=(",", ":")).encode())
    body = _encode(payload)
    signature = _encode(algorithm.sign(key, f"{protected}.{body}".encode()))
    document = {"payload": body, "protected": protected, "signature": signature}
    return json.dumps(document, indent=1).encode() + b"\n"


def read_document(octets: bytes, kind: str) -> SignedDocument:
    """The document, if its signature is good and it is of that kind. Raises DocumentError."""
    if len(octets) > MAX_OCTETS:
        raise DocumentError("the file is too large")
    try:
        flattened = msgspec.json.decode(octets, type=_Flattened)
        header = msgspec.json.decode(_decode(flattened.protected), type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("the file is no signed document") from error
    if header.typ != kind:
        raise DocumentError(f"the file is a signed document, but not of the kind {kind}")
    chain = _chain(header.x5c)
    signed = f"{flattened.protected}.{flattened.payload}".encode()
    _check_signature(chain[0], header.alg, signed, _decode(flattened.signature))
    return SignedDocument(_decode(flattened.payload), tuple(chain), hashlib.sha256(signed).digest())


def _read_pair(certificate_pem: bytes, key_pem: bytes) -> tuple[list[x509.Certificate], SigningKey]:
    try:
        chain = x509.load_pem_x509_certificates(certificate_pem)
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise DocumentError("the certificate or its key is not readable PEM") from error
    if not isinstance(key, SigningKey):
        raise DocumentError("a key of this kind signs no documents; use an EC, RSA or Ed25519 key")
    if key.public_key() != chain[0].public_key():
        raise DocumentError("the key does not belong to the certificate")
    return chain[:MAX_CHAIN], key


def _chain(texts: Sequence[str]) -> list[bytes]:
    if not 1 <= len(texts) <= MAX_CHAIN:
        raise DocumentError("the file holds no certificate chain, or one too long")
    try:
        chain = [base64.b64decode(text, validate=True) for text in texts]
        for der in chain:
            x509.load_der_x509_certificate(der)
    except Exception as error:  # hostile DER: the library may raise nearly anything
        raise DocumentError("a certificate in the file is malformed") from error
    return chain


def _check_signature(leaf: bytes, claimed: str, signed: bytes, signature: bytes) -> None:
    try:
        key = x509.load_der_x509_certificate(leaf).public_key()
        algorithm = _algorithm(key)
        if claimed != algorithm.name:
            raise DocumentError("the signature's algorithm is not the one for the certificate's key")
        algorithm.verify(key, signature, signed)
    except DocumentError:
        raise
    except InvalidSignature as error:
        raise DocumentError("the signature is wrong: the file was changed, or damaged on its way") from error
    except Exception as error:  # hostile DER, as above
        raise DocumentError("the certificate in the file has no usable key") from error


# -- algorithms (RFC 7518, RFC 8037) ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """One signature algorithm; `sign` raises nothing, `verify` raises InvalidSignature."""

    name: str
    sign: Callable[[Any, bytes], bytes]
    verify: Callable[[Any, bytes, bytes], None]


def _algorithm(key: object) -> _Algorithm:
    """The one algorithm for a key. Raises DocumentError."""
    match key:
        case ec.EllipticCurvePublicKey(curve=curve) if type(curve) in _CURVES:
            return _ecdsa(*_CURVES[type(curve)])
        case rsa.RSAPublicKey(key_size=bits) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return _PS256
        case ed25519.Ed25519PublicKey():
            return _EDDSA
        case _:
            raise DocumentError("the certificate's key is too weak, too large, or of a kind not in use")


_CURVES: dict[type, tuple[str, hashes.HashAlgorithm, int]] = {
    ec.SECP256R1: ("ES256", hashes.SHA256(), 32),
    ec.SECP384R1: ("ES384", hashes.SHA384(), 48),
    ec.SECP521R1: ("ES512", hashes.SHA512(), 66),
}


def _ecdsa(name: str, digest: hashes.HashAlgorithm, octets: int) -> _Algorithm:
    """RFC 7518 section 3.4: the two numbers side by side, not in DER."""

    def sign(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
        return r.to_bytes(octets, "big") + s.to_bytes(octets, "big")

    def verify(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        if len(signature) != 2 * octets:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:octets], signature[octets:]))
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(digest))

    return _Algorithm(name, sign, verify)


_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)  # RFC 7518 section 3.5
_PS256 = _Algorithm(
    "PS256",
    lambda key, signed: key.sign(signed, _PSS, hashes.SHA256()),
    lambda key, signature, signed: key.verify(signature, signed, _PSS, hashes.SHA256()),
)
_EDDSA = _Algorithm(
    "EdDSA",
    lambda key, signed: key.sign(signed),
    lambda key, signature, signed: key.verify(signature, signed),
)


# -- base64url (RFC 7515 section 2) ----------------------------------------------------------------------


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Only what `_encode` writes: no padding, no stray characters, no spare bits."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise DocumentError("the file is no signed document")
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(octets) != text:
        raise DocumentError("the file is no signed document")
    return octets
