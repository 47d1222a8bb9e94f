"""Between a protocol's driver and the rest of the house: what happens to a session and its messages.

A driver (SMTP, QMTP, LMTP, later AMTP and MT2) turns its core's events into calls here and gives the
replies back. Everything that decides - policy, relay control, recipients, the TLS-2 table, trace fields,
the commit - is behind this interface; everything that speaks is in front of it.

A method answers with a `Reply` when it can, or with an awaitable of one when it must wait for a fact or
the disk: the ordinary message costs no task switch before its commit.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from outrider.model.content import Body, Content
from outrider.model.envelope import Arrival, Recipient
from outrider.model.facts import Facts, Provenance
from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest

Decision = Reply | Awaitable[Reply]

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class TlsSummary:
    """What reception needs to know of a session's TLS."""

    version: str
    cipher: str
    peer_chain: tuple[bytes, ...] = ()
    """DER, leaf first; proven only to be held by the peer, nothing else is believed yet."""
    server_name: str = ""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


@dataclass(slots=True)
class Session:
    """One connection as reception sees it; the driver keeps it up to date.

    After STARTTLS the driver makes a new one with :meth:`after_tls`: what was said in the clear is forgotten
    (TLS-1).
    """

    id: str
    """For logs, and for people: "session <id>"."""
    protocol: str
    """smtp, submission, amtp, mt2, qmtp, lmtp; amdp for mail that this server has pulled."""
    client_address: IPAddress | None
    """None for a unix socket."""
    client_port: int
    server_address: IPAddress | None
    server_port: int
    listener: str
    """Its name in logs and facts: "smtp 192.0.2.1:25"."""
    hostname: str
    """Our name on this listener."""
    started_at: float
    facts: Facts = field(default_factory=Facts)
    tls: TlsSummary | None = None
    require_tls: bool = False
    only_private: bool = False
    """AMTP: the listener takes private connections only (AMTP-6)."""
    hello_name: str = ""
    extended: bool = False
    """EHLO (or LHLO) was said."""
    login: str = ""
    """Who authenticated, "" for nobody."""
    login_mechanism: str = ""
    connection: Arrival = Arrival.OTHER
    """For AMTP: whether the certificate proved a public or a private connection; OTHER until EHLO did."""
    proof_chain: tuple[bytes, ...] = ()
    """MT2: the chain (DER, leaf first) whose key HELO has proven; () before, and where it proved none."""
    options: frozenset[str] = frozenset()
    """MT2: options that the peer has switched on, upper case."""
    client_text: str = field(init=False)
    """The client's address as it is written; "" for a unix socket."""

    def __post_init__(self) -> None:
        self.client_text = "" if self.client_address is None else str(self.client_address)

    def after_tls(self, tls: TlsSummary) -> Session:
        """The same connection under TLS: hello, login and all merely claimed is forgotten (TLS-1)."""
        kept = Facts(fact for fact in self.facts if fact.provenance is not Provenance.CLAIMED)
        return replace(
            self,
            facts=kept,
            tls=tls,
            hello_name="",
            extended=False,
            login="",
            login_mechanism="",
            connection=Arrival.OTHER,
            proof_chain=(),
            options=frozenset(),
        )

    @property
    def with_protocol(self) -> str:
        """The ``with`` clause of Received (RFC 3848, RFC 6531 adds UTF8 by message).

        QMTP, AMTP and AMTPA (after AUTH), MT2 and AMDP (pulled mail) are not registered; AMTP without TLS
        there is none."""
        if self.protocol == "mt2":
            return "MT2"
        if self.protocol == "qmtp":
            return "QMTP"
        if self.protocol == "amdp":
            return "AMDP"
        if self.protocol == "amtp":
            return "AMTPA" if self.login else "AMTP"
        base = "LMTP" if self.protocol == "lmtp" else ("ESMTP" if self.extended else "SMTP")
        return base + ("S" if self.tls else "") + ("A" if self.login else "") if base != "SMTP" else base


@dataclass(slots=True)
class Transaction:
    """One mail transaction; made by :meth:`Reception.sender`, thrown away by RSET or the end of data."""

    session: Session
    id: MessageId
    """Assigned at MAIL, named in the 250 after the data."""
    request: MailRequest
    started_at: float
    facts: Facts
    """The message's, standing on the session's."""
    recipients: list[Recipient] = field(default_factory=list)
    """Final recipients (aliases already followed, each once)."""
    accepted: int = 0
    """RCPT commands that were accepted: what LMTP answers one by one."""
    tags: list[str] = field(default_factory=list)
    route: str = ""
    hold_reason: str = ""
    rules: list[str] = field(default_factory=list)
    """Rules that spoke, for explain."""


class BodyStream(Protocol):
    """A body on its way into the spool while it is still arriving (see spool.interface.BodyWriter)."""

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append. None: there is room for more at once; else await it before the next. Either may raise the
        spool's errors, which `Reception.finish` turns into a reply."""
        ...

    async def finish(self) -> Body:
        """Durable from here on."""
        ...

    async def abandon(self) -> None:
        """Forget it."""
        ...


class Reception(Protocol):
    """One object for all sessions of a server; exchanged as a whole by a reload."""

    inline_limit: int
    """Bodies above this go through `body_stream`."""

    def connected(self, session: Session) -> Decision:
        """A client is there. 220 (the driver's greeting) or a refusal: 554, 421."""
        ...

    def greeted(self, session: Session, verb: str, name: str) -> Decision:
        """HELO, EHLO or LHLO: 250 with no text (the driver's capabilities) or a refusal.

        Over AMTP the client has proven by then which host it is, and `session.connection` is set; 504 and 451
        mean that it has not (AMTP-3)."""
        ...

    def announced(self, session: Session) -> tuple[str, ...]:
        """What EHLO says of the Mail Policy Codes that are taken from this host, as the arguments of `MPC`
        lines; () for nothing to say, and while AUTH is still demanded (AMTP-20)."""
        ...

    def login_is_owed(self, session: Session) -> bool:
        """Whether nothing but AUTH is served before there is a login (AMTP-19)."""
        ...

    def login_refusal(self, session: Session, login: str) -> Reply | None:
        """A login has been proven: why it still may not stand on this connection; None = it may (AMTP-19)."""
        ...

    def sender(
        self, session: Session, request: MailRequest, now: float
    ) -> tuple[Transaction | None, Decision]:
        """MAIL. The transaction counts only when the reply is positive."""
        ...

    def recipient(self, transaction: Transaction, request: RecipientRequest) -> Decision:
        """RCPT. Positive: it is in `transaction.recipients` (or was already)."""
        ...

    def content_begins(self, transaction: Transaction) -> Decision:
        """DATA or the first BDAT, when at least one recipient stands. Positive: go on."""
        ...

    def headers(self, transaction: Transaction, headers: bytes) -> Decision:
        """The header section is complete and the body still arrives (large messages): a refusal is kept
        and given after the data. For messages that came at once, `finish` does this itself."""
        ...

    def body_stream(self, transaction: Transaction) -> BodyStream:
        """Where a body above `inline_limit` goes."""
        ...

    def finish(self, transaction: Transaction, content: Content) -> Awaitable[Reply]:
        """The message is whole: policy, trace, commit. 250 only once it is durable (SMTP-5); the text holds
        the id. Never raises for reasons of mail or disk: those are replies."""
        ...

    def abandoned(self, transaction: Transaction, why: str) -> None:
        """RSET, QUIT, a lost connection or a refusal ended it: for log and counters."""
        ...
