"""One MT2 connection on asyncio, whichever side opened it: drives `Mt2Peer` (MT2-6 to MT2-18e).

Unlike the other sessions, one of MT2 never waits for a single answer: transfers of both directions run at the
same time, each at its own pace (`mt2_incoming`, `mt2_outgoing`), and both sides read while they write.

What a connection may hold is bounded all the same. Their data comes by permission only, at most the window;
what of it waits for the disk stops the reading. Bodies of ours are read while there is room. Only answers are
written without asking: who makes us give answers and does not take them is not read from any more, and after
a while not waited for either (SEC-61, SEC-89).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Final

from outrider.net.listener import AcceptedConnection
from outrider.net.mt2_incoming import HELD_OCTETS, Incoming
from outrider.net.mt2_observer import Mt2Observer
from outrider.net.mt2_outgoing import Outgoing
from outrider.net.session_connection import LOOK_S, SessionConnection
from outrider.net.tls_info import TlsExportError, TlsInfo
from outrider.protocols.mt2.codes import LEAVING, NOT_NOW, err
from outrider.protocols.mt2.events import (
    Answered,
    Greeted,
    IdentityOffered,
    Limits,
    Mt2Event,
    NoticeReceived,
    ObjectOctets,
    ObjectOffered,
    OctetsWanted,
    OptionsAsked,
    SessionEnded,
    StatusAsked,
    TlsAgreed,
    TransferDropped,
    TransferEnded,
    VerbAsked,
)
from outrider.protocols.mt2.peer import Mt2Peer
from outrider.reception.interface import Session
from outrider.reception.mt2_interface import Mt2Reception

ANSWERS_OCTETS: Final = 1_048_576
"""Octets of ours that may wait for a peer that does not read, beyond its window, before we stop reading."""


class NoPeerYet:
    """Stands for the core until it is known whether there is to be one."""

    is_closed = False

    def __init__(self) -> None:
        self.octets = bytearray()
        self.ended = False

    def receive(self, octets: bytes, now: float) -> None:
        """Keep it. Nobody has been asked to say anything, so it is one read's worth: reading has stopped."""
        self.octets += octets

    def receive_eof(self, now: float) -> None:
        """Keep that too."""
        self.ended = True

    def bytes_to_send(self) -> bytes:
        """Nothing."""
        return b""

    def deadline(self) -> float | None:
        """None."""
        return None

    def timed_out(self, now: float) -> None:
        """Nothing."""


class DrivenPeer(Mt2Peer):
    """The core, and whether all has been heard of it."""

    is_closed = False

    def next_event(self) -> Mt2Event | None:
        """The next thing that happened."""
        event = super().next_event()
        if isinstance(event, SessionEnded):
            self.is_closed = True
        return event


class Mt2Connection(SessionConnection):
    """The connection; subclasses are the two ends."""

    __slots__ = (
        "_answers",
        "_has_left",
        "_held",
        "_is_due",
        "_look_s",
        "_peer",
        "_reception",
        "_room",
        "_tasks",
        "incoming",
        "outgoing",
    )

    _observer: Mt2Observer

    def __init__(
        self,
        connection: AcceptedConnection | None,
        session: Session,
        reception: Mt2Reception | None,
        observer: Mt2Observer,
        slow_reader_s: float,
        limits: Limits,
    ) -> None:
        """Nothing happens before `connection_made`. `reception` None: no mail is taken here."""
        super().__init__(connection, NoPeerYet(), session, observer, slow_reader_s)
        self._reception = reception
        self._look_s = min(LOOK_S, limits.idle_s, limits.noop_s, limits.frame_s, limits.rate_s)
        self._peer: DrivenPeer | None = None
        self._has_left = False
        self._is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._room: list[asyncio.Future[None]] = []
        self._answers: dict[int, asyncio.Future[Answered | None]] = {}
        self.incoming = Incoming(self, reception, lambda: self._session)
        self.outgoing = Outgoing(self)

    # -- `mt2_line.Line` -----------------------------------------------------------------------------------

    @property
    def core(self) -> Mt2Peer:
        """The protocol."""
        if self._peer is None:
            raise AssertionError("nothing can be said before the connection stands")
        return self._peer

    def now(self) -> float:
        """The clock of the core."""
        return self._loop.time()

    def advance(self) -> None:
        """The core was told something: send what it has to say, take its events."""
        self._advance()

    def advance_soon(self) -> None:
        """The same at the end of the loop's turn, once for all who want it."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._advance_due)

    def _advance_due(self) -> None:
        self._is_due = False
        self._advance()

    async def wait_room(self) -> None:
        """Wait until the connection takes more octets. Returns at once when it is gone."""
        while self._write_paused_at and not self._is_lost:
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter

    def hold(self, octets: int) -> None:
        """So many octets more (or less) wait for the disk."""
        self._held += octets

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this beside everything else; a fault in it ends the session."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broke(error)

    def broke(self, error: BaseException) -> None:
        """A fault of ours: this session ends, no other hears of it."""
        if self._is_lost:
            self._observer.session_broke(self._session, error)
        else:
            self._break(error)

    def abort(self) -> None:
        """Close at once."""
        self._abort()

    # -- requests of ours ----------------------------------------------------------------------------------

    async def answer_to(self, tag: int) -> Answered | None:
        """Wait for the answer to a request of ours; None when the session ended first."""
        waiting: asyncio.Future[Answered | None] = self._loop.create_future()
        self._answers[tag] = waiting
        self._advance()
        try:
            return None if self.outgoing.is_over and not waiting.done() else await waiting
        finally:
            self._answers.pop(tag, None)

    @property
    def channel_binding(self) -> bytes:
        """32 octets that name this TLS connection (MT2-10b); b"" in the clear."""
        if self._tls_info is None:
            return b""
        try:
            return self._tls_info.tls_exporter_channel_binding()
        except TlsExportError:
            return b""

    # -- the loop ------------------------------------------------------------------------------------------

    def _begin(self, peer: DrivenPeer) -> None:
        """From now on there is a core."""
        waiting, self._core, self._peer = self._core, peer, peer
        if isinstance(waiting, NoPeerYet):
            if waiting.octets:
                peer.receive(bytes(waiting.octets), self._loop.time())
            if waiting.ended:
                peer.receive_eof(self._loop.time())

    def _take_events(self) -> None:
        peer = self._peer
        if peer is None:
            return
        if self._draining and not self._has_left:
            self._has_left = True
            peer.leave(self._loop.time())
        while self._pending is None:
            event = peer.next_event()
            if event is None:
                return
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(self, event)

    def _mind_reading(self) -> None:
        """Read but when too much waits for the disk, or for a peer that does not read."""
        transport, peer = self._transport, self._peer
        if transport is None:
            return
        wanted = self._pending is None
        if peer is not None and wanted:
            wanted = self._held <= HELD_OCTETS
            if wanted and self._write_paused_at:
                wanted = transport.get_write_buffer_size() <= ANSWERS_OCTETS + peer.ours.window
        if wanted is self._is_reading or self._closing_at:
            return
        self._read(wanted)
        if peer is not None and wanted is self._is_reading:
            now = self._loop.time()
            if wanted:
                peer.reading_resumed(now)
            else:
                peer.reading_paused(now)

    def resume_writing(self) -> None:
        """There is room again."""
        waiting, self._room = self._room, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
        super().resume_writing()

    def _longest_look_s(self) -> float:
        return self._look_s

    def _end_broken(self) -> None:
        self._why = "internal error"
        if self._peer is None:
            self._abort()
        else:
            self._peer.close(err(NOT_NOW), self._why, self._loop.time())

    def _tls_entered(self, info: TlsInfo) -> None:
        self._observer.tls_started(self._session, info)

    # -- the end -------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. What is being stored is let finish; everything else ends."""
        if self._peer is not None:
            self._peer.receive_eof(self._loop.time())
            self._drop_events(self._peer)
        self._over()
        for one in self._room:
            if not one.done():
                one.set_result(None)
        finishing = self.incoming.lost()
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending is not None:
            return  # whether it is admitted at all: `_finish_lost` comes when that is known
        if finishing or (self._reception is not None and self._peer is not None):
            self._loop.create_task(self._leave_later(finishing)).add_done_callback(self._task_done)
        else:
            self._leave()

    def _drop_events(self, peer: Mt2Peer) -> None:
        """What the core still has to say of our own transfers, and why the session ended."""
        while (event := peer.next_event()) is not None:
            if isinstance(event, TransferEnded | SessionEnded | Answered):
                self._handlers[type(event)](self, event)

    async def _leave_later(self, finishing: list[asyncio.Future[Any]]) -> None:
        if finishing:
            await asyncio.wait(finishing)
        if self._reception is not None and self._peer is not None:
            await self._reception.closed(self._session, self._why)
        self._leave()

    def _over(self) -> None:
        """No answer comes any more."""
        self.outgoing.over()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result(None)

    def _leave(self) -> None:
        self._messages = self.incoming.messages
        super()._leave()

    # -- events --------------------------------------------------------------------------------------------

    def _object_offered(self, event: ObjectOffered) -> None:
        self.incoming.offered(event)

    def _object_octets(self, event: ObjectOctets) -> None:
        self.incoming.octets(event)

    def _transfer_dropped(self, event: TransferDropped) -> None:
        self.incoming.dropped(event)

    def _status_asked(self, event: StatusAsked) -> None:
        self.incoming.status_asked(event)

    def _octets_wanted(self, event: OctetsWanted) -> None:
        self.outgoing.octets_wanted(event)

    def _transfer_ended(self, event: TransferEnded) -> None:
        self.outgoing.transfer_ended(event)

    def _answered(self, event: Answered) -> None:
        waiting = self._answers.get(event.tag)
        if waiting is not None and not waiting.done():
            waiting.set_result(event)

    def _identity_offered(self, event: IdentityOffered) -> None:
        self.core.answer(event.tag, err(LEAVING if self._draining else NOT_NOW), self._loop.time())

    def _greeted(self, event: Greeted) -> None:
        """The server has spoken."""

    def _tls_agreed(self, event: TlsAgreed) -> None:
        """Hand the connection over."""

    def _options_asked(self, event: OptionsAsked) -> None:
        if self._reception is None:
            raise AssertionError("options are asked of who takes mail")
        answers = self._reception.options_asked(self._session, event.options)
        self.core.answer_options(event.tag, answers, self._loop.time())

    def _verb_asked(self, event: VerbAsked) -> None:
        self.spawn(self._answer_verb(event))

    async def _answer_verb(self, event: VerbAsked) -> None:
        if self._reception is None:
            raise AssertionError("verbs of extensions are asked of who takes mail")
        result = await self._reception.verb_asked(self._session, event.verb, event.params, event.extensions)
        self.core.answer(event.tag, result, self._loop.time())
        self._advance()

    def _notice_received(self, event: NoticeReceived) -> None:
        said = event.result
        self._observer.peer_noticed(self._session, f"{said.word.value} {said.code} {said.text}"[:500])

    def _session_ended(self, event: SessionEnded) -> None:
        self._why = event.reason
        if event.orderly:
            self._peer_ended = True
        if event.misbehaved:
            self._observer.peer_misbehaved(self._session, event.reason)
        self._over()

    _handlers: ClassVar[Mapping[type[Mt2Event], Callable[[Any, Any], None]]] = {
        ObjectOffered: _object_offered,
        ObjectOctets: _object_octets,
        TransferDropped: _transfer_dropped,
        StatusAsked: _status_asked,
        OctetsWanted: _octets_wanted,
        TransferEnded: _transfer_ended,
        Answered: _answered,
        IdentityOffered: lambda self, event: self._identity_offered(event),
        Greeted: lambda self, event: self._greeted(event),
        TlsAgreed: lambda self, event: self._tls_agreed(event),
        OptionsAsked: _options_asked,
        VerbAsked: _verb_asked,
        NoticeReceived: _notice_received,
        SessionEnded: _session_ended,
    }
