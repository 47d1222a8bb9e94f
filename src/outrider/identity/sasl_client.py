"""The client's half of the login mechanisms (RFC 4616, RFC 4422 appendix A, RFC 5802, RFC 7677; LOGIN).

An exchange is fed the server's challenges and gives the responses. It is used only under TLS (SMTP-2b); what
it knows of a password shows neither in its repr nor in an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from outrider.identity.saslprep import PreparationError, saslprep

MIN_ITERATIONS: Final = 4096
"""RFC 7677 section 4: fewer would make the proof worth guessing at."""
MAX_ITERATIONS: Final = 1_000_000
"""Of PBKDF2 that a server may make us compute: about a second (SEC-108)."""

_PREFERENCE: Final = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
_SERVER_FIRST: Final = re.compile(
    rb"r=(?P<nonce>[\x21-\x2b\x2d-\x7e]{1,600}),s=(?P<salt>[A-Za-z0-9+/=]{1,1000}),i=(?P<iterations>[0-9]{1,7})"
    rb"(?:,[A-Za-z]=[^,\x00]{0,1000})*"
)
_SERVER_FINAL: Final = re.compile(rb"v=(?P<signature>[A-Za-z0-9+/=]{1,100})(?:,[A-Za-z]=[^,\x00]{0,1000})*")


class LoginImpossible(Exception):
    """The login cannot go on: the server misbehaves, or has nothing that we can use. The text is a sentence
    for the operator and holds nothing that the server chose, except names of mechanisms."""


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Who we are at a server."""

    username: str = ""
    password: str = field(default="", repr=False)
    certificate: bool = False
    """A client certificate was presented, so EXTERNAL may serve where there is no password."""
    channel_binding: bytes | None = field(default=None, repr=False)
    """``tls-exporter`` of the session (RFC 9266), None where the session has none."""
    nonce: str = field(default="", repr=False)
    """Fresh printable randomness without a comma, for SCRAM."""


class ClientExchange(Protocol):
    """One login."""

    @property
    def mechanism(self) -> str:
        """As it stands behind AUTH."""
        ...

    @property
    def is_expensive(self) -> bool:
        """`respond` may take long: call it off the event loop."""
        ...

    def initial(self) -> bytes | None:
        """The initial response, None when the server speaks first. Raises LoginImpossible."""
        ...

    def respond(self, challenge: bytes) -> bytes:
        """The answer to a challenge. Raises LoginImpossible: then cancel."""
        ...

    def check_success(self) -> None:
        """The server says that we are logged in: has it proven what the mechanism makes it prove? Raises
        LoginImpossible."""
        ...


def choose_exchange(credentials: ClientCredentials, offered: Sequence[str]) -> ClientExchange:
    """The best mechanism that both sides have. Raises LoginImpossible."""
    if not credentials.password:
        if credentials.certificate and "EXTERNAL" in offered:
            return _External(credentials.username)
        raise LoginImpossible("no password is set, and a login by certificate (EXTERNAL) is not possible")
    for mechanism in _PREFERENCE:
        if mechanism not in offered or (mechanism.endswith("-PLUS") and not credentials.channel_binding):
            continue
        if mechanism.startswith("SCRAM"):
            return _Scram(mechanism, credentials)
        return _Plain(credentials) if mechanism == "PLAIN" else _Login(credentials)
    raise LoginImpossible(f"no common login mechanism; the server offers {' '.join(offered) or 'none'}")


class _Trusting:
    """What the mechanisms share in which the server proves nothing beyond its certificate."""

    is_expensive = False
    mechanism = ""

    def check_success(self) -> None:
        """Nothing to check."""

    def _ended(self) -> LoginImpossible:
        return LoginImpossible(f"the server goes on where {self.mechanism} has ended")


class _External(_Trusting):
    mechanism = "EXTERNAL"

    def __init__(self, username: str) -> None:
        self._username = username

    def initial(self) -> bytes:
        return self._username.encode()

    def respond(self, challenge: bytes) -> bytes:
        del challenge
        raise self._ended()


class _Plain(_Trusting):
    mechanism = "PLAIN"

    def __init__(self, credentials: ClientCredentials) -> None:
        self._credentials = credentials

    def initial(self) -> bytes:
        username, password = self._credentials.username, self._credentials.password
        if "\0" in username + password:
            raise LoginImpossible("user name or password holds a NUL")
        return f"\0{username}\0{password}".encode()

    def respond(self, challenge: bytes) -> bytes:
        del challenge
        raise self._ended()


class _Login(_Trusting):
    mechanism = "LOGIN"

    def __init__(self, credentials: ClientCredentials) -> None:
        # The prompts are prose and differ between servers; only their order can be relied on.
        self._answers = [credentials.password.encode(), credentials.username.encode()]

    def initial(self) -> None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        del challenge
        if not self._answers:
            raise self._ended()
        return self._answers.pop()


class _Scram:
    """SCRAM-SHA-256; in its -PLUS form bound to the TLS session. Success counts only after the server has
    proven that it knows the password's verifier (RFC 5802 section 5)."""

    is_expensive = True

    def __init__(self, mechanism: str, credentials: ClientCredentials) -> None:
        self.mechanism = mechanism
        self._nonce = credentials.nonce.encode("ascii")
        self._binding = credentials.channel_binding or b""
        if mechanism.endswith("-PLUS"):
            self._gs2 = b"p=tls-exporter,,"
        else:
            # RFC 5802 section 6: "y" tells a server that did offer -PLUS that its list was tampered with.
            self._gs2 = b"y,," if self._binding else b"n,,"
            self._binding = b""
        try:
            name = saslprep(credentials.username).replace("=", "=3D").replace(",", "=2C")
            self._password = saslprep(credentials.password).encode()
        except PreparationError:
            raise LoginImpossible("user name or password cannot be used with SCRAM") from None
        self._bare = b"n=%b,r=%b" % (name.encode(), self._nonce)
        self._steps = [self._finish, self._prove]
        self._server_signature = b""
        self._proven = False

    def initial(self) -> bytes:
        return self._gs2 + self._bare

    def respond(self, challenge: bytes) -> bytes:
        if not self._steps:
            raise LoginImpossible("the server goes on where SCRAM has ended")
        return self._steps.pop()(challenge)

    def _prove(self, server_first: bytes) -> bytes:
        parts = _SERVER_FIRST.fullmatch(server_first)
        if parts is None:
            raise LoginImpossible("the server's first SCRAM message is malformed")
        if not parts["nonce"].startswith(self._nonce) or parts["nonce"] == self._nonce:
            raise LoginImpossible("the server's SCRAM nonce does not continue ours")
        iterations = int(parts["iterations"])
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise LoginImpossible("the server asks for an unacceptable number of SCRAM iterations")
        channel = base64.b64encode(self._gs2 + self._binding)
        unproven = b"c=%b,r=%b" % (channel, parts["nonce"])
        said = b",".join((self._bare, server_first, unproven))
        return unproven + b",p=" + base64.b64encode(self._proof(said, _unbase64(parts["salt"]), iterations))

    def _proof(self, said: bytes, salt: bytes, iterations: int) -> bytes:
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), said)
        signature = _hmac(hashlib.sha256(client_key).digest(), said)
        return bytes(a ^ b for a, b in zip(client_key, signature, strict=True))

    def _finish(self, server_final: bytes) -> bytes:
        parts = _SERVER_FINAL.fullmatch(server_final)
        if parts is None or not hmac.compare_digest(_unbase64(parts["signature"]), self._server_signature):
            raise LoginImpossible("the server does not prove that it knows the password")
        self._proven = True
        return b""

    def check_success(self) -> None:
        if not self._proven:
            raise LoginImpossible("the server claims success without proving that it knows the password")


def _unbase64(octets: bytes) -> bytes:
    try:
        return binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error:
        raise LoginImpossible("malformed base64 in the server's SCRAM message") from None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
