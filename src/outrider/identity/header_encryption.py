"""Headers objects that only their recipients can read: JSON Web Encryption to certificates (MT2-4). Pure, but
for the randomness that encryption is made of.

One object serves all recipients of a transfer: the general JSON serialization of RFC 7516 section 7.2.1, with
one encrypted key for each. Read is only what we write, in its one canonical form: AES-256-GCM; the key by
ECDH-ES+A256KW for EC certificates (P-256, P-384, P-521) and by RSA-OAEP-256 for RSA ones; recipients named by
the thumbprints of their certificates; no compression, which would tell of the plain text by its length; no
further members; bounded sizes. All of it is checked before the library sees it.

Encryption says nothing about who wrote it: that is the seals' part, which digest the object as it is sent.
Bodies are not encrypted here: they are S/MIME or OpenPGP of the users' own, and are carried as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey

from outrider.identity.canonical import canonical, read_canonical
from outrider.identity.certificates import read_chain
from outrider.identity.checks import Fault
from outrider.identity.jws import JwsError, decode, encode, thumbprint_of

HEADERS_TYPE = "message/headers"
ENCRYPTED_HEADERS_TYPE = "application/jose+json"
"""Media type of an encrypted headers object, in XFER and in the envelope's list of objects."""
ENCRYPTED_TYP = "mt2-headers+jwe"
MAX_RECIPIENTS = 100
MAX_ENCRYPTED_OCTETS = 4 * 1024 * 1024

_BY_AGREEMENT, _BY_RSA, _CONTENT = "ECDH-ES+A256KW", "RSA-OAEP-256", "A256GCM"
_PROTECTED = encode(f'{{"cty":"{HEADERS_TYPE}","enc":"{_CONTENT}","typ":"{ENCRYPTED_TYP}"}}'.encode("ascii"))
_IV_OCTETS, _TAG_OCTETS = 12, 16
_WRAPPED_OCTETS = 40
"""A key of 256 bits under RFC 3394."""
_COORDINATE = {"P-256": 32, "P-384": 48, "P-521": 66}


class EncryptionError(ValueError):
    """Not to be encrypted or decrypted; the text says why, without the peer's words."""


@dataclass(frozen=True, slots=True)
class EncryptedHeaders:
    """What can be seen of an encrypted headers object without a key."""

    recipients: tuple[str, ...]
    """Thumbprints (SHA-256, base64url) of the certificates that it is for."""
    octets: int
    """Of the plain headers object."""


class _PublicPoint(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    crv: str
    kty: str
    x: str
    y: str


class _KeyHeader(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    alg: str
    thumbprint: str = msgspec.field(name="x5t#S256")
    epk: _PublicPoint | msgspec.UnsetType = msgspec.UNSET


class _Recipient(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    encrypted_key: str
    header: _KeyHeader


class _Jwe(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    ciphertext: str
    iv: str
    protected: str
    recipients: list[_Recipient]
    tag: str


_JWE = msgspec.json.Decoder(_Jwe)


def encrypt_headers(headers: bytes, certificates: Sequence[bytes]) -> bytes:
    """The headers object for the holders of these certificates (DER); each can open it alone.

    Whether a certificate is really the recipient's is for the caller to have found out. Everyone who sees the
    object sees whom it is for: blind copies want an object of their own. Raises EncryptionError for a
    certificate that is malformed, weak or not for encryption, for none and for too many.
    """
    if not 1 <= len(certificates) <= MAX_RECIPIENTS:
        raise EncryptionError(f"headers are encrypted for 1 to {MAX_RECIPIENTS} certificates")
    plan = jwe.GeneralJSONEncryption({"cty": HEADERS_TYPE, "enc": _CONTENT, "typ": ENCRYPTED_TYP}, headers)
    for der in dict.fromkeys(certificates):
        algorithm, key = _public_key(der)
        plan.add_recipient({"alg": algorithm, "x5t#S256": thumbprint_of(der)}, key)
    made = jwe.encrypt_json(plan, None, [_BY_AGREEMENT, _BY_RSA, _CONTENT])
    octets = canonical(msgspec.convert(made, _Jwe))
    if len(octets) > MAX_ENCRYPTED_OCTETS:
        raise EncryptionError("the headers are too large to be encrypted")
    return octets


def decrypt_headers(octets: bytes, certificate_pem: bytes, key_pem: bytes) -> bytes:
    """The headers object, with one recipient's certificate and key. Raises EncryptionError."""
    found = _read(octets)
    thumbprint, key = _private_key(certificate_pem, key_pem)
    own = [one for one in found.recipients if one.header.thumbprint == thumbprint]
    if not own:
        raise EncryptionError("the headers are not encrypted for this certificate")
    alone: Any = msgspec.to_builtins(msgspec.structs.replace(found, recipients=own))
    try:
        opened = jwe.decrypt_json(alone, key, [_BY_AGREEMENT, _BY_RSA, _CONTENT])
    except Exception as error:  # a hostile point, a wrong tag, a key of another kind: the library raises many
        raise EncryptionError(
            "the headers cannot be decrypted: changed, or made with something else"
        ) from error
    if opened.plaintext is None:
        raise EncryptionError("the headers cannot be decrypted")
    return opened.plaintext


def look_at(octets: bytes) -> EncryptedHeaders:
    """Check the form and say whom it is for. Raises EncryptionError for all that we would not write."""
    found = _read(octets)
    return EncryptedHeaders(
        tuple(one.header.thumbprint for one in found.recipients), len(found.ciphertext) * 3 // 4
    )


# -- what is read ----------------------------------------------------------------------------------------


def _read(octets: bytes) -> _Jwe:
    if len(octets) > MAX_ENCRYPTED_OCTETS:
        raise EncryptionError("the encrypted headers are too large")
    try:
        found = read_canonical(octets, _JWE, "encrypted headers")
        _check(found)
    except JwsError as error:
        raise EncryptionError(str(error)) from error
    return found


def _check(found: _Jwe) -> None:
    """Raise JwsError unless algorithms, sizes and recipients are those that we would write."""
    if found.protected != _PROTECTED:
        raise JwsError(f"its header is not the one for {HEADERS_TYPE} under {_CONTENT}, uncompressed")
    if len(decode(found.iv)) != _IV_OCTETS or len(decode(found.tag)) != _TAG_OCTETS:
        raise JwsError("its initialization vector or tag have the wrong length")
    if found.ciphertext:
        decode(found.ciphertext)
    if not 1 <= len(found.recipients) <= MAX_RECIPIENTS:
        raise JwsError(f"it has no recipients, or more than {MAX_RECIPIENTS}")
    for one in found.recipients:
        _check_recipient(one)
    if len({one.header.thumbprint for one in found.recipients}) != len(found.recipients):
        raise JwsError("a recipient stands there twice")


def _check_recipient(one: _Recipient) -> None:
    octets = len(decode(one.encrypted_key))
    point = one.header.epk
    match one.header.alg, point:
        case "ECDH-ES+A256KW", _PublicPoint(kty="EC", crv=curve) if octets == _WRAPPED_OCTETS:
            wanted = _COORDINATE.get(curve)
            is_fit = {len(decode(point.x)), len(decode(point.y))} == {wanted}
        case "RSA-OAEP-256", msgspec.UNSET:
            is_fit = 256 <= octets <= 1024
        case _:
            is_fit = False
    if not is_fit or len(decode(one.header.thumbprint)) != 32:
        raise JwsError("a recipient's key is encrypted in a way not in use")


# -- keys ------------------------------------------------------------------------------------------------


def _public_key(der: bytes) -> tuple[str, ECKey | RSAKey]:
    """How a key is encrypted for this certificate, and its key."""
    read = read_chain((der,))
    if isinstance(read, Fault):
        raise EncryptionError(f"a recipient's certificate is not usable: {read.reason}")
    key, usage = read[0].public_key(), _usage(read[0])
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    match key:
        case ec.EllipticCurvePublicKey() if usage is None or usage.key_agreement:
            return _BY_AGREEMENT, ECKey.import_key(pem)
        case rsa.RSAPublicKey() if usage is None or usage.key_encipherment:
            return _BY_RSA, RSAKey.import_key(pem)
        case _:
            raise EncryptionError("a recipient's certificate is for signatures only")


def _usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except Exception as error:  # hostile DER: the library may raise nearly anything
        raise EncryptionError("a recipient's certificate is malformed") from error


def _private_key(certificate_pem: bytes, key_pem: bytes) -> tuple[str, ECKey | RSAKey]:
    try:
        leaf = x509.load_pem_x509_certificates(certificate_pem)[0]
        key, certified = load_pem_private_key(key_pem, password=None), leaf.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise EncryptionError("the certificate or its key is not readable PEM") from error
    if key.public_key() != certified:
        raise EncryptionError("the key does not belong to the certificate")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    thumbprint = thumbprint_of(leaf.public_bytes(Encoding.DER))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return thumbprint, ECKey.import_key(pem)
    if isinstance(key, rsa.RSAPrivateKey):
        return thumbprint, RSAKey.import_key(pem)
    raise EncryptionError("a key of this kind decrypts nothing")
