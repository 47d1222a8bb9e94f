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
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from outrider.identity.certificates import MAX_CHAIN, fingerprints_of
from outrider.identity.jws import (
    JwsError,
    SignatureError,
    Signer,
    check_certificates,
    check_signature,
    decode,
    encode,
)
from outrider.identity.spoken_words import spoken

MAX_OCTETS = 1024 * 1024
"""A bundle of a hundred authorities is a quarter of that."""
SPOKEN_OCTETS = 10
"""80 bits: nobody searches for a second document of the same words."""


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


_HEADER = msgspec.json.Decoder(_Header)
_FLATTENED = msgspec.json.Decoder(_Flattened)


def sign_document(payload: bytes, kind: str, certificate_pem: bytes, key_pem: bytes) -> bytes:
    """The signed document as JSON text. `kind` is its ``typ``; the certificate's file holds its chain too.

    Raises DocumentError for files that do not fit together or keys of a kind not in use.
    """
    try:
        signer = Signer.from_pem(certificate_pem, key_pem)
    except JwsError as error:
        raise DocumentError(str(error)) from error
    header = {
        "alg": signer.algorithm.name,
        "typ": kind,
        "x5c": [base64.b64encode(der).decode() for der in signer.chain],
    }
    protected = encode(json.dumps(header, separators=(",", ":")).encode())
    body = encode(payload)
    signature = encode(signer.sign(f"{protected}.{body}".encode()))
    document = {"payload": body, "protected": protected, "signature": signature}
    return json.dumps(document, indent=1).encode() + b"\n"


def read_document(octets: bytes, kind: str) -> SignedDocument:
    """The document, if its signature is good and it is of that kind. Raises DocumentError."""
    if len(octets) > MAX_OCTETS:
        raise DocumentError("the file is too large")
    try:
        flattened = _FLATTENED.decode(octets)
        header = _HEADER.decode(_decode(flattened.protected))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("the file is no signed document") from error
    if header.typ != kind:
        raise DocumentError(f"the file is a signed document, but not of the kind {kind}")
    chain = _chain(header.x5c)
    signed = f"{flattened.protected}.{flattened.payload}".encode()
    _check_signature(chain[0], header.alg, signed, _decode(flattened.signature))
    return SignedDocument(_decode(flattened.payload), tuple(chain), hashlib.sha256(signed).digest())


def _chain(texts: Sequence[str]) -> list[bytes]:
    if not 1 <= len(texts) <= MAX_CHAIN:
        raise DocumentError("the file holds no certificate chain, or one too long")
    try:
        chain = [base64.b64decode(text, validate=True) for text in texts]
        check_certificates(chain)
    except ValueError as error:
        raise DocumentError("a certificate in the file is malformed") from error
    return chain


def _check_signature(leaf: bytes, claimed: str, signed: bytes, signature: bytes) -> None:
    try:
        check_signature(leaf, claimed, signed, signature)
    except SignatureError as error:
        raise DocumentError("the signature is wrong: the file was changed, or damaged on its way") from error
    except JwsError as error:
        raise DocumentError(str(error)) from error


def _decode(text: str) -> bytes:
    try:
        return decode(text)
    except JwsError as error:
        raise DocumentError("the file is no signed document") from error
