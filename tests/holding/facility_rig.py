"""A holding facility with everything real but the network."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from outrider.config.amdp_schema import Amdp, AmdpHolding
from outrider.config.schema import Config, Domain
from outrider.delivery.interface import Expansion, Job
from outrider.delivery.reports import reporting_for
from outrider.holding.facility.envelope_watch import EnvelopeWatch
from outrider.holding.facility.exchangers import Exchangers
from outrider.holding.facility.expiry import Caretaker, Caretaking
from outrider.holding.facility.facility_pages import HeldPages
from outrider.holding.facility.guesses import Guesses
from outrider.holding.facility.held_errands import ErrandMaker, ErrandRunner, RunnerParts
from outrider.holding.facility.held_store import FILE, HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.hold_transport import HoldParts, HoldTransport
from outrider.holding.facility.service import Facility, FacilityParts
from outrider.holding.outgoing.outgoing_terms import OutgoingTerms, terms_facts
from outrider.holding.policies.directory import PolicyUnknown
from outrider.holding.postage.provider_interface import Payer
from outrider.holding.web import WebRequest, WebResponse
from outrider.lists.mailing import Mailing
from outrider.model.address import Domain as DomainName
from outrider.model.address import parse_address
from outrider.model.content import inline_content
from outrider.model.envelope import BodyType, Envelope, Notify, Recipient
from outrider.model.message import MessageId, NewMessage, StoredMessage
from outrider.model.result import DeliveryResult
from outrider.protocols.amdp.envelope import HeldEnvelope, fields_digest, read_envelope
from outrider.protocols.amdp.report import PolicyReport
from outrider.protocols.amdp.report_reader import parse_report
from outrider.routing.local_tables import load_tables
from outrider.routing.routes import RouteTable
from outrider.tables.database import SqliteDatabase
from outrider.testing.memory_spool import MemorySpool
from tests.holding.held_support import NOW, draw
from tests.lists.support import Observer

CLIENT = "192.0.2.1"
HEADERS = (
    b'From: "Ann of Alpha" <ann@alpha.example>\r\n'
    b"To: Bob Beta <bob@beta.example>, carl@beta.example\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Fri, 15 Jan 2027 07:00:00 +0000\r\n"
    b"Message-ID: <first@alpha.example>\r\n"
)
TRACE = b"Received: from client by mx.alpha.example; now\r\n"


class Policies:
    """What domains publish."""

    def __init__(self) -> None:
        self.reports: dict[str, PolicyReport] = {}
        self.away: set[str] = set()

    def publish(self, domain: str, text: str) -> None:
        self.reports[domain] = parse_report(f"DOMAIN: {domain}\n{text}".encode(), domain)

    async def of(self, domain: DomainName) -> PolicyReport | None:
        if domain in self.away:
            raise PolicyUnknown(f"the policy of {domain} cannot be fetched now")
        return self.reports.get(domain)


def submitted(
    *recipients: str,
    name: str = "0123456789ABCDE",
    body: bytes = b"hello\r\n",
    headers: bytes = HEADERS,
    notify: Notify = Notify.UNSPECIFIED,
    terms: OutgoingTerms | None = None,
    from_gateway: bool = True,
    **envelope: Any,
) -> StoredMessage:
    """A message as the outgoing gateway has it stored."""
    content = inline_content(headers + b"\r\n" + body)
    told = terms or OutgoingTerms(parse_address("ann@alpha.example"), "Direct::Business::newsletter", "en")
    return StoredMessage(
        MessageId(name),
        NOW,
        Envelope(
            parse_address("ann@alpha.example"),
            tuple(Recipient(parse_address(one), notify) for one in recipients),
            BodyType.SEVEN_BIT,
            **envelope,
        ),
        TRACE,
        content,
        content.size,
        terms_facts(told, "login", NOW) if from_gateway else (),
    )


@dataclass
class Sent:
    """An envelope that the transport made."""

    message: NewMessage

    @property
    def held(self) -> HeldEnvelope:
        return read_envelope(self.message.content.headers)

    @property
    def query(self) -> dict[str, Any]:
        held = self.held
        return {
            "id": held.id,
            "timestamp": held.timestamp,
            "expires": held.expires,
            "fields": fields_digest(self.message.content.headers),
            "keys": held.keys,
        }


@dataclass
class FacilityRig:
    """`now` is its clock."""

    folder: Path
    holding: AmdpHolding = field(default_factory=AmdpHolding)
    payer: Payer | None = None
    exchangers: Exchangers | None = None
    routes: dict[str, str] = field(default_factory=dict)
    now: float = NOW
    port: int = 443

    def __post_init__(self) -> None:
        self.config = Config(
            hostname="mx.alpha.example",
            data_dir=str(self.folder),
            domains={
                "alpha.example": Domain(deliver="maildir:/var/mail/{user}", users=("ann", "postmaster"))
            },
            routes=dict(self.routes),
            amdp=Amdp(holding=self.holding),
        )
        counter = itertools.count(1)
        self.observer, self.policies = Observer(), Policies()
        tables, routes = load_tables(self.config, lambda _: ""), RouteTable(self.config)
        self.mailing = Mailing(
            self.config.hostname, tables, routes, lambda _: MessageId(f"MADE{next(counter):011d}")
        )
        self.spool = MemorySpool()
        self.store = HeldThreads(self.open_store)
        clock = lambda: self.now  # noqa: E731
        maker = ErrandMaker(
            "w1", self.mailing.new_id, hook=bool(self.holding.hook), refunds=self.payer is not None
        )
        reporting = reporting_for(self.config, tables, routes, self.mailing.new_id)
        self.parts = RunnerParts(
            self.store, "w1", self.spool, None, reporting, self.observer, clock, self.holding.hook, self.payer
        )
        self.runner = ErrandRunner(self.parts)
        self.guesses = Guesses(self.holding.guesses_per_minute)
        parts = FacilityParts(
            self.store, maker, self.guesses, self.observer, lambda host: host == "mhf-1.alpha.example",
            clock, self.exchangers,
        )  # fmt: skip
        self.facility, self.pages = Facility(parts), HeldPages(parts)
        self.watch = EnvelopeWatch(self.store, maker, self.observer, clock)
        review = lambda: self.watch.review(self.spool)  # noqa: E731
        self.caretaker = Caretaker(Caretaking(self.store, maker, self.runner, self.observer, clock, review))
        self.transport = HoldTransport(
            HoldParts(
                self.store, self.holding, self.port, self.config.delivery, self.mailing, routes,
                self.policies, self.observer, clock, draw, lambda: None, self.payer,
            )
        )  # fmt: skip

    def open_store(self) -> HeldStore:
        return HeldStore(SqliteDatabase(self.folder / FILE))

    def close(self) -> None:
        self.store.close()

    async def deliver(self, message: StoredMessage, instruction: str = "", *only: int) -> Expansion:
        numbers = only or tuple(range(len(message.envelope.recipients)))
        return await self.transport.deliver(Job(message, numbers), instruction)

    async def hold(self, message: StoredMessage) -> list[Sent]:
        return [Sent(one) for one in (await self.deliver(message)).messages]

    async def settled(self, sent: Sent, result: DeliveryResult) -> None:
        made = sent.message
        self.watch.envelope_settled(
            StoredMessage(
                made.id, made.received_at, made.envelope, b"", made.content, made.content.size, made.facts
            ),
            result,
        )
        await self.watch.drain()

    # --- the web --------------------------------------------------------------------------------------------

    async def post(self, path: str, body: bytes | dict[str, Any], client: str = CLIENT) -> WebResponse:
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.facility.answer(self.request(path, octets, client))

    def request(self, path: str, body: bytes = b"", client: str = CLIENT, method: str = "POST") -> WebRequest:
        return WebRequest(method, "mhf-1.alpha.example", path, {}, {}, body, ip_address(client), self.now)

    async def query(self, *queries: dict[str, Any], client: str = CLIENT) -> list[dict[str, Any]]:
        answer = await self.post("/amdp/v1/query", {"queries": list(queries)}, client)
        assert answer.status == 200, answer.body
        answers: list[dict[str, Any]] = json.loads(answer.body)["answers"]
        return answers

    async def acknowledge(self, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
        asked = [{"id": one, "confirmation": number} for one, number in pairs]
        answer = await self.post("/amdp/v1/acknowledge", {"acknowledgements": asked})
        assert answer.status == 200, answer.body
        answers: list[dict[str, Any]] = json.loads(answer.body)["answers"]
        return answers

    async def authenticate(self, sent: Sent) -> str:
        """The call-back; its confirmation number."""
        [answer] = await self.query(sent.query)
        assert answer["known"]
        number: str = answer["confirmation"]
        assert await self.acknowledge((sent.held.id, number)) == [{"done": True, "confirmation": number}]
        return number

    async def fetch(self, sent: Sent, number: str) -> bytes | None:
        """The message; None when there is none, or it breaks off."""
        answer = await self.post("/amdp/v1/message", {"id": sent.held.id, "confirmation": number})
        if answer.status != 200:
            assert answer.status == 404
            return None
        try:
            return answer.body if answer.stream is None else await joined(answer.stream)
        except LookupError:
            return None

    async def receipt(self, sent: Sent, number: str, digest: str = "") -> int:
        told = {"id": sent.held.id, "confirmation": number, "digest": digest or str(sent.held.digest)}
        return (await self.post("/amdp/v1/receipt", told)).status


async def joined(stream: AsyncIterator[bytes]) -> bytes:
    """All of it."""
    return b"".join([octets async for octets in stream])


async def in_spool(rig: FacilityRig) -> list[StoredMessage]:
    """What was stored: receipts."""
    leased = await rig.spool.lease_due(rig.now + 1, rig.now + 100, 100)
    return [one.message for one in leased]


def octets_of(message: StoredMessage) -> bytes:
    """Trace and content, as they are served."""
    assert message.content is not None
    return message.trace + b"".join(message.content.chunks())
