"""Two ends of MT2 in one process, under TLS: a server before a reception in memory, and a dialler."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from tests.net.client_jobs import SETTINGS, Noted, job
from tests.peers.certificates import CertificateAuthority, TlsFiles

from outrider.delivery.interface import Hop, Job, ServerTerms
from outrider.delivery.mt2_assembly import Assembled, OutgoingObjects
from outrider.identity.authorities import ca_stores
from outrider.identity.jws import Signer
from outrider.identity.mt2_identity import Found
from outrider.identity.mt2_peers import Mt2Peers
from outrider.model.content import Body, InlineBody
from outrider.model.message import MessageId
from outrider.model.result import DeliveryResult
from outrider.net.client_settings import SmtpClientParts
from outrider.net.client_tls import ClientTls
from outrider.net.listener import Listener, ListenerSettings
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.listener_sockets import open_socket
from outrider.net.mt2_callers import Callers
from outrider.net.mt2_client import Mt2ClientConnection, Mt2Dialler
from outrider.net.mt2_opening import Mt2ClientParts
from outrider.net.mt2_server import Mt2Server, Mt2Service
from outrider.net.tls_context import ServerContexts, ServerTls
from outrider.net.tls_files import CertificateFiles
from outrider.net.tls_info import TlsFailure, TlsInfo
from outrider.protocols.mt2.events import BODY_TYPE, HEADERS_TYPE, Limits
from outrider.protocols.mt2.options import Offer
from outrider.reception.interface import Session
from outrider.routing.tls_policy import TlsRequirement
from outrider.testing.mt2_reception import MemoryMt2Reception, envelope

PORT = 10_126
SERVER, CLIENT = "gate.peer.example", "client.example"
WANTED = Offer(pipe=True, window=1_048_576, maxpart=262_144, inflight=96)


@dataclass
class Told:
    """An observer that remembers."""

    lines: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[BaseException] = field(default_factory=list)

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        self.lines.append(f"ended {why} {messages}")
        self.ended.set()

    def session_broke(self, session: Session, error: BaseException) -> None:
        self.lines.append(f"broke {error!r}")
        self.errors.append(error)

    def tls_started(self, session: Session, info: TlsInfo) -> None:
        self.lines.append(f"tls {info.version}")

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        self.lines.append("tls failed")

    def peer_identified(self, session: Session, claimed: str, found: Found) -> None:
        self.lines.append(f"identified {claimed}: {found}")

    def peer_misbehaved(self, session: Session, text: str) -> None:
        self.lines.append(f"misbehaved {text}")

    def peer_noticed(self, session: Session, text: str) -> None:
        self.lines.append(f"noticed {text}")

    def server_judged(self, remote: str, identity: str, proven: bool) -> None:
        self.lines.append(f"judged {identity} {proven}")

    def not_believed(self, remote: str, text: str) -> None:
        self.lines.append(f"not believed {text}")


class PlainAssembler:
    """Objects as `testing.mt2_reception` reads them: of the job's content, for all of its recipients."""

    def __init__(self) -> None:
        self.prefix = b"Content-Type: text/plain\r\n\r\n"
        self.answers: list[tuple[str, str, str]] = []

    async def assemble(self, job: Job, peer: str) -> Assembled:
        content, message = job.message.content, job.message
        assert content is not None
        people = tuple(str(message.envelope.recipients[one].address) for one in job.recipients)
        sizes = {HEADERS_TYPE: len(content.headers), BODY_TYPE: len(self.prefix) + content.body.size}
        octets = envelope(sizes, people)
        return Assembled(
            (
                OutgoingObjects(
                    f"{message.id}@{CLIENT}",
                    octets,
                    content.headers,
                    HEADERS_TYPE,
                    self.prefix,
                    content.body,
                    job.recipients,
                ),
            ),
            {},
        )

    def answered(self, message: MessageId, objects: OutgoingObjects, peer: str) -> None:
        self.answers.append((message, objects.transfer_id, peer))


def files_of(files: TlsFiles) -> CertificateFiles:
    return CertificateFiles(files.certificate, files.key)


def signer_of(files: TlsFiles) -> Signer:
    return Signer.from_pem(files.certificate.read_bytes(), files.key.read_bytes())


def message(number: int | str, body: bytes | Body = b"hi\r\n", *recipients: str) -> Job:
    made = job(b"From: ann@a.example\r\nSubject: hello\r\n\r\n", *recipients)
    content = made.message.content
    assert content is not None
    octets = InlineBody(body) if isinstance(body, bytes) else body
    whole = replace(made.message, id=f"m{number}", content=replace(content, body=octets))  # type: ignore[arg-type]
    return Job(whole, made.recipients)


@dataclass
class Site:
    """One end: its own certificate, listener, reception and dialler."""

    name: str
    address: str
    authority: CertificateAuthority
    reception: MemoryMt2Reception = field(default_factory=MemoryMt2Reception)
    limits: Limits = field(default_factory=Limits)
    implicit_tls: bool = True
    with_tls: bool = True
    full_duplex: bool = False
    told: Told = field(default_factory=Told)
    noted: Noted = field(default_factory=Noted)
    wanted: Offer = WANTED
    files: TlsFiles = field(init=False)
    listener: Listener | None = None

    def __post_init__(self) -> None:
        self.files = self.authority.issue(self.name)
        self.callers = Callers()
        self.assembler = PlainAssembler()
        self.numbers = itertools.count(1)
        self.stores = ca_stores([self.authority.authority.read_bytes()], [])
        self.peers = Mt2Peers(self.stores)
        self.dialler = Mt2Dialler(self.client_parts())

    def client_parts(self) -> Mt2ClientParts:
        tls = ClientTls(self.stores, files_of(self.files))
        return Mt2ClientParts(
            common=SmtpClientParts(replace(SETTINGS, hostname=self.name), tls, self.noted, time.time),
            peers=self.peers,
            assembler=self.assembler,
            new_session_id=self.session_id,
            wanted=self.wanted,
            signer=signer_of(self.files),
            limits=self.limits,
            reception=self.reception if self.full_duplex else None,
            callers=self.callers if self.full_duplex else None,
            observer=self.told,
        )

    def session_id(self) -> str:
        return f"{self.name}-{next(self.numbers)}"

    def service(self) -> Mt2Service:
        tls = ServerTls(ServerContexts(files_of(self.files)), (b"mt2",), True) if self.with_tls else None
        return Mt2Service(
            hostname=self.name,
            names=(self.name,),
            reception=self.reception,
            new_session_id=self.session_id,
            new_nonce=lambda: f"nonce-{next(self.numbers)}",
            peers=self.peers,
            limits=self.limits,
            signer=signer_of(self.files),
            tls=tls,
            implicit_tls=self.implicit_tls,
            callers=self.callers if self.full_duplex else None,
            observer=self.told,
        )

    def listen(self) -> None:
        listening = open_socket(self.address, PORT)
        limits = ConnectionLimits(total=100, per_address=100)
        self.listener = Listener(listening, Mt2Server(self.service()), ListenerSettings("mt2 test"), limits)
        self.listener.start()

    async def connect(self, where: Hop) -> Mt2ClientConnection:
        return await self.dialler.connect(where, where.addresses[0])


@asynccontextmanager
async def running(*sites: Site) -> AsyncIterator[None]:
    for site in sites:
        site.listen()
    try:
        yield
    finally:
        for site in sites:
            assert site.listener is not None
            await site.listener.stop(0)
            assert site.told.errors == []


def hop(address: str, host: str = SERVER, port: int = PORT, level: str = "opportunistic") -> Hop:
    tls = TlsRequirement(level)  # type: ignore[arg-type]
    return Hop("mt2", host, (ip_address(address),), port, tls, terms=ServerTerms("", named=True))


def results(sent: object) -> list[DeliveryResult]:
    assert isinstance(sent, dict)
    return [sent[position] for position in sorted(sent)]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that happens by itself; the test's own time limit ends it."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)
