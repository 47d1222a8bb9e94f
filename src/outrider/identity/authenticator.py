"""Logins for a server: offers mechanisms, runs exchanges, counts failures (SMTP-2b, SEC-104 to SEC-109)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from outrider.identity import interface
from outrider.identity.client_certificate import ClientIdentifier, ProvenClient
from outrider.identity.credentials import UserTable
from outrider.identity.interface import (
    MAX_RESPONSE_OCTETS,
    AuthContext,
    Challenge,
    CheckPassword,
    Exchange,
    Failed,
    Step,
    Succeeded,
)
from outrider.identity.login_limits import LoginLimits
from outrider.identity.sasl import (
    Accept,
    Answer,
    ExternalMachine,
    LoginMachine,
    Machine,
    MalformedResponse,
    PlainMachine,
    Reject,
    Say,
    ScramMachine,
    Verify,
    decode_response,
    encode_challenge,
)
from outrider.identity.scram import ScramServer, ScramVerifier, decoy_verifier
from outrider.model.reply import Reply

_PLAIN_TEXT = frozenset({"PLAIN", "LOGIN"})
_KNOWN = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN", "LOGIN")


class SaslAuthenticator:
    """Implements :class:`outrider.identity.interface.Authenticator` on a users table."""

    def __init__(
        self,
        users: UserTable,
        limits: LoginLimits,
        *,
        make_nonce: Callable[[], str],
        secret: bytes,
        mechanisms: Sequence[str] = _KNOWN,
        clients: ClientIdentifier | None = None,
    ) -> None:
        """`make_nonce` gives at least 18 random octets as printable text without commas, anew each time.

        `secret` (32 octets) makes the salts told for users who do not exist; it must stay the same over
        restarts and on all nodes, or a guesser sees them change. Raises ValueError for an unknown mechanism.
        """
        unknown = [name for name in mechanisms if name not in _KNOWN]
        if unknown:
            raise ValueError(f"auth.mechanisms: {unknown[0]!r} is not known; known are {', '.join(_KNOWN)}")
        self._users = users
        self._limits = limits
        self._make_nonce = make_nonce
        self._secret = secret
        self._mechanisms = tuple(mechanisms)
        self._clients = clients
        self._iterations = users.usual_iterations

    def mechanisms(self, context: AuthContext) -> tuple[str, ...]:
        """See the interface."""
        return tuple(name for name in self._mechanisms if self._works(name, context))

    def _works(self, mechanism: str, context: AuthContext) -> bool:
        if mechanism in _PLAIN_TEXT:
            return context.tls
        if mechanism == "SCRAM-SHA-256-PLUS":
            return context.channel_binding is not None
        if mechanism == "EXTERNAL":
            return self._certificate_login(context) is not None
        return True

    def begin(
        self, mechanism: str, initial: bytes | None, context: AuthContext
    ) -> tuple[Exchange | None, Step]:
        """See the interface."""
        name = mechanism.upper()
        if name not in self.mechanisms(context):
            return None, self._not_offered(name, context)
        if self._limits.wait_s(context.client_address, "", context.now) > 0:
            return None, Failed(interface.TRY_LATER, "too many failed logins from this address")
        machine = self._machine(name, context)
        exchange = _Running(name, machine, context, self._users, self._limits)
        return exchange, exchange.begin(initial)

    def _not_offered(self, mechanism: str, context: AuthContext) -> Failed:
        if mechanism in _PLAIN_TEXT and mechanism in self._mechanisms and not context.tls:
            return Failed(interface.ENCRYPTION_REQUIRED, f"{mechanism} without TLS")
        return Failed(interface.MECHANISM_UNKNOWN, "mechanism not offered")

    def _machine(self, mechanism: str, context: AuthContext) -> Machine:
        if mechanism == "PLAIN":
            return PlainMachine()
        if mechanism == "LOGIN":
            return LoginMachine()
        if mechanism == "EXTERNAL":
            login, how = self._certificate_login(context) or ("", "")
            return ExternalMachine(login, how)
        plus_offered = "SCRAM-SHA-256-PLUS" in self._mechanisms and context.channel_binding is not None
        plus = mechanism.endswith("-PLUS")
        return ScramMachine(
            ScramServer(plus, context.channel_binding, plus_offered, self._make_nonce(), self._verifier_of)
        )

    def _verifier_of(self, name: str) -> ScramVerifier:
        user = self._users.find(name)
        if user is not None and user.scram is not None:
            return user.scram
        return decoy_verifier(self._secret, name, self._iterations)

    def _certificate_login(self, context: AuthContext) -> tuple[str, str] | None:
        """The login that the client's certificate leads to, and how; None for none."""
        if not context.peer_chain or self._clients is None or not self._users.knows_certificates:
            return None
        identity = self._clients.identify(context.peer_chain, context.now)
        prints = identity.fingerprints
        if prints is None:
            return None
        names: tuple[str, ...] = ()
        how = f"certificate sha256:{prints.certificate}"
        if isinstance(identity, ProvenClient):
            names = (*identity.names, *identity.mailboxes)
            how = f"certificate of {identity.label}, {identity.ca_set} CA set"
        user = self._users.find_by_certificate(names, (prints.certificate, prints.public_key))
        return None if user is None else (user.name, how)


@dataclass(slots=True)
class _Running:
    """One exchange: lines to octets, answers to steps, outcomes to replies and counts."""

    mechanism: str
    machine: Machine
    context: AuthContext
    users: UserTable
    limits: LoginLimits
    _verifying: Verify | None = field(default=None, repr=False)

    def begin(self, initial: bytes | None) -> Step:
        if initial is None:
            return self._answered(self.machine.start())
        # RFC 4954 section 4: "=" is how an empty initial response is written.
        return self.step(b"" if initial == b"=" else initial)

    def step(self, line: bytes) -> Step:
        """See the interface."""
        if line == b"*":
            return Failed(interface.CANCELLED, "cancelled by the client")
        if len(line) > MAX_RESPONSE_OCTETS:
            return Failed(interface.RESPONSE_TOO_LONG, "response line too long")
        try:
            octets = decode_response(line)
        except MalformedResponse as error:
            return Failed(interface.MALFORMED, f"response {error}")
        return self._answered(self.machine.respond(octets))

    def checked(self, correct: bool) -> Step:
        """See the interface."""
        verify = self._verifying
        if verify is None:
            raise AssertionError("no password was to be checked")
        self._verifying = None
        if not correct:
            return self._failed("wrong password or unknown user", verify.name)
        user = self.users.find(verify.name)
        return self._answered(Accept(user.name if user else verify.name, "password"))

    def _answered(self, answer: Answer) -> Step:
        match answer:
            case Say(octets, name):
                return self._must_wait(name) or Challenge(encode_challenge(octets))
            case Verify(name, password):
                return self._verify(answer, name, password)
            case Accept(name, how):
                return self._accepted(name, how)
            case Reject(reason, name, malformed):
                return self._failed(reason, name, interface.MALFORMED if malformed else None)

    def _verify(self, answer: Verify, name: str, password: str) -> Step:
        users, self._verifying = self.users, answer
        return self._must_wait(name) or CheckPassword(lambda: users.check_password(name, password))

    def _accepted(self, name: str, how: str) -> Step:
        user = self.users.find(name)
        if user is None:  # a decoy's proof cannot succeed, and tables do not change under an exchange
            return self._failed("no such user", name)
        self.limits.succeeded(self.context.client_address, user.name)
        return Succeeded(user.name, self.mechanism, how)

    def _must_wait(self, name: str) -> Failed | None:
        """Asked before a proof is looked at: afterwards the answer would tell a good guess from a bad one."""
        if not name or self.limits.wait_s(self.context.client_address, name, self.context.now) <= 0:
            return None
        return Failed(interface.TRY_LATER, "too many failed logins for this user by strangers", name)

    def _failed(self, reason: str, name: str, reply: Reply | None = None) -> Failed:
        delay = self.limits.failed(self.context.client_address, name, self.context.now)
        return Failed(reply or interface.CREDENTIALS_INVALID, reason, name, delay)
