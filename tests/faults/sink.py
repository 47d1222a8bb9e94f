"""The next hop of the server under test: an SMTP server in a thread that records all that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.faults.load import is_whole

LARGEST = 64 * 1024 * 1024
SILENCE = b"silence"
"""For `Sink.mood`: say nothing at all."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it was taken: dots are unstuffed, the closing dot is left out."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    is_proven: bool = False
    """Its body was what its header says (`load.is_whole`), and was not kept."""

    def field(self, name: bytes) -> bytes:
        """The value of the first header field of that name, b"" without one."""
        found = re.search(rb"(?mi)^" + re.escape(name) + rb": *([^\r]*)\r$", self.content)
        return found[1] if found else b""

    def without_body(self) -> Arrival:
        """What is enough to account for it; mail that is not whole stays as it came, to be looked at."""
        if self.sender and not is_whole(self.content):
            return self
        header = self.content[: self.content.find(b"\r\n\r\n") + 4]
        return Arrival(self.sender, self.recipients, header, is_proven=bool(self.sender))


class Sink:
    """Takes everything; recipients called `refused...` are answered 550, `later...` 451.

    `before_354` and `before_250` are called in a thread of their own at the moments they name, and may take
    their time; an arrival is recorded before `before_250`, as a host that has it on disk but not yet said so.
    """

    def __init__(self, address: str, port: int = 25, *, keeps_bodies: bool = True) -> None:
        """Without `keeps_bodies` memory grows with the number of messages only, not with their size."""
        self._keeps_bodies = keeps_bodies
        self.address = address
        self.port = port
        self.arrivals: list[Arrival] = []
        self.before_354: Callable[[], object] | None = None
        self.before_250: Callable[[Arrival], object] | None = None
        self.mood: Callable[[str], bytes] | None = None
        """The reply to RCPT for a recipient; b"" for the usual one, SILENCE for none."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sink", daemon=True)
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def arrived_for(self, recipient: str) -> list[Arrival]:
        """All that came for one recipient."""
        return [arrival for arrival in list(self.arrivals) if recipient in arrival.recipients]

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self.address, self.port, limit=LARGEST, backlog=200
        )

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._sessions.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = ""
        recipients: list[str] = []
        writer.write(b"220 sink.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper().strip()
            if verb == b"EHLO":
                writer.write(b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
            elif verb == b"MAIL":
                sender, recipients = _path(line), []
                writer.write(b"250 2.1.0 Ok\r\n")
            elif verb == b"RCPT":
                writer.write(await self._answer(_path(line), recipients))
            elif verb == b"DATA" and recipients:
                await self._take(reader, writer, sender, tuple(recipients))
            elif verb == b"DATA":
                writer.write(b"554 5.5.1 No valid recipients\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 Ok\r\n")

    async def _answer(self, recipient: str, recipients: list[str]) -> bytes:
        answer = self.mood(recipient) if self.mood is not None else b""
        if answer == SILENCE:
            await asyncio.sleep(3600)
        return answer or _answer(recipient, recipients)

    async def _take(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sender: str,
        recipients: tuple[str, ...],
    ) -> None:
        if self.before_354 is not None:
            await asyncio.to_thread(self.before_354)
        writer.write(b"354 Go ahead\r\n")
        wire = await reader.readuntil(b"\r\n.\r\n")
        content = wire[:-3].replace(b"\r\n.", b"\r\n")
        arrival = Arrival(sender, recipients, content)
        self.arrivals.append(arrival if self._keeps_bodies else arrival.without_body())
        if self.before_250 is not None:
            await asyncio.to_thread(self.before_250, arrival)
        writer.write(b"250 2.0.0 Taken\r\n")


def _path(line: bytes) -> str:
    return line[line.index(b"<") + 1 : line.rindex(b">")].decode()


def _answer(recipient: str, taken: list[str]) -> bytes:
    if recipient.startswith("refused"):
        return b"550 5.1.1 No such user\r\n"
    if recipient.startswith("later"):
        return b"451 4.2.0 Later\r\n"
    taken.append(recipient)
    return b"250 2.1.5 Ok\r\n"
