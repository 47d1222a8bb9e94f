"""One end of an MT2 connection, without I/O (MT2-6 to MT2-18e).

The same core serves the end that accepted the connection and the one that opened it: they differ in who
greets. `session` holds the state; octets come in by `frames` and `lines`; requests of the other side are
dealt with in `answering` and `incoming`, our own in `asking` and `outgoing`; `timers` watches the clock.
This is what a driver sees of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Self

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.answering import Answering
from outrider.protocols.mt2.asking import ASK_TLS, Asking
from outrider.protocols.mt2.codes import Result, Word, err, ok, tmp
from outrider.protocols.mt2.events import Mt2Event, OutgoingObject, PeerSettings
from outrider.protocols.mt2.frames import FrameReader, ProtocolViolation, Sink
from outrider.protocols.mt2.lines import (
    MAX_TAG,
    UNSOLICITED,
    XFER,
    Extension,
    MalformedLine,
    Param,
    Request,
    parse_line,
)
from outrider.protocols.mt2.options import Grant, Offer, wanted_options
from outrider.protocols.mt2.session import Session, State
from outrider.protocols.mt2.status import TransferStatus, status_result
from outrider.protocols.mt2.timers import Alarm

TAGS_KEPT_BACK: Final = 1_000_000
"""Nothing is begun on a connection that has fewer tags left."""


class Mt2Peer:
    """The core; make it with `server` or `client` when the connection stands (after TLS, where TLS is
    implicit).

    `now` is always the driver's clock, in seconds. Verbs about a tag that is no longer live (killed, dropped,
    session ended) do nothing and answer False; requests of a session that has ended have the tag 0: a driver
    need not watch for the race. Requests before the greeting and after `quit` raise `RuntimeError`.
    """

    def __init__(self, settings: PeerSettings, offer: Offer, now: float, *, is_server: bool) -> None:
        """For `server` and `client`."""
        self.settings = settings
        self._reader = FrameReader(self._line, self._data)
        self._session = Session(settings, offer, now, self._reader, is_server=is_server)
        self._wire = self._session.wire
        self._incoming = self._session.incoming
        self._asking = Asking(self._session)
        self._answering = Answering(self._session)

    @classmethod
    def server(cls, settings: PeerSettings, host: str, nonce: str, offer: Offer, now: float) -> Self:
        """The end that accepted the connection: it greets with its name, a fresh nonce, and what it offers to
        the unidentified (MT2-10a)."""
        peer = cls(settings, offer, now, is_server=True)
        peer._session.greet(host, nonce)
        return peer

    @classmethod
    def client(cls, settings: PeerSettings, offer: Offer, now: float) -> Self:
        """The end that opened it; requests may be made after `Greeted`. `offer` is for the server's own
        mail."""
        return cls(settings, offer, now, is_server=False)

    # -- the driver's contract -----------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Octets from the other side. Take all events before reading more: that is what bounds memory; and
        stop reading while the other side does not read what we send."""
        if self._session.state is State.ENDED or not data:
            return
        self._wire.now = now
        try:
            self._refuse_octets_before_tls(len(data))
            self._reader.feed(data)
            self._refuse_octets_before_tls(self._reader.held)
        except ProtocolViolation as violation:
            self._session.unsolicited(err(violation.code))
            self._session.end(str(violation), orderly=False, misbehaved=True)
            return
        self._session.timers.heard(now, inside_line=self._reader.inside_line)
        self._after_change()

    def _refuse_octets_before_tls(self, octets: int) -> None:
        """Between the OPT and TLS nothing is said: somebody else would have put it there (MT2-9)."""
        if octets and self._session.state is State.TLS_BEGINS:
            raise ProtocolViolation("octets before TLS had begun")

    def receive_eof(self, now: float) -> None:
        """The other side has closed; nothing more can be answered."""
        self._wire.now = now
        between = not self._reader.inside_frame and self._session.state is State.OPEN
        self._session.end("the connection was closed", orderly=self.is_idle and between)

    def next_event(self) -> Mt2Event | None:
        """The next thing that happened; None until more octets have come."""
        events = self._wire.events
        return events.popleft() if events else None

    def bytes_to_send(self) -> bytes:
        """Everything for the wire since the last call."""
        out = self._wire.out
        if not out:
            return b""
        octets = b"".join(out)
        out.clear()
        return octets

    def deadline(self) -> float | None:
        """When `timed_out` is to be called; None when never."""
        if self._session.state is State.ENDED:
            return None
        return self._session.timers.deadline(outstanding=bool(self._session.outstanding))

    def timed_out(self, now: float) -> None:
        """`deadline` has passed; harmless when it has not."""
        session = self._session
        if session.state is State.ENDED:
            return
        self._wire.now = now
        outstanding = bool(session.outstanding)
        alarm = session.timers.alarm(now, self._octets_come, self._octets_due, outstanding=outstanding)
        if alarm is Alarm.SILENCE and session.state is State.OPEN and not session.our_quit:
            session.timers.asked_for_life(now)
            self._asking.ask("NOOP")
        elif alarm is not None:
            self.close(err(codes.TIMED_OUT), _ALARMS[alarm], now)

    def reading_paused(self, now: float) -> None:
        """We have stopped reading from the connection: nothing is asked of the other side meanwhile."""
        self._session.timers.pause()

    def reading_resumed(self, now: float) -> None:
        """We read again."""
        self._session.timers.resume(now)

    # -- what is in force ----------------------------------------------------------------------------

    @property
    def ours(self) -> Grant:
        """Options in force for our requests."""
        return self._session.outgoing.grant

    @property
    def theirs(self) -> Grant:
        """Options in force for theirs (`trace`: put a TRACE extension into final answers)."""
        return self._incoming.grant

    @property
    def can_transfer(self) -> bool:
        """A transfer begun now would be sent on: greeted, not leaving nor left."""
        session = self._session
        leaving = session.our_quit or session.their_quit or self._incoming.leaving
        return (
            session.state is State.OPEN
            and not leaving
            and session.their_last is None
            and session.last_tag < MAX_TAG - TAGS_KEPT_BACK
        )

    @property
    def transfers_under_way(self) -> int:
        """Ours, begun and not ended."""
        return self._session.outgoing.under_way

    @property
    def transfers_coming(self) -> int:
        """Theirs, begun and not ended."""
        return self._incoming.under_way

    @property
    def is_idle(self) -> bool:
        """Nothing under way in either direction."""
        return self._session.is_idle

    @property
    def window_used(self) -> int:
        """Octets granted to the other side and not answered."""
        return self._incoming.window_used

    @property
    def octets_held(self) -> int:
        """Octets kept here: in the reader and in events not taken. Counted anew, not for every event."""
        return self._reader.held + sum(len(getattr(event, "octets", b"")) for event in self._wire.events)

    @property
    def _octets_due(self) -> int:
        return self._incoming.arrivals.due + self._session.their_identity.due

    @property
    def _octets_come(self) -> int:
        return self._incoming.arrivals.octets + self._session.their_identity.come

    # -- requests of ours ----------------------------------------------------------------------------

    def helo(self, certificate: bytes, host: str, now: float, *, nonce: str = "", prove: bool = False) -> int:
        """Prove ourselves (MT2-10a): b"" for the TLS certificate. `nonce` is for the other side's proof,
        `prove` asks for one. The answer comes as `Answered` with the options for us."""
        self._wire.now = now
        return self._asking.helo(certificate, host, nonce=nonce, prove=prove)

    def opt(self, options: Sequence[Extension], now: float) -> int:
        """Ask for options. What the answer grants is in force (`ours`) when `Answered` is there."""
        self._wire.now = now
        return self._asking.opt(options)

    def opt_grant(self, wanted: Offer, now: float) -> int:
        """`opt` for PIPE, WINDOW, MAXPART, INFLIGHT and TRACE as in `wanted`."""
        return self.opt(wanted_options(wanted), now)

    def start_tls(self, now: float) -> int:
        """Ask for TLS (MT2-9): `TlsAgreed` follows when it is granted."""
        return self.opt((ASK_TLS,), now)

    def stat(self, transfer_id: str, now: float) -> int:
        """Ask what became of a transfer (MT2-13): `status.read_status` reads the result."""
        return self.request("STAT", (transfer_id,), (), now)

    def noop(self, now: float) -> int:
        """Ask whether the other side is there."""
        return self.request("NOOP", (), (), now)

    def quit(self, now: float) -> int:
        """No request follows; the session ends when all is answered."""
        tag = self.request("QUIT", (), (), now)
        self._session.our_quit = True
        return tag

    def request(self, verb: str, params: Sequence[Param], extensions: Sequence[Extension], now: float) -> int:
        """A verb without data."""
        self._wire.now = now
        return self._asking.ask(verb, params, extensions) if self._asking.is_open() else 0

    def transfer(self, transfer_id: str, objects: Sequence[OutgoingObject], now: float) -> bool:
        """Send a message: the envelope, then what it lists, in order. Queued as far as options require.
        False: nothing more goes out here (`can_transfer`), and nothing was begun."""
        self._wire.now = now
        if not self._asking.is_open() or not self.can_transfer:
            return False
        self._asking.begin_answers()
        self._session.outgoing.add(transfer_id, objects)
        return True

    def send_octets(self, tag: int, octets: bytes, now: float) -> bool:
        """The next octets of a stream (`OctetsWanted`)."""
        self._wire.now = now
        return self._session.state is not State.ENDED and self._session.outgoing.send_octets(tag, octets)

    def abort(self, transfer_id: str, now: float) -> bool:
        """Kill a transfer of ours (ABOR). `TransferEnded` follows: killed, or its own result if it was too
        late."""
        self._wire.now = now
        return self._session.state is State.OPEN and self._asking.abort(transfer_id)

    # -- answers to theirs ---------------------------------------------------------------------------

    def welcome(self, tag: int, offer: Offer, now: float, *, text: str = "") -> bool:
        """Accept the identity of an `IdentityOffered`; `offer` is for this identity and replaces the one
        before."""
        return self._begin_answer(now) and self._done(self._answering.welcome(tag, offer, text=text))

    def grant(self, tag: int, now: float) -> bool:
        """Let the object of an `ObjectOffered` come, as the window allows."""
        return self._begin_answer(now) and self._done(self._incoming.grant_object(tag))

    def taken(self, tag: int, now: float) -> bool:
        """The octets of a fragment that ended inside its object are dealt with."""
        return self._begin_answer(now) and self._done(self._incoming.taken(tag))

    def answer(self, tag: int, result: Result, now: float, *, parts: Sequence[tuple[str, int]] = ()) -> bool:
        """The answer to a whole object (OK or ERR), to an offered one (ERR, or OK `ALREADY_TAKEN`), or to
        any other request of theirs. ERR ends the transfer. For an envelope that is accepted, `parts` are the
        media types and lengths of the objects to come, in order; none: the transfer is complete."""
        if result.word is Word.TMP:
            raise ValueError("an answer is OK or ERR")
        return self._begin_answer(now) and self._done(self._answering.answer(tag, result, parts=parts))

    def refuse_transfer(self, transfer_id: str, result: Result, now: float) -> bool:
        """Refuse a transfer of theirs at any moment, also between two fragments."""
        if result.word is not Word.ERR:
            raise ValueError("a refusal is ERR")
        return self._begin_answer(now) and self._done(self._incoming.refuse_transfer(transfer_id, result))

    def answer_options(self, tag: int, answers: Sequence[Extension], now: float) -> bool:
        """One extension with a `result` for each option asked."""
        return self._begin_answer(now) and self._done(self._answering.answer_options(tag, answers))

    def answer_status(self, tag: int, status: TransferStatus, now: float) -> bool:
        """The answer to `StatusAsked`."""
        if self._session.pending.get(tag) != "STAT":
            return False
        return self.answer(tag, status_result(status), now)

    def _begin_answer(self, now: float) -> bool:
        self._wire.now = now
        return self._session.state is not State.ENDED

    def _done(self, done: bool) -> bool:
        self._after_change()
        return done

    # -- the end, and TLS ----------------------------------------------------------------------------

    def leave(self, now: float, text: str = "") -> None:
        """Say that we go away (MT2-12): what was begun is finished, then the session ends."""
        session = self._session
        self._wire.now = now
        if session.state is not State.OPEN:
            session.end("we go away", orderly=True)
        elif not self._incoming.leaving:
            self._incoming.leaving = True
            last = Extension("LAST", (str(self._incoming.last_tag),))
            session.unsolicited(tmp(codes.GOING_AWAY, last, text=text))
            session.outgoing.give_back()
            self._after_change()

    def tls_started(self, now: float, *, host: str = "", nonce: str = "", offer: Offer | None = None) -> None:
        """TLS stands after `TlsAgreed`: what was learnt before it is forgotten; a server greets anew."""
        session = self._session
        if session.state is not State.TLS_BEGINS:
            raise RuntimeError("TLS was not agreed upon")
        self._wire.now = now
        session.restart_in_tls(replace(offer or session.offer, tls=False), now)
        if session.is_server:
            session.greet(host, nonce)

    def close(self, result: Result, reason: str, now: float) -> None:
        """End the session at once with an unsolicited result."""
        if self._session.state is State.ENDED:
            return
        self._wire.now = now
        if self._session.state is not State.TLS_BEGINS:
            self._session.unsolicited(result)
        self._session.end(reason, orderly=False)

    def _after_change(self) -> None:
        """See what follows from what has been read or answered."""
        session = self._session
        if session.state is State.ENDED:
            return
        timers = session.timers
        if not timers.watches_data and (self._incoming.arrivals.due or session.their_identity.pending_tag):
            timers.data_due(self._wire.now, self._octets_come, self._octets_due)
        if session.their_quit and not session.their_requests and not session.outgoing.outstanding:
            self._wire.respond(session.their_quit, ok(codes.CLOSING))
            session.end("the other side ended the session by QUIT", orderly=True)
        elif self._incoming.leaving and session.is_idle:
            session.end("we go away", orderly=True)

    # -- frames --------------------------------------------------------------------------------------

    def _line(self, line: bytes) -> None:
        """A line frame: the usual request and the usual response first, each read at one stroke."""
        if self._session.state is State.OPEN:
            match = XFER.fullmatch(line)
            if match is not None:
                tag, size, to_come = int(match[1]), int(match[4]), int(match[5])
                if self._answering.admit(tag, "XFER"):
                    transfer_id, media_type = match[2].decode("ascii"), match[3].decode("ascii")
                    self._answering.transfer_asked(tag, transfer_id, media_type, size, to_come, 0)
                return
            if self._asking.plain_response(line):
                return
        try:
            parsed = parse_line(line)
        except MalformedLine as fault:
            raise ProtocolViolation(f"malformed line: {fault}") from None
        if isinstance(parsed, Request):
            if self._session.state is not State.OPEN:
                raise ProtocolViolation("a request before the greeting")
            self._answering.request(parsed)
        elif parsed.tag == UNSOLICITED:
            self._asking.unsolicited(parsed.result)
        else:
            self._asking.response(parsed.tag, parsed.result)

    def _data(self, tag: int, length: int) -> Sink:
        """The head of a data frame."""
        if tag == self._session.their_identity.pending_tag:
            return self._session.their_identity.sink(length)
        return self._incoming.sink(tag, length)


_ALARMS: Final = {
    Alarm.SILENCE: "silence",
    Alarm.NO_LIFE: "silence, and no answer to NOOP",
    Alarm.SLOW_FRAME: "a frame took too long",
    Alarm.SLOW_DATA: "data came too slowly",
    Alarm.NO_ANSWER: "no answer",
}
