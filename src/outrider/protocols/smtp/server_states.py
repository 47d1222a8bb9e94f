"""The order of commands: where a session stands, and which command may take it where.

Two lifetimes, one inside the other: the session (greeting, hello, commands, end) and within it at most one
mail transaction (MAIL, RCPT, content). As the second exists only in the session's READY, their joint states
make one flat table::

    CONNECTED --220--> GREETED --EHLO--> READY --MAIL--> SENDER_GIVEN --RCPT--> RECIPIENT_GIVEN
        |                                  ^                | refused        DATA |       | BDAT
       554                                 |                v                     v       v
        v                                  |      RECIPIENTS_REFUSED  RECEIVING_DATA  CHUNKING <-> RECEIVING_
    TURNED_AWAY                            |                              |               |            CHUNK
                                           +--- RSET, end of content -----+---------------+-> CHUNKS_REFUSED

STARTTLS leads from READY by TLS_STARTING back to GREETED, with everything forgotten (TLS-1). CLOSED ends all.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from outrider.model.reply import Reply
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.commands import Verb


class State(IntEnum):
    """Where a session stands."""

    CONNECTED = 0
    """The greeting is being decided."""
    TURNED_AWAY = 1
    """Greeted with 554: only QUIT has a meaning (RFC 5321 section 3.1)."""
    GREETED = 2
    READY = 3
    """Hello said, no transaction."""
    SENDER_GIVEN = 4
    RECIPIENTS_REFUSED = 5
    """A recipient was named, and none accepted yet. (What is no RCPT in form names nobody: a DATA behind
    it is out of order, SEC-66.)"""
    RECIPIENT_GIVEN = 6
    """At least one recipient accepted."""
    RECEIVING_DATA = 7
    CHUNKING = 8
    """At least one BDAT accepted, LAST to come."""
    RECEIVING_CHUNK = 9
    CHUNKS_REFUSED = 10
    """A BDAT was refused: those behind it are swallowed, until LAST or RSET."""
    TLS_STARTING = 11
    CLOSED = 12


SESSION: Final = (
    State.GREETED,
    State.READY,
    State.SENDER_GIVEN,
    State.RECIPIENTS_REFUSED,
    State.RECIPIENT_GIVEN,
    State.CHUNKING,
    State.CHUNKS_REFUSED,
)
"""States in which commands are read from a client that was let in."""


def _anywhere(verb: Verb, to: State | None = None) -> dict[tuple[State, Verb], State]:
    return {(state, verb): state if to is None else to for state in SESSION}


# RFC 5321 section 4.1.4. The state after the command has succeeded; a pair missing from this table is
# answered 503, state unchanged (but see AFTER_REFUSAL). BDAT is the exception in form only: its octets must
# be swallowed before the 503, so its handler asks the table itself (SEC-99).
TRANSITIONS: Final[dict[tuple[State, Verb], State]] = {
    **_anywhere(Verb.HELO, State.READY),
    **_anywhere(Verb.EHLO, State.READY),
    **_anywhere(Verb.LHLO, State.READY),
    **_anywhere(Verb.RSET, State.READY),
    (State.GREETED, Verb.RSET): State.GREETED,
    **_anywhere(Verb.NOOP),
    **_anywhere(Verb.HELP),
    **_anywhere(Verb.VRFY),
    **_anywhere(Verb.EXPN),
    **_anywhere(Verb.QUIT, State.CLOSED),
    (State.TURNED_AWAY, Verb.QUIT): State.CLOSED,
    (State.READY, Verb.STARTTLS): State.TLS_STARTING,
    (State.READY, Verb.AUTH): State.READY,
    (State.READY, Verb.MAIL): State.SENDER_GIVEN,
    (State.SENDER_GIVEN, Verb.RCPT): State.RECIPIENT_GIVEN,
    (State.RECIPIENTS_REFUSED, Verb.RCPT): State.RECIPIENT_GIVEN,
    (State.RECIPIENT_GIVEN, Verb.RCPT): State.RECIPIENT_GIVEN,
    (State.RECIPIENT_GIVEN, Verb.DATA): State.RECEIVING_DATA,
    (State.RECIPIENTS_REFUSED, Verb.DATA): State.RECEIVING_DATA,
    (State.RECIPIENT_GIVEN, Verb.BDAT): State.CHUNKING,
    (State.CHUNKING, Verb.BDAT): State.CHUNKING,
}

AFTER_REFUSAL: Final[dict[tuple[State, Verb], State]] = {
    (State.RECIPIENT_GIVEN, Verb.BDAT): State.CHUNKS_REFUSED,
    (State.RECIPIENTS_REFUSED, Verb.BDAT): State.CHUNKS_REFUSED,
    (State.CHUNKING, Verb.BDAT): State.CHUNKS_REFUSED,
    (State.CHUNKS_REFUSED, Verb.BDAT): State.CHUNKS_REFUSED,
    # DATA among chunks ends the transaction (SEC-64): nobody can say what such a client means.
    (State.CHUNKING, Verb.DATA): State.READY,
    (State.CHUNKS_REFUSED, Verb.DATA): State.READY,
}
"""Where a refusal changes the state; everywhere else it does not. (After the last BDAT it is READY.)"""

OUT_OF_ORDER: Final[dict[tuple[State, Verb], Reply]] = {
    (State.READY, Verb.DATA): replies.MAIL_FIRST,
    (State.READY, Verb.BDAT): replies.MAIL_FIRST,
    (State.READY, Verb.RCPT): replies.MAIL_FIRST,
    (State.SENDER_GIVEN, Verb.DATA): replies.RCPT_FIRST,
    (State.SENDER_GIVEN, Verb.BDAT): replies.RCPT_FIRST,
    (State.RECIPIENTS_REFUSED, Verb.BDAT): replies.NO_VALID_RECIPIENTS,
    **{(state, Verb.MAIL): replies.NESTED_MAIL for state in SESSION if state > State.READY},
    **{(State.GREETED, verb): replies.HELLO_FIRST for verb in Verb},
    **{(State.TURNED_AWAY, verb): replies.TURNED_AWAY for verb in Verb},
    **{(state, Verb.UNKNOWN): replies.UNKNOWN_COMMAND for state in SESSION},
    **{(state, Verb.NOT_IMPLEMENTED): replies.NOT_IMPLEMENTED for state in SESSION},
}
"""Words for a pair that `TRANSITIONS` does not have; `BAD_SEQUENCE` where there is none."""
