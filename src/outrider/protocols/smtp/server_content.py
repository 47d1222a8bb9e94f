"""The content of a message in a server's session: DATA (RFC 5321), BDAT (RFC 3030), and their end.

`content_reader` looks at the octets; here is when they are read, when they are thrown away, and what is said.
When all recipients were refused, DATA is answered 354 and the message 554 at its end: a pipelining client may
have sent it already, and content must never be taken for commands (SEC-63).
"""

from __future__ import annotations

from typing import Final

from outrider.model.envelope import BodyType
from outrider.model.reply import Reply
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.commands import CommandError, Verb, no_argument, parse_chunk
from outrider.protocols.smtp.content_reader import ContentReader
from outrider.protocols.smtp.server_core import AGAIN, STARVED, Outcome, SessionCore
from outrider.protocols.smtp.server_events import (
    CommandRefused,
    ContentEnded,
    ContentReceived,
    ContentRefused,
    ContentStarted,
    SessionFailed,
    TransactionReset,
)
from outrider.protocols.smtp.server_states import AFTER_REFUSAL, State
from outrider.wire.dot_reader import DotReader

_CONTENT_STARTED: Final = ContentStarted()
_CONTENT_ENDED: Final = {
    (is_ascii, is_binary): ContentEnded(is_ascii, is_binary)
    for is_ascii in (True, False)
    for is_binary in (True, False)
}


class ContentSession(SessionCore):
    """A session as far as it takes content, once it has recipients."""

    __slots__ = (
        "_after_chunk",
        "_body_type",
        "_chunk_last",
        "_chunk_left",
        "_chunk_refusal",
        "_chunk_size",
        "_content",
        "_data",
        "_recipients",
    )

    def _forget_transaction(self) -> None:
        super()._forget_transaction()
        self._body_type = BodyType.SEVEN_BIT
        self._recipients = 0
        self._chunk_refusal: Reply | None = None
        self._chunk_left = self._chunk_size = 0
        self._chunk_last = False
        self._after_chunk = State.READY
        self._content: ContentReader | None = None
        self._data = DotReader()

    # -- DATA --------------------------------------------------------------------------------------------

    def _data_command(self, argument: bytes) -> Outcome:
        no_argument(argument)
        if self._body_type is BodyType.BINARY:
            return self._refuse(Verb.DATA, replies.BINARY_NEEDS_BDAT)  # RFC 3030 section 3
        if self._state is State.RECIPIENT_GIVEN:
            return self._ask(_CONTENT_STARTED, self._data_decided)
        if self._settings.lmtp:
            return self._refuse(Verb.DATA, replies.NO_VALID_RECIPIENTS_LMTP)
        self._begin_data()
        self._begin_content().refuse(replies.NO_VALID_RECIPIENTS)
        return AGAIN

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
        self._reader = ContentSession._read_data

    def _begin_content(self) -> ContentReader:
        limits = self.limits
        self._content = ContentReader(
            limits.message_size,
            limits.header_size,
            is_binary_allowed=self._body_type is BodyType.BINARY,
        )
        return self._content

    def _read_data(self) -> Outcome:
        octets = self._input.take_all()
        if not octets:
            return STARVED
        data = self._data
        content = self._open_content().take(data.read(octets))
        if data.finished:
            if data.rest:
                self._input.append(data.rest)
            self._reader = ContentSession._end_content
        return ContentReceived(content) if content else AGAIN

    def _open_content(self) -> ContentReader:
        if self._content is None:
            raise AssertionError("content is read before it was begun")
        return self._content

    def _end_content(self) -> Outcome:
        content = self._open_content()
        fault = content.finish()
        if fault is None:
            is_binary = self._body_type is BodyType.BINARY and content.is_binary
            return self._ask(_CONTENT_ENDED[content.is_ascii, is_binary], self._content_decided)
        self._say_for_each_recipient(fault)
        self._finish_transaction()
        self._begin_phase()
        self._reader = SessionCore._read_command
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

    # -- BDAT --------------------------------------------------------------------------------------------

    def _bdat(self, argument: bytes) -> Outcome:
        try:
            self._chunk_left, self._chunk_last = parse_chunk(argument)
        except CommandError as error:
            return self._lose_chunk(error.reply)
        self._chunk_size = self._chunk_left
        if (self._state, Verb.BDAT) not in self._transitions:
            order = self._out_of_order.get((self._state, Verb.BDAT), replies.BAD_SEQUENCE)
            return self._discard(self._chunk_refusal or order)
        if self._state is State.RECIPIENT_GIVEN:
            return self._ask(_CONTENT_STARTED, self._first_chunk_decided)
        return self._begin_chunk()

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

    def _begin_chunk(self) -> Outcome:
        self._after_chunk = self._state
        self._enter(State.RECEIVING_CHUNK)
        self._reader = ContentSession._read_chunk
        return AGAIN

    def _read_chunk(self) -> Outcome:
        if not self._chunk_left:
            return self._end_chunk()
        octets = self._input.take(self._chunk_left)
        if not octets:
            return STARVED
        self._chunk_left -= len(octets)
        content = self._open_content().take(octets)
        return ContentReceived(content) if content else AGAIN

    def _end_chunk(self) -> Outcome:
        self._enter(self._after_chunk)
        if self._chunk_last:
            return self._end_content()
        self._begin_phase()
        self._reader = SessionCore._read_command
        fault = self._open_content().fault_so_far()
        if fault is None:
            self._say(Reply(250, "2.0.0", f"{self._chunk_size} octets received"))
            return AGAIN
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

    def _discard(self, refusal: Reply) -> Outcome:
        """Swallow the chunk, then refuse it: its octets are never commands (SEC-99)."""
        self._chunk_refusal = refusal
        self._after_chunk = self._state
        self._enter(State.RECEIVING_CHUNK)
        self._reader = ContentSession._discard_chunk
        return AGAIN

    def _discard_chunk(self) -> Outcome:
        octets = self._input.take(self._chunk_left)
        self._chunk_left -= len(octets)
        if self._chunk_left:
            return STARVED
        self._begin_phase()
        self._reader = SessionCore._read_command
        self._enter(self._after_chunk)
        return self._end_discarding()

    def _end_discarding(self) -> Outcome:
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
