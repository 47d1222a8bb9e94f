"""Clients that send until the server goes away, and remember every message that was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

DOMAIN = "far.example"
SIZES = (100, 100, 1_500, 1_500, 1_500, 6_000, 20_000, 300_000)
"""Octets of body; with an inline limit of 8 KiB the last two are kept in files."""

REFUSED_S = 0.05
"""Before the next message after one was refused: a server that is short of something says so at once."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is remembered of a message: enough to say of each recipient whether it came, whole and once."""

    token: str
    recipients: tuple[str, ...]
    digest: str
    """SHA-256 of its body, as its header says it too."""

    @property
    def sender(self) -> str:
        """Where its bounce goes."""
        return f"sender-{self.token}@{DOMAIN}"


@dataclass(frozen=True, slots=True)
class Mail(Sent):
    """A message that can be told from all others, and whose content proves itself whole."""

    content: bytes

    def sent(self) -> Sent:
        """It without its content."""
        return Sent(self.token, self.recipients, self.digest)


def make_mail(token: str, chance: random.Random, size: int, *, refused: bool = True) -> Mail:
    """A message for one to three recipients; in one of eight, if wanted, one more, who is refused."""
    names = [f"{letter}-{token}@{DOMAIN}" for letter in "abc"[: chance.randint(1, 3)]]
    if chance.random() < 1 / 8 and refused:
        names.append(f"refused-{token}@{DOMAIN}")
    body = _body(size, chance)
    digest = hashlib.sha256(body).hexdigest()
    header = f"X-Token: {token}\r\nMessage-ID: <{token}@load.example>\r\nX-Digest: {digest}\r\n\r\n"
    return Mail(token, tuple(names), digest, header.encode() + body)


def is_whole(content: bytes) -> bool:
    """Whether a message that arrived has the body it was sent with."""
    found = re.search(rb"(?m)^X-Digest: ([0-9a-f]{64})\r\n\r\n", content)
    return found is not None and hashlib.sha256(content[found.end() :]).hexdigest() == found[1].decode()


def _body(size: int, chance: random.Random) -> bytes:
    line = b".%016x%s\r\n" % (chance.getrandbits(64), b"x" * 41)
    return b"".join(line for _ in range(max(size // len(line), 1))) + b"%016x\r\n" % chance.getrandbits(64)


class Load:
    """Sessions in a thread, by `with`: they connect, send, and connect again, until the block ends."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        sessions: int = 8,
        sizes: Sequence[int] = SIZES,
        seed: int = 1,
        refused: bool = True,
        pause_s: float = 0.0,
        prefix: str = "t",
    ) -> None:
        """`refused` adds recipients whom the next hop refuses; `pause_s` is a session's rest between two;
        `prefix` begins the tokens of its messages: loads at one time need different ones."""
        self._prefix = prefix
        self._target = (address, port)
        self._sessions = sessions
        self._sizes = sizes
        self._refused = refused
        self._pause_s = pause_s
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self.acknowledged: dict[str, Sent] = {}
        """By token. Those without an answer are in no list: they may have been taken or not."""
        self.ids: dict[str, str] = {}
        """Message id of the 250 by token."""
        self.refusals: list[bytes] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End what is under way and send no more."""
        self._stopping.set()
        self._thread.join(60)

    async def _run(self) -> None:
        await asyncio.gather(*(self._session() for _ in range(self._sessions)))

    async def _session(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(*self._target)
                try:
                    await self._send_mail(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(0.02)

    async def _send_mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reply(reader)
        writer.write(b"EHLO load.example\r\n")
        await _reply(reader)
        while not self._stopping.is_set():
            token, size = f"{self._prefix}{next(self._numbers):06d}", self._chance.choice(self._sizes)
            mail = make_mail(token, self._chance, size, refused=self._refused)
            answer = await send_one(reader, writer, mail)
            if not answer.startswith(b"250"):
                self.refusals.append(answer)
                if answer.startswith(b"421"):
                    return
                await asyncio.sleep(REFUSED_S)
                continue
            self.ids[mail.token] = answer.split(b" ")[-1].decode().strip()
            self.acknowledged[mail.token] = mail.sent()
            await asyncio.sleep(self._pause_s)


async def send_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mail: Mail) -> bytes:
    """One transaction, pipelined; the reply that decided it."""
    names = "".join(f"RCPT TO:<{name}>\r\n" for name in mail.recipients)
    writer.write(f"MAIL FROM:<{mail.sender}>\r\n{names}DATA\r\n".encode())
    replies = [await _reply(reader) for _ in range(len(mail.recipients) + 2)]
    if not replies[-1].startswith(b"354"):
        return next(reply for reply in replies if not reply.startswith(b"2"))
    writer.write(mail.content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    await writer.drain()
    return await _reply(reader)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
        pass
    return line
