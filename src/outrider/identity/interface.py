"""What a protocol driver sees of authentication (RFC 4422, RFC 4954): mechanisms, exchanges, steps.

The driver carries lines, nothing else: what a client sent after ``AUTH`` or in answer to a ``334`` goes in
as it stood on the wire (without CRLF, still base64), and what comes out says what to do next::

    exchange, step = authenticator.begin(mechanism, initial, context)
    while True:
        match step:
            case Challenge(line):         # send b"334 " + line, read one line
                step = exchange.step(client_line)
            case CheckPassword(check):    # tens of milliseconds: run it off the event loop
                step = exchange.checked(await run_in_thread(check))
            case Succeeded() | Failed():  # send step.reply (a failure after step.delay_s seconds)
                break

An exchange serves one attempt and is thrown away. All failures that a guesser could tell apart by an
account's existence have one reply and one cost (SEC-107).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from outrider.model.reply import Reply

IPAddress = IPv4Address | IPv6Address

MAX_RESPONSE_OCTETS = 12_288
"""RFC 4954 section 4: the longest line of an exchange that has to be read; longer ones get 500 and end it."""

AUTHENTICATED = Reply(235, "2.7.0", "Authentication succeeded")
CREDENTIALS_INVALID = Reply(535, "5.7.8", "Authentication credentials invalid")
MALFORMED = Reply(501, "5.5.2", "Cannot decode the response")
RESPONSE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
MECHANISM_UNKNOWN = Reply(504, "5.5.4", "Authentication mechanism not offered")
ENCRYPTION_REQUIRED = Reply(538, "5.7.11", "Encryption required for this authentication mechanism")
TRY_LATER = Reply(454, "4.7.0", "Too many failed logins; try again later")


@dataclass(frozen=True, slots=True)
class AuthContext:
    """What is known of the session that wants to log in."""

    client_address: IPAddress | None
    """None for a unix socket."""
    now: float
    """Seconds since the epoch."""
    tls: bool = False
    channel_binding: bytes | None = None
    """The 32 octets of ``tls-exporter`` (RFC 9266); None where the session cannot give them."""
    peer_chain: tuple[bytes, ...] = ()
    """The client's certificates, DER, leaf first; not yet believed."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send ``334`` with this line, and read the client's."""

    line: bytes
    """Already base64, "" for an empty challenge."""


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Run `check` where it may take its time and memory (argon2), and hand its answer to `checked`."""

    check: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Logged in. The driver sets `Session.login` and `login_mechanism`, and sends `reply`."""

    login: str
    mechanism: str
    how: str
    """For the log and as warrant of the fact: "password", "SCRAM with channel binding", "certificate ..."."""
    reply: Reply = AUTHENTICATED


@dataclass(frozen=True, slots=True)
class Failed:
    """Not logged in: wait `delay_s`, send `reply`. The session goes on unless the reply is 421."""

    reply: Reply
    reason: str
    """For the operator's log, never for the peer; names no password."""
    login: str = ""
    """The name that was tried, as far as it was readable; hostile text."""
    delay_s: float = 0.0


Step = Challenge | CheckPassword | Succeeded | Failed


class Exchange(Protocol):
    """One attempt under way."""

    def step(self, line: bytes) -> Step:
        """The client's next line as on the wire; ``*`` cancels. Legal only after a `Challenge`."""
        ...

    def checked(self, correct: bool) -> Step:
        """The answer of `CheckPassword.check`. Legal only after a `CheckPassword`."""
        ...


class Authenticator(Protocol):
    """Who may log in, and how; one object for all sessions, exchanged as a whole by a reload."""

    def mechanisms(self, context: AuthContext) -> tuple[str, ...]:
        """What EHLO names after AUTH for this session, best first; () = do not name AUTH at all.

        EXTERNAL only when the client's certificate already leads to a login, -PLUS only with channel
        binding, PLAIN and LOGIN only under TLS (SMTP-2b).
        """
        ...

    def begin(
        self, mechanism: str, initial: bytes | None, context: AuthContext
    ) -> tuple[Exchange | None, Step]:
        """``AUTH mechanism [initial]``: the mechanism in any case, the initial response as on the wire
        (``=`` for an empty one), None when there was none. Without an exchange the step is a `Failed`."""
        ...
