"""A reception that keeps messages in memory and decides as it is told: for tests of the drivers before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from outrider.model.content import Body, Content, InlineBody
from outrider.model.envelope import Recipient
from outrider.model.facts import Facts
from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.reception.interface import Decision, Session, Transaction

WELCOME = Reply(220, "", "welcome")
HELLO = Reply(250, "", "hello")
SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient ok")
GO_AHEAD = Reply(354, "", "go ahead")


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was accepted."""

    session: Session
    transaction: Transaction
    content: Content

    @property
    def octets(self) -> bytes:
        """The content, whole."""
        return b"".join(self.content.chunks())


class MemoryBodyStream:
    """A body stream into memory."""

    def __init__(self, reception: MemoryReception) -> None:
        self._reception = reception
        self.octets = bytearray()
        self.writes: list[int] = []
        self.is_finished = False
        self.is_abandoned = False

    async def write(self, octets: bytes) -> None:
        """Append; fails or waits as the reception was told."""
        await asyncio.sleep(0)
        if self._reception.write_error is not None:
            raise self._reception.write_error
        if self._reception.write_gate is not None:
            await self._reception.write_gate.wait()
        self.writes.append(len(octets))
        self.octets += octets

    async def finish(self) -> Body:
        """The body in memory."""
        await asyncio.sleep(0)
        self.is_finished = True
        return InlineBody(bytes(self.octets))

    async def abandon(self) -> None:
        """Remember that it was."""
        self.is_abandoned = True


@dataclass
class MemoryReception:
    """See `outrider.reception.interface.Reception`. Every answer may be replaced by a function of its own."""

    inline_limit: int = 65_536
    connected_answer: Callable[[Session], Decision] = lambda _session: WELCOME
    greeted_answer: Callable[[Session, str, str], Decision] = lambda _session, _verb, _name: HELLO
    sender_answer: Callable[[MailRequest], Decision] = lambda _request: SENDER_OK
    recipient_answer: Callable[[RecipientRequest], Decision] = lambda _request: RECIPIENT_OK
    content_answer: Callable[[Transaction], Decision] = lambda _transaction: GO_AHEAD
    headers_answer: Callable[[bytes], Decision] = lambda _headers: GO_AHEAD
    finish_answer: Callable[[Transaction, Content], Decision] | None = None
    declarations: tuple[str, ...] = ()
    login_wanted: bool = False
    login_answer: Reply | None = None
    write_error: Exception | None = None
    write_gate: asyncio.Event | None = None
    received: list[Received] = field(default_factory=list)
    abandoned_because: list[str] = field(default_factory=list)
    streams: list[MemoryBodyStream] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    def connected(self, session: Session) -> Decision:
        """As told."""
        self.sessions.append(session)
        return self.connected_answer(session)

    def greeted(self, session: Session, verb: str, name: str) -> Decision:
        """As told."""
        return self.greeted_answer(session, verb, name)

    def announced(self, session: Session) -> tuple[str, ...]:
        """As told."""
        del session
        return self.declarations

    def login_is_owed(self, session: Session) -> bool:
        """As told."""
        return self.login_wanted and not session.login

    def login_refusal(self, session: Session, login: str) -> Reply | None:
        """As told."""
        del session, login
        return self.login_answer

    def sender(
        self, session: Session, request: MailRequest, now: float
    ) -> tuple[Transaction | None, Decision]:
        """A transaction with a running number for its id."""
        number = MessageId(f"M{len(self.received) + len(self.abandoned_because) + 1}")
        transaction = Transaction(session, number, request, now, Facts(parent=session.facts))
        return transaction, self.sender_answer(request)

    def recipient(self, transaction: Transaction, request: RecipientRequest) -> Decision:
        """As told; what is not refused at once is in the transaction."""
        decision = self.recipient_answer(request)
        if not isinstance(decision, Reply) or decision.is_positive:
            transaction.recipients.append(Recipient(request.address, request.notify, request.original))
            transaction.accepted += 1
        return decision

    def content_begins(self, transaction: Transaction) -> Decision:
        """As told."""
        return self.content_answer(transaction)

    def headers(self, transaction: Transaction, headers: bytes) -> Decision:
        """As told."""
        del transaction
        return self.headers_answer(headers)

    def body_stream(self, transaction: Transaction) -> MemoryBodyStream:
        """A stream, which `streams` remembers."""
        del transaction
        self.streams.append(MemoryBodyStream(self))
        return self.streams[-1]

    async def finish(self, transaction: Transaction, content: Content) -> Reply:
        """Keep the message (after a turn of the loop, as a disk would need), or answer as told."""
        reply = Reply(250, "2.0.0", f"Ok: queued as {transaction.id}")
        if self.finish_answer is not None:
            answer = self.finish_answer(transaction, content)
            reply = answer if isinstance(answer, Reply) else await answer
        else:
            await asyncio.sleep(0)
        if reply.is_positive:
            self.received.append(Received(transaction.session, transaction, content))
        return reply

    def abandoned(self, transaction: Transaction, why: str) -> None:
        """Remember why."""
        del transaction
        self.abandoned_because.append(why)
