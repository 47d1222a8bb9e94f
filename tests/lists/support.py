"""A list transport with real tables, routes and store, and messages to hand it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outrider.config.schema import Config, Domain, MailingList
from outrider.delivery.interface import Expansion, Job
from outrider.lists.mailing import Mailing
from outrider.lists.settings import MailList, load_lists
from outrider.lists.store import ListStore, ListStoreThread, open_list_store
from outrider.lists.transport import ListTransport, NotNow, Parts
from outrider.model.address import Address, parse_address
from outrider.model.content import inline_content
from outrider.model.envelope import Arrival, BodyType, Envelope, Recipient
from outrider.model.message import MessageId, NewMessage, StoredMessage
from outrider.model.mpc import Mpc, parse_mpc
from outrider.model.result import DeliveryResult
from outrider.routing.local_tables import load_tables
from outrider.routing.routes import RouteTable

START = 1_800_000_000.0
DAY = 86_400.0
HEADERS = "From: Eve <eve@far.example>\r\nTo: staff@alpha.example\r\nSubject: hello\r\n"
TRACE = b"Received: from far.example by mx.alpha.example; now\r\n"


class Observer:
    """Keeps what it is told, as (name, arguments)."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.facts.append((name, (*arguments, *named.values())))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for fact, arguments in self.facts if fact == name]


def make_config(folder: Path, **settings: Any) -> Config:
    """One domain with users and a list `staff`, whose settings are `settings`."""
    staff = MailingList(**{"owners": ("ann",), **settings})
    return Config(
        hostname="mx.alpha.example",
        data_dir=str(folder),
        domains={
            "alpha.example": Domain(
                deliver="maildir:/var/mail/{user}",
                users=("ann", "bob", "postmaster"),
                aliases={"boss": ("ann",), "all": ("ann", "bob")},
                lists={"staff": staff, "other": MailingList(owners=("bob",))},
            )
        },
    )


def stored(
    *recipients: str,
    sender: str | None = "eve@far.example",
    name: str = "0123456789ABCDE",
    headers: str = HEADERS,
    body: bytes = b"first line\r\n",
    mpc: str = "",
    arrival: Arrival = Arrival.OTHER,
    login: str = "",
    route: str = "",
) -> StoredMessage:
    """A message as the spool gives it."""
    content = inline_content(headers.encode() + b"\r\n" + body)
    envelope = Envelope(
        None if sender is None else parse_address(sender),
        tuple(Recipient(parse_address(one), route=route) for one in recipients),
        BodyType.SEVEN_BIT,
        authenticated_as=login,
        mpc=parse_mpc(mpc) if mpc else None,
        arrival=arrival,
    )
    return StoredMessage(MessageId(name), START, envelope, TRACE, content, content.size, ())


def again(message: NewMessage) -> StoredMessage:
    """A new message as it comes back from the spool."""
    return StoredMessage(
        message.id,
        message.received_at,
        message.envelope,
        message.trace,
        message.content,
        message.content.size,
        message.facts,
        message.priority,
    )


def octets(message: NewMessage) -> bytes:
    """Its content."""
    return b"".join(message.content.chunks())


def field_of(message: NewMessage, name: str) -> str:
    """The one field of that name, unfolded."""
    from outrider.message.header_fields import field_values

    [value] = field_values(message.content.headers, name.encode())
    return value.decode()


@dataclass
class Rig:
    """The transport and all that it stands on; `now` is its clock."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    now: float = START

    def __post_init__(self) -> None:
        self.config = make_config(self.folder, **self.settings)
        self.observer = Observer()
        self.moderated: list[tuple[str, bool]] = []
        self.waits = True
        self.queue_is_away = False
        counter = itertools.count(1)
        tables, routes = load_tables(self.config, lambda _: ""), RouteTable(self.config)
        self.mailing = Mailing(
            self.config.hostname, tables, routes, lambda _: MessageId(f"MADE{next(counter):011d}")
        )
        self.store = ListStoreThread(self.open_store, "lists")
        self.lists = load_lists(self.config)
        self.transport = self.make_transport()

    def make_transport(self) -> ListTransport:
        parts = Parts(self.lists, self.store, self.mailing, self.moderate, self.observer, lambda: self.now)
        return ListTransport(parts)

    def open_store(self) -> ListStore:
        return open_list_store(self.config, self.folder)

    async def moderate(self, message: str, approve: bool) -> bool:
        if self.queue_is_away:
            raise NotNow("away")
        self.moderated.append((message, approve))
        return self.waits

    @property
    def staff(self) -> MailList:
        return self.lists["staff@alpha.example"]

    async def join(self, *addresses: str) -> None:
        for one in addresses:
            await self.store.call(
                lambda store, one=one: store.join("staff@alpha.example", parse_address(one), "test", self.now)  # type: ignore[misc]
            )

    async def members(self) -> list[str]:
        found = await self.store.call(lambda store: store.members("staff@alpha.example"))
        return [str(one.address) for one in found if one.active]

    async def handle(self, message: StoredMessage, instruction: str = "") -> Handled:
        job = Job(message, tuple(range(len(message.envelope.recipients))))
        return Handled(await self.transport.deliver(job, instruction))

    async def send(self, local: str, instruction: str = "", **options: Any) -> Handled:
        """Mail to one of the list's addresses."""
        return await self.handle(stored(f"{local}@alpha.example", **options), instruction)

    async def drain(self, first: Handled) -> list[NewMessage]:
        """Follow the messages that a list makes for itself until only copies are left."""
        copies: list[NewMessage] = []
        waiting = list(first.made)
        while waiting:
            message = waiting.pop(0)
            route = message.envelope.recipients[0].route
            if route.startswith("list:"):
                waiting += (await self.handle(again(message), route.removeprefix("list:"))).made
            else:
                copies.append(message)
        return copies

    def close(self) -> None:
        self.store.close()


@dataclass
class Handled:
    """What came of one message."""

    expansion: Expansion

    @property
    def result(self) -> DeliveryResult:
        [result] = self.expansion.results.values()
        return result

    @property
    def made(self) -> list[NewMessage]:
        return list(self.expansion.messages)

    @property
    def letter(self) -> NewMessage:
        [letter] = self.expansion.messages
        return letter


def to(messages: Iterable[NewMessage]) -> list[str]:
    """Whom messages go to."""
    return [str(one.address) for message in messages for one in message.envelope.recipients]


def reply_to(letter: NewMessage) -> str:
    """The local part that a letter wants answers at."""
    address: Address = parse_address(field_of(letter, "Reply-To").strip("<>"))
    return address.local


def code(message: NewMessage) -> Mpc | None:
    """Its Mail Policy Code."""
    return message.envelope.mpc
