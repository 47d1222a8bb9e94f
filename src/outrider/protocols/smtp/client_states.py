"""The states of an SMTP or LMTP client's session, what moves it from one to another, and how it can end.

A session, with the mail transaction inside it::

    CONNECTED --greeting--> GREETING --EHLO--> READY <---------------- verdict ---+
                                ^              | | |                              |
                     TLS begun  |   STARTTLS   | | +--MAIL--> ENVELOPE --> CONTENT --> VERDICT
                                +-- HANDSHAKE <+ +--AUTH--> LOGIN --> READY

From every state the session can end (:class:`Ending`); a move that is not in the table is the caller's error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from outrider.model.reply import Reply


class LocalProtocolError(RuntimeError):
    """Our own side asked for something that has no place in this state: a programming error."""


class State(Enum):
    """Where the session stands."""

    CONNECTED = auto()
    """The server's greeting is awaited."""
    GREETING = auto()
    """EHLO, LHLO or HELO has been sent."""
    READY = auto()
    """No transaction is open."""
    STARTING_TLS = auto()
    """STARTTLS has been sent."""
    HANDSHAKE = auto()
    """The connection belongs to TLS."""
    LOGIN = auto()
    """An AUTH exchange is under way."""
    ENVELOPE = auto()
    """MAIL and RCPT have been sent, with them perhaps DATA, or BDAT and the content."""
    CONTENT = auto()
    """The server waits for content."""
    VERDICT = auto()
    """The content is complete; the server's word on it is awaited."""
    QUITTING = auto()
    CLOSED = auto()


class Move(Enum):
    """What happens to a session."""

    GREETED = auto()
    HELLO_ACCEPTED = auto()
    STARTTLS_SENT = auto()
    STARTTLS_ACCEPTED = auto()
    STARTTLS_REFUSED = auto()
    TLS_BEGUN = auto()
    AUTH_SENT = auto()
    AUTH_ENDED = auto()
    HELLO_AGAIN = auto()
    MAIL_SENT = auto()
    CONTENT_WANTED = auto()
    CONTENT_SENT = auto()
    TRANSACTION_ENDED = auto()
    QUIT_SENT = auto()


TRANSITIONS: Final[dict[tuple[State, Move], State]] = {
    (State.CONNECTED, Move.GREETED): State.GREETING,
    (State.GREETING, Move.HELLO_ACCEPTED): State.READY,
    (State.READY, Move.STARTTLS_SENT): State.STARTING_TLS,
    (State.STARTING_TLS, Move.STARTTLS_ACCEPTED): State.HANDSHAKE,
    (State.STARTING_TLS, Move.STARTTLS_REFUSED): State.READY,
    (State.HANDSHAKE, Move.TLS_BEGUN): State.GREETING,  # RFC 3207 4.2: EHLO anew, nothing is remembered
    (State.READY, Move.AUTH_SENT): State.LOGIN,
    (State.LOGIN, Move.AUTH_ENDED): State.READY,
    (State.READY, Move.HELLO_AGAIN): State.GREETING,  # AMTP-20: what is offered depends on who asks
    (State.READY, Move.MAIL_SENT): State.ENVELOPE,
    (State.ENVELOPE, Move.CONTENT_WANTED): State.CONTENT,
    (State.ENVELOPE, Move.CONTENT_SENT): State.VERDICT,
    (State.ENVELOPE, Move.TRANSACTION_ENDED): State.READY,
    (State.CONTENT, Move.CONTENT_SENT): State.VERDICT,
    (State.CONTENT, Move.TRANSACTION_ENDED): State.READY,  # BDAT refused before the last chunk
    (State.VERDICT, Move.TRANSACTION_ENDED): State.READY,
    (State.READY, Move.QUIT_SENT): State.QUITTING,
}
"""A pair missing here raises :class:`LocalProtocolError`."""


class Stage(Enum):
    """During what a reply came or failed to come; the value is the word for people."""

    GREETING = "greeting"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    LOGIN = "AUTH"
    IDLE = "waiting"
    MAIL = "MAIL"
    RECIPIENT = "RCPT"
    DATA = "DATA"
    CONTENT = "message content"
    VERDICT = "end of data"
    QUIT = "QUIT"


class End(Enum):
    """How a session came to its end."""

    QUIT = "quit"
    """In order."""
    REFUSED = "refused"
    """By the greeting, or by the reply to EHLO and HELO: the reply says for how long."""
    NOT_BELIEVED = "not believed"
    """AMTP: 504 to EHLO. The server does not believe that we are who we say (AMTP-8)."""
    CLOSING = "closing"
    """421, at whatever moment (RFC 5321 section 3.8)."""
    LOST = "lost"
    """The connection broke or the server closed it."""
    TIMED_OUT = "timed out"
    MALFORMED = "malformed"
    """The server broke the protocol: no reply of this session can be trusted any more."""
    ABANDONED = "abandoned"
    """By our side."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a session: how, during what, and in whose words."""

    how: End
    stage: Stage
    text: str
    """A sentence of ours, or the server's cleaned words where there is a reply."""
    reply: Reply | None = None
