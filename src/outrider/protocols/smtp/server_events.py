"""What a server session has learnt from its client: facts for the driver, in the order they happened.

Events marked *decision* hold the session until the driver answers with :meth:`ServerSession.reply` (or, for
the two of AUTH, :meth:`ServerSession.challenge`). All others tell what has already been done and answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """HELO, EHLO or LHLO. *Decision*: if positive, the session's own 250 goes out, whatever its text."""

    verb: str
    name: str
    """Printable ASCII, at most 255 characters; a claim."""


@dataclass(frozen=True, slots=True)
class MailReceived:
    """MAIL, well-formed and within the declared size. *Decision*."""

    request: MailRequest


@dataclass(frozen=True, slots=True)
class RecipientReceived:
    """RCPT, well-formed and within the number of recipients. *Decision*."""

    request: RecipientRequest


@dataclass(frozen=True, slots=True)
class ContentStarted:
    """DATA or the first BDAT, with at least one recipient accepted. *Decision*: positive = go on."""


@dataclass(frozen=True, slots=True)
class ContentReceived:
    """The next octets of the content, dots unstuffed. A message that will be refused may stop giving any."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ContentEnded:
    """The content is whole and of sound form. *Decision*: the reply to the message.

    Over LMTP the reply is repeated for each accepted recipient (RFC 2033 section 4.2).
    """

    is_ascii: bool
    is_binary: bool
    """It came as BINARYMIME and holds what could not be sent by DATA."""


@dataclass(frozen=True, slots=True)
class ContentRefused:
    """The content was read to its end (or the chunk was) and refused for its form or size; already answered.

    The transaction is over: nothing of it may be kept.
    """

    reply: Reply


@dataclass(frozen=True, slots=True)
class TransactionReset:
    """The transaction that MAIL began is over without a message."""

    why: str
    """The command's name or a few words, for logs."""


@dataclass(frozen=True, slots=True)
class StartTlsReceived:
    """220 has been said: send it, do the handshake, then call `tls_started`. Until then nothing is read."""


@dataclass(frozen=True, slots=True)
class AuthStarted:
    """AUTH. *Decision*: `challenge` or `reply`; 235 makes the session authenticated."""

    mechanism: str
    """Upper case."""
    initial: bytes | None = field(repr=False)
    """The initial response as on the wire (still base64), None when there was none."""


@dataclass(frozen=True, slots=True)
class AuthAnswered:
    """The line that answers a challenge, as on the wire; ``*`` cancels. *Decision*, as for `AuthStarted`."""

    line: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthAborted:
    """The answer to a challenge was longer than any can be; refused already, the exchange is over."""


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """A command was refused by the session itself: syntax, order, limits. Already answered."""

    verb: str
    """Its name, or "" for an unknown one. Never the line: it may be a password sent out of order."""
    reply: Reply


@dataclass(frozen=True, slots=True)
class QuitReceived:
    """The client said QUIT; close once what was said is sent."""


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session has ended before QUIT, by the client or by us; close once what was said is sent."""

    why: str
    """A few fixed words for logs and counters."""
    reply: Reply | None = None
    """What the client was told, None when it had gone."""


Event = (
    HelloReceived
    | MailReceived
    | RecipientReceived
    | ContentStarted
    | ContentReceived
    | ContentEnded
    | ContentRefused
    | TransactionReset
    | StartTlsReceived
    | AuthStarted
    | AuthAnswered
    | AuthAborted
    | CommandRefused
    | QuitReceived
    | SessionFailed
)
