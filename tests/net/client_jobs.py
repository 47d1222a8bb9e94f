"""What the tests of the outgoing drivers share: jobs, dialler, a server that says what the test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from outrider.delivery.interface import Hop, Job
from outrider.identity.authorities import ca_stores
from outrider.model.address import parse_address
from outrider.model.content import Content, inline_content, split_content
from outrider.model.envelope import Envelope, Recipient
from outrider.model.message import MessageId, StoredMessage
from outrider.net.client_settings import SmtpClientSettings
from outrider.net.client_tls import ClientTls
from outrider.net.dialling import Dialling
from outrider.net.smtp_client import SmtpDialler
from outrider.net.tls_info import TlsFailure
from outrider.routing.tls_policy import TlsRequirement

TRACE = b"Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
HELLO = b"From: ann@a.example\r\nTo: ann@peer.example\r\nSubject: hello\r\n\r\n"


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body in a file, as the spool has large ones."""

    path: Path
    size: int

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while piece := file.read(size):
                yield piece


def file_content(octets: bytes, path: Path) -> Content:
    headers, body = split_content(octets)
    path.write_bytes(body)
    return Content(headers, FileBody(path, len(body)), octets.isascii())


def job(content: bytes | Content, *recipients: str, **envelope: object) -> Job:
    whole = inline_content(content) if isinstance(content, bytes) else content
    people = tuple(Recipient(parse_address(one)) for one in recipients or ("ann@peer.example",))
    sender = envelope.pop("sender", "ann@a.example")
    message = StoredMessage(
        id=MessageId("m1"),
        received_at=0.0,
        envelope=Envelope(
            parse_address(str(sender)) if sender else None,
            people,
            **envelope,  # type: ignore[arg-type]
        ),
        trace=TRACE,
        content=whole,
        size=whole.size,
        facts=(),
    )
    return Job(message, tuple(range(len(people))))


def hop(address: str, port: int = 25, protocol: str = "smtp", **options: object) -> Hop:
    level = options.pop("level", "opportunistic")
    tls = options.pop("tls", None) or TlsRequirement(level)  # type: ignore[arg-type]
    host = str(options.pop("host", "mx.peer.example"))
    where = address if address.startswith("/") else ip_address(address)
    return Hop(protocol, host, (where,), port, tls, **options)  # type: ignore[arg-type]


@dataclass(slots=True)
class Noted:
    """A client observer that remembers."""

    facts: list[tuple[object, ...]] = field(default_factory=list)

    def session_opened(self, remote: str, protocol: str, tls: str) -> None:
        self.facts.append(("opened", protocol, tls))

    def handshake_failed(self, remote: str, failure: TlsFailure, goes_on_in_clear: bool) -> None:
        self.facts.append(("handshake failed", failure, goes_on_in_clear))

    def starttls_refused(self, remote: str, code: int, text: str) -> None:
        self.facts.append(("starttls refused", code))

    def starttls_vanished(self, remote: str) -> None:
        self.facts.append(("starttls vanished",))

    def login_failed(self, remote: str, mechanism: str, text: str) -> None:
        self.facts.append(("login failed", mechanism, text))

    def amtp_server_judged(self, remote: str, identity: str, proven: bool) -> None:
        self.facts.append(("judged", identity, proven))

    def not_believed(self, remote: str, text: str) -> None:
        self.facts.append(("not believed", text))

    def server_misbehaved(self, remote: str, stage: str, text: str) -> None:
        self.facts.append(("misbehaved", stage, text))

    @property
    def names(self) -> list[object]:
        return [fact[0] for fact in self.facts]


SETTINGS = SmtpClientSettings(
    "client.example", Dialling(5.0), command_timeout_s=20.0, data_timeout_s=30.0, handshake_timeout_s=10.0
)


def dialler(authority: Path | None = None, observer: Noted | None = None, **settings: object) -> SmtpDialler:
    private = [authority.read_bytes()] if authority else []
    changed = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    return SmtpDialler(changed, ClientTls(ca_stores([], private)), observer)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Scripted:
    """A server that follows a script: each entry is what it says, after it has read a line (or not, for the
    first); what it heard is kept."""

    address: str
    port: int
    heard: bytearray = field(default_factory=bytearray)
    connections: int = 0


@asynccontextmanager
async def serving(
    address: str, *scripts: Handler, port: int = 2525, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """Each connection gets the next script; the last one serves all further ones. `tls`: from the first
    octet."""
    state = Scripted(address, port)
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        script = scripts[min(state.connections, len(scripts) - 1)]
        state.connections += 1
        try:
            await script(_Tap(reader, state.heard), writer)  # type: ignore[arg-type]
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(talk, address, port, limit=2**24, ssl=tls)
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Tap:
    def __init__(self, reader: asyncio.StreamReader, heard: bytearray) -> None:
        self._reader = reader
        self._heard = heard

    async def readline(self) -> bytes:
        line = await self._reader.readline()
        self._heard += line
        return line

    async def readuntil(self, mark: bytes) -> bytes:
        octets = await self._reader.readuntil(mark)
        self._heard += octets
        return octets

    async def read(self, count: int) -> bytes:
        octets = await self._reader.read(count)
        self._heard += octets
        return octets


def script(*replies: bytes | str, hold: bool = False) -> Handler:
    """Say the first, then one more for each line that is heard, and one after the content that follows a 354;
    then close, or `hold` the connection."""

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content_next = True  # nothing is read before the greeting
        for reply in replies:
            if not content_next and not await reader.readline():
                return
            octets = reply.encode() + b"\r\n" if isinstance(reply, str) else reply
            if octets:
                writer.write(octets)
                await writer.drain()
            content_next = octets.startswith(b"354")
            if content_next:
                await reader.readuntil(b"\r\n.\r\n")
        if hold:
            await reader.read(1 << 20)
            await asyncio.sleep(3600)

    return follow
