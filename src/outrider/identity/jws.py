"""JSON Web Signatures with a certificate's key, held to much less than RFC 7515 allows. Pure.

The algorithm is the one that the key dictates, never one that a peer asks for: no negotiation, no ``none``,
no HMAC. What we read is base64url in its only canonical form, and a *compact* one has a protected header of
exactly three members, ``alg``, ``typ`` and ``x5t#S256`` (RFC 7515 section 4.1.8), in their one order: whoever
embeds a key, a chain, a link or a critical extension is refused, and no member can stand there twice.
The reader says which ``typ`` it wants: a signature made for one purpose is none for another (RFC 8725
section 3.11).

A good signature proves that the holder of the key has written this, nothing more.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from outrider.identity.certificates import MAX_CHAIN, MAX_RSA_BITS, MIN_RSA_BITS

MAX_COMPACT_OCTETS = 524_288
"""Of a compact JWS: the core of an envelope with as many recipients as one may have."""

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_MAX_SIGNATURE = 2 * MAX_RSA_BITS // 8
_MAX_PROTECTED = 256
_REMEMBERED = 1024
_MAX_REMEMBERED = 16_384
"""Octets of a certificate worth remembering: a hostile one must not fill the memory."""


class JwsError(ValueError):
    """A signature that cannot be made or is not to be believed; the text says why, without the peer's
    words."""


class SignatureError(JwsError):
    """Well formed, of the right kind, by the right key, and wrong."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One signature algorithm; `sign` raises nothing, `verify` raises InvalidSignature."""

    name: str
    sign: Callable[[Any, bytes], bytes]
    verify: Callable[[Any, bytes, bytes], None]
    repeats: bool
    """Whether the same words get the same signature every time."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate's key, ready to sign."""

    chain: tuple[bytes, ...] = field(repr=False)
    """Certificates in DER, leaf first."""
    key: SigningKey = field(repr=False)
    algorithm: Algorithm = field(repr=False)
    thumbprint: str
    """SHA-256 of the leaf in base64url: ``x5t#S256``."""

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes) -> Signer:
        """From the contents of the two files; the certificate's holds its chain too.

        Raises JwsError for files that do not fit together or keys of a kind not in use.
        """
        try:
            chain = x509.load_pem_x509_certificates(certificate_pem)[:MAX_CHAIN]
            key, certified = load_pem_private_key(key_pem, password=None), chain[0].public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise JwsError("the certificate or its key is not readable PEM") from error
        if not isinstance(key, SigningKey):
            raise JwsError("a key of this kind signs nothing; use an EC, RSA or Ed25519 key")
        if key.public_key() != certified:
            raise JwsError("the key does not belong to the certificate")
        ders = tuple(one.public_bytes(Encoding.DER) for one in chain)
        return cls(ders, key, algorithm_of(key.public_key()), thumbprint_of(ders[0]))

    def sign(self, signed: bytes) -> bytes:
        """The bare signature over these octets."""
        return self.algorithm.sign(self.key, signed)

    def compact(self, payload: bytes, typ: str) -> str:
        """A compact JWS of that ``typ`` over the payload (RFC 7515 section 7.1).

        Raises JwsError for a key on a curve that MT2 does not use (MT2-23b).
        """
        if self.algorithm.name not in COMPACT_ALGORITHMS:
            raise JwsError("a key on this curve seals nothing; use P-256, Ed25519 or RSA")
        signed = f"{_protected(self.algorithm.name, typ, self.thumbprint)}.{encode(payload)}"
        return f"{signed}.{encode(self.sign(signed.encode('ascii')))}"


@dataclass(frozen=True, slots=True)
class CompactJws:
    """A compact JWS whose signature nobody has looked at yet. Its payload comes out of `verified` only."""

    algorithm: str
    thumbprint: str
    """SHA-256 of the signer's certificate, base64url."""
    _signed: bytes = field(repr=False)
    _payload: str = field(repr=False)
    _signature: str = field(repr=False)

    @classmethod
    def read(cls, text: str, typ: str) -> CompactJws:
        """Take it apart. Raises JwsError for what is none, or one of another ``typ``."""
        if len(text) > MAX_COMPACT_OCTETS or not text.isascii():
            raise JwsError("it is too large, or not in ASCII")
        parts = text.split(".")
        if len(parts) != 3:
            raise JwsError("it is no compact JWS: there are not three parts")
        protected, payload, signature = parts
        if len(signature) > _MAX_SIGNATURE or len(protected) > _MAX_PROTECTED:
            raise JwsError("its header or signature is too long")
        algorithm, thumbprint = _header(protected, typ)
        return cls(algorithm, thumbprint, f"{protected}.{payload}".encode("ascii"), payload, signature)

    def verified(self, certificate: bytes) -> bytes:
        """The payload, if the holder of this certificate (DER) has signed it.

        Raises SignatureError for a wrong signature, JwsError for everything else.
        """
        if thumbprint_of(certificate) != self.thumbprint:
            raise JwsError("it names another certificate")
        check_signature(certificate, self.algorithm, self._signed, decode(self._signature))
        return decode(self._payload)


def thumbprint_of(certificate: bytes) -> str:
    """``x5t#S256`` of a certificate (DER): SHA-256 in base64url."""
    return _known_thumbprint(certificate) if len(certificate) <= _MAX_REMEMBERED else _thumbprint(certificate)


def _thumbprint(certificate: bytes) -> str:
    return encode(hashlib.sha256(certificate).digest())


def check_signature(certificate: bytes, claimed: str, signed: bytes, signature: bytes) -> None:
    """Raise unless `signature` over `signed` is by the certificate's key, with that key's own algorithm.

    Raises SignatureError for a wrong signature, JwsError for an algorithm that is not the key's, a key too
    weak or of a kind not in use, a malformed certificate.
    """
    is_usual = len(certificate) <= _MAX_REMEMBERED
    key, algorithm = _known_key(certificate) if is_usual else _key(certificate)
    if claimed != algorithm.name:
        raise JwsError("the signature's algorithm is not the one for the certificate's key")
    try:
        algorithm.verify(key, signature, signed)
    except InvalidSignature as error:
        raise SignatureError(
            "the signature is wrong: something was changed, or damaged on its way"
        ) from error


def check_certificates(chain: Sequence[bytes]) -> None:
    """Raise JwsError unless all are readable certificates (DER), one at least and not too many."""
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise JwsError("there is no certificate chain, or one too long")
    try:
        for der in chain:
            x509.load_der_x509_certificate(der)
    except Exception as error:  # hostile DER: the library may raise nearly anything
        raise JwsError("a certificate is malformed") from error


def _key(certificate: bytes) -> tuple[object, Algorithm]:
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:  # hostile DER, as above
        raise JwsError("the certificate is malformed, or has no usable key") from error
    return key, algorithm_of(key)


_known_key = lru_cache(_REMEMBERED)(_key)
"""Parsing costs as much as verifying, and the same few hosts sign most of the mail."""
_known_thumbprint = lru_cache(_REMEMBERED)(_thumbprint)


# -- the compact form's header ---------------------------------------------------------------------------

COMPACT_ALGORITHMS = ("ES256", "EdDSA", "PS256")
"""MT2-23b. Signed documents know the larger curves too."""
_HEADER = re.compile(
    r'\{"alg":"([A-Za-z0-9]{1,8})","typ":"([a-z0-9+-]{1,40})","x5t#S256":"([A-Za-z0-9_-]{43})"\}'
)


@lru_cache(_REMEMBERED)
def _protected(algorithm: str, typ: str, thumbprint: str) -> str:
    return encode(f'{{"alg":"{algorithm}","typ":"{typ}","x5t#S256":"{thumbprint}"}}'.encode("ascii"))


@lru_cache(_REMEMBERED)
def _header(protected: str, typ: str) -> tuple[str, str]:
    """Algorithm and thumbprint. RFC 8785 gives the three members one form, so none other is looked for."""
    found = _HEADER.fullmatch(decode(protected).decode("ascii", "replace"))
    if found is None:
        raise JwsError("its header is not the three members alg, typ and x5t#S256 in canonical form")
    if found[2] != typ:
        raise JwsError(f"it is signed for another purpose than {typ}")
    if found[1] not in COMPACT_ALGORITHMS:
        raise JwsError("its algorithm is not in use")
    decode(found[3])
    return found[1], found[3]


# -- algorithms (RFC 7518, RFC 8037) ---------------------------------------------------------------------


def algorithm_of(key: object) -> Algorithm:
    """The one algorithm for a public key. Raises JwsError for a weak one, or a kind not in use."""
    match key:
        case ec.EllipticCurvePublicKey(curve=curve) if type(curve) in _CURVES:
            return _CURVES[type(curve)]
        case rsa.RSAPublicKey(key_size=bits) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return _PS256
        case ed25519.Ed25519PublicKey():
            return _EDDSA
        case _:
            raise JwsError("the certificate's key is too weak, too large, or of a kind not in use")


def _repeatable(digest: hashes.HashAlgorithm) -> ec.ECDSA:
    """RFC 6979: the same words get the same signature; an envelope that is sent again is known (MT2-18a)."""
    try:
        return ec.ECDSA(digest, deterministic_signing=True)
    except UnsupportedAlgorithm:  # OpenSSL before 3.2
        return ec.ECDSA(digest)


def _ecdsa(name: str, digest: hashes.HashAlgorithm, octets: int) -> Algorithm:
    """RFC 7518 section 3.4: the two numbers side by side, not in DER."""
    kind, repeatable = ec.ECDSA(digest), _repeatable(digest)

    def sign(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(signed, repeatable))
        return r.to_bytes(octets, "big") + s.to_bytes(octets, "big")

    def verify(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        if len(signature) != 2 * octets:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:octets], signature[octets:]))
        key.verify(utils.encode_dss_signature(r, s), signed, kind)

    return Algorithm(name, sign, verify, bool(repeatable.deterministic_signing))


_CURVES: dict[type, Algorithm] = {
    ec.SECP256R1: _ecdsa("ES256", hashes.SHA256(), 32),
    ec.SECP384R1: _ecdsa("ES384", hashes.SHA384(), 48),
    ec.SECP521R1: _ecdsa("ES512", hashes.SHA512(), 66),
}
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)  # RFC 7518 section 3.5
_PS256 = Algorithm(
    "PS256",
    lambda key, signed: key.sign(signed, _PSS, hashes.SHA256()),
    lambda key, signature, signed: key.verify(signature, signed, _PSS, hashes.SHA256()),
    repeats=False,  # the salt
)
_EDDSA = Algorithm(
    "EdDSA",
    lambda key, signed: key.sign(signed),
    lambda key, signature, signed: key.verify(signature, signed),
    repeats=True,
)


# -- base64url (RFC 7515 section 2) ----------------------------------------------------------------------


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def encode(octets: bytes) -> str:
    """base64url without padding."""
    text = binascii.b2a_base64(octets, newline=False).rstrip(b"=")
    return text.translate(_TO_URL).decode("ascii")


def decode(text: str) -> bytes:
    """Only what `encode` writes: no padding, no stray characters, no spare bits. Raises JwsError."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise JwsError("a part is not base64url")
    octets = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4))
    if encode(octets) != text:
        raise JwsError("a part is not base64url in its canonical form")
    return octets
