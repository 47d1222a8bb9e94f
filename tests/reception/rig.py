"""A reception with a memory spool, set DNS answers and a record of what it observed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from outrider.config.schema import (
    Amtp,
    Auth,
    Config,
    Domain,
    Limits,
    MpcCodes,
    Partner,
    Policy,
    Relay,
    Rule,
)
from outrider.delivery.lookup import HostAddresses, LookupTemporary, MxRecords, NoRecords, NoSuchName
from outrider.identity.client_certificate import ClientIdentifier
from outrider.identity.credentials import UserTable, parse_users
from outrider.identity.host_identity import HostIdentifier
from outrider.model.address import parse_address, parse_path
from outrider.model.content import Content, inline_content
from outrider.model.envelope import Arrival, Recipient
from outrider.model.message import Leased, MessageId, NewMessage
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.policy.policy import compile_policy
from outrider.reception.assembling import MailTransaction
from outrider.reception.hosts import HostProver
from outrider.reception.interface import Decision, Session, TlsSummary, Transaction
from outrider.reception.lookups import ClientNames, FactSource
from outrider.reception.mail_codes import MailCodes
from outrider.reception.observer import NullReceptionObserver
from outrider.reception.partner_terms import PartnerTerms
from outrider.reception.parts import ReceptionParts
from outrider.reception.reception import MailReception
from outrider.reception.settings import ReceptionSettings
from outrider.routing.local_tables import load_tables
from outrider.routing.mail_exchangers import Exchanger
from outrider.routing.partners import PartnerTable
from outrider.routing.ways import parse_way
from outrider.testing.memory_spool import MemorySpool

NOW = 1_763_769_723.0
SERVER = ip_address("192.0.2.25")
CLIENT = ip_address("198.51.100.7")
FRIEND = ip_address("203.0.113.9")
TLS = TlsSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384")
MESSAGE = b"From: ann@b.example\r\nTo: bob@a.example\r\nSubject: hello\r\n\r\nhi\r\n"


class SetLookup:
    """DNS as a table: domain to MX hosts, host to addresses, address to names; counts the questions."""

    def __init__(self) -> None:
        self.mx_hosts: dict[str, Sequence[str]] = {}
        self.hosts: dict[str, Sequence[str]] = {}
        self.names: dict[str, ClientNames] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []

    def _asked(self, what: str) -> None:
        self.asked.append(what)
        if what.partition(" ")[2] in self.silent:
            raise LookupTemporary(f"{what}: time-out")

    async def mx(self, domain: str) -> MxRecords:
        self._asked(f"MX {domain}")
        if domain not in self.mx_hosts:
            raise NoRecords(domain) if domain in self.hosts else NoSuchName(domain)
        return MxRecords(tuple(Exchanger(10, host) for host in self.mx_hosts[domain]))

    async def addresses(self, host: str) -> HostAddresses:
        self._asked(f"A {host}")
        if host not in self.hosts:
            raise NoSuchName(host)
        return HostAddresses([ip_address(text) for text in self.hosts[host]])

    async def client_names(self, address: IPv4Address | IPv6Address) -> ClientNames:
        self._asked(f"PTR {address}")
        return self.names.get(str(address), ClientNames())

    async def pointer_names(self, address: IPv4Address | IPv6Address) -> tuple[str, ...]:
        self._asked(f"PTR {address}")
        names = self.names.get(str(address), ClientNames())
        return names.confirmed + names.unconfirmed


class Recorder(NullReceptionObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, Reply, str, str]] = []
        self.received: list[tuple[NewMessage, Reply]] = []
        self.granted: list[tuple[str, str]] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.lookups_failed: list[str] = []
        self.abandoned: list[str] = []
        self.hosts: list[str] = []
        self.transfers: list[tuple[str, str, str]] = []
        self.breaches: list[tuple[str, str, str]] = []

    def transfer_repeated(self, session: Session, transfer: str, message_id: str) -> None:
        """MT2-18a."""
        del session
        self.transfers.append(("repeated", transfer, message_id))

    def transfer_kept(self, session: Session, transfer: str, octets: int) -> None:
        """MT2-18b."""
        del session
        self.transfers.append(("kept", transfer, str(octets)))

    def transfer_resumed(self, session: Session, transfer: str, octets: int) -> None:
        """MT2-18b."""
        del session
        self.transfers.append(("resumed", transfer, str(octets)))

    def trace_broken(self, session: Session, transfer: str, problem: str, *, refused: bool) -> None:
        """MT2-23a."""
        del session, transfer
        self.transfers.append(("broken", problem, str(refused)))

    def host_proven(self, session: Session, host: str, how: str) -> None:
        self.hosts.append(f"{host}: {how}")

    def host_refused(self, session: Session, check: str, reason: str, reply: Reply) -> None:
        self.hosts.append(f"{check} {reply.code}")

    def partner_terms_broken(
        self, session: Session, partner: str, reason: str, outcome: str, message_id: str
    ) -> None:
        self.breaches.append((partner, outcome, reason))

    def refused(
        self,
        session: Session,
        stage: str,
        reply: Reply,
        *,
        rule: str = "",
        about: str = "",
        message_id: str = "",
    ) -> None:
        self.refusals.append((stage, reply, rule, about))

    def message_received(self, session: Session, message: NewMessage, reply: Reply) -> None:
        self.received.append((message, reply))

    def relay_granted(self, session: Session, recipient: str, because: str) -> None:
        self.granted.append((recipient, because))

    def reception_failed(self, session: Session, stage: str, error: BaseException) -> None:
        self.failures.append((stage, error))

    def lookup_failed(self, session: Session, fact: str, reason: str) -> None:
        self.lookups_failed.append(fact)

    def transaction_abandoned(self, transaction: Transaction, why: str) -> None:
        self.abandoned.append(why)


class Taker:
    """Takes fresh mail."""

    def __init__(self) -> None:
        self.taken: list[Leased] = []

    def take(self, leased: Sequence[Leased]) -> None:
        self.taken.extend(leased)


class KeptSpool(MemorySpool):
    """The memory spool, which also remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[NewMessage] = []

    async def _store(self, message: NewMessage, lease_until: float) -> tuple[Leased, ...]:
        leased = await super()._store(message, lease_until)
        self.given.append(message)
        return leased


DOMAINS = {
    "a.example": Domain(
        deliver="discard:",
        users=("ann", "bob", "postmaster"),
        aliases={"all": ("ann", "bob"), "away": "ann@far.example", "sales": "bob", "abuse": "postmaster"},
    )
}


@dataclass
class Rig:
    """One reception and all that it works with; `config` parts are replaced by keyword."""

    relay: Relay = field(
        default_factory=lambda: Relay(networks=("203.0.113.0/24",), domains=("backup.example",))
    )
    limits: Limits = field(default_factory=Limits)
    auth: Auth = field(default_factory=Auth)
    rules: tuple[Rule, ...] = ()
    domains: dict[str, Domain] = field(default_factory=lambda: dict(DOMAINS))
    users: UserTable | None = field(default_factory=lambda: parse_users("ann certificates=x.example"))
    clients: ClientIdentifier | None = None
    dns: bool = True
    mpc: MpcCodes = field(default_factory=MpcCodes)
    amtp: Amtp = field(default_factory=Amtp)
    partners: dict[str, Partner] = field(default_factory=dict)
    hosts: HostIdentifier | None = None
    partner_hosts: dict[str, HostIdentifier] = field(default_factory=dict)
    """By the entry's name: what knows its own CAs."""
    private_routes: frozenset[str] = frozenset()
    """Domains whose way is a private one; `a.example` is local anyway."""

    def __post_init__(self) -> None:
        config = Config(
            hostname="mx.a.example",
            data_dir="/nowhere",
            relay=self.relay,
            limits=self.limits,
            auth=self.auth,
            domains=self.domains,
            mpc=self.mpc,
            amtp=self.amtp,
            partners=self.partners,
        )
        table = PartnerTable(config)
        self.spool, self.taker, self.observer, self.lookup = KeptSpool(), Taker(), Recorder(), SetLookup()
        self.now = NOW
        self.started = False
        self.short_of_memory = False
        ids = itertools.count(1)
        sources = FactSource(self.lookup, self.observer, lambda: self.now, 5.0) if self.dns else None
        self.parts = ReceptionParts(
            spool=self.spool,
            fresh=self.taker,
            recipients=load_tables(config, lambda name: ""),
            destination_of=destination,
            policy=compile_policy(Policy(rules=self.rules), parse_way),
            observer=self.observer,
            make_id=lambda now: MessageId(f"ID{next(ids)}"),
            clock=lambda: self.now,
            users=self.users,
            clients=self.clients,
            sources=sources,
            hosts=self._prover(sources, table),
            codes=MailCodes(self.mpc, self.users.find if self.users else lambda _login: None),
            partners=PartnerTerms(table, self.partner_hosts) if self.partners else None,
            may_leave=self._may_leave,
            memory_is_short=lambda: self.short_of_memory,
        )
        self.reception = MailReception(ReceptionSettings.of(config), self.parts)

    def _prover(self, sources: FactSource | None, table: PartnerTable) -> HostProver | None:
        if self.hosts is None:
            return None
        known = [(one, self.partner_hosts[one.name]) for one in table.entries if one.ca]
        return HostProver(self.hosts, sources, known)

    def _may_leave(self, recipient: Recipient, arrival: Arrival) -> bool:
        """As `RouteTable.may_leave` says it."""
        domain = recipient.address.domain
        is_private = domain == "a.example" or domain in self.private_routes
        return arrival is not Arrival.AMTP_PUBLIC or is_private or bool(recipient.route)

    async def session(
        self,
        client: IPv4Address | IPv6Address = CLIENT,
        *,
        hello: str = "client.b.example",
        tls: TlsSummary | None = None,
        require_tls: bool = False,
        login: str = "",
        protocol: str = "smtp",
    ) -> Session:
        """A session that has said EHLO (and logged in)."""
        session = Session(
            "S1",
            protocol,
            client,
            40_000,
            SERVER,
            25,
            "smtp 192.0.2.25:25",
            "mx.a.example",
            NOW,
            tls=tls,
            require_tls=require_tls,
        )
        if not self.started:
            await self.spool.start(NOW)
            self.started = True
        connected = await answer(self.reception.connected(session))
        assert connected.is_positive, connected
        session.extended = True
        greeted = await answer(self.reception.greeted(session, "EHLO", hello))
        assert greeted.is_positive, greeted
        session.login, session.login_mechanism = login, "PLAIN" if login else ""
        return session

    async def sender(
        self, session: Session, sender: str = "ann@b.example", **more: object
    ) -> tuple[MailTransaction | None, Reply]:
        """MAIL."""
        address = parse_address(sender) if sender else None
        transaction, decision = self.reception.sender(session, MailRequest(address, **more), self.now)  # type: ignore[arg-type]
        reply = await answer(decision)
        assert transaction is None or isinstance(transaction, MailTransaction)
        return transaction, reply

    async def recipient(self, transaction: Transaction, recipient: str, **more: object) -> Reply:
        """RCPT."""
        address = parse_path(recipient.encode(), smtputf8=True)
        assert address is not None
        return await answer(self.reception.recipient(transaction, RecipientRequest(address, **more)))  # type: ignore[arg-type]

    async def begun(self, session: Session, sender: str = "ann@b.example", **more: object) -> MailTransaction:
        """A transaction after a good MAIL."""
        transaction, reply = await self.sender(session, sender, **more)
        assert transaction is not None, reply
        assert reply.is_positive, reply
        return transaction

    async def rcpt(self, session: Session, recipient: str, sender: str = "ann@b.example") -> Reply:
        """The answer to one RCPT in a transaction of its own."""
        return await self.recipient(await self.begun(session, sender), recipient)

    async def send(
        self,
        session: Session,
        *recipients: str,
        content: bytes | Content = MESSAGE,
        sender: str = "ann@b.example",
        **more: object,
    ) -> Reply:
        """A whole message; the answer at its end. By then delivery has been given it."""
        transaction = await self.begun(session, sender, **more)
        for recipient in recipients or ("bob@a.example",):
            reply = await self.recipient(transaction, recipient)
            assert reply.is_positive, reply
        assert (await answer(self.reception.content_begins(transaction))).code == 354
        whole = inline_content(content) if isinstance(content, bytes) else content
        reply = await self.reception.finish(transaction, whole)
        await asyncio.sleep(0)  # the answer comes first
        return reply


def destination(recipient: Recipient) -> str:
    """The domain, or the route."""
    return recipient.route or recipient.address.domain


async def answer(decision: Decision) -> Reply:
    """A decision, waited for if need be."""
    return decision if isinstance(decision, Reply) else await decision
