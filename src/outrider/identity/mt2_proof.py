"""The certificate data of MT2's HELO: a chain in PEM, and a proof that its key is at hand (MT2-10b). Pure.

The proof is a compact JWS (``typ`` ``mt2-proof+jws``) over canonical JSON that says who proves what to whom,
with the other side's nonce and this connection's channel binding (RFC 9266, the TLS exporter): a proof that
somebody else received, on this connection or another, is worth nothing here. A seal is never taken for a
proof nor a proof for a seal: their ``typ`` differs.

What a proof shows is that the peer holds the key of a certificate. Whom that certificate names, and who
believes it, is `identity.mt2_peers`' to say.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from outrider.identity.canonical import canonical, read_canonical
from outrider.identity.certificates import MAX_CHAIN
from outrider.identity.jws import CompactJws, JwsError, Signer, check_certificates, encode

PROOF_TYP = "mt2-proof+jws"
BINDING_OCTETS = 32
MAX_PROOF_OCTETS = 262_144
"""Of certificate data: the largest chain (128 KiB of DER) in PEM, and the proof."""
_NONCE = re.compile(r"[!-~]{1,128}")
_NAME = re.compile(r"[!-~]{1,320}")
_BEGIN, _END = rb"-----BEGIN CERTIFICATE-----\r?\n", rb"-----END CERTIFICATE-----\r?\n"
_BLOCK = re.compile(_BEGIN + rb"([A-Za-z0-9+/=\r\n]+)" + _END)
_DATA = re.compile(rb"((?:" + _BEGIN + rb"[A-Za-z0-9+/=\r\n]+" + _END + rb")+)([A-Za-z0-9_.-]+)(?:\r?\n)?")

Role = Literal["client", "server"]


class ProofError(ValueError):
    """The peer has not proven its key; the text says why, for the operator, without the peer's words."""


@dataclass(frozen=True, slots=True)
class ProofTerms:
    """What both ends must agree on."""

    role: Role
    """Of the one who proves."""
    client: str
    """The client's name, a lower-case host name or a mailbox; "" for an anonymous client that asks the server
    to prove itself."""
    server: str
    """The server's name as the client wants it: the one that it looked up."""
    nonce: str
    """Given by the other side: 1 to 128 printable ASCII characters."""
    binding: bytes = field(repr=False)
    """32 octets of the TLS exporter ``EXPORTER-Channel-Binding``; b"" on a connection without TLS, where no
    identity can be proven."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A key proven: its holder is at the other end of this connection."""

    chain: tuple[bytes, ...] = field(repr=False)
    """Certificates in DER, leaf first; believed by nobody yet."""
    client: str
    """The client's name, as the proof has it."""
    server: str
    """The server's name, as the proof has it."""


class _Claims(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The signed JSON; its one form is RFC 8785's (see `identity.canonical`)."""

    binding: str
    client: str
    nonce: str
    role: Role
    server: str


_CLAIMS = msgspec.json.Decoder(_Claims)


def make_proof(signer: Signer, terms: ProofTerms) -> bytes:
    """Certificate data for HELO: the chain in PEM, then the JWS in a line of its own.

    Raises ProofError for terms that prove nothing (no binding, no nonce, no name) and for keys that sign no
    seals either.
    """
    _check_terms(terms)
    claims = _Claims(encode(terms.binding), terms.client, terms.nonce, terms.role, terms.server)
    try:
        proof = signer.compact(canonical(claims), PROOF_TYP)
    except JwsError as error:
        raise ProofError(str(error)) from error
    pem = "".join(_pem(der) for der in signer.chain)
    return f"{pem}{proof}\n".encode("ascii")


def _check_terms(terms: ProofTerms) -> None:
    if len(terms.binding) != BINDING_OCTETS:
        raise ProofError("there is no channel binding: nothing can be proven on this connection")
    if not _NONCE.fullmatch(terms.nonce):
        raise ProofError("the other side has given no usable nonce")
    names = (terms.client, terms.server) if terms.role == "client" else (terms.server,)
    if not all(map(_NAME.fullmatch, names)) or (terms.client and not _NAME.fullmatch(terms.client)):
        raise ProofError("a name of client or server is missing, or none")


def check_proof(
    octets: bytes, role: Role, nonce: str, binding: bytes, servers: Sequence[str], client: str | None = None
) -> Proof:
    """What certificate data proves to one who gave `nonce` and knows the `binding` of the connection.

    `role` is the peer's. `servers`: a server's own names, or the one name that a client connected to.
    `client`: a client's own name ("" for none); None for a server, which learns it from the proof and has yet
    to hold it against the certificate. Raises ProofError.
    """
    if len(binding) != BINDING_OCTETS:
        raise ProofError("there is no channel binding: nothing can be proven on this connection")
    chain, proof = _taken_apart(octets)
    try:
        check_certificates(chain)
        payload = CompactJws.read(proof, PROOF_TYP).verified(chain[0])
        claims = read_canonical(payload, _CLAIMS, "a proof")
    except JwsError as error:
        raise ProofError(f"the proof of the key is not valid: {error}") from error
    _check_claims(claims, role, nonce, binding)
    if claims.server not in servers:
        raise ProofError("the proof is for another server")
    if client is not None and claims.client != client:
        raise ProofError("the proof is for another client")
    return Proof(chain, claims.client, claims.server)


def _check_claims(claims: _Claims, role: Role, nonce: str, binding: bytes) -> None:
    if claims.role != role:
        raise ProofError("the proof is one of the other role")
    if claims.nonce != nonce:
        raise ProofError("the proof is over another nonce: made for another session")
    if claims.binding != encode(binding):
        raise ProofError("the proof is bound to another connection")
    if not _NAME.fullmatch(claims.client) and (claims.client or role == "client"):
        raise ProofError("the proof has no usable name of the client")


def _taken_apart(octets: bytes) -> tuple[tuple[bytes, ...], str]:
    if len(octets) > MAX_PROOF_OCTETS:
        raise ProofError("the certificate data is too large")
    found = _DATA.fullmatch(octets)
    if found is None:
        raise ProofError("the certificate data is not certificates in PEM and a proof")
    blocks = _BLOCK.findall(found[1])
    if len(blocks) > MAX_CHAIN:
        raise ProofError(f"the certificate data holds more than {MAX_CHAIN} certificates")
    return tuple(map(_der, blocks)), found[2].decode("ascii")


def _der(block: bytes) -> bytes:
    try:
        return base64.b64decode(re.sub(rb"[\r\n]", b"", block), validate=True)
    except ValueError as error:
        raise ProofError("a certificate is not readable PEM") from error


def _pem(der: bytes) -> str:
    lines = base64.encodebytes(der).decode("ascii")  # lines of 76; RFC 7468 section 2 has 64, and readers any
    return f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n"
