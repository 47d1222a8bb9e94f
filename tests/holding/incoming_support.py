"""An incoming gateway with a real ledger, a real reception and a real table of holders; the holder is
scripted, and the process can be killed between any two steps."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from outrider.config.amdp_schema import Amdp, AmdpClassification, AmdpIncoming, AmdpPostage
from outrider.config.schema import Config, Domain, Policy, Rule
from outrider.delivery.interface import Expansion, Job
from outrider.holding.incoming.abuse import AbuseDesk
from outrider.holding.incoming.arrival_store import ArrivalStore, open_arrivals
from outrider.holding.incoming.callback_transport import CallbackParts, CallbackTransport, Classes, Spreading
from outrider.holding.incoming.deciding import IncomingRules
from outrider.holding.incoming.fetch_transport import FetchParts, FetchTransport
from outrider.holding.incoming.holders import Holders, open_holders
from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.messages import Making
from outrider.holding.incoming.mhf_check import HolderCheck
from outrider.holding.incoming.questions import Questions, QuestionTerms
from outrider.holding.incoming.receipt_transport import ReceiptParts, ReceiptTransport
from outrider.holding.postage.provider_interface import PostageProvider
from outrider.holding.subscriptions.wishes import Wishes
from outrider.holding.web import WebCaller
from outrider.lists.mailing import Mailing
from outrider.model.address import Domain as DomainName
from outrider.model.address import parse_address
from outrider.model.content import inline_content
from outrider.model.envelope import Envelope, Recipient
from outrider.model.facts import Fact, Provenance
from outrider.model.message import Leased, MessageId, NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.policy.policy import compile_policy
from outrider.protocols.amdp.digest import Digest, digest_of
from outrider.protocols.amdp.envelope import HeldEnvelope, fields_digest, write_envelope
from outrider.protocols.amdp.mail_class import parse_class, parse_pattern
from outrider.protocols.amdp.report import AcceptClass, PolicyReport
from outrider.reception.mail_codes import MailCodes
from outrider.reception.parts import ReceptionParts
from outrider.reception.reception import MailReception
from outrider.reception.settings import ReceptionSettings
from outrider.routing.local_tables import load_tables
from outrider.routing.routes import RouteTable
from outrider.routing.ways import parse_way
from outrider.runtime.incoming_parts import FacilityDns
from outrider.tables.serial_thread import SerialThread
from outrider.testing.dns import StaticResolver
from outrider.testing.memory_spool import MemorySpool
from tests.holding.scripted_holder import ADDRESS, Held, Killed, ScriptedHolder, Steps
from tests.lists.support import Observer
from tests.reception.rig import Recorder, Taker

START = 1_800_000_000.0
DAY = 86_400.0
HOLDER = "mhf-1.alpha.example"
BODY = b"From: Ann <ann@alpha.example>\r\nTo: bob@beta.example\r\nSubject: minutes\r\n\r\nas promised\r\n"
ZONES: dict[str, dict[str, list[str]]] = {
    HOLDER: {"A": [ADDRESS]},
    "mhf-2.alpha.example": {"A": ["192.0.2.2"]},
    "alpha.example": {"A": ["192.0.2.80"]},
}
T = TypeVar("T")


class SteppedThread(SerialThread[ArrivalStore]):
    """The ledger's thread, whose calls are steps."""

    def __init__(self, opener: Callable[[], ArrivalStore], steps: Steps) -> None:
        super().__init__(opener, "arrivals")
        self._steps = steps

    async def call(self, work: Callable[[ArrivalStore], T]) -> T:
        self._steps()
        done = await super().call(work)
        self._steps()
        return done


class SteppedSpool(MemorySpool):
    """A spool whose commits are steps; what was stored survives the process."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = Steps()

    async def _store(self, message: NewMessage, lease_until: float) -> tuple[Leased, ...]:
        self.steps()
        leased = await super()._store(message, lease_until)
        self.steps()
        return leased


@dataclass
class Queued:
    """A message in the queue of the rig."""

    message: StoredMessage
    due: float
    attempts: int = 0


def stored(message: NewMessage) -> StoredMessage:
    """A message as it comes back from the queue."""
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


_COUNTER = itertools.count(1)


def new_id(now: float) -> MessageId:
    """A queue id, over restarts too."""
    del now
    return MessageId(f"MADE{next(_COUNTER):011d}")


@dataclass
class IncomingRig:
    """The gateway of beta.example, and the holder of alpha.example. `now` is its clock, `chance` its
    chance."""

    folder: Path
    incoming: dict[str, Any] = field(default_factory=dict)
    report: PolicyReport = field(
        default_factory=lambda: PolicyReport("beta.example", max_mail_size=10_000_000)
    )
    gather_s: float = 0.0
    unvouched: str = "claimed"
    classes: Classes | None = None
    wishes: Wishes | None = None
    postage: PostageProvider | None = None
    rules: tuple[Rule, ...] = ()
    caller: WebCaller | None = None
    """None: the scripted holder is called without a network."""
    now: float = START
    clock: Callable[[], float] | None = None
    """Instead of `now`."""
    chance: float = 0.5

    def __post_init__(self) -> None:
        self.settings = AmdpIncoming(**self.incoming)
        self.config = Config(
            hostname="mx.beta.example",
            data_dir=str(self.folder),
            domains={
                "beta.example": Domain(
                    deliver="discard:",
                    users=("bob", "cat", "postmaster"),
                    aliases={"team": ("bob", "cat")},
                )
            },
            amdp=Amdp(
                roles=("img",),
                incoming=self.settings,
                classification=AmdpClassification(unvouched=self.unvouched),  # type: ignore[arg-type]
                postage=AmdpPostage(),
            ),
        )
        self.dns = StaticResolver(ZONES)
        self.holder = ScriptedHolder()
        self.spool = SteppedSpool()
        self.queue: list[Queued] = []
        self.delivered: list[NewMessage] = []
        """What left AMDP's ways, by ordinary routing."""
        self.results: list[tuple[MessageId, DeliveryResult]] = []
        self.observer = Observer()
        self.steps = Steps()
        self.started = False
        self._begin()

    # --- life -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.steps = self.holder.steps = self.spool.steps = Steps(self.steps.kill_at)
        config, folder = self.config, self.folder
        self.thread = SteppedThread(lambda: open_arrivals(config, folder), self.steps)
        self.arrivals = Arrivals(self.thread)
        self.holders = Holders(
            SerialThread(lambda: open_holders(config, folder), "holders"), lambda: self.now
        )
        tables, routes = load_tables(config, lambda _: ""), RouteTable(config)
        self.mailing = Mailing(config.hostname, tables, routes, new_id)
        making = Making(self.mailing, self.settings.retry)
        report_to = parse_address(self.settings.report_to) if self.settings.report_to else None
        abuse = AbuseDesk(report_to, self.mailing, self.arrivals, self.observer, self._clock)
        caller = self.caller or self.holder
        self.questions = Questions(
            caller, self.arrivals, self.observer, self._clock,
            QuestionTerms(self.settings.concurrency, gather_s=self.gather_s), lambda: self.postage,
        )  # fmt: skip
        rules = IncomingRules(
            self.settings,
            tuple(map(parse_pattern, self.settings.fetch_classes)),
            self.unvouched,
            self.classes is not None,
            (),
            config.limits.message_size,
        )
        self.check = HolderCheck(FacilityDns(self.dns), caller, self._clock)
        self.recorder = Recorder()
        parts = ReceptionParts(
            spool=self.spool,
            fresh=Taker(),
            recipients=tables,
            destination_of=lambda recipient: routes.find(recipient).lane,
            policy=compile_policy(Policy(rules=self.rules), parse_way),
            observer=self.recorder,
            make_id=new_id,
            clock=self._clock,
            codes=MailCodes(config.mpc, lambda _login: None),
            may_leave=lambda *_: True,
            memory_is_short=lambda: False,
            users=None,
            clients=None,
            sources=None,
            hosts=None,
            partners=None,
        )
        self.reception = MailReception(ReceptionSettings.of(config), parts)
        self.transports = {
            "amdp-callback": CallbackTransport(
                CallbackParts(
                    self.settings, rules, self.report, self.check, self.questions, self.arrivals,
                    self.holders, making, abuse, Spreading(self.settings.window, lambda: self.chance),
                    self.observer, self._clock, self.classes, self.wishes,
                )
            ),
            "amdp-fetch": FetchTransport(
                FetchParts(
                    caller, self.arrivals, self.spool, lambda: self.reception, making, abuse,
                    self.observer, self._clock, config.hostname, lambda: "s1", self.questions.refund, 3,
                )
            ),
            "amdp-receipt": ReceiptTransport(
                ReceiptParts(caller, self.arrivals, making, self.observer, self._clock)
            ),
        }  # fmt: skip

    def _clock(self) -> float:
        return self.now if self.clock is None else self.clock()

    async def start(self) -> None:
        if not self.started:
            await self.spool.start(self.now)
            self.started = True

    async def restart(self, kill_at: int = 0) -> None:
        """The process is dead, or ends; another begins, with what is on disk and what the holder knows."""
        self.steps.dead = True
        await self.questions.aclose()
        self.thread.close()
        self.holders.close()
        self.steps = Steps(kill_at)
        self._begin()

    async def survive(self, kill_at: int) -> bool:
        """Run with a kill at that step, then again until all is done; False where the kill came too late."""
        await self.restart(kill_at)
        killed = False
        try:
            await self.run()
        except Killed:
            killed = True
        await self.restart()
        for _ in range(5):
            await self.run()
            self.now += 3600
        assert self.queue == []
        return killed

    async def close(self) -> None:
        await self.restart()
        self.thread.close()
        self.holders.close()

    # --- mail -----------------------------------------------------------------------------------------------

    def envelope(self, number: int = 1, content: bytes = BODY, **changes: Any) -> HeldEnvelope:
        """An envelope of alpha.example's holder; the message is held there."""
        name = f"{'abcdefghijklmnopqrstuvwxyz'[number % 26]}{number:025d}".translate(
            str.maketrans("0189", "wxyz")
        )
        given = HeldEnvelope(
            sender=parse_address("ann@alpha.example"),
            recipient=parse_address("bob@beta.example"),
            id=name,
            digest=digest_of([content]),
            mail_class=parse_class("Agent::Business::minutes"),
            date=int(START) - 60,
            timestamp=int(START) - 30,
            expires=int(START + 7 * DAY),
            holder=DomainName(HOLDER),
            port=8443,
            subject="minutes",
            sender_name="Ann",
        )
        envelope = replace(given, **changes)
        octets = write_envelope(envelope, message_id=f"{name}@alpha.example")
        self.octets = octets
        self.holder.held[name] = Held(
            str(envelope.recipient), content, fields_digest(inline_content(octets).headers), name[::-1]
        )
        return envelope

    def arrive(
        self,
        number: int = 1,
        *,
        address: str = ADDRESS,
        octets: bytes | None = None,
        recipients: tuple[str, ...] = ("bob@beta.example",),
        route: str = "",
        content: bytes = BODY,
        **changes: Any,
    ) -> MessageId:
        """Queue an envelope as reception does; its queue id."""
        if octets is None:
            self.envelope(number, content, **changes)
            octets = self.octets
        facts = (Fact("client.address", address, Provenance.PROVEN, "TCP"),) if address else ()
        message = StoredMessage(
            new_id(self.now),
            self.now,
            Envelope(
                parse_address("bounces@alpha.example"),
                tuple(Recipient(parse_address(one), route=f"amdp-callback:{route}") for one in recipients),
            ),
            b"Received: from mhf-1.alpha.example by mx.beta.example; now\r\n",
            inline_content(octets),
            len(octets),
            facts,
        )
        self.queue.append(Queued(message, self.now))
        return message.id

    async def attempt(self, queued: Queued) -> Expansion:
        """One attempt, as the queue makes it."""
        recipients = queued.message.envelope.recipients
        kind, _, instruction = recipients[0].route.partition(":")
        job = Job(queued.message, tuple(range(len(recipients))))
        return await self.transports[kind].deliver(job, instruction)

    async def run(self) -> None:
        """Attempts until nothing is due."""
        await self.start()
        while True:
            due = [one for one in self.queue if one.due <= self.now]
            if not due:
                return
            done = await asyncio.gather(*map(self.attempt, due))
            if self.steps.dead:
                raise Killed
            for queued, expansion in zip(due, done, strict=True):
                self.settle(queued, expansion)

    def settle(self, queued: Queued, expansion: Expansion) -> None:
        """As the spool does: all or nothing."""
        self.steps()
        results = set(expansion.results.values())
        assert len(results) == 1
        [result] = results
        assert set(expansion.results) == set(range(len(queued.message.envelope.recipients)))
        self.results.append((queued.message.id, result))
        queued.attempts += 1
        if result.kind is Kind.DEFERRED:
            schedule = expansion.schedule
            assert schedule is not None
            assert not expansion.messages
            queued.due = schedule.next_attempt(queued.attempts, self.now, 0.5)
            assert not schedule.is_expired(self.now)
        else:
            self.queue.remove(queued)
            for made in expansion.messages:
                self._take(made)
        self.steps()

    def _take(self, made: NewMessage) -> None:
        if made.envelope.recipients[0].route.startswith("amdp-"):
            self.queue.append(Queued(stored(made), made.items[0].next_attempt_at))
        else:
            self.delivered.append(made)

    @property
    def last(self) -> DeliveryResult:
        """The last result."""
        return self.results[-1][1]

    def fetched(self) -> list[StoredMessage]:
        """Messages that reception stored."""
        return [entry.message for entry in self.spool.messages.values()]


@asynccontextmanager
async def rig(folder: Path, **settings: Any) -> AsyncIterator[IncomingRig]:
    """A rig that is closed at the end; `settings` of the rig, others of [amdp.incoming]."""
    own = {name: settings.pop(name) for name in list(settings) if name in IncomingRig.__annotations__}
    made = IncomingRig(folder, settings, **own)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


def octets_of(message: NewMessage | StoredMessage) -> bytes:
    """Its content."""
    assert message.content is not None
    return b"".join(message.content.chunks())


def accepts(pattern: str, price: int = 0) -> AcceptClass:
    """An ACCEPT-CLASS line."""
    return AcceptClass(parse_pattern(pattern), price)


def wrong_digest() -> Digest:
    """Of something else, as long as BODY."""
    return digest_of([b"x" * len(BODY)])


def denies(*patterns: str, **more: Any) -> PolicyReport:
    """A policy with DENY-CLASS lines."""
    return PolicyReport(
        "beta.example", max_mail_size=10_000_000, deny=tuple(map(parse_pattern, patterns)), **more
    )


def swapped(field_name: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """An envelope with another value in one field."""
    return lambda octets: re.sub(
        rb"(?im)^%s:[^\r\n]*(\r\n[ \t][^\r\n]*)*" % re.escape(field_name),
        field_name + b": " + value,
        octets,
        count=1,
    )
