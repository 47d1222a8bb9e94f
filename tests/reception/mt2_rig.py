"""A reception of MT2 with authorities, peers and sealed messages at hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from outrider.config.schema import Partner, Rule
from outrider.extensions.desk import Desk
from outrider.gateway.mapping import smtp_to_mt2
from outrider.identity.authorities import CaStores
from outrider.identity.mt2_peers import Mt2Peers
from outrider.message.objects.envelope import LayeredEnvelope, ObjectEntry, Part, write_envelope
from outrider.message.objects.headers import write_headers
from outrider.model.address import parse_address
from outrider.protocols.mt2.codes import Result
from outrider.reception.interface import Session
from outrider.reception.mt2_interface import IncomingObject, ObjectAnswer, ObjectRequest
from outrider.reception.mt2_reception import Mt2MailReception, Mt2Parts
from outrider.reception.mt2_settings import HostNames, Mt2ReceptionSettings
from outrider.reception.mt2_trace import TraceChecker
from outrider.reception.mt2_transfers import TransferBook
from tests.identity.mt2_papers import NOW, Party, Site, handover, recipient
from tests.reception.rig import CLIENT, SERVER, TLS, Rig

SITE = Site()
PEER = SITE.b
"""mx.b.example, who hands its own users' mail to us."""
HOST = "mx.a.example"
HEADER_SECTION = (
    b"From: Ann <ann@b.example>\r\nTo: bob@a.example\r\nSubject: hello\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
)
TEXT = b"Hello, Bob.\r\n"
T = TypeVar("T")


async def got(what: T | Awaitable[T]) -> T:
    """It, waited for if need be."""
    return await what if isinstance(what, Awaitable) else what


@dataclass
class Letter:
    """A message as objects."""

    envelope: bytes
    headers: bytes
    body: bytes
    prefix: bytes = b""

    @property
    def parts(self) -> tuple[tuple[str, bytes], ...]:
        """As they are sent."""
        found = [("message/envelope", self.envelope)]
        if self.headers:
            found.append(("message/headers", self.headers))
        if self.body:
            found.append(("message/body", self.body))
        return tuple(found)


def letter(
    *recipients: str,
    sender: str | None = "ann@b.example",
    text: bytes = TEXT,
    section: bytes = HEADER_SECTION,
    by: Party | None = PEER,
    to: str = HOST,
    change: Callable[[LayeredEnvelope], LayeredEnvelope] = lambda envelope: envelope,
    alone: bool = False,
) -> Letter:
    """A letter, sealed by `by` (None: by nobody); `alone`: an envelope and nothing else."""
    form = smtp_to_mt2(section)
    headers, body = (b"", b"") if alone else (write_headers(form.headers), form.body_prefix + text)
    objects = () if alone else (_entry(Part.HEADERS, headers), _entry(Part.BODY, body))
    envelope = LayeredEnvelope(
        id="m1@b.example",
        sender=None if sender is None else parse_address(sender),
        recipients=tuple(recipient(one) for one in recipients or ("bob@a.example",)),
        date=int(NOW) - 5,
        objects=objects,
    )
    envelope = change(envelope)
    if by is not None:
        envelope = by.sealer.seal_core(envelope, handover(by.name, to), NOW - 1)
    return Letter(write_envelope(envelope), headers, body, form.body_prefix)


def _entry(part: Part, octets: bytes) -> ObjectEntry:
    return ObjectEntry(part, f"message/{part.value}", hashlib.sha256(octets).digest(), len(octets))


@dataclass
class Mt2Rig:
    """Everything between a driver and the spool."""

    rules: tuple[Rule, ...] = ()
    partners: dict[str, Partner] = field(default_factory=dict)
    pipe: tuple[str, ...] = ()
    inline_limit: int = 131_072
    partial_space: int = 1_000_000
    verify_seals: bool = True
    desk: Desk | None = None

    def __post_init__(self) -> None:
        self.rig = Rig(rules=self.rules, partners=self.partners, dns=False)
        self.rig.now = NOW
        self.executor = ThreadPoolExecutor(1)
        self.peers = Mt2Peers(CaStores.of(private=[SITE.root.certificate]))
        self.settings = Mt2ReceptionSettings(
            HOST,
            message_size=10_000_000,
            hops=100,
            inline_limit=self.inline_limit,
            pipe=HostNames.of("mt2.pipe", self.pipe),
            partial_space=self.partial_space,
            verify_seals=self.verify_seals,
        )
        self.book = TransferBook(3600.0, self.partial_space)
        self.sent: list[object] = []
        self.reception = self.made()
        self._sessions = 0

    def made(self) -> Mt2MailReception:
        """Anew, as after a reload."""
        parts = Mt2Parts(self.book, TraceChecker(self.peers, self.executor), self.desk, self._send)
        return Mt2MailReception(self.settings, self.rig.reception, self.rig.parts, parts)

    async def _send(self, messages: Sequence[object], about: str) -> None:
        del about
        self.sent.extend(messages)

    def new_session(self, *, tls: bool = True) -> Session:
        """A connection."""
        self._sessions += 1
        return Session(
            f"S{self._sessions}",
            "mt2",
            CLIENT,
            40_000,
            SERVER,
            10_126,
            "mt2 192.0.2.25:10126",
            HOST,
            NOW,
            tls=TLS if tls else None,
        )

    async def identified(self, peer: Party = PEER) -> Session:
        """A session of a proven host."""
        session = await self.greeted()
        found = await self.peers.host(peer.chain, peer.name, "", NOW)
        session.hello_name = peer.name
        result = await got(self.reception.identified(session, found, peer.chain))
        assert result.is_ok, result
        return session

    async def greeted(self, *, tls: bool = True) -> Session:
        """A session of nobody yet."""
        if not self.rig.started:
            await self.rig.spool.start(NOW)
            self.rig.started = True
        session = self.new_session(tls=tls)
        assert (await got(self.reception.connected(session))).is_ok
        return session

    async def offered(
        self, session: Session, transfer: str, kind: str, size: int, offset: int = 0, to_come: int = 0
    ) -> IncomingObject | Result:
        """XFER."""
        return await got(
            self.reception.offered(session, ObjectRequest(transfer, kind, size, to_come, offset))
        )

    async def put(
        self, session: Session, transfer: str, kind: str, octets: bytes, offset: int = 0
    ) -> ObjectAnswer:
        """One whole object, in pieces."""
        rest = octets[offset:]
        granted = await self.offered(session, transfer, kind, len(rest), offset)
        if isinstance(granted, Result):
            return ObjectAnswer(granted)
        await write(granted, rest)
        return await got(granted.finish())

    async def sent_whole(self, session: Session, what: Letter, transfer: str = "t1") -> Result:
        """All objects, as far as they are taken: the last answer. By then delivery has been given them."""
        answer = None
        for kind, octets in what.parts:
            answer = await self.put(session, transfer, kind, octets)
            if not answer.result.is_ok or answer.result.code.endswith(".2.7"):
                break
        assert answer is not None
        await asyncio.sleep(0)  # the answer comes first
        return answer.result

    async def close(self) -> None:
        """Let go of everything."""
        await self.reception.close()
        self.executor.shutdown()


async def write(incoming: IncomingObject, octets: bytes, piece: int = 7_000) -> None:
    """Octets in pieces."""
    for start in range(0, len(octets), piece):
        waiting = incoming.write(octets[start : start + piece])
        if waiting is not None:
            await waiting


@asynccontextmanager
async def mt2_rig(**settings: object) -> AsyncIterator[Mt2Rig]:
    """For one test."""
    rig = Mt2Rig(**settings)  # type: ignore[arg-type]
    try:
        yield rig
        await asyncio.sleep(0)
    finally:
        await rig.close()


def changed(**parts: object) -> Callable[[LayeredEnvelope], LayeredEnvelope]:
    """A change of the envelope before it is sealed."""
    return lambda envelope: replace(envelope, **parts)  # type: ignore[arg-type]
