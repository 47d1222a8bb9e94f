"""A holding facility that does as it is told, seen through `WebCaller`; and steps at which a process dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from outrider.holding.web import CallAnswer, CallFailed, StreamedAnswer
from outrider.protocols.amdp.callback import (
    ACKNOWLEDGE_PATH,
    GENUINE_PATH,
    QUERY_PATH,
    AcknowledgementAnswers,
    Acknowledgements,
    Answer,
    Answers,
    Done,
    Queries,
)
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.json_forms import decode, encode
from outrider.protocols.amdp.retrieval import MESSAGE_PATH, RECEIPT_PATH, MessageAsked, Receipt, ReceiptTaken

ADDRESS = "192.0.2.1"


class Killed(BaseException):
    """The process is dead: nothing that it would have done from here on is done."""


@dataclass
class Steps:
    """Counts what has an effect elsewhere, and kills the process at one of them."""

    kill_at: int = 0
    count: int = 0
    dead: bool = False

    def __call__(self) -> None:
        self.count += 1
        if self.dead or self.count == self.kill_at:
            self.dead = True
            raise Killed


@dataclass
class Held:
    """One message at the holder."""

    to: str
    content: bytes
    fields: str
    confirmation: str
    burnt: bool = False
    withdrawn: bool = False
    receipts: int = 0


@dataclass
class Streamed:
    """Implements `StreamedAnswer`."""

    status: int
    length: int
    address: Any
    octets: bytes
    steps: Steps
    piece: int
    breaks_at: int = -1

    async def pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.octets), self.piece):
            self.steps()
            if 0 <= self.breaks_at <= start:
                raise CallFailed("the answer broke off")
            yield self.octets[start : start + self.piece]


class ScriptedHolder:
    """A facility, seen through `WebCaller`. What it does may be changed, and it may be away."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.held: dict[str, Held] = {}
        self.away: CallFailed | None = None
        self.status = 200
        self.calls: list[tuple[str, int]] = []
        """Path, and how many items."""
        self.hold: asyncio.Event | None = None
        """Answers wait for it."""
        self.genuine: bytes | None = None
        """What the information service says of dynamic holders."""
        self.genuine_status = 200
        self.asked_paths: list[str] = []
        self.body: Callable[[bytes], bytes] = lambda octets: octets
        self.length: int | None = None
        self.breaks_at = -1
        self.piece = 64
        self.answers: Callable[[str, bytes], bytes] = lambda _, body: body

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        self.asked_paths.append(f"{host}:{port}{path}")
        if self.away is not None:
            raise self.away
        assert path.startswith(GENUINE_PATH)
        return CallAnswer(self.genuine_status, self.genuine or b"{}", "application/json", ip_address(ADDRESS))

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        self.steps()
        if self.hold is not None:
            await self.hold.wait()
        if self.away is not None:
            raise self.away
        answer = self.answers(path, self._answered(path, body))
        self.steps()
        return CallAnswer(self.status, answer, "application/json", ip_address(ADDRESS))

    def _answered(self, path: str, body: bytes) -> bytes:
        match path:
            case "/amdp/v1/query":
                queries = decode(body, Queries).queries
                self.calls.append((QUERY_PATH, len(queries)))
                return encode(Answers(tuple(self._query(one.id, one.fields) for one in queries)))
            case "/amdp/v1/acknowledge":
                told = decode(body, Acknowledgements).acknowledgements
                self.calls.append((ACKNOWLEDGE_PATH, len(told)))
                return encode(
                    AcknowledgementAnswers(tuple(self._burn(one.id, one.confirmation) for one in told))
                )
            case "/amdp/v1/receipt":
                receipt = decode(body, Receipt)
                self.calls.append((RECEIPT_PATH, 1))
                held = self.held.get(receipt.id)
                known = held is not None and held.confirmation == receipt.confirmation and held.burnt
                if held is not None and known:
                    assert receipt.digest == str(digest_of([held.content]))
                    held.receipts += 1
                return encode(ReceiptTaken(known))
            case _:
                raise AssertionError(path)

    def content_of(self, body: bytes) -> bytes | None:
        """What a request for a message gets; None: nothing."""
        asked = decode(body, MessageAsked)
        self.calls.append((MESSAGE_PATH, 1))
        held = self.held.get(asked.id)
        known = held is not None and held.burnt and not held.withdrawn
        return (
            held.content if held is not None and known and held.confirmation == asked.confirmation else None
        )

    def answered(self, path: str, body: bytes) -> bytes:
        """What a request gets."""
        return self._answered(path, body)

    def _query(self, name: str, fields: str) -> Answer:
        held = self.held.get(name)
        if held is None or held.burnt or held.withdrawn or held.fields != fields:
            return Answer(known=False)
        return Answer(known=True, to=held.to, confirmation=held.confirmation, thread=("a@alpha.example",))

    def _burn(self, name: str, confirmation: str) -> Done:
        held = self.held.get(name)
        if held is None or held.withdrawn or held.confirmation != confirmation:
            return Done(done=False)
        held.burnt = True
        return Done(done=True, confirmation=held.confirmation)

    @asynccontextmanager
    async def _streamed(self, body: bytes) -> AsyncIterator[StreamedAnswer]:
        self.steps()
        if self.away is not None:
            raise self.away
        content = self.content_of(body)
        status = 404 if content is None else self.status
        octets = self.body(content or b"")
        length = len(octets) if self.length is None else self.length
        yield Streamed(status, length, ip_address(ADDRESS), octets, self.steps, self.piece, self.breaks_at)

    def stream(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> Any:
        assert path == MESSAGE_PATH
        return self._streamed(body)
