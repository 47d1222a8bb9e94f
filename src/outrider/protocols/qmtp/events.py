"""What passes between the QMTP cores and their drivers (QMTP-1; D. J. Bernstein, 1997).

A package is three netstrings: the message, its first octet naming the form of its line ends; the sender; and
the recipients, each a netstring again. The answer is one netstring for each recipient, in order, that begins
with K (taken), Z (not now) or D (not at all).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from outrider.model.reply import Reply

LF_LINES: Final = 10
"""First octet: every LF of the message ends a line, and nothing else does."""
CRLF_LINES: Final = 13
"""First octet: lines end with CRLF."""
MAX_ANSWER: Final = 4096
"""Octets of one answer."""


# -- server ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QmtpLimits:
    """What one client may do. Times in seconds, sizes in octets."""

    message_size: int = 52_428_800
    envelope_size: int = 1_048_576
    """The netstring that holds the recipients; a longer one ends the session."""
    idle_timeout_s: float = 300.0
    """For the next package to begin."""
    package_timeout_s: float = 300.0
    """For a package, to which comes the time for its message at `slowest_rate`."""
    slowest_rate: int = 500
    """Octets a second (SEC-88); 0 = however slow."""


@dataclass(frozen=True, slots=True)
class MessageOctets:
    """The next piece of a message, lines ended by CRLF in both forms."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PackageReceived:
    """A whole package: answer it with `answer`; until then nothing more is read."""

    sender: bytes
    """As it stood there; b"" is the null sender."""
    recipients: tuple[bytes, ...]
    fault: Reply | None = None
    """Why no recipient may be served: stray octets, too large, unknown form. Answer everybody with it."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Close the connection, after what is left to send."""

    reason: str
    """A sentence of ours."""
    orderly: bool
    """The client closed between two packages."""


ServerEvent = MessageOctets | PackageReceived | SessionEnded


# -- client ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QmtpClientSettings:
    """Times in seconds."""

    answer_timeout_s: float = 600.0
    """For each answer, once everything is sent."""
    command_timeout_s: float = 300.0
    """For each piece of the message to be taken."""


@dataclass(frozen=True, slots=True)
class QmtpMail:
    """One message for some of its recipients."""

    sender: bytes
    recipients: Mapping[int, bytes]
    """By position in the envelope, in the order in which they are named."""
    size: int
    """Octets of the content as it stands; its lines end with CRLF."""
    ends_with_crlf: bool = True
    content: bytes | None = field(default=None, repr=False)
    """The whole of it where it is at hand; None when the core has to ask for it."""


class Answer(Enum):
    """The first octet of an answer."""

    TAKEN = b"K"
    NOT_NOW = b"Z"
    NOT_AT_ALL = b"D"


@dataclass(frozen=True, slots=True)
class QmtpOutcome:
    """What came of one recipient; `answer` is None when the session ended first, `text` then says how."""

    answer: Answer | None
    text: str
    complete: bool = True
    """The package had gone out whole: without an answer, the message may have been delivered."""


@dataclass(frozen=True, slots=True)
class PieceWanted:
    """Answer with one `send_content`."""


@dataclass(frozen=True, slots=True)
class PackageAnswered:
    """An outcome for every recipient."""

    outcomes: Mapping[int, QmtpOutcome]


@dataclass(frozen=True, slots=True)
class ClientEnded:
    """Close the connection; nothing follows."""

    reason: str
    misbehaved: bool = False
    """The server broke the protocol."""


ClientEvent = PieceWanted | PackageAnswered | ClientEnded
