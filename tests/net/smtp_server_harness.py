"""A listener with the SMTP server behind it, a reception in memory, and a client that reads replies."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.net.listener import Listener, ListenerSettings
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.server_limits import LoadGauge
from outrider.net.smtp_server import SmtpServer
from outrider.net.smtp_service import SmtpService
from outrider.net.tls_info import TlsFailure, TlsInfo
from outrider.protocols.smtp.server_settings import ServerSettings, SessionLimits
from outrider.reception.interface import Session
from outrider.testing.reception import MemoryReception

LIMIT_S = 20.0
HEAD = b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@mx.example>\r\n"


@dataclass
class Told:
    """An observer that remembers what it was told, as one line each."""

    lines: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def _note(self, line: str) -> None:
        self.lines.append(line)
        self.news.set()

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        self._note(f"ended {session.id} {why} {messages}")

    def command_refused(self, session: Session, verb: str, reply: Reply) -> None:
        self._note(f"command refused {session.id} {verb} {reply.code}")

    def content_refused(self, session: Session, message: MessageId, reply: Reply) -> None:
        self._note(f"content refused {session.id} {message} {reply.code}")

    def tls_started(self, session: Session, info: TlsInfo) -> None:
        self._note(f"tls started {session.id} {info.version}")

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        self._note(f"tls failed {session.id} {failure.cause.value}")

    def login_succeeded(self, session: Session, how: str) -> None:
        self._note(f"login succeeded {session.id} {session.login} {session.login_mechanism} {how}")

    def login_failed(self, session: Session, mechanism: str, login: str, reason: str) -> None:
        self._note(f"login failed {session.id} {mechanism} {login} {reason}")

    def session_broke(self, session: Session, error: BaseException) -> None:
        self._note(f"broke {session.id} {error!r}")

    def storing_failed(self, session: Session, message: MessageId, error: Exception) -> None:
        self._note(f"storing failed {session.id} {message} {error!r}")

    async def wait_for(self, beginning: str) -> str:
        """The first line that begins so, now or later."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                for line in self.lines:
                    if line.startswith(beginning):
                        return line
                self.news.clear()
                await self.news.wait()


@dataclass
class Bench:
    """A server at work and what it has to do with."""

    server: SmtpServer
    listener: Listener
    limits: ConnectionLimits
    reception: MemoryReception
    told: Told
    address: tuple[str, int]

    async def connect(self, **options: Any) -> Client:
        """A client that has not read the greeting."""
        reader, writer = await asyncio.open_connection(*self.address, limit=2**20, **options)
        return Client(reader, writer)

    async def greeted(self) -> Client:
        """A client that has said EHLO."""
        client = await self.connect()
        assert await client.reply() == 220
        assert await client.say("EHLO client.example") == 250
        return client


class Client:
    """Says lines and reads replies, with a time limit on all."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.text = ""

    def send(self, octets: bytes) -> None:
        """Without waiting for anything."""
        self.writer.write(octets)

    async def reply(self) -> int:
        """The next reply's code; its text is in `text`. 0 at the end."""
        lines = []
        async with asyncio.timeout(LIMIT_S):
            while True:
                line = (await self.reader.readline()).decode()
                lines.append(line)
                if line[3:4] != "-":
                    break
        self.text = "".join(lines)
        return int(line[:3]) if line else 0

    async def replies(self, count: int) -> list[int]:
        """The next few codes."""
        return [await self.reply() for _ in range(count)]

    async def say(self, line: str) -> int:
        """One line; the code of its reply."""
        self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def mail(self, content: bytes = b"Subject: x\r\n\r\nbody\r\n") -> list[int]:
        """A whole message, pipelined; all four codes."""
        self.send(HEAD + b"DATA\r\n")
        codes = await self.replies(3)
        self.send(content + b".\r\n")
        return [*codes, await self.reply()]

    async def end(self) -> bytes:
        """Everything up to the server's end."""
        async with asyncio.timeout(LIMIT_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def leave(self) -> None:
        """Close without a word."""
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        wire = self.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


def limits(**values: Any) -> SessionLimits:
    """Session limits with some changed."""
    return replace(SessionLimits(), **values)


@asynccontextmanager
async def bench(
    reception: MemoryReception | None = None,
    *,
    session_limits: SessionLimits | None = None,
    start: bool = True,
    total: int = 100,
    make: type[SmtpServer] = SmtpServer,
    **service_options: Any,
) -> AsyncIterator[Bench]:
    """A server on a loopback port of its own; no task of it may outlive the test."""
    reception = reception or MemoryReception()
    numbers = itertools.count(1)
    told = Told()
    connections = ConnectionLimits(total=total, per_address=total)
    settings = service_options.pop("settings", ServerSettings("mx.example"))
    options: dict[str, Any] = {
        "protocol": "smtp",
        "settings": replace(settings, limits=session_limits or settings.limits),
        "reception": reception,
        "new_session_id": lambda: f"s{next(numbers)}",
        "gauge": LoadGauge(connections, 0.8),
        "observer": told,
        **service_options,
    }
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    listening.setblocking(False)
    server = make(SmtpService(**options))
    listener = Listener(listening, server, ListenerSettings("smtp test"), connections)
    if start:
        listener.start()
    try:
        yield Bench(server, listener, connections, reception, told, listening.getsockname())
    finally:
        await listener.stop(0)
        assert connections.open == 0
