"""The machine under a server's session: octets and moments in, events and octets out, commands by tables.

What only others can decide is asked by an event and answered by a verb. The layers above say what commands
mean: `server_content` DATA and BDAT, `server` the others. At any time exactly one reader is at work::

    read a command -> read data | read a chunk | discard a chunk | read an AUTH line | skip a line
                   -> wait (a decision is asked, TLS is being negotiated, or the session is over)

**Nothing runs ahead of a decision.** While an event waits for its answer the reader is `_wait`, and octets
only gather. Replies gather too, so that a pipelined group is answered in one write (RFC 2920 section 3.2).

**Staying in step** (SEC-56 to SEC-60). A client must see our reply before it goes on after connecting and
after HELO, EHLO, LHLO, STARTTLS, AUTH and each AUTH answer; octets that are there already, or come before the
reply, end the session with 554: what was sent blindly was not meant for the session that follows. DATA is
judged by its answer, which no timing can change: after 354 what was there already is content, and after a
refusal it can only be content, so the session ends rather than take it for commands. NOOP, VRFY, EXPN, HELP
and QUIT should be last in a group as well (RFC 2920 section 3.1) but change nothing that follows: they are
answered in order.

**Errors.** A refusal of our own or a permanent one of the driver's counts as an error, until a message is
taken; one recipient too many (452) does not, as RFC 5321 section 4.5.3.1.10 has clients try. At the limit the
refusal is followed by 421 and the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, Final

from outrider.model.reply import Reply
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.commands import CommandError, Verb, is_text, split_command
from outrider.protocols.smtp.server_events import CommandRefused, Event, SessionFailed, TransactionReset
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.protocols.smtp.server_states import AFTER_REFUSAL, OUT_OF_ORDER, TRANSITIONS, State
from outrider.wire.lines import BareLineFeed, LineBuffer, LineTooLong

MAX_SKIPPED_LINE: Final = 4 * 1024 * 1024
"""A line too long is read to its end so that the session may go on; no honest mistake is longer than this."""


class Progress(Enum):
    """What a reader says when it has no event: that it may be called again, or needs more octets."""

    AGAIN = 0
    STARVED = 1


AGAIN: Final = Progress.AGAIN
STARVED: Final = Progress.STARVED
Outcome = Event | Progress


class SessionCore:
    """One client's session, from the greeting to the end.

    The driver's duties, after every call that may have changed something (`receive`, `receive_eof`, `reply`,
    `challenge`, `tls_started`, `timed_out`, `shut_down`): take events with `next_event` until it gives None,
    answer those that ask for a decision, send `bytes_to_send`, close when `is_closed`, and see to it that
    `timed_out` is called at `deadline`. A new session waits for its first decision, the greeting: `reply`
    with 220 lets the client in, with 554 or 421 turns it away.
    """

    __slots__ = (
        "_answer",
        "_eof",
        "_errors",
        "_events",
        "_in_transaction",
        "_input",
        "_junk",
        "_last_octets_at",
        "_lockstep",
        "_now",
        "_out",
        "_phase_began_at",
        "_phase_octets",
        "_reader",
        "_session_ends_at",
        "_settings",
        "_skip_refusal",
        "_skipped",
        "_smtputf8",
        "_state",
        "_wall_offset",
        "limits",
    )

    _transitions: ClassVar[Mapping[tuple[State, Verb], State]] = TRANSITIONS
    """The order of commands."""
    _out_of_order: ClassVar[Mapping[tuple[State, Verb], Reply]] = OUT_OF_ORDER
    """Words for what `_transitions` does not have."""
    _handlers: ClassVar[Mapping[Verb, Callable[[Any, bytes], Outcome]]] = {}
    """What deals with each command."""

    def __init__(self, settings: ServerSettings, now: float, *, wall_offset: float = 0.0) -> None:
        """`now` is a monotonic moment in seconds, as in all calls; `now + wall_offset` is the time of day in
        seconds since the epoch (for FUTURERELEASE)."""
        self.limits = settings.limits
        """May be exchanged at any time (stress)."""
        self._settings = settings
        self._wall_offset = wall_offset
        self._state = State.CONNECTED
        self._input = LineBuffer()
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._eof = False
        self._errors = self._junk = 0
        self._now = self._phase_began_at = self._last_octets_at = now
        self._phase_octets = 0
        self._session_ends_at = now + self.limits.session_time_s
        self._skipped = 0
        self._skip_refusal = replies.LINE_TOO_LONG
        # A function, not a method of this session: it would keep itself from going when it has ended.
        self._reader: Callable[[Any], Outcome] = SessionCore._wait
        self._answer: Callable[[Reply], None] | None = self._greeting_decided
        self._lockstep = True
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self._in_transaction = False
        self._smtputf8 = False

    def _greeting_decided(self, reply: Reply) -> None:
        """The driver's word on the new connection."""
        raise NotImplementedError

    # -- what the driver calls ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def is_closed(self) -> bool:
        """Nothing more is read; close when everything is sent."""
        return self._state is State.CLOSED

    @property
    def in_transaction(self) -> bool:
        """Whether a MAIL was accepted and has not come to its end."""
        return self._in_transaction

    @property
    def replies_waiting(self) -> int:
        """How many replies `bytes_to_send` would give: a driver sends them before they are many."""
        return len(self._out)

    @property
    def is_waiting(self) -> bool:
        """Whether a decision (or TLS) is awaited from the driver."""
        return self._answer is not None or self._state is State.TLS_STARTING

    def receive(self, octets: bytes, now: float) -> None:
        """Octets from the client. While a decision is pending they are kept, unbounded: stop reading then."""
        if self._state is State.CLOSED:
            return
        self._now = self._last_octets_at = now
        self._phase_octets += len(octets)
        self._input.append(octets)
        if self._lockstep and octets:
            self._fall_out_of_step()

    def receive_eof(self, now: float) -> None:
        """The client sends no more. What is pending is still decided and answered (SEC-62)."""
        self._now = now
        self._eof = True

    def next_event(self) -> Event | None:
        """The next thing that happened; None when nothing can before the driver acts or octets come."""
        if self._events:
            return self._events.popleft()
        outcome = self._reader(self)
        while outcome is AGAIN:
            outcome = self._reader(self)
        if outcome is not STARVED:
            return outcome
        if self._eof and not self.is_waiting and self._state is not State.CLOSED:
            self._hang_up()
        return self._events.popleft() if self._events else None

    def reply(self, reply: Reply, now: float) -> None:
        """Answer the pending decision. Does nothing when the session has ended meanwhile; raises RuntimeError
        when there is nothing to answer."""
        answer = self._take_answer(now)
        if answer is not None:
            answer(reply)

    def _take_answer(self, now: float) -> Callable[[Reply], None] | None:
        answer = self._answer
        if answer is None:
            if self._state is State.CLOSED:
                return None
            raise RuntimeError("no decision is pending")
        self._answer = None
        self._lockstep = False
        self._now = now
        self._begin_phase()
        self._reader = SessionCore._read_command
        return answer

    def bytes_to_send(self) -> bytes:
        """Everything that is to be sent, in one piece; b"" if nothing is."""
        out = self._out
        if not out:
            return b""
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def deadline(self) -> float | None:
        """When `timed_out` is to be called unless something happens before; None while the client owes us
        nothing. Octets may move it: ask again when it has come."""
        if self.is_waiting or self._state is State.CLOSED:
            return None
        limits = self.limits
        if self._state not in (State.RECEIVING_DATA, State.RECEIVING_CHUNK):
            return min(self._phase_began_at + limits.command_timeout_s, self._session_ends_at)
        silence = self._last_octets_at + limits.data_timeout_s
        if limits.min_data_rate:
            # A floor under the rate of the whole phase: dripping octets buy no more time than they are worth.
            worth = self._phase_octets / limits.min_data_rate
            silence = min(silence, self._phase_began_at + limits.data_timeout_s + worth)
        return min(silence, self._session_ends_at)

    def timed_out(self, now: float) -> None:
        """The deadline has come: 421 and the end. Does nothing when it has not (or was moved)."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return
        if now >= self._session_ends_at:
            self._fail(replies.SESSION_TOO_LONG, "session took too long")
        else:
            self._fail(replies.TIMED_OUT, "time-out")

    def shut_down(self, reply: Reply, why: str) -> None:
        """End the session now, from our side, whatever it is doing: shutting down, an internal error."""
        self._fail(reply, why)

    # -- the end -----------------------------------------------------------------------------------------

    def _enter(self, state: State) -> None:
        """The one place where the state changes."""
        self._state = state

    def _fail(self, reply: Reply, why: str) -> None:
        if self._state is not State.CLOSED:
            self._say(reply)
            self._end(why, SessionFailed(why, reply))

    def _hang_up(self) -> None:
        why = "connection lost" if self._in_transaction else "client left without QUIT"
        self._end(why, SessionFailed(why))

    def _end(self, why: str, last: Event) -> None:
        self._abandon(why)
        self._events.append(last)
        self._enter(State.CLOSED)
        self._input.clear()
        self._answer = None
        self._lockstep = False
        self._reader = SessionCore._wait

    def _abandon(self, why: str) -> None:
        if self._in_transaction:
            self._events.append(TransactionReset(why))
        self._forget_transaction()

    def _fall_out_of_step(self) -> None:
        self._fail(replies.OUT_OF_STEP, "out of step")

    # -- replies and counting ------------------------------------------------------------------------------

    def _say(self, reply: Reply) -> None:
        self._out.append(replies.encode(reply, self._smtputf8))

    def _say_decision(self, reply: Reply) -> None:
        """Pass on the driver's reply; a permanent refusal is an error, 421 an end (RFC 5321 section 3.8)."""
        if reply.code == 421:
            self._fail(reply, "refused by 421")
            return
        self._say(reply)
        if reply.is_permanent:
            self._count_error()

    def _refuse(self, verb: Verb, reply: Reply) -> Outcome:
        """Refuse a command of our own accord."""
        self._say(reply)
        after = AFTER_REFUSAL.get((self._state, verb))
        if after is not None:
            if after is State.READY:
                self._abandon(verb.name)
            self._enter(after)
        name = verb.name if verb not in (Verb.UNKNOWN, Verb.NOT_IMPLEMENTED) else ""
        self._events.append(CommandRefused(name, reply))
        if verb is Verb.DATA and self._input:
            self._fall_out_of_step()  # what is there can only be the content
        elif reply is not replies.TOO_MANY_RECIPIENTS:
            self._count_error()
        return self._events.popleft()

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors >= self.limits.errors:
            self._fail(replies.TOO_MANY_ERRORS, "too many errors")

    def _is_junk_over_limit(self) -> bool:
        self._junk += 1
        if self._junk <= self.limits.junk_commands:
            return False
        self._fail(replies.TOO_MANY_COMMANDS, "too many commands without mail")
        return True

    def _begin_phase(self) -> None:
        """The client's turn: time and octets are counted from here."""
        self._phase_began_at = self._now
        self._phase_octets = 0

    def _ask(self, event: Event, answer: Callable[[Reply], None]) -> Event:
        self._answer = answer
        self._reader = SessionCore._wait
        return event

    def _ask_in_lockstep(self, event: Event, answer: Callable[[Reply], None]) -> Outcome:
        """Ask, where the client may send nothing before it has our reply."""
        if self._input:
            self._fall_out_of_step()
            return self._events.popleft()
        self._lockstep = True
        return self._ask(event, answer)

    # -- readers -------------------------------------------------------------------------------------------

    def _wait(self) -> Outcome:
        return STARVED

    def _read_command(self) -> Outcome:
        if not self._input:
            return STARVED
        try:
            line = self._input.maybe_line(self.limits.line_length)
        except LineTooLong:
            if self._input.starts_with(b"BDAT"):
                return self._lose_chunk(replies.LINE_TOO_LONG)
            return self._begin_skipping(replies.LINE_TOO_LONG)
        except BareLineFeed:
            self._fail(replies.BARE_LINE_FEED, "line ended by a bare LF")
            return self._events.popleft()
        if line is None:
            return STARVED
        self._begin_phase()
        verb, argument = split_command(line)
        if verb is Verb.HTTP:
            self._fail(replies.NOT_A_WEB_SERVER, "HTTP request")
            return self._events.popleft()
        if not is_text(line):
            return self._refuse_garbled(verb)
        if (self._state, verb) not in self._transitions and verb is not Verb.BDAT:
            return self._refuse(verb, self._out_of_order.get((self._state, verb), replies.BAD_SEQUENCE))
        try:
            return self._handlers[verb](self, argument)
        except CommandError as error:
            return self._refuse(verb, error.reply)

    def _refuse_garbled(self, verb: Verb) -> Outcome:
        if verb is Verb.BDAT:
            return self._lose_chunk(replies.NOT_TEXT)
        return self._refuse(verb, replies.NOT_TEXT)

    def _lose_chunk(self, reply: Reply) -> Outcome:
        """End it (SEC-97): without a size nobody knows where the next command begins."""
        self._fail(reply, "malformed BDAT")
        return self._events.popleft()

    def _begin_skipping(self, refusal: Reply) -> Outcome:
        self._skipped = 0
        self._skip_refusal = refusal
        self._reader = SessionCore._skip_line
        return AGAIN

    def _skip_line(self) -> Outcome:
        skipped, is_over = self._input.skip_line()
        self._skipped += skipped
        if self._skipped > MAX_SKIPPED_LINE:
            self._fail(replies.LINE_TOO_LONG, "endless line")
            return self._events.popleft()
        if not is_over:
            return STARVED
        self._begin_phase()
        self._reader = SessionCore._read_command
        return self._refuse(Verb.UNKNOWN, self._skip_refusal)
