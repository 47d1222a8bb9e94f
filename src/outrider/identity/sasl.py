"""The SASL mechanisms, the server's side, without I/O (RFC 4422; SMTP-2b).

Each mechanism is a small state machine. It sees decoded octets and answers with what is to be said next or
with an outcome; base64, ``=``, ``*``, lengths, limits and replies are handled around it, once for all
(`authenticator`).
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Protocol

from outrider.identity.credentials import MAX_PASSWORD_OCTETS
from outrider.identity.interface import MAX_RESPONSE_OCTETS
from outrider.identity.scram import ScramError, ScramServer

MAX_NAME_OCTETS = 255


@dataclass(frozen=True, slots=True)
class Say:
    """Send this to the client and read its answer."""

    octets: bytes
    name: str = ""
    """The user, as soon as a proof is about to be asked of him."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Check this password of this user."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Verify({self.name!r})"


@dataclass(frozen=True, slots=True)
class Accept:
    """It is that user."""

    name: str
    how: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Not authenticated."""

    reason: str
    name: str = ""
    malformed: bool = False
    """The client broke the mechanism's syntax: 501 rather than 535."""


Answer = Say | Verify | Accept | Reject


class Machine(Protocol):
    """One attempt in one mechanism."""

    def start(self) -> Answer:
        """There was no initial response."""
        ...

    def respond(self, octets: bytes) -> Answer:
        """A response, the initial one included."""
        ...


class PlainMachine:
    """PLAIN (RFC 4616): one message, ``authzid NUL authcid NUL password``."""

    def start(self) -> Answer:
        """An empty challenge asks for the message."""
        return Say(b"")

    def respond(self, octets: bytes) -> Answer:
        """The message."""
        parts = octets.split(b"\0")
        if len(parts) != 3:
            return Reject("PLAIN message without exactly two NULs", malformed=True)
        authorization, name, password = parts
        if not name or (authorization and authorization != name):
            return Reject("PLAIN names another identity to act as, or none", _readable(name))
        return _password_to_check(name, password)


class LoginMachine:
    """LOGIN (draft-murchison-sasl-login): asks for the name, then for the password."""

    def __init__(self) -> None:
        self._name: bytes | None = None

    def start(self) -> Answer:
        """Ask for the name."""
        return Say(b"Username:")

    def respond(self, octets: bytes) -> Answer:
        """The name, then the password."""
        if self._name is None:
            self._name = octets
            return Say(b"Password:")
        return _password_to_check(self._name, octets)


def _password_to_check(name: bytes, password: bytes) -> Answer:
    if not name or len(name) > MAX_NAME_OCTETS or not password or len(password) > MAX_PASSWORD_OCTETS:
        return Reject("name or password empty or too long", _readable(name))
    if b"\0" in name or b"\0" in password:
        return Reject("NUL in name or password", malformed=True)
    try:
        return Verify(name.decode("utf-8"), password.decode("utf-8"))
    except UnicodeDecodeError:
        return Reject("name or password is not UTF-8", _readable(name), malformed=True)


class ScramMachine:
    """SCRAM-SHA-256 and -PLUS: two round trips, then the client acknowledges our own proof."""

    def __init__(self, server: ScramServer) -> None:
        self._server = server
        self._steps = iter((self._first, self._final, self._acknowledged))

    def start(self) -> Answer:
        """SCRAM begins with the client."""
        return Say(b"")

    def respond(self, octets: bytes) -> Answer:
        """The next message of the client."""
        return next(self._steps)(octets)

    def _first(self, octets: bytes) -> Answer:
        try:
            return Say(self._server.first(octets), self._server.name)
        except ScramError as error:
            return Reject(str(error), self._server.name)

    def _final(self, octets: bytes) -> Answer:
        try:
            return Say(self._server.final(octets))
        except ScramError as error:
            return Reject(str(error), self._server.name)

    def _acknowledged(self, octets: bytes) -> Answer:
        if octets:
            return Reject("text behind the last SCRAM message", self._server.name, malformed=True)
        bound = " with channel binding tls-exporter" if self._server.plus else ""
        return Accept(self._server.name, f"SCRAM-SHA-256{bound}")


class ExternalMachine:
    """EXTERNAL (RFC 4422 appendix A): the identity is the one that the TLS certificate leads to."""

    def __init__(self, login: str, how: str) -> None:
        self._login = login
        self._how = how

    def start(self) -> Answer:
        """An empty challenge asks for the identity to act as."""
        return Say(b"")

    def respond(self, octets: bytes) -> Answer:
        """Empty for the certificate's own login; another is refused."""
        if octets and octets.decode("utf-8", "replace").casefold() != self._login.casefold():
            return Reject("EXTERNAL asks for another login than the certificate's", self._login)
        return Accept(self._login, self._how)


class MalformedResponse(ValueError):
    """A line that is not base64."""


def decode_response(line: bytes) -> bytes:
    """A response line as octets, strictly padded base64 (RFC 4954 section 4). Raises MalformedResponse."""
    if len(line) > MAX_RESPONSE_OCTETS:
        raise MalformedResponse("too long")
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error as error:
        raise MalformedResponse("not base64") from error


def encode_challenge(octets: bytes) -> bytes:
    """The text of a 334 reply."""
    return binascii.b2a_base64(octets, newline=False)


def _readable(name: bytes) -> str:
    return name[:MAX_NAME_OCTETS].decode("utf-8", "replace")
