"""An SMTP or LMTP server's session as a pure state machine (RFC 5321, RFC 2033 and their extensions).

Octets and moments go in, events and octets come out; what only others can decide is asked by an event and
answered by a verb. All errors of syntax, order and limits are answered here. `server_states` holds the order
of commands, `commands` their grammar, `content_reader` what content may look like. What remains is below: one
handler a command, and the readers, exactly one of which is at work at any time::

    read a command -> read data | read a chunk | discard a chunk | read an AUTH line | skip a line
                   -> wait (a decision is asked, TLS is being negotiated, or the session is over)

**Nothing runs ahead of a decision.** While an event waits for its answer the reader is `_wait`, and octets
only gather. Replies gather too, so that a pipelined group is answered in one write (RFC 2920 section 3.2).

**Staying in step** (SEC-56 to SEC-60). A client must see our reply before it goes on after connecting and
after HELO, EHLO, LHLO, STARTTLS, AUTH and each AUTH answer; octets that are there already, or come before the
reply, end the session with 554: what was sent blindly was not meant for the session that follows. DATA is
judged by its answer, which no timing can change: after 354 what was there already is content, and after a
refusal it can only be content, so the session ends rather than take it for commands. When all recipients were
refused, DATA is answered 354 and the message 554 at its end, for the same reason (SEC-63). NOOP, VRFY, EXPN,
HELP and QUIT should be last in a group as well (RFC 2920 section 3.1) but change nothing that follows: they
are answered in order.

**Errors.** A refusal of our own or a permanent one of the driver's counts as an error, until a message is
taken; one recipient too many (452) does not, as RFC 5321 section 4.5.3.1.10 has clients try. At the limit the
refusal is followed by 421 and the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from outrider.model.envelope import BodyType
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.capabilities import ehlo_reply
from outrider.protocols.smtp.commands import (
    CommandError,
    Verb,
    is_text,
    parse_auth,
    parse_chunk,
    parse_hello,
    parse_mail,
    parse_recipient,
    split_command,
)
from outrider.protocols.smtp.content_reader import ContentReader
from outrider.protocols.smtp.server_events import (
    AuthAborted,
    AuthAnswered,
    AuthStarted,
    CommandRefused,
    ContentEnded,
    ContentReceived,
    ContentRefused,
    ContentStarted,
    Event,
    HelloReceived,
    MailReceived,
    QuitReceived,
    RecipientReceived,
    SessionFailed,
    StartTlsReceived,
    TransactionReset,
)
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.protocols.smtp.server_states import AFTER_REFUSAL, OUT_OF_ORDER, TRANSITIONS, State
from outrider.wire.dot_reader import DotReader
from outrider.wire.lines import BareLineFeed, LineBuffer, LineTooLong

MAX_AUTH_LINE: Final = 12_288 + 2
"""RFC 4954 section 4 bids a server read base64 lines of 12 288 octets."""
MAX_SKIPPED_LINE: Final = 4 * 1024 * 1024
"""A line too long is read to its end so that the session may go on; no honest mistake is longer than this."""


class _Progress(Enum):
    """What a reader says when it has no event: that it may be called again, or needs more octets."""

    AGAIN = 0
    STARVED = 1


_AGAIN: Final = _Progress.AGAIN
_STARVED: Final = _Progress.STARVED
_Outcome = Event | _Progress

_CONTENT_STARTED: Final = ContentStarted()
_CONTENT_ENDED: Final = {
    (is_ascii, is_binary): ContentEnded(is_ascii, is_binary)
    for is_ascii in (True, False)
    for is_binary in (True, False)
}


class ServerSession:
    """One client's session, from the greeting to the end.

    The driver's duties, after every call that may have changed something (`receive`, `receive_eof`, `reply`,
    `challenge`, `tls_started`, `timed_out`, `shut_down`): take events with `next_event` until it gives None,
    answer those that ask for a decision, send `bytes_to_send`, close when `is_closed`, and see to it that
    `timed_out` is called at `deadline`. A new session waits for its first decision, the greeting: `reply`
    with 220 lets the client in, with 554 or 421 turns it away.
    """

    __slots__ = (
        "_after_chunk",
        "_answer",
        "_authenticated",
        "_body_type",
        "_chunk_last",
        "_chunk_left",
        "_chunk_refusal",
        "_chunk_size",
        "_content",
        "_data",
        "_eof",
        "_errors",
        "_events",
        "_extended",
        "_hello_name",
        "_in_transaction",
        "_input",
        "_junk",
        "_last_octets_at",
        "_lockstep",
        "_messages",
        "_now",
        "_out",
        "_phase_began_at",
        "_phase_octets",
        "_reader",
        "_recipients",
        "_session_ends_at",
        "_settings",
        "_skip_refusal",
        "_skipped",
        "_smtputf8",
        "_state",
        "_tls",
        "_wall_offset",
        "auth_mechanisms",
        "limits",
    )

    def __init__(self, settings: ServerSettings, now: float, *, wall_offset: float = 0.0) -> None:
        """`now` is a monotonic moment in seconds, as in all calls; `now + wall_offset` is the time of day in
        seconds since the epoch (for FUTURERELEASE)."""
        self.limits = settings.limits
        """May be exchanged at any time (stress)."""
        self.auth_mechanisms: tuple[str, ...] = ()
        """What EHLO offers; the driver sets it before it answers the hello."""
        self._settings = settings
        self._wall_offset = wall_offset
        self._state = State.CONNECTED
        self._tls = False
        self._input = LineBuffer()
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._eof = False
        self._messages = self._errors = self._junk = 0
        self._now = self._phase_began_at = self._last_octets_at = now
        self._phase_octets = 0
        self._session_ends_at = now + self.limits.session_time_s
        self._skipped = 0
        self._skip_refusal = replies.LINE_TOO_LONG
        self._reader: Callable[[], _Outcome] = self._wait
        self._answer: Callable[[Reply], None] | None = self._greeting_decided
        self._lockstep = True
        self._forget_hello()
        self._forget_transaction()

    def _forget_hello(self) -> None:
        self._hello_name = ""
        self._extended = False
        self._authenticated = False

    def _forget_transaction(self) -> None:
        self._in_transaction = False
        self._smtputf8 = False
        self._body_type = BodyType.SEVEN_BIT
        self._recipients = 0
        self._chunk_refusal: Reply | None = None
        self._chunk_left = self._chunk_size = 0
        self._chunk_last = False
        self._after_chunk = State.READY
        self._content: ContentReader | None = None
        self._data = DotReader()

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
        outcome = self._reader()
        while outcome is _AGAIN:
            outcome = self._reader()
        if outcome is not _STARVED:
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

    def challenge(self, line: bytes, now: float) -> None:
        """Answer `AuthStarted` or `AuthAnswered` with a further challenge, already base64."""
        if self._take_answer(now) is not None:
            self._out.append(b"334 " + line + b"\r\n")
            self._reader = self._read_auth_line

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
        self._reader = self._read_command
        return answer

    def tls_started(self, now: float) -> None:
        """The handshake is done: everything said before is forgotten (TLS-1, RFC 3207 section 4.2)."""
        if self._state is not State.TLS_STARTING:
            raise RuntimeError("no TLS was started")
        self._now = now
        self._tls = True
        self._input.clear()
        self._lockstep = False
        self._forget_hello()
        self._enter(State.GREETED)
        self._begin_phase()
        self._reader = self._read_command

    def tls_from_start(self) -> None:
        """The connection came with TLS (implicit TLS); to be called before the greeting is decided."""
        self._tls = True

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
        self._reader = self._wait

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

    def _refuse(self, verb: Verb, reply: Reply) -> _Outcome:
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
        self._reader = self._wait
        return event

    def _ask_in_lockstep(self, event: Event, answer: Callable[[Reply], None]) -> _Outcome:
        """Ask, where the client may send nothing before it has our reply."""
        if self._input:
            self._fall_out_of_step()
            return self._events.popleft()
        self._lockstep = True
        return self._ask(event, answer)

    # -- readers -------------------------------------------------------------------------------------------

    def _wait(self) -> _Outcome:
        return _STARVED

    def _read_command(self) -> _Outcome:
        if not self._input:
            return _STARVED
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
            return _STARVED
        self._begin_phase()
        verb, argument = split_command(line)
        if verb is Verb.HTTP:
            self._fail(replies.NOT_A_WEB_SERVER, "HTTP request")
            return self._events.popleft()
        if not is_text(line):
            return self._refuse_garbled(verb)
        if (self._state, verb) not in TRANSITIONS and verb is not Verb.BDAT:
            return self._refuse(verb, OUT_OF_ORDER.get((self._state, verb), replies.BAD_SEQUENCE))
        try:
            return _HANDLERS[verb](self, argument)
        except CommandError as error:
            return self._refuse(verb, error.reply)

    def _refuse_garbled(self, verb: Verb) -> _Outcome:
        if verb is Verb.BDAT:
            return self._lose_chunk(replies.NOT_TEXT)
        return self._refuse(verb, replies.NOT_TEXT)

    def _begin_skipping(self, refusal: Reply) -> _Outcome:
        self._skipped = 0
        self._skip_refusal = refusal
        self._reader = self._skip_line
        return _AGAIN

    def _skip_line(self) -> _Outcome:
        skipped, is_over = self._input.skip_line()
        self._skipped += skipped
        if self._skipped > MAX_SKIPPED_LINE:
            self._fail(replies.LINE_TOO_LONG, "endless line")
            return self._events.popleft()
        if not is_over:
            return _STARVED
        self._begin_phase()
        self._reader = self._read_command
        return self._refuse(Verb.UNKNOWN, self._skip_refusal)

    def _read_auth_line(self) -> _Outcome:
        try:
            line = self._input.maybe_line(MAX_AUTH_LINE)
        except LineTooLong:
            self._begin_skipping(replies.ANSWER_TOO_LONG)
            return AuthAborted()
        except BareLineFeed:
            self._fail(replies.BARE_LINE_FEED, "line ended by a bare LF")
            return self._events.popleft()
        if line is None:
            return _STARVED
        return self._ask_in_lockstep(AuthAnswered(line), self._auth_decided)

    # -- hello ---------------------------------------------------------------------------------------------

    def _greeting_decided(self, reply: Reply) -> None:
        if reply.is_positive:
            self._enter(State.GREETED)
            protocol = "LMTP" if self._settings.lmtp else "ESMTP"
            self._say(Reply(220, "", f"{self._settings.hostname} {protocol} Outrider"))
        elif reply.code == 421:
            self._fail(reply, "refused by 421")
        else:
            # RFC 5321 3.1: after 554 the server waits for QUIT and refuses everything else.
            self._enter(State.TURNED_AWAY)
            self._say(reply)

    def _hello(self, verb: Verb, argument: bytes) -> _Outcome:
        if (verb is Verb.LHLO) is not self._settings.lmtp:  # RFC 2033 section 4.1: never both
            return self._refuse(verb, replies.UNKNOWN_COMMAND)
        name = parse_hello(argument)
        if self._hello_name and self._is_junk_over_limit():
            return self._events.popleft()

        def decided(reply: Reply) -> None:
            self._hello_decided(reply, verb, name)

        return self._ask_in_lockstep(HelloReceived(verb.name, name), decided)

    def _hello_decided(self, reply: Reply, verb: Verb, name: str) -> None:
        if not reply.is_positive:
            self._say_decision(reply)
            return
        self._abandon(verb.name)  # RFC 5321 4.1.4: as if by RSET
        self._hello_name = name
        self._extended = verb is not Verb.HELO
        self._enter(State.READY)
        if not self._extended:
            self._say(Reply(250, "", self._settings.hostname))
            return
        self._say(
            ehlo_reply(
                self._settings,
                name,
                starttls=self._settings.tls_offered and not self._tls,
                auth=() if self._authenticated else self.auth_mechanisms,
                wall_time=self._now + self._wall_offset,
            )
        )

    def _helo(self, argument: bytes) -> _Outcome:
        return self._hello(Verb.HELO, argument)

    def _ehlo(self, argument: bytes) -> _Outcome:
        return self._hello(Verb.EHLO, argument)

    def _lhlo(self, argument: bytes) -> _Outcome:
        return self._hello(Verb.LHLO, argument)

    # -- the envelope ----------------------------------------------------------------------------------------

    def _mail(self, argument: bytes) -> _Outcome:
        if self._messages >= self.limits.messages:
            self._fail(replies.TOO_MANY_MESSAGES, "too many messages")
            return self._events.popleft()
        request = parse_mail(argument, extended=self._extended)
        if request.size > self.limits.message_size:
            return self._refuse(Verb.MAIL, replies.MESSAGE_TOO_BIG)
        if request.hold_for or request.hold_until:
            self._check_hold(request)

        def decided(reply: Reply) -> None:
            self._mail_decided(reply, request)

        return self._ask(MailReceived(request), decided)

    def _check_hold(self, request: MailRequest) -> None:
        most = self._settings.max_hold_s
        if not most:
            raise CommandError(replies.UNKNOWN_PARAMETER)
        if max(request.hold_for, request.hold_until - self._now - self._wall_offset) > most:
            raise CommandError(replies.HOLD_TOO_LONG)

    def _mail_decided(self, reply: Reply, request: MailRequest) -> None:
        if reply.is_positive:
            self._messages += 1
            self._in_transaction = True
            self._smtputf8 = request.smtputf8
            self._body_type = request.body_type
            self._enter(State.SENDER_GIVEN)
        self._say_decision(reply)

    def _rcpt(self, argument: bytes) -> _Outcome:
        if self._recipients >= self.limits.recipients:
            return self._refuse(Verb.RCPT, replies.TOO_MANY_RECIPIENTS)
        request = parse_recipient(argument, extended=self._extended, smtputf8=self._smtputf8)
        return self._ask(RecipientReceived(request), self._rcpt_decided)

    def _rcpt_decided(self, reply: Reply) -> None:
        if reply.is_positive:
            self._recipients += 1
            self._enter(State.RECIPIENT_GIVEN)
        elif self._state is State.SENDER_GIVEN:
            self._enter(State.RECIPIENTS_REFUSED)
        self._say_decision(reply)

    def _rset(self, argument: bytes) -> _Outcome:
        _no_argument(argument)
        if self._is_junk_over_limit():
            return self._events.popleft()
        self._enter(TRANSITIONS[self._state, Verb.RSET])
        self._abandon("RSET")
        self._say(replies.OK)
        return self._events.popleft() if self._events else _AGAIN

    # -- content by DATA ---------------------------------------------------------------------------------

    def _data_command(self, argument: bytes) -> _Outcome:
        _no_argument(argument)
        if self._body_type is BodyType.BINARY:
            return self._refuse(Verb.DATA, replies.BINARY_NEEDS_BDAT)  # RFC 3030 section 3
        if self._state is State.RECIPIENT_GIVEN:
            return self._ask(_CONTENT_STARTED, self._data_decided)
        if self._settings.lmtp:
            return self._refuse(Verb.DATA, replies.NO_VALID_RECIPIENTS_LMTP)
        self._begin_data()
        self._begin_content().refuse(replies.NO_VALID_RECIPIENTS)
        return _AGAIN

    def _data_decided(self, reply: Reply) -> None:
        if reply.is_positive:
            self._begin_content()
            self._begin_data()
            return
        self._say_decision(reply)
        if self._input:
            self._fall_out_of_step()

    def _begin_data(self) -> None:
        self._say(replies.GO_AHEAD)
        self._enter(State.RECEIVING_DATA)
        self._reader = self._read_data

    def _begin_content(self) -> ContentReader:
        limits = self.limits
        self._content = ContentReader(
            limits.message_size,
            limits.header_size,
            is_binary_allowed=self._body_type is BodyType.BINARY,
        )
        return self._content

    def _read_data(self) -> _Outcome:
        octets = self._input.take_all()
        if not octets:
            return _STARVED
        data = self._data
        content = self._open_content().take(data.read(octets))
        if data.finished:
            if data.rest:
                self._input.append(data.rest)
            self._reader = self._end_content
        return ContentReceived(content) if content else _AGAIN

    def _open_content(self) -> ContentReader:
        if self._content is None:
            raise AssertionError("content is read before it was begun")
        return self._content

    def _end_content(self) -> _Outcome:
        content = self._open_content()
        fault = content.finish()
        if fault is None:
            is_binary = self._body_type is BodyType.BINARY and content.is_binary
            return self._ask(_CONTENT_ENDED[content.is_ascii, is_binary], self._content_decided)
        self._say_for_each_recipient(fault)
        self._finish_transaction()
        self._begin_phase()
        self._reader = self._read_command
        self._events.append(ContentRefused(fault))
        self._count_error()
        return self._events.popleft()

    def _content_decided(self, reply: Reply) -> None:
        if reply.code == 421:
            self._in_transaction = False  # the driver has ended it by this reply
            self._say_for_each_recipient(reply)
            self._end("refused by 421", SessionFailed("refused by 421", reply))
            return
        self._say_for_each_recipient(reply)
        self._finish_transaction()
        if reply.is_positive:
            self._errors = self._junk = 0
        elif reply.is_permanent:
            self._count_error()

    def _say_for_each_recipient(self, reply: Reply) -> None:
        """RFC 2033 section 4.2: LMTP answers the content once for each accepted RCPT, in their order."""
        for _ in range(self._recipients if self._settings.lmtp and self._recipients else 1):
            self._say(reply)

    def _finish_transaction(self) -> None:
        self._forget_transaction()
        self._enter(State.READY)

    # -- content by BDAT (RFC 3030) ----------------------------------------------------------------------

    def _bdat(self, argument: bytes) -> _Outcome:
        try:
            self._chunk_left, self._chunk_last = parse_chunk(argument)
        except CommandError as error:
            return self._lose_chunk(error.reply)
        self._chunk_size = self._chunk_left
        if (self._state, Verb.BDAT) not in TRANSITIONS:
            order = OUT_OF_ORDER.get((self._state, Verb.BDAT), replies.BAD_SEQUENCE)
            return self._discard(self._chunk_refusal or order)
        if self._state is State.RECIPIENT_GIVEN:
            return self._ask(_CONTENT_STARTED, self._first_chunk_decided)
        return self._begin_chunk()

    def _lose_chunk(self, reply: Reply) -> _Outcome:
        """End it (SEC-97): without a size nobody knows where the next command begins."""
        self._fail(reply, "malformed BDAT")
        return self._events.popleft()

    def _first_chunk_decided(self, reply: Reply) -> None:
        if reply.code == 421:
            self._say_decision(reply)
            return
        if not reply.is_positive:
            self._discard(reply)
            return
        self._begin_content()
        self._enter(State.CHUNKING)
        self._begin_chunk()

    def _begin_chunk(self) -> _Outcome:
        self._after_chunk = self._state
        self._enter(State.RECEIVING_CHUNK)
        self._reader = self._read_chunk
        return _AGAIN

    def _read_chunk(self) -> _Outcome:
        if not self._chunk_left:
            return self._end_chunk()
        octets = self._input.take(self._chunk_left)
        if not octets:
            return _STARVED
        self._chunk_left -= len(octets)
        content = self._open_content().take(octets)
        return ContentReceived(content) if content else _AGAIN

    def _end_chunk(self) -> _Outcome:
        self._enter(self._after_chunk)
        if self._chunk_last:
            return self._end_content()
        self._begin_phase()
        self._reader = self._read_command
        fault = self._open_content().fault_so_far()
        if fault is None:
            self._say(Reply(250, "2.0.0", f"{self._chunk_size} octets received"))
            return _AGAIN
        self._say(fault)
        self._refuse_chunks(fault)
        self._events.append(ContentRefused(fault))
        self._count_error()
        return self._events.popleft()

    def _refuse_chunks(self, refusal: Reply) -> None:
        """What follows of this message gets the same refusal, whatever it is (SEC-103)."""
        self._in_transaction = False
        self._content = None
        self._chunk_refusal = refusal
        self._enter(State.CHUNKS_REFUSED)

    def _discard(self, refusal: Reply) -> _Outcome:
        """Swallow the chunk, then refuse it: its octets are never commands (SEC-99)."""
        self._chunk_refusal = refusal
        self._after_chunk = self._state
        self._enter(State.RECEIVING_CHUNK)
        self._reader = self._discard_chunk
        return _AGAIN

    def _discard_chunk(self) -> _Outcome:
        octets = self._input.take(self._chunk_left)
        self._chunk_left -= len(octets)
        if self._chunk_left:
            return _STARVED
        self._begin_phase()
        self._reader = self._read_command
        self._enter(self._after_chunk)
        return self._end_discarding()

    def _end_discarding(self) -> _Outcome:
        refusal = self._chunk_refusal or replies.BAD_SEQUENCE
        if self._chunk_last:
            self._say_for_each_recipient(refusal)
        else:
            self._say(refusal)
        after = AFTER_REFUSAL.get((self._state, Verb.BDAT), self._state)
        if after is State.CHUNKS_REFUSED:
            if self._in_transaction:
                self._events.append(TransactionReset("BDAT refused"))
            if self._chunk_last:
                self._finish_transaction()
            else:
                self._refuse_chunks(refusal)
        else:
            self._chunk_refusal = None
        self._events.append(CommandRefused("BDAT", refusal))
        if refusal.is_permanent:
            self._count_error()
        return self._events.popleft()

    # -- STARTTLS and AUTH -------------------------------------------------------------------------------

    def _starttls(self, argument: bytes) -> _Outcome:
        _no_argument(argument)
        refusal = self._why_no_tls()
        if refusal is not None:
            return self._refuse(Verb.STARTTLS, refusal)
        if self._input:
            # TLS-1, SEC-32: what came in the clear behind the command must never be read as said under TLS.
            self._fail(replies.OUT_OF_STEP, "octets behind STARTTLS")
            return self._events.popleft()
        self._say(replies.READY_FOR_TLS)
        self._enter(State.TLS_STARTING)
        self._lockstep = True
        self._reader = self._wait
        return StartTlsReceived()

    def _why_no_tls(self) -> Reply | None:
        if self._tls:
            return replies.TLS_ACTIVE
        if not self._settings.tls_offered:
            return replies.TLS_NOT_AVAILABLE
        if self._authenticated:
            return replies.TLS_AFTER_AUTH
        return None if self._extended else replies.HELLO_FIRST

    def _auth(self, argument: bytes) -> _Outcome:
        refusal = self._why_no_auth()
        if refusal is not None:
            return self._refuse(Verb.AUTH, refusal)
        mechanism, initial = parse_auth(argument)
        return self._ask_in_lockstep(AuthStarted(mechanism, initial), self._auth_decided)

    def _why_no_auth(self) -> Reply | None:
        if self._authenticated:
            return replies.AUTHENTICATED_ALREADY
        if not self._extended:
            return replies.HELLO_FIRST
        if self.auth_mechanisms:
            return None
        needs_tls = self._settings.auth_after_tls and not self._tls
        return replies.AUTH_NEEDS_TLS if needs_tls else replies.AUTH_NOT_AVAILABLE

    def _auth_decided(self, reply: Reply) -> None:
        if reply.code == 235:
            self._authenticated = True
        self._say_decision(reply)

    # -- the rest ----------------------------------------------------------------------------------------

    def _noop(self, _argument: bytes) -> _Outcome:
        return self._answer_junk(replies.OK)

    def _help(self, _argument: bytes) -> _Outcome:
        return self._answer_junk(replies.HELP)

    def _vrfy(self, argument: bytes) -> _Outcome:
        if not argument:
            raise CommandError(replies.ARGUMENT_NEEDED)
        return self._answer_junk(replies.CANNOT_VERIFY)

    def _expn(self, _argument: bytes) -> _Outcome:
        return self._refuse(Verb.EXPN, replies.NO_LISTS)

    def _answer_junk(self, reply: Reply) -> _Outcome:
        if self._is_junk_over_limit():
            return self._events.popleft()
        self._say(reply)
        return _AGAIN

    def _quit(self, argument: bytes) -> _Outcome:
        _no_argument(argument)
        self._say(replies.GOODBYE)
        self._end("QUIT", QuitReceived())
        return self._events.popleft()


def _no_argument(argument: bytes) -> None:
    if argument:
        raise CommandError(replies.NO_ARGUMENT_ALLOWED)


_HANDLERS: Final[dict[Verb, Callable[[ServerSession, bytes], _Outcome]]] = {
    Verb.HELO: ServerSession._helo,
    Verb.EHLO: ServerSession._ehlo,
    Verb.LHLO: ServerSession._lhlo,
    Verb.MAIL: ServerSession._mail,
    Verb.RCPT: ServerSession._rcpt,
    Verb.DATA: ServerSession._data_command,
    Verb.BDAT: ServerSession._bdat,
    Verb.RSET: ServerSession._rset,
    Verb.NOOP: ServerSession._noop,
    Verb.QUIT: ServerSession._quit,
    Verb.VRFY: ServerSession._vrfy,
    Verb.EXPN: ServerSession._expn,
    Verb.HELP: ServerSession._help,
    Verb.STARTTLS: ServerSession._starttls,
    Verb.AUTH: ServerSession._auth,
}
