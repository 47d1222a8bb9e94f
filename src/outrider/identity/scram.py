"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677, RFC 9266).

The server never learns the password: it holds StoredKey and ServerKey, and the client proves that it could
have made them. With -PLUS the proof covers the TLS session as well, so that nobody between can pass it on.

Written here because the libraries at hand know only older channel bindings than ``tls-exporter``, the one
that TLS 1.3 has. The library `scramp` plays the client in the tests.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from outrider.identity.saslprep import saslprep

MIN_ITERATIONS = 4096
"""RFC 7677 section 4."""
MAX_ITERATIONS = 1_000_000
"""A client computes this many hashes; more is a mistake in the users file (SEC-108)."""
CHANNEL_BINDING = b"tls-exporter"
MAX_NONCE = 256
MAX_NAME = 255

_SASLNAME_ESCAPE = re.compile(r"=(..?)?")
_NONCE = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,%d}" % MAX_NONCE)
_CLIENT_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>[ny]|p=(?P<binding>[A-Za-z0-9.-]{1,64})),(?:a=(?P<authzid>[^,\x00]{1,1020}))?,)"
    rb"(?P<bare>n=(?P<name>[^,\x00]{1,1020}),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]{1,%d})(?:,[A-Za-z]=[^,\x00]{1,1000})*)"
    % MAX_NONCE
)
_CLIENT_FINAL = re.compile(
    rb"(?P<unproven>c=(?P<binding>[A-Za-z0-9+/=]{1,2000}),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]{1,600})"
    rb"(?:,[A-Za-z]=[^,\x00]{1,1000})*),p=(?P<proof>[A-Za-z0-9+/=]{1,100})"
)


class ScramError(Exception):
    """The exchange ends without success; the text is for the log."""


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What the server keeps of a password."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make_verifier(password: str, salt: bytes, iterations: int = MIN_ITERATIONS) -> ScramVerifier:
    """The verifier of a password (RFC 5802 section 3). Raises PreparationError, and ValueError for fewer than
    `MIN_ITERATIONS`."""
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be between {MIN_ITERATIONS} and {MAX_ITERATIONS}")
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return ScramVerifier(iterations, salt, stored_key, _hmac(salted, b"Server Key"))


def decoy_verifier(secret: bytes, name: str, iterations: int) -> ScramVerifier:
    """For a name that nobody has: the same salt each time, and keys that no password leads to (SEC-107)."""
    seed = name.casefold().encode("utf-8", "replace")
    keys = _hmac(secret, b"keys:" + seed)
    return ScramVerifier(iterations, _hmac(secret, b"salt:" + seed)[:16], keys, keys[::-1])


@dataclass(slots=True)
class ScramServer:
    """One exchange. `binding` is the session's channel binding data, None where it has none."""

    plus: bool
    """The mechanism is the -PLUS one."""
    binding: bytes | None
    plus_offered: bool
    """We named -PLUS to this client: then a client that says it saw none has been lied to."""
    nonce: str
    verifier_of: Callable[[str], ScramVerifier]
    name: str = ""
    """The user name, prepared; set by `first`."""
    _verifier: ScramVerifier | None = field(default=None, repr=False)
    _gs2: bytes = b""
    _nonce: bytes = b""
    _said: bytes = b""

    def first(self, message: bytes) -> bytes:
        """client-first-message to server-first-message. Raises ScramError."""
        parts = _CLIENT_FIRST.fullmatch(message)
        if parts is None:
            raise ScramError("malformed client-first-message")
        self._check_binding_flag(parts["flag"], parts["binding"])
        if parts["bare"].startswith(b"m=") or b",m=" in parts["bare"]:
            raise ScramError("mandatory extension not supported")
        self.name = _decode_name(parts["name"])
        if parts["authzid"] is not None and _decode_name(parts["authzid"]) != self.name:
            raise ScramError("authorization identity differs from the user name")
        self._gs2 = parts["gs2"]
        self._nonce = parts["nonce"] + self.nonce.encode("ascii")
        self._verifier = self.verifier_of(self.name)
        salt = binascii.b2a_base64(self._verifier.salt, newline=False)
        reply = b"r=%s,s=%s,i=%d" % (self._nonce, salt, self._verifier.iterations)
        self._said = parts["bare"] + b"," + reply
        return reply

    def _check_binding_flag(self, flag: bytes, binding: bytes | None) -> None:
        if self.plus:
            if binding is None:
                raise ScramError("-PLUS chosen without channel binding")
            if binding != CHANNEL_BINDING:
                raise ScramError("channel binding type not supported")
        elif binding is not None:
            raise ScramError("channel binding in a mechanism without it")
        elif flag == b"y" and self.plus_offered:
            # RFC 5802 section 6: somebody took -PLUS out of the list.
            raise ScramError("channel binding was offered, the client saw none: possible downgrade")

    def final(self, message: bytes) -> bytes:
        """client-final-message to server-final-message; returning at all means success. Raises ScramError."""
        if self._verifier is None:
            raise AssertionError("final before first")
        parts = _CLIENT_FINAL.fullmatch(message)
        if parts is None:
            raise ScramError("malformed client-final-message")
        expected = self._gs2 + (self.binding or b"" if self.plus else b"")
        if not hmac.compare_digest(_unbase64(parts["binding"]), expected):
            raise ScramError("channel binding does not match this session")
        if not hmac.compare_digest(parts["nonce"], self._nonce):
            raise ScramError("nonce is not the one of this exchange")
        said = self._said + b"," + parts["unproven"]
        self._check_proof(_unbase64(parts["proof"]), said, self._verifier)
        signature = _hmac(self._verifier.server_key, said)
        return b"v=" + binascii.b2a_base64(signature, newline=False)

    @staticmethod
    def _check_proof(proof: bytes, said: bytes, verifier: ScramVerifier) -> None:
        signature = _hmac(verifier.stored_key, said)
        if len(proof) != len(signature):
            raise ScramError("proof of the wrong length")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key):
            raise ScramError("wrong password or unknown user")


def _decode_name(octets: bytes) -> str:
    """A saslname (RFC 5802 section 5.1), prepared. Raises ScramError."""
    try:
        text = octets.decode("utf-8")
        if any(match[0] not in ("=2C", "=3D") for match in _SASLNAME_ESCAPE.finditer(text)):
            raise ScramError("malformed user name")
        name = saslprep(text.replace("=2C", ",").replace("=3D", "="))
    except (UnicodeDecodeError, ValueError) as error:
        raise ScramError("malformed user name") from error
    if len(name) > MAX_NAME:
        raise ScramError("user name too long")
    return name


def _unbase64(octets: bytes) -> bytes:
    try:
        return binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error as error:
        raise ScramError("malformed base64 in message") from error


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
