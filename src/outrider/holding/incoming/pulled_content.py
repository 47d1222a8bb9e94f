"""A message on its way from its holder into reception: checked against what its envelope told while it
comes, and handed in only when all of it is there and true (SEC-183, SEC-184).

Small ones stay in memory; the body of a large one goes into the spool piece by piece, and is forgotten there
when anything is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from outrider.message.header_fields import field_values
from outrider.message.mailboxes import mailboxes
from outrider.model.content import Body, Content, InlineBody, split_content
from outrider.model.reply import Reply
from outrider.protocols.amdp.digest import Digest, DigestCheck
from outrider.reception.interface import BodyStream, Decision, Reception, Transaction
from outrider.wire.line_ends import LineEndCheck

MAX_HEADERS: Final = 1_048_576
"""Octets; reception has a limit of its own, which is smaller as a rule."""


class NotTaken(Exception):
    """Reception does not take it: its reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.code} {reply.status} {reply.text}")
        self.reply = reply


class Unfit(Exception):
    """The message is what was told of, and still no mail that can be taken so; the words are for its
    reader."""


class Untrue(Exception):
    """It is not what the envelope told of."""


class PulledContent:
    """Takes the pieces of one message."""

    def __init__(
        self,
        digest: Digest,
        reception: Reception,
        transaction: Transaction,
        inspect: Callable[[Content], Awaitable[None]],
    ) -> None:
        """`inspect` sees the whole message, verified, before it is handed in."""
        self._check = DigestCheck(digest)
        self._lines = LineEndCheck()
        self._inspect = inspect
        self._reception = reception
        self._transaction = transaction
        self._is_large = digest.length > reception.inline_limit
        self._gathered = bytearray()
        self._headers: bytes | None = None
        self._stream: BodyStream | None = None
        self._is_ascii = True

    async def feed(self, octets: bytes) -> None:
        """The next piece. Raises DigestError, NotTaken, Unfit, Untrue, and the spool's errors."""
        self._check.feed(octets)
        self._lines.feed(octets)
        self._is_ascii = self._is_ascii and octets.isascii()
        if self._stream is not None:
            await self._write(octets)
            return
        self._gathered += octets
        if self._is_large:
            await self._begin_body()

    async def _begin_body(self) -> None:
        end = 2 if self._gathered.startswith(b"\r\n") else self._gathered.find(b"\r\n\r\n") + 4
        if end < 4 and not self._gathered.startswith(b"\r\n"):
            if len(self._gathered) > MAX_HEADERS:
                raise Unfit("its header section is too long")
            return
        self._headers, rest = bytes(self._gathered[:end]), bytes(self._gathered[end:])
        self._gathered.clear()
        self._check_author(self._headers)
        reply = await settled(self._reception.headers(self._transaction, self._headers))
        if not reply.is_positive:
            raise NotTaken(reply)
        self._stream = self._reception.body_stream(self._transaction)
        await self._write(rest)

    async def _write(self, octets: bytes) -> None:
        assert self._stream is not None, "the body has begun"
        waiting = self._stream.write(octets) if octets else None
        if waiting is not None:
            await waiting

    async def finish(self) -> Reply:
        """All pieces have come: the reply to the message, which is durable where it is positive. Raises as
        `feed` does."""
        self._check.finish()
        if not self._lines.finish():
            raise Unfit("it has lines that end in other ways than mail's do")
        content = await self._content()
        await self._inspect(content)
        reply = await self._reception.finish(self._transaction, content)
        self._stream = None  # the spool has it, or reception has let it go
        return reply

    async def _content(self) -> Content:
        body: Body
        if self._stream is not None:
            assert self._headers is not None, "they come before the body"
            body = await self._stream.finish()
            return Content(self._headers, body, self._is_ascii)
        headers, octets = split_content(bytes(self._gathered))
        self._check_author(headers)
        body = InlineBody(octets)
        return Content(headers, body, self._is_ascii)

    def _check_author(self, headers: bytes) -> None:
        """The authenticated domain and the single From are one (AMDP-8)."""
        domain = self._transaction.facts.value("amdp.domain")
        values = field_values(headers, b"from", 2)
        authors = mailboxes(values[0], 2) if len(values) == 1 else ()
        if len(authors) != 1 or str(authors[0].domain).lower() != str(domain).lower():
            raise Untrue(f"its From is not one address of {domain}")

    async def abandon(self) -> None:
        """Forget what was written down; after `finish` too."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.abandon()


async def settled(decision: Decision) -> Reply:
    """A decision's reply."""
    return decision if isinstance(decision, Reply) else await decision
