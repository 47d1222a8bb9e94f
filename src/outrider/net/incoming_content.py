"""A message's content between a session and reception: in memory while small, in a stream when large.

Used by every driver that takes mail. An ordinary message stays one piece of memory and costs nothing here.
One whose body outgrows `Reception.inline_limit` has its header section shown to reception while the body
still arrives, and its body written down piece by piece, each waited for, so that a session holds a bounded
part of it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from outrider.model.content import Body, Content, InlineBody, split_content
from outrider.model.reply import Reply
from outrider.reception.interface import BodyStream, Decision, Reception, Transaction

WRITE_OCTETS: Final = 65_536
"""Small pieces are gathered up to this before they are handed on."""
CANNOT_STORE: Final = Reply(452, "4.3.1", "Cannot store the message now; try again later")


class IncomingContent:
    """Gathers octets; says when they are too many to be kept in memory."""

    __slots__ = ("_header_size", "_limit", "_octets", "_searched", "headers")

    def __init__(self, inline_limit: int) -> None:
        """`inline_limit`: octets of body that may stay in memory."""
        self._limit = inline_limit
        self._octets: bytes | bytearray = b""
        self._searched = 0
        self._header_size = 0  # 0: its end has not come yet
        self.headers: bytes | None = None
        """The header section, once the body has outgrown memory; from then on only body is gathered."""

    def __len__(self) -> int:
        """Octets gathered and not yet taken."""
        return len(self._octets)

    def add(self, octets: bytes) -> None:
        """Append."""
        if not self._octets:
            self._octets = octets
            return
        if isinstance(self._octets, bytes):
            self._octets = bytearray(self._octets)
        self._octets += octets

    def outgrows_memory(self) -> bool:
        """Whether the body has just become too large for memory; then `headers` is set. True only once."""
        if self.headers is not None or len(self._octets) <= self._limit:
            return False
        end = self._header_size or self._find_header_end()
        if not end or len(self._octets) - end <= self._limit:
            return False
        self.headers = bytes(self._octets[:end])
        self._octets = bytes(self._octets[end:])
        return True

    def take(self) -> bytes:
        """Everything gathered; what comes later is gathered anew."""
        octets, self._octets = bytes(self._octets), b""
        return octets

    def _find_header_end(self) -> int:
        """Goes on where it stopped the last time: small pieces must not make it look at all again."""
        if self._octets.startswith(b"\r\n"):
            self._header_size = 2
            return 2
        end = self._octets.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._searched = len(self._octets)
        self._header_size = end + 4 if end >= 0 else 0
        return self._header_size

    def content(self, *, is_ascii: bool, is_binary: bool) -> Content:
        """The whole message, where it stayed in memory."""
        headers, body = split_content(self.take())
        return Content(headers, InlineBody(body), is_ascii, is_binary)


class LargeMessage:
    """A message whose body is written down while it arrives. Refusals and faults are kept for its end."""

    __slots__ = ("_reception", "_stream", "_transaction", "error", "headers", "refusal")

    def __init__(self, reception: Reception, transaction: Transaction, headers: bytes) -> None:
        self._reception = reception
        self._transaction = transaction
        self._stream: BodyStream | None = None
        self.headers = headers
        self.refusal: Reply | None = None
        """What the message will be answered, if it is lost already; what still comes is thrown away."""
        self.error: Exception | None = None
        """Why it could not be written down, if that is the reason."""

    async def begin(self, body: bytes) -> None:
        """Show the header section to reception, and write down the first of the body."""
        reply = await settle(self._reception.headers(self._transaction, self.headers))
        if not reply.is_positive:
            self.refusal = reply
            return
        try:
            self._stream = self._reception.body_stream(self._transaction)
        except Exception as error:
            self._lose(error)
        await written(self.write(body))

    def write(self, body: bytes) -> Awaitable[None] | None:
        """Write down the next of the body. None: done; else it must be awaited before the next."""
        if self._stream is None or not body:
            return None
        try:
            waiting = self._stream.write(body)
        except Exception as error:
            self._lose(error)
            return self.abandon()
        return None if waiting is None else self._written(waiting)

    async def _written(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception as error:
            self._lose(error)
            await self.abandon()

    async def finish(self, body: bytes, *, is_ascii: bool, is_binary: bool) -> Reply:
        """Write down the last of the body and hand the message over. The reply to the message."""
        await written(self.write(body))
        stored = await self._finished_body()
        if stored is None:
            return self.refusal or CANNOT_STORE
        content = Content(self.headers, stored, is_ascii, is_binary)
        return await self._reception.finish(self._transaction, content)

    async def _finished_body(self) -> Body | None:
        if self._stream is None:
            return None
        try:
            body = await self._stream.finish()
        except Exception as error:
            self._lose(error)
            await self.abandon()
            return None
        self._stream = None
        return body

    async def abandon(self) -> None:
        """Forget what was written down. Safe to call again, and after `finish`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.abandon()

    def _lose(self, error: Exception) -> None:
        # Whatever it is, it is ours and may pass: the client keeps the message and tries again (SEC-92).
        self.error = error
        self.refusal = CANNOT_STORE


async def written(waiting: Awaitable[None] | None) -> None:
    """Wait until there is room for more, if a write says that there is none now."""
    if waiting is not None:
        await waiting


async def settle(decision: Decision) -> Reply:
    """A decision's reply, whether it was there at once or has to be waited for."""
    return decision if isinstance(decision, Reply) else await decision
