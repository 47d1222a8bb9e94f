"""What delivery's tests stand on: a clock turned by hand, a scripted dialler, a resolver with set answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from outrider.config.schema import Config, Delivery, Domain, Net, Route
from outrider.delivery.interface import ConnectFailed, Hop, Job, LocalTransport, RequirementUnmet
from outrider.delivery.item_runner import ItemRunner, Rules
from outrider.delivery.local import DiscardTransport
from outrider.delivery.lookup import (
    HostAddresses,
    LookupFailed,
    MxRecords,
    NoRecords,
    NoSuchName,
    ServiceProtocol,
    ServiceRecords,
)
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.observer import NullDeliveryObserver
from outrider.delivery.queue_manager import QueueManager
from outrider.delivery.queue_parts import QueueParts
from outrider.delivery.reports import reporting_for
from outrider.delivery.results import deferred, failed
from outrider.delivery.service_hops import ServiceSending
from outrider.delivery.surroundings import Surroundings
from outrider.model.address import Address, parse_address
from outrider.model.content import Content, inline_content
from outrider.model.envelope import Envelope, Notify, Recipient
from outrider.model.message import (
    Item,
    ItemKey,
    ItemState,
    Leased,
    MessageId,
    NewItem,
    NewMessage,
    RecipientStatus,
    StoredMessage,
)
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_tables import load_tables
from outrider.routing.mail_exchangers import Exchanger, Ourselves
from outrider.routing.private_addresses import address_guard
from outrider.routing.routes import RouteTable
from outrider.routing.services import Service
from outrider.testing.memory_spool import MemorySpool

START = 1_800_000_000.0
HEADERS = b"From: <ann@alpha.example>\r\nMessage-ID: <1@alpha.example>\r\nSubject: x\r\n\r\n"
CONTENT = HEADERS + b"line one\r\n.line two\r\n"


async def settle_down() -> None:
    """Let every task that can run do so."""
    for _ in range(60):
        await asyncio.sleep(0)


class FakeClock:
    """Time stands still until it is advanced."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._waiters: dict[asyncio.Future[None], float] = {}

    def now(self) -> float:
        return self._now

    async def wait(self, event: asyncio.Event, until: float) -> None:
        if event.is_set() or until <= self._now:
            await asyncio.sleep(0)
            return
        timer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[timer] = until
        waiting = asyncio.ensure_future(event.wait())
        pair: list[asyncio.Future[Any]] = [timer, waiting]
        try:
            await asyncio.wait(pair, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.pop(timer, None)
            waiting.cancel()

    def jump(self, seconds: float) -> None:
        """Set the time of day to another, as an operator or a bad time server does: nobody is woken."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Turn the clock, stopping at every moment that somebody waits for."""
        target = self._now + seconds
        await settle_down()
        while True:
            due = min(self._waiters.values(), default=target + 1)
            if due > target:
                break
            self._now = max(self._now, due)
            for timer, until in list(self._waiters.items()):
                if until <= self._now and not timer.done():
                    timer.set_result(None)
            await settle_down()
        self._now = target
        await settle_down()


@dataclass
class Observer(NullDeliveryObserver):
    """Keeps what it is told."""

    facts: list[tuple[str, Any]] = field(default_factory=list)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("facts", "named", "names"):
            return object.__getattribute__(self, name)
        facts = object.__getattribute__(self, "facts")
        return lambda *args: facts.append((name, args))

    def named(self, name: str) -> list[Any]:
        return [args for fact, args in self.facts if fact == name]


def delivered(text: str = "ok") -> DeliveryResult:
    return DeliveryResult(Kind.DELIVERED, "2.0.0", text, 250, "mx.example [192.0.2.1]:25", "smtp")


def refused(code: int = 550, status: str = "5.1.1", text: str = "no such user") -> DeliveryResult:
    kind = Kind.FAILED if code >= 500 else Kind.DEFERRED
    return DeliveryResult(kind, status, text, code, "mx.example [192.0.2.1]:25", "smtp")


Answer = Callable[[Job], Mapping[int, DeliveryResult]]


class ScriptedConnection:
    """A connection that answers by script and counts."""

    def __init__(self, dialler: ScriptedDialler, hop: Hop, address: object) -> None:
        self.dialler = dialler
        self.hop = hop
        self.address = address
        self.usable = True
        self.jobs: list[Job] = []
        self.closed = False
        self.aborted = False

    @property
    def description(self) -> str:
        return f"{self.hop.host} [{self.address}]:{self.hop.port}"

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        self.jobs.append(job)
        self.dialler.sent.append((self.hop.host, job))
        self.dialler.busy[self.hop.host] += 1
        self.dialler.most[self.hop.host] = max(
            self.dialler.most[self.hop.host], self.dialler.busy[self.hop.host]
        )
        try:
            if self.dialler.gate is not None:
                await self.dialler.gate.wait()
            else:
                await asyncio.sleep(0)
            return self.dialler.answer(self, job)
        finally:
            self.dialler.busy[self.hop.host] -= 1

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True
        self.usable = False


class ScriptedDialler:
    """Connects unless told otherwise. `down` are hosts or addresses that do not answer."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.unmet: set[str] = set()
        self.dialled: list[tuple[str, str, str]] = []
        self.connections: list[ScriptedConnection] = []
        self.sent: list[tuple[str, Job]] = []
        self.busy: defaultdict[str, int] = defaultdict(int)
        self.most: defaultdict[str, int] = defaultdict(int)
        self.gate: asyncio.Event | None = None
        self.results: dict[str, DeliveryResult] = {}
        """By recipient address; all others are delivered."""
        self.on_send: Callable[[ScriptedConnection, Job], Mapping[int, DeliveryResult] | None] | None = None
        self.failure = deferred("4.4.1", "connection refused")
        self.answering: set[str] = set()
        """Of those that are `down`: hosts that do speak, and refuse."""

    async def connect(self, hop: Hop, address: IPv4Address | IPv6Address | str) -> ScriptedConnection:
        self.dialled.append((hop.protocol, hop.host, str(address)))
        await asyncio.sleep(0)
        if {hop.host, str(address), f"{hop.protocol}:{hop.host}"} & self.down:
            raise ConnectFailed(self.failure, answered=hop.host in self.answering)
        if {hop.host, f"{hop.protocol}:{hop.host}"} & self.unmet:
            raise RequirementUnmet(failed("5.7.5", f"{hop.host} offers no TLS"))
        connection = ScriptedConnection(self, hop, address)
        self.connections.append(connection)
        return connection

    def answer(self, connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
        if self.on_send is not None:
            scripted = self.on_send(connection, job)
            if scripted is not None:
                return scripted
        recipients = job.message.envelope.recipients
        return {
            index: self.results.get(str(recipients[index].address), delivered()) for index in job.recipients
        }


class FakeLookup:
    """A resolver with set answers; every domain not named is its own host at 8.8.8.8."""

    def __init__(self) -> None:
        self.mx_answers: dict[str, MxRecords | LookupFailed] = {}
        self.address_answers: dict[str, tuple[str, ...] | LookupFailed] = {}
        self.service_answers: dict[str, ServiceRecords | LookupFailed] = {}
        self.asked: list[str] = []

    async def mx(self, domain: str) -> MxRecords:
        self.asked.append(f"MX {domain}")
        answer = self.mx_answers.get(domain, NoRecords("none"))
        if isinstance(answer, LookupFailed):
            raise answer
        return answer

    async def addresses(self, host: str) -> HostAddresses:
        self.asked.append(f"A {host}")
        answer = self.address_answers.get(host, ("8.8.8.8",))
        if isinstance(answer, LookupFailed):
            raise answer
        return HostAddresses(tuple(ip_address(one) for one in answer))

    async def services(self, protocol: ServiceProtocol, domain: str) -> ServiceRecords:
        """For AMTP by the domain alone, for MT2 by ``mt2 domain``."""
        name = domain if protocol == "amtp" else f"{protocol} {domain}"
        self.asked.append(f"SRV {name}")
        answer = self.service_answers.get(name, NoRecords("none"))
        if isinstance(answer, LookupFailed):
            raise answer
        return answer


def mx(*records: tuple[int, str]) -> MxRecords:
    return MxRecords(tuple(Exchanger(preference, host) for preference, host in records))


def srv(*records: tuple[int, str], port: int = 10_125, secure: bool = False) -> ServiceRecords:
    """SRV records of (priority, target)."""
    services = tuple(Service(priority, 1, port, target) for priority, target in records)
    return ServiceRecords(services, secure)


def no_such_name() -> NoSuchName:
    return NoSuchName("NXDOMAIN")


def make_config(
    *,
    delivery: Delivery | None = None,
    routes: dict[str, str | Route] | None = None,
    domains: dict[str, Domain] | None = None,
    net: Net | None = None,
) -> Config:
    return Config(
        hostname="mx.alpha.example",
        data_dir="/nonexistent",
        delivery=delivery or Delivery(jitter=0.0),
        routes=routes or {},
        domains={"alpha.example": Domain(deliver="discard:", users=("ann", "bob", "postmaster"))}
        if domains is None
        else domains,
        net=net or Net(),
    )


def surroundings(
    lookup: FakeLookup, net: Net | None = None, ourselves: Ourselves | None = None
) -> Surroundings:
    """What the choice of hosts depends on; chance is always a half."""
    net = net or Net()
    guard = address_guard(net.private_destinations)
    return Surroundings(lookup, net, guard, ourselves or Ourselves(), lambda: 0.5)


def make_rules(
    config: Config,
    lookup: FakeLookup,
    *,
    transports: Mapping[str, LocalTransport] | None = None,
    ourselves: Ourselves = Ourselves(),  # noqa: B008 - a frozen value
    services: tuple[ServiceSending, ...] = (),
) -> Rules:
    counter = itertools.count(1)
    tables = load_tables(config, lambda path: "")
    routes = RouteTable(config)
    return Rules(
        delivery=config.delivery,
        routes=routes,
        reporting=reporting_for(config, tables, routes, lambda _: MessageId(f"report{next(counter)}")),
        planner=HopPlanner(surroundings(lookup, config.net, ourselves), services),
        transports=transports or {"discard": DiscardTransport()},
    )


class World:
    """A queue manager with everything around it."""

    def __init__(
        self,
        *,
        config: Config | None = None,
        capacity: int = 10_000,
        paused: tuple[str, ...] = (),
        transports: Mapping[str, LocalTransport] | None = None,
        ourselves: Ourselves = Ourselves(),  # noqa: B008 - a frozen value
        spool: MemorySpool | None = None,
    ) -> None:
        self.config = config or make_config()
        self.clock = FakeClock()
        self.spool = spool or MemorySpool()
        self.dialler = ScriptedDialler()
        self.lookup = FakeLookup()
        self.observer = Observer()
        self.rules = make_rules(self.config, self.lookup, transports=transports, ourselves=ourselves)
        self.manager = QueueManager(self.parts(capacity=capacity, paused=frozenset(paused)), self.rules)
        self._task: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)

    def parts(self, **options: Any) -> QueueParts:
        """What a queue manager of this world stands on."""
        return QueueParts(self.spool, self.dialler, self.clock, lambda: 0.5, self.observer, **options)

    async def __aenter__(self) -> World:
        await self.spool.start(self.clock.now())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.stop(0.0)
        if self._task is not None:
            await self._task

    def run(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.manager.run())

    async def stop(self, grace_s: float = 0.0) -> None:
        await self.manager.stop(grace_s)
        assert self._task is not None
        await self._task
        self._task = None

    def message(self, *addresses: str, **options: Any) -> NewMessage:
        message = new_message(f"m{next(self._ids)}", *addresses, now=self.clock.now(), **options)
        routes = self.rules.routes
        by_lane: dict[str, list[int]] = {}
        for index, recipient in enumerate(message.envelope.recipients):
            by_lane.setdefault(routes.find(recipient).lane, []).append(index)
        items = tuple(NewItem(lane, tuple(indexes)) for lane, indexes in by_lane.items())
        return NewMessage(
            message.id,
            message.received_at,
            message.envelope,
            message.trace,
            message.content,
            items,
            message.facts,
            (),
            message.priority,
        )

    async def queue(self, *addresses: str, **options: Any) -> MessageId:
        """Put a message into the spool, for the manager to find."""
        message = self.message(*addresses, **options)
        await self.spool.store(message)
        return message.id

    async def submit(self, *addresses: str, **options: Any) -> MessageId:
        """Store a message and hand it over fresh, as reception does."""
        message = self.message(*addresses, **options)
        self.manager.take(await self.spool.store(message, lease_until=self.clock.now() + 300))
        return message.id

    async def statuses(self, message: MessageId) -> list[RecipientStatus]:
        items = await self.spool.items(message)
        return sorted((one for item in items for one in item.recipients), key=lambda one: one.index)

    async def kinds(self, message: MessageId) -> list[str]:
        return [one.state.value for one in await self.statuses(message)]

    def reports(self) -> Iterator[StoredMessage]:
        return (entry.message for key, entry in self.spool.messages.items() if key.startswith("report"))


def new_message(
    name: str,
    *addresses: str,
    now: float = START,
    sender: str | None = "ann@sender.example",
    notify: Notify = Notify.UNSPECIFIED,
    priority: int = 0,
    octets: bytes = CONTENT,
    content: Content | None = None,
    **envelope: Any,
) -> NewMessage:
    recipients = tuple(Recipient(parse_address(one), notify) for one in addresses)
    from_whom: Address | None = None if sender is None else parse_address(sender)
    return NewMessage(
        MessageId(name),
        now,
        Envelope(from_whom, recipients, **envelope),
        b"Received: from x by mx.alpha.example; now\r\n",
        content or inline_content(octets),
        (NewItem("b.example", tuple(range(len(recipients)))),),
        priority=priority,
    )


def leased(message: NewMessage, *statuses: RecipientStatus, attempts: int = 0) -> Leased:
    """The message's one item, as if leased."""
    stored = StoredMessage(
        message.id,
        message.received_at,
        message.envelope,
        message.trace,
        message.content,
        message.content.size,
        message.facts,
        message.priority,
    )
    all_statuses = statuses or tuple(
        RecipientStatus(index) for index in range(len(message.envelope.recipients))
    )
    item = Item(
        ItemKey(message.id, 0),
        "b.example",
        ItemState.ACTIVE,
        message.received_at,
        all_statuses,
        attempts=attempts,
        lease=7,
    )
    return Leased(item, stored)


def make_runner(world: World) -> ItemRunner:
    """A runner beside the manager's, for operations."""
    from outrider.delivery.connections import Connections

    connections = Connections(world.dialler, world.observer)
    return ItemRunner(world.spool, world.rules, connections, world.clock, lambda: 0.5, world.observer)
