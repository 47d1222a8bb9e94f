"""The commit: nothing is acknowledged that is not durable (SMTP-5); every way to fail has its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from outrider.delivery.interface import FreshMail
from outrider.model.content import Body, InlineBody
from outrider.model.message import Leased, NewMessage
from outrider.model.reply import Reply
from outrider.reception import replies
from outrider.reception.assembling import MailTransaction
from outrider.reception.observer import ReceptionObserver
from outrider.spool.interface import BodyWriter, Spool, SpoolError, SpoolFull, SpoolUnavailable


class Committer:
    """Stores messages and hands what is due to delivery from memory."""

    def __init__(self, spool: Spool, fresh: FreshMail, observer: ReceptionObserver, lease_s: float) -> None:
        self._spool = spool
        self._fresh = fresh
        self._observer = observer
        self._lease_s = lease_s

    def commit(self, mail: MailTransaction, message: NewMessage) -> Awaitable[Reply]:
        """250 once it is durable, else the reply for what went wrong; never raises."""
        stored = self._spool.store(message, lease_until=message.received_at + self._lease_s)
        if not isinstance(stored, asyncio.Future):
            return self._wait(stored, mail, message)
        # A spool that answers by future costs no task: the reply hangs on it directly.
        loop = stored.get_loop()
        answer: asyncio.Future[Reply] = loop.create_future()

        def done(outcome: asyncio.Future[tuple[Leased, ...]]) -> None:
            error = _error_of(outcome)
            reply = self._received(mail, message) if error is None else self._failed(error, mail)
            if not answer.done():
                answer.set_result(reply)
            if error is None and outcome.result():
                # Behind the answer: the client has its 250 before delivery takes the loop's time.
                loop.call_soon(self._fresh.take, outcome.result())

        stored.add_done_callback(done)
        return answer

    async def _wait(
        self, stored: Awaitable[tuple[Leased, ...]], mail: MailTransaction, message: NewMessage
    ) -> Reply:
        try:
            leased = await stored
        except Exception as error:
            return self._failed(error, mail)
        if leased:
            self._fresh.take(leased)
        return self._received(mail, message)

    def _received(self, mail: MailTransaction, message: NewMessage) -> Reply:
        reply = replies.queued(message.id)
        self._observer.message_received(mail.session, message, reply)
        return reply

    def _failed(self, error: BaseException, mail: MailTransaction) -> Reply:
        reply = reply_for(error)
        if reply is replies.LOCAL_ERROR:
            self._observer.reception_failed(mail.session, "commit", error)
        self._observer.refused(mail.session, "commit", reply, about=str(error), message_id=mail.id)
        return reply


def _error_of(stored: asyncio.Future[tuple[Leased, ...]]) -> BaseException | None:
    if stored.cancelled():
        return SpoolUnavailable("the commit was given up")
    return stored.exception()


def reply_for(error: BaseException) -> Reply:
    """What a client is told when a message cannot be kept: always temporary."""
    if isinstance(error, SpoolFull):
        return replies.NO_ROOM
    if isinstance(error, SpoolUnavailable):
        return replies.STORE_UNAVAILABLE
    return replies.LOCAL_ERROR


class KeptBody:
    """A body on its way into the spool. When the disk fails it, the rest is let go and the end of the data
    gets the reply: a driver need not care."""

    def __init__(self, writer: BodyWriter, mail: MailTransaction) -> None:
        self._writer = writer
        self._mail = mail

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append, or forget once something failed."""
        if self._mail.failure is not None:
            return None
        try:
            waiting = self._writer.write(octets)
        except SpoolError as error:
            return self._fail(error)
        return None if waiting is None else self._written(waiting)

    def belongs_to(self, mail: MailTransaction) -> None:
        """The body goes on in another transaction (MT2-18b)."""
        self._mail = mail

    async def _written(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except SpoolError as error:
            await self._fail(error)

    async def finish(self) -> Body:
        """Durable from here on; an empty body when it could not be kept."""
        if self._mail.failure is None:
            try:
                return await self._writer.finish()
            except SpoolError as error:
                await self._fail(error)
        return InlineBody(b"")

    async def abandon(self) -> None:
        """Forget it."""
        await self._writer.abandon()

    async def _fail(self, error: SpoolError) -> None:
        self._mail.failure = reply_for(error)
        await self._writer.abandon()
