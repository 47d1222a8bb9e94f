"""Between the queue manager and those who carry mail: hops, connections, results.

`net` implements the dialler for SMTP, LMTP and QMTP; `delivery.local` the mailbox and pipe transports. The
queue manager owns the schedule, the limits and the settlement; a carrier owns one conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, runtime_checkable

from outrider.delivery.schedule import Schedule
from outrider.model.message import Leased, NewMessage, StoredMessage
from outrider.model.result import DeliveryResult
from outrider.routing.tls_policy import OPPORTUNISTIC
from outrider.routing.tls_policy import TlsRequirement as TlsRequirement


@dataclass(frozen=True, slots=True)
class ServerTerms:
    """By what an AMTP or MT2 server counts as the right one, and what its word is worth (AMTP-5, AMTP-21,
    MT2-27)."""

    domain: str
    """The recipients' domain, which the server may prove to serve; "" where the operator has named the
    host."""
    srv_secure: bool = False
    """DNSSEC vouches for the SRV answer that led here."""
    named: bool = False
    """The operator or the partner entry names this host: its own name is proof enough."""
    must_prove: bool = False
    """A name that only an unsigned SRV answer led to does not do."""
    backup: bool = False
    """Others have better priority: this one's denial is not the last word."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One host to try: all its addresses in turn, at one port, in one protocol."""

    protocol: str
    """amtp, mt2, smtp, submission, smtps, lmtp, qmtp."""
    host: str
    """Name or literal, for logs, EHLO checks and certificates."""
    addresses: tuple[IPv4Address | IPv6Address | str, ...]
    """In order; a str is the path of a unix socket."""
    port: int
    tls: TlsRequirement = OPPORTUNISTIC
    username: str = ""
    password_file: str = ""
    secure: bool = False
    """The addresses came DNSSEC-validated (for DANE)."""
    terms: ServerTerms | None = None
    """For the protocols amtp and mt2, whose servers prove who they are."""


@dataclass(frozen=True, slots=True)
class Job:
    """One message for some of its recipients."""

    message: StoredMessage
    recipients: tuple[int, ...]
    """Positions in the envelope."""


class ConnectFailed(Exception):
    """No session came about at this address: the next one is tried.

    `result` is what to record if none is left: temporary unless the host itself said otherwise
    (554 greeting = permanent for this host). `answered` means that somebody did speak there: the host is not
    out of reach, and what it does not want by one protocol is not tried by another (ITP-7).
    """

    def __init__(self, result: DeliveryResult, *, answered: bool = False) -> None:
        super().__init__(result.text)
        self.result = result
        self.answered = answered


class RequirementUnmet(Exception):
    """The host answered, but an explicit TLS, name or login requirement is not met: the mail waits
    (TLS-4a), and another host of equal standing may be tried, never a weaker way.

    For AMTP and MT2 this is also a server that does not prove its name, and one that refuses ours (504,
    AMTP-8)."""

    def __init__(self, result: DeliveryResult) -> None:
        super().__init__(result.text)
        self.result = result


class Connection(Protocol):
    """An open conversation with one host, greeted, under the TLS that its hop asks for."""

    @property
    def usable(self) -> bool:
        """Whether another message may follow on it."""
        ...

    @property
    def description(self) -> str:
        """``mx.example [192.0.2.1]:25`` for results and logs."""
        ...

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        """Carry the message; a result for every recipient of the job, always.

        A connection that breaks gives DEFERRED results for those not yet answered; after the final dot
        without an answer too (a duplicate may follow, a loss may not).
        """
        ...

    async def close(self) -> None:
        """QUIT with a short wait, then close. Never raises."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


@runtime_checkable
class ManyAtOnce(Connection, Protocol):
    """A connection on which several messages may be under way: MT2 with PIPE=ON (MT2-18d).

    `send` may be called again while earlier calls wait, at most `parallel` at once. A call that is cancelled
    takes back its own message only; a connection that breaks ends them all, each with DEFERRED results.
    """

    @property
    def parallel(self) -> int:
        """How many calls of `send` may be under way; 1 where the server refused PIPE."""
        ...

    @property
    def keep_open_s(self) -> float:
        """How long it is kept for the next message, where that is longer than is usual: nailed up."""
        ...


class Dialler(Protocol):
    """Opens connections."""

    async def connect(self, hop: Hop, address: IPv4Address | IPv6Address | str) -> Connection:
        """Raises ConnectFailed or RequirementUnmet; bounded in time."""
        ...


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a transport has made of a message beside delivering it: the copies of a mailing list, an answer.

    The messages are stored in one transaction with the settlement of the attempt: each exactly once.
    """

    results: Mapping[int, DeliveryResult]
    messages: tuple[NewMessage, ...] = ()
    schedule: Schedule | None = None
    """By which what is deferred is tried again; None = by [delivery]'s."""


class LocalTransport(Protocol):
    """Mailbox, pipe, discard, list: delivers without a network."""

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult] | Expansion:
        """`instruction` is the text after the colon of `deliver =`, placeholders not yet replaced."""
        ...


class EnvelopeWatch(Protocol):
    """Hears what became of AMDP's envelopes on their way (`Envelope.link_token`); the holding facility."""

    def envelope_settled(self, message: StoredMessage, result: DeliveryResult) -> None:
        """A result that is recorded, of the envelope's one recipient. Never raises, never waits."""
        ...


class FreshMail(Protocol):
    """Takes what was just accepted, leased, from memory (the queue manager implements it)."""

    def take(self, leased: Sequence[Leased]) -> None:
        """Never blocks, never raises; what there is no room for is released to the spool."""
        ...
