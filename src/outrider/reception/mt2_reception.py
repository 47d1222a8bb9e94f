"""Reception of MT2: from a session's objects to a stored message (MT2-1, MT2-14 to MT2-18b).

It stands on `MailReception`: an envelope's sender and recipients go through the same code as MAIL and RCPT,
its headers and body through the same stages and the same commit. What is MT2's own is here: who the host is,
what its options are, seals and extensions, transfers that are repeated or resumed, and results per recipient.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from outrider.extensions.desk import Desk
from outrider.extensions.interface import ExtensionMessage, HopFacts
from outrider.gateway.mapping import rendered
from outrider.gateway.visible import header_section
from outrider.message.objects.envelope import (
    ENVELOPE_TYPE,
    MAX_ENVELOPE,
    LayeredEnvelope,
    ObjectEntry,
    read_envelope,
)
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import HEADERS_TYPE, HeadersObject, read_headers
from outrider.model.content import Body, Content, InlineBody
from outrider.model.envelope import BodyType
from outrider.model.layered import MessageObjects, TakenTransfer
from outrider.model.message import ItemState, MessageId, RecipientState
from outrider.model.reply import Reply
from outrider.model.verdict import Stage
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, err, ok
from outrider.protocols.mt2.lines import Extension
from outrider.protocols.mt2.status import TransferState, TransferStatus
from outrider.reception import mt2_results as results
from outrider.reception.assembling import MailTransaction
from outrider.reception.interface import Decision, Session
from outrider.reception.mt2_envelopes import EnvelopeJudge, JudgedEnvelope, Refused, settled
from outrider.reception.mt2_incoming import IncomingBody, IncomingEnvelope, IncomingHeaders
from outrider.reception.mt2_interface import IncomingObject, ObjectAnswer, ObjectRequest, PartKind
from outrider.reception.mt2_saved import Key
from outrider.reception.mt2_sessions import Mt2SessionReception
from outrider.reception.mt2_settings import Mt2ReceptionSettings
from outrider.reception.mt2_trace import TraceChecker
from outrider.reception.mt2_transfers import ArrivingBody, Course, Transfer, TransferBook
from outrider.reception.parts import ReceptionParts
from outrider.reception.reception import MailReception
from outrider.reception.replies import HEADERS_TAKEN
from outrider.spool.interface import NotFound, SpoolError

LARGE_DOCUMENT: Final = 65_536
"""Octets of XML from which on a thread reads it."""
_MIME_FIELDS: Final = ("content-", "mime-version")
_NO_BODY: Final = b"\r\n"
_LOCAL_ERROR: Final = err(codes.NOT_NOW)
_OBJECT_ACCEPTED: Final = ObjectAnswer(ok(codes.OBJECT_ACCEPTED))
T = TypeVar("T")

SendMessages = Callable[[tuple[ExtensionMessage, ...], str], Awaitable[object]]
"""Makes mail of what extensions want sent, about the message of that queue id, and stores it."""


@dataclass(frozen=True, slots=True)
class Mt2Parts:
    """What MT2's reception works with beside the parts of all reception; `runtime` joins it."""

    book: TransferBook
    checker: TraceChecker | None = None
    """None: seals are not verified."""
    desk: Desk | None = None
    """None: no extension is known here."""
    send: SendMessages | None = None


@dataclass(slots=True)
class _Whole:
    """A message whose objects are all here, and fit together."""

    mail: MailTransaction
    objects: MessageObjects
    section: bytes
    is_clean: bool
    is_ascii: bool

    def content(self, body: Body) -> Content:
        """With its body, as it is stored."""
        return Content(self.section, body, self.is_ascii, is_binary=not self.is_clean)


@dataclass(slots=True)
class _Commit:
    """A message that was handed in to be stored."""

    transfer: Transfer
    mail: MailTransaction
    now: float
    """When."""
    reply: Awaitable[Reply]


class Mt2MailReception(Mt2SessionReception):
    """Implements :class:`outrider.reception.mt2_interface.Mt2Reception`."""

    def __init__(
        self,
        settings: Mt2ReceptionSettings,
        mail: MailReception,
        parts: ReceptionParts,
        mt2: Mt2Parts,
    ) -> None:
        super().__init__(settings, mail, parts, mt2.desk)
        self._observer = parts.observer
        checker = mt2.checker if settings.verify_seals else None
        self._envelopes = EnvelopeJudge(settings, mail, parts, checker, mt2.desk)
        self._send = mt2.send
        self._book = mt2.book
        self._judged: dict[Transfer, JudgedEnvelope] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._waits_for_mime = any(name.startswith(_MIME_FIELDS) for name in parts.policy.headers_needed)

    # --- XFER -----------------------------------------------------------------------------------------------

    def offered(
        self, session: Session, request: ObjectRequest
    ) -> IncomingObject | Result | Awaitable[IncomingObject | Result]:
        """See the interface."""
        try:
            if request.media_type.lower() == ENVELOPE_TYPE:
                return self._envelope_offered(session, request)
            return self._object_offered(session, request)
        except Exception as error:
            self._observer.reception_failed(session, "transfer", error)
            return _LOCAL_ERROR

    def _envelope_offered(self, session: Session, request: ObjectRequest) -> IncomingObject | Result:
        if request.offset + request.size > MAX_ENVELOPE:
            return err(codes.MESSAGE_TOO_LARGE, text="The envelope is too large.")
        no_room = self._mail.no_room()
        if no_room is not None:
            return results.refusal(no_room, Stage.SENDER)
        transfer = Transfer(session, request.transfer, self._peer(session))
        busy = self._take_over(transfer)
        if busy is not None:
            return busy
        if request.offset:
            kept = self._book.partials.find(transfer.key, session) if transfer.peer else None
            if kept is None or len(kept.octets) != request.offset:
                return err(codes.WRONG_OFFSET)
            transfer.octets = kept.octets
        self._book.begin(transfer)
        return IncomingEnvelope(self, transfer)

    def _take_over(self, transfer: Transfer) -> Result | None:
        """The same transfer may still hang on a connection that its sender knows to be broken: what has come
        there is kept, and this connection goes on. Not while it is being judged or stored."""
        other = self._book.of(transfer.session, transfer.id)
        if other is None and transfer.peer:
            other = self._book.under_way(transfer.key)
        if other is None:
            return None
        if (
            other.session.id == transfer.session.id
            or other.state is Course.STORING
            or not other.is_worth_keeping
        ):
            return err(codes.IN_TRANSFER)
        self._suspend(other)
        return None

    def _object_offered(self, session: Session, request: ObjectRequest) -> IncomingObject | Result:
        transfer = self._book.of(session, request.transfer)
        if transfer is None or transfer.mail is None:
            return err(codes.OBJECT_NOT_EXPECTED)
        entry = transfer.next_entry()
        if entry is None or entry.media_type.lower() != request.media_type.lower():
            return self._end(transfer, err(codes.OBJECT_NOT_EXPECTED))
        end = request.offset + request.size
        if end > entry.length or (request.to_come == 0 and end != entry.length):
            return self._end(transfer, err(codes.WRONG_SIZE))
        if request.offset != _held_of(transfer, entry):
            if request.offset:
                self._suspend(transfer)
                return err(codes.WRONG_OFFSET)
            self._drop_held(transfer, entry)
        no_room = self._mail.no_room()
        if no_room is not None:
            self._suspend(transfer)
            return results.refusal(no_room, Stage.BODY)
        if entry is transfer.entry(PartKind.HEADERS):
            return IncomingHeaders(self, transfer, entry)
        return IncomingBody(self, transfer, entry)

    def _drop_held(self, transfer: Transfer, entry: ObjectEntry) -> None:
        """The peer begins this object anew."""
        if entry is transfer.entry(PartKind.HEADERS):
            transfer.headers = bytearray()
        elif transfer.body is not None:
            self._abandon(transfer.body)
            transfer.body = None
            if transfer.mail is not None:
                transfer.mail.stream = None

    # --- the envelope ---------------------------------------------------------------------------------------

    async def envelope_ended(self, transfer: Transfer) -> ObjectAnswer:
        """The envelope has come whole: the answer to it."""
        try:
            answer = await self._judge_envelope(transfer)
        except Refused as refused:
            answer = ObjectAnswer(refused.result)
        except ObjectError as error:
            answer = ObjectAnswer(_invalid(error))
        except Exception as error:
            self._observer.reception_failed(transfer.session, "envelope", error)
            answer = ObjectAnswer(_LOCAL_ERROR)
        return self._settled(transfer, answer)

    def _settled(self, transfer: Transfer, answer: ObjectAnswer) -> ObjectAnswer:
        """What is answered, unless the transfer was killed meanwhile."""
        code = answer.result.code
        if not answer.result.is_ok or code in (codes.ALREADY_TAKEN, codes.MESSAGE_TAKEN):
            was_open = transfer.state is not Course.ENDED
            self._end(transfer, answer.result)
            return answer if was_open else ObjectAnswer(err(codes.TRANSFER_KILLED))
        if transfer.state is Course.ENDED:
            return ObjectAnswer(err(codes.TRANSFER_KILLED))
        return answer

    async def _judge_envelope(self, transfer: Transfer) -> ObjectAnswer:
        envelope = await _parsed(transfer.octets, read_envelope)
        transfer.is_about(envelope)
        transfer.digest = hashlib.sha256(transfer.octets).digest()
        if not await self._book.claimed(transfer):  # before it is looked up: then nobody else commits it
            return ObjectAnswer(err(codes.IN_TRANSFER))
        known = await self._taken_before(transfer)
        if known is not None:
            return ObjectAnswer(known)
        mail, judged = await self._envelopes.judge(transfer, envelope)
        if transfer.state is Course.ENDED:
            return ObjectAnswer(err(codes.TRANSFER_KILLED))
        self._judged[transfer] = judged
        transfer.mail = mail
        self._go_on(transfer)
        await self._read_saved(transfer)
        if not envelope.objects:
            return ObjectAnswer(await self._take_alone(transfer))
        said = (
            *results.said_of_recipients(transfer.results),
            *results.extension_parts(judged.said.parts),
        )
        parts = tuple((one.media_type, one.length) for one in envelope.objects)
        return ObjectAnswer(ok(codes.ENVELOPE_ACCEPTED, *said), parts)

    async def _taken_before(self, transfer: Transfer) -> Result | None:
        """The answer to a transfer that was taken already, or whose id another has (MT2-18a)."""
        if not transfer.peer:
            return None
        try:
            found = await self._parts.spool.find_transfer(transfer.peer, transfer.id)
        except SpoolError:
            return err(codes.NOT_NOW)
        if found is None:
            return None
        if found.digest != transfer.digest:
            return err(codes.TRANSFER_ID_REUSED)
        self._observer.transfer_repeated(transfer.session, transfer.id, found.message)
        said = results.said_of_recipients(results.remembered_results(found.recipients))
        return ok(codes.ALREADY_TAKEN, *said, text=f"Already taken as {found.message}.")

    def _go_on(self, transfer: Transfer) -> None:
        """With what came before the connection broke, if it is the same envelope (MT2-18b)."""
        if not transfer.peer:
            return
        kept = self._book.partials.find(transfer.key, transfer.session)
        if kept is None:
            return
        if kept.digest != transfer.digest:
            self._book.partials.forget(transfer.key)
            return
        self._book.partials.take(transfer.key)
        transfer.go_on_with(kept)
        self._observer.transfer_resumed(transfer.session, transfer.id, transfer.size)

    async def _read_saved(self, transfer: Transfer) -> None:
        """What this server's predecessor, or another worker, had of the body comes once more, from a file. It
        stays there until the transfer has ended, lest this one crash before."""
        saved, parts, entry = self._book.partials.saved, transfer.saved, transfer.entry(PartKind.BODY)
        transfer.saved = None
        if saved is None or parts is None:
            return
        if entry is not None and parts.body_size:
            self.begin_body(transfer, entry)
            pieces = saved.body(parts)
            try:
                while transfer.state is Course.OPEN:
                    piece = await asyncio.to_thread(next, pieces, b"")
                    waiting = self.body_octets(transfer, piece) if piece else None
                    if waiting is not None:
                        await waiting
                    if not piece:
                        break
            except OSError:
                self._drop_held(transfer, entry)

    # --- headers and body -----------------------------------------------------------------------------------

    def headers_ended(self, transfer: Transfer, entry: ObjectEntry) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """The headers object has come whole. The ordinary one is judged at once."""
        octets = bytes(transfer.headers)
        if len(octets) != entry.length:
            return self._settled(transfer, ObjectAnswer(err(codes.WRONG_SIZE)))
        if hashlib.sha256(octets).digest() != entry.sha256:
            return self._settled(transfer, ObjectAnswer(err(codes.WRONG_DIGEST)))
        if entry.media_type.lower() != HEADERS_TYPE:
            return self._headers_read(transfer, None)
        if len(octets) > LARGE_DOCUMENT:
            return self._large_headers(transfer, octets)
        try:
            return self._headers_read(transfer, read_headers(octets))
        except ObjectError as error:
            return self._settled(transfer, ObjectAnswer(_invalid(error)))

    async def _large_headers(self, transfer: Transfer, octets: bytes) -> ObjectAnswer:
        try:
            answer = self._headers_read(transfer, await _parsed(octets, read_headers))
        except ObjectError as error:
            return self._settled(transfer, ObjectAnswer(_invalid(error)))
        return answer if isinstance(answer, ObjectAnswer) else await answer

    def _headers_read(
        self, transfer: Transfer, parsed: HeadersObject | None
    ) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """Filter on header fields before the body costs an octet (MT2-15, MT2-26); where rules look at MIME
        fields, which come with the body, they wait for it. Raises ObjectError."""
        mail = transfer.mail
        if mail is None:
            raise AssertionError("headers before an envelope")
        transfer.fields = None if parsed is None else rendered(parsed)
        decision: Decision = HEADERS_TAKEN
        if transfer.fields is not None and not self._waits_for_mime:
            decision = self._mail.headers(mail, transfer.fields.section(_NO_BODY))
        if isinstance(decision, Reply) and transfer.entry(PartKind.BODY) is not None:
            return self._settled(transfer, _headers_answer(transfer, decision))
        return self._headers_later(transfer, decision)

    async def _headers_later(self, transfer: Transfer, decision: Decision) -> ObjectAnswer:
        try:
            answer = _headers_answer(transfer, await settled(decision))
            if answer.result.is_ok and transfer.entry(PartKind.BODY) is None:
                answer = ObjectAnswer(await self._take_alone(transfer))
        except Exception as error:
            self._observer.reception_failed(transfer.session, Stage.HEADERS.value, error)
            answer = ObjectAnswer(_LOCAL_ERROR)
        return self._settled(transfer, answer)

    def begin_body(self, transfer: Transfer, entry: ObjectEntry) -> None:
        """See `ObjectDesk`."""
        if transfer.body is None:
            transfer.body = ArrivingBody(entry, self._settings.inline_limit)

    def body_octets(self, transfer: Transfer, octets: bytes) -> Awaitable[None] | None:
        """Octets of the body object."""
        mail, body = transfer.mail, transfer.body
        if transfer.state is not Course.OPEN or mail is None or body is None:
            return None
        return body.write(octets, lambda: self._mail.body_stream(mail))

    def body_ended(self, transfer: Transfer, entry: ObjectEntry) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """The body object has come whole. The answer to the ordinary message hangs on its commit alone: no
        task waits for it."""
        body = transfer.body
        if transfer.state is not Course.OPEN or body is None:
            return ObjectAnswer(err(codes.TRANSFER_KILLED))
        try:
            whole = self._whole(transfer, entry, body)
            if isinstance(whole, Result):
                return self._settled(transfer, ObjectAnswer(whole))
            if body.stream is not None:
                return self._settled_later(transfer, self._take_streamed(transfer, whole, body))
            commit = self._handed_in(transfer, whole.mail, whole.content(body.inline()), whole.objects)
        except Exception as error:
            return self._settled(transfer, self._body_failed(transfer, error))
        if isinstance(commit.reply, asyncio.Future):
            return self._answered_by(commit, commit.reply)
        return self._settled_later(transfer, self._committed(commit))

    def _answered_by(self, commit: _Commit, stored: asyncio.Future[Reply]) -> asyncio.Future[ObjectAnswer]:
        answer: asyncio.Future[ObjectAnswer] = stored.get_loop().create_future()

        def told(said: ObjectAnswer) -> None:
            if not answer.done():
                answer.set_result(said)

        def done(outcome: asyncio.Future[Reply]) -> None:
            if outcome.cancelled() or outcome.exception() is not None or not outcome.result().is_positive:
                self._in_background(later())
                return
            try:
                said = ObjectAnswer(self._taken(commit, outcome.result()))
            except Exception as error:
                said = self._body_failed(commit.transfer, error)
            told(self._settled(commit.transfer, said))

        async def later() -> None:
            told(await self._settled_later(commit.transfer, self._committed(commit)))

        stored.add_done_callback(done)
        return answer

    async def _settled_later(self, transfer: Transfer, taking: Awaitable[Result]) -> ObjectAnswer:
        try:
            answer = ObjectAnswer(await taking)
        except Exception as error:
            answer = self._body_failed(transfer, error)
        return self._settled(transfer, answer)

    def _body_failed(self, transfer: Transfer, error: Exception) -> ObjectAnswer:
        self._observer.reception_failed(transfer.session, Stage.BODY.value, error)
        return ObjectAnswer(_LOCAL_ERROR)

    def _whole(self, transfer: Transfer, entry: ObjectEntry, body: ArrivingBody) -> _Whole | Result:
        """All objects are here: the message that they are, or why they are none."""
        mail = transfer.mail
        if mail is None or transfer.envelope is None:
            raise AssertionError("a body before an envelope")
        if body.size != entry.length:
            return err(codes.WRONG_SIZE)
        if body.fault is not None or body.prefix is None:
            return err(codes.MIME_SYNTAX, text=results.plain(str(body.fault or "")))
        if body.digest() != entry.sha256:
            return err(codes.WRONG_DIGEST)
        objects = _objects_of(transfer, body.prefix, has_body=True)
        try:
            section = _section(transfer, objects, transfer.envelope, follows=body.size > len(body.prefix))
        except ObjectError as error:
            return _invalid(error)
        is_clean, is_ascii = body.is_clean(section), body.is_ascii and section.isascii()
        _declare(mail, is_clean=is_clean, is_ascii=is_ascii)
        transfer.state = Course.STORING
        return _Whole(mail, objects, section, is_clean, is_ascii)

    async def _take_streamed(self, transfer: Transfer, whole: _Whole, body: ArrivingBody) -> Result:
        content = whole.content(await body.finish())
        return await self._commit(transfer, whole.mail, content, whole.objects)

    async def _take_alone(self, transfer: Transfer) -> Result:
        """A message without a body: a control message, or headers alone (MT2-2)."""
        mail, envelope = transfer.mail, transfer.envelope
        if mail is None or envelope is None:
            raise AssertionError("nothing to take without an envelope")
        objects = _objects_of(transfer, b"", has_body=False)
        try:
            section = _section(transfer, objects, envelope, follows=False)
        except ObjectError as error:
            return _invalid(error)
        text = _report_text(envelope)
        _declare(mail, is_clean=True, is_ascii=section.isascii() and text.isascii())
        transfer.state = Course.STORING
        content = Content(section, InlineBody(text), section.isascii() and text.isascii())
        return await self._commit(transfer, mail, content, objects)

    # --- commit ---------------------------------------------------------------------------------------------

    async def _commit(
        self, transfer: Transfer, mail: MailTransaction, content: Content, objects: MessageObjects
    ) -> Result:
        return await self._committed(self._handed_in(transfer, mail, content, objects))

    def _handed_in(
        self, transfer: Transfer, mail: MailTransaction, content: Content, objects: MessageObjects
    ) -> _Commit:
        now = self._parts.clock()
        mail.objects = objects
        if transfer.peer:
            mail.transfer = TakenTransfer(
                transfer.peer,
                transfer.id,
                transfer.digest,
                mail.id,
                now,
                now + self._settings.remember_for,
                results.kept_results(transfer.results),
            )
        return _Commit(transfer, mail, now, self._mail.finish(mail, content))

    async def _committed(self, commit: _Commit) -> Result:
        reply = await commit.reply
        if not reply.is_positive:
            return await self._not_taken(commit.transfer, commit.mail, reply)
        return self._taken(commit, reply)

    def _taken(self, commit: _Commit, reply: Reply) -> Result:
        """It is durable."""
        transfer = commit.transfer
        hop = _hop_facts(transfer, commit.mail, self._settings.hostname, commit.now)
        judged = self._judged.get(transfer)
        if judged is not None and (judged.carried or judged.said.messages):
            self._in_background(self._after(transfer.session, judged, hop))
        said = (*results.said_of_recipients(transfer.results), *self._final_parts(transfer.session, hop))
        return ok(codes.MESSAGE_TAKEN, *said, text=results.plain(reply.text))

    async def _not_taken(self, transfer: Transfer, mail: MailTransaction, reply: Reply) -> Result:
        """Refused, or the disk did not take it - or it was taken over another connection meanwhile."""
        if reply.is_temporary and mail.handed_in:
            known = await self._taken_before(transfer)
            if known is not None and known.is_ok:
                if mail.stream is not None:
                    await mail.stream.abandon()  # the spool keeps what is a message's
                return known
        return results.refusal(reply, Stage.BODY)

    def _final_parts(self, session: Session, hop: HopFacts) -> tuple[Extension, ...]:
        if self._desk is None:
            return ()
        chosen = dict.fromkeys(session.options, ("ON",))
        return results.extension_parts(self._desk.final_parts(hop, chosen))

    async def _after(self, session: Session, judged: JudgedEnvelope, hop: HopFacts) -> None:
        """What extensions want sent, now that the message is ours. It is stored and acknowledged, whatever
        becomes of this."""
        await self._envelopes.ended(judged)
        try:
            messages = judged.said.messages
            if self._desk is not None and judged.carried and judged.facts is not None:
                messages += await self._desk.passed(
                    replace(judged.facts, recipients=judged.recipients), judged.carried, hop
                )
            if messages and self._send is not None:
                await self._send(messages, hop.message)
        except Exception as error:
            self._observer.reception_failed(session, "extensions", error)

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # --- the end of a transfer ------------------------------------------------------------------------------

    def _end(self, transfer: Transfer, result: Result) -> Result:
        """It is over; what it brought is forgotten unless it is stored."""
        was_storing = transfer.state is Course.STORING
        transfer.refusal = result
        if self._book.owns(transfer):
            self._book.partials.forget(transfer.key)
        self._book.end(transfer)
        judged = self._judged.pop(transfer, None)
        if judged is not None and judged.carried and result.code != codes.MESSAGE_TAKEN:
            self._in_background(self._envelopes.ended(judged))
        if transfer.body is not None and not result.is_ok and not was_storing:
            self._abandon(transfer.body)
        return result

    def _abandon(self, body: ArrivingBody) -> None:
        if body.stream is not None:
            self._in_background(body.abandon())

    def _suspend(self, transfer: Transfer) -> None:
        """Keep what it brought, as far as that can be resumed."""
        mail, is_worth = transfer.mail, transfer.is_worth_keeping
        size, kept = transfer.size, transfer.detached()
        self._book.end(transfer)
        self._judged.pop(transfer, None)
        if is_worth and self._book.partials.keep(kept):
            self._observer.transfer_kept(transfer.session, transfer.id, size)
        else:
            self._book.disclaim(kept)
            if kept.body is not None:
                self._abandon(kept.body)
        if mail is not None:
            mail.stream = None
            self._mail.abandoned(mail, "the connection broke")

    def aborted(self, session: Session, transfer: str, why: str = "killed by its sender") -> bool:
        """See the interface."""
        found = self._book.of(session, transfer)
        if found is None or found.state is not Course.OPEN:
            return False
        mail = found.mail
        self._end(found, err(codes.TRANSFER_KILLED))
        if mail is not None:
            self._mail.abandoned(mail, why)
        return True

    async def closed(self, session: Session, why: str) -> None:
        """See the interface."""
        del why
        for transfer in self._book.all_of(session):
            if transfer.state is Course.OPEN:
                self._suspend(transfer)

    async def close(self) -> None:
        """The server ends: nothing is kept to be resumed."""
        await self._book.partials.close()
        if self._background:
            await asyncio.wait(set(self._background))

    # --- STAT -----------------------------------------------------------------------------------------------

    async def status(self, session: Session, transfer: str) -> TransferStatus:
        """See the interface."""
        peer = self._peer(session)
        if not peer:
            return TransferStatus(TransferState.UNKNOWN)
        told = await self._book.held_elsewhere((peer, transfer))
        if told is not None:
            return TransferStatus(TransferState.RECEIVING, told)
        found = await self._parts.spool.find_transfer(peer, transfer)
        if found is not None:
            said = results.remembered_results(found.recipients)
            return TransferStatus(await self._outcome(found), recipients=said)
        here = self._book.under_way((peer, transfer)) or self._book.partials.find((peer, transfer), session)
        is_begun = here is not None and (here.mail or here.message_id or here.saved)
        if here is None or here.envelope is None or not is_begun:
            return TransferStatus(TransferState.UNKNOWN)
        return TransferStatus(TransferState.RECEIVING, here.held())

    async def held_here(self, key: Key, *, give_up: bool) -> Mapping[str, int] | None:
        """Another worker asks what is held of a transfer that is under way here, None for none. It may be
        `give_up`: the peer came back to that worker, and this one need not wait for octets any more."""
        await self._book.written(key)
        here = self._book.under_way(key)
        if here is None or here.envelope is None or here.mail is None:
            return None
        held = here.held()
        if give_up and here.state is Course.OPEN and here.is_worth_keeping:
            self._suspend(here)
            await self._book.written(key)
        return held

    async def _outcome(self, taken: TakenTransfer) -> TransferState:
        """What became of a message. One that is forgotten has long ended, and failures were reported; one
        that is unknown so soon is another worker's."""
        try:
            items = await self._parts.spool.items(MessageId(taken.message))
        except NotFound:
            is_recent = self._parts.clock() - taken.taken_at < self._settings.keep_finished
            return TransferState.QUEUED if is_recent else TransferState.DELIVERED
        if any(item.state is not ItemState.DONE for item in items):
            return TransferState.QUEUED
        states = {one.state for item in items for one in item.recipients}
        failed = states & {RecipientState.FAILED, RecipientState.DROPPED}
        return TransferState.FAILED if failed else TransferState.DELIVERED


# --- small things -------------------------------------------------------------------------------------------


async def _parsed(octets: bytes, read: Callable[[bytes], T]) -> T:
    """The document; a large one is read in a thread. Raises ObjectError."""
    if len(octets) <= LARGE_DOCUMENT:
        return read(octets)
    return await asyncio.get_running_loop().run_in_executor(None, read, octets)


def _invalid(error: ObjectError) -> Result:
    return err(codes.INVALID_OBJECT, text=results.plain(str(error)))


def _headers_answer(transfer: Transfer, reply: Reply) -> ObjectAnswer:
    if not reply.is_positive:
        return ObjectAnswer(results.refusal(reply, Stage.HEADERS))
    if transfer.state is not Course.OPEN:
        return ObjectAnswer(err(codes.TRANSFER_KILLED))
    transfer.headers_complete = True
    return _OBJECT_ACCEPTED


def _held_of(transfer: Transfer, entry: ObjectEntry) -> int:
    if entry is transfer.entry(PartKind.HEADERS):
        return len(transfer.headers)
    return 0 if transfer.body is None else transfer.body.size


def _section(
    transfer: Transfer, objects: MessageObjects, envelope: LayeredEnvelope, *, follows: bool
) -> bytes:
    """What the message is to SMTP, of the fields that were read already where they can be. Raises
    ObjectError."""
    if transfer.fields is None:
        return header_section(objects, envelope, body_follows=follows)
    prefix = objects.body_prefix if objects.has_body else _NO_BODY
    return transfer.fields.section(prefix, body_follows=follows)


def _objects_of(transfer: Transfer, prefix: bytes, *, has_body: bool) -> MessageObjects:
    entry = transfer.entry(PartKind.HEADERS)
    media_type = HEADERS_TYPE if entry is None else entry.media_type
    return MessageObjects(transfer.octets, bytes(transfer.headers), prefix, media_type, has_body)


def _declare(mail: MailTransaction, *, is_clean: bool, is_ascii: bool) -> None:
    """What BODY= would have said, now that the content is known."""
    body_type = BodyType.SEVEN_BIT if is_ascii else BodyType.EIGHT_BIT
    mail.request = replace(mail.request, body_type=body_type if is_clean else BodyType.BINARY)


def _hop_facts(transfer: Transfer, mail: MailTransaction, hostname: str, now: float) -> HopFacts:
    session = transfer.session
    tls = "" if session.tls is None else str(session.tls)
    return HopFacts(hostname, transfer.peer, "mt2", tls, now, mail.id)


def _report_text(envelope: LayeredEnvelope) -> bytes:
    """What a mailbox shows of a control message."""
    report = envelope.report
    if report is None:
        return b""
    lines = [f"{report.reporter} reports on the message {report.about} ({report.kind}):", ""]
    for one in report.recipients:
        code = f" [{one.code or one.status}]" if one.code or one.status else ""
        lines.append(f"  {one.address}: {one.action}{code} {one.text}".rstrip())
    return ("\r\n".join(lines) + "\r\n").encode()
