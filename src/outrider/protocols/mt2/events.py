"""What passes between the core of MT2 and its driver.

*Ours* are requests and transfers this side has begun; *theirs* those of the other side. Both run at once on
one connection. The driver takes an event, does what it asks (at once or later, in any order), and sends
what `bytes_to_send` gives.

A transfer of theirs:

1. `ObjectOffered` for the envelope -> ``grant(tag)`` or ``answer(tag, ERR ...)``: nothing has come yet.
2. `ObjectOctets` as they arrive. Where `fragment_ended` without `object_ended` -> ``taken(tag)`` once they
   are dealt with; where `object_ended` -> ``answer(tag, result, parts=...)``: OK with the objects that the
   envelope lists, or ERR.
3. The same for each listed object. An OK for the last is the commit (MT2-17).

`TransferDropped` at any time: forget it; answers to its tags are then ignored. After `SessionEnded` too.

A transfer of ours: ``transfer(...)``, then `OctetsWanted` for objects not given whole, `ObjectAnswered` for
each, and always one `TransferEnded`.

Nobody changes an event. The four that every message makes are not frozen dataclasses all the same: making
one of those takes seven times as long, a tenth of all that the core does for a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from outrider.protocols.mt2.codes import Result
from outrider.protocols.mt2.lines import Extension, Param
from outrider.protocols.mt2.options import Offer

VERSION: Final = "1.0"
ENVELOPE_TYPE: Final = "message/envelope"
HEADERS_TYPE: Final = "message/headers"
BODY_TYPE: Final = "message/body"


# -- settings ----------------------------------------------------------------------------------------


class Takes(Enum):
    """From whom this side takes mail on a connection."""

    NOBODY = "nobody"
    """XFER and STAT are refused (a client that only sends)."""
    IDENTIFIED = "identified"
    """After a HELO that was accepted."""
    ANYBODY = "anybody"
    """At once: the other side is proven by other means (a client knows the server by TLS), or need not be."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the other side may do. Times in seconds, sizes in octets."""

    certificate_size: int = 65536
    """The data of HELO."""
    envelope_size: int = 1_048_576
    transfers: int = 1024
    """Of theirs begun and not ended, with PIPE."""
    transfers_without_pipe: int = 8
    """For those who are not trusted: they cannot carry on more than one at a time anyhow."""
    errors: int = 20
    """Unknown verbs and wrong parameters in one session."""
    identity_attempts: int = 3
    idle_s: float = 300.0
    """Of silence, then NOOP (MT2-12)."""
    noop_s: float = 60.0
    """For its answer."""
    frame_s: float = 60.0
    """For a line frame, from its first octet."""
    answer_s: float = 600.0
    """For any answer at all while requests of ours are outstanding."""
    rate_s: float = 30.0
    """How long data may stay below `slowest_rate`, and how long the first of it may take."""
    slowest_rate: int = 500
    """Octets a second while data is due from the other side; 0 = however slow."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What one side of one connection is to do."""

    takes: Takes = Takes.IDENTIFIED
    over_tls: bool = True
    limits: Limits = Limits()
    extension_verbs: frozenset[str] = frozenset()
    """Verbs, in capitals, given to the driver as `VerbAsked`; all other unknown ones are refused."""


# -- session -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Greeted:
    """The server's greeting: `helo` and all else may be asked from now on. Client only."""

    host: str
    """What the server calls itself: claimed."""
    nonce: str
    """For our proof."""
    offer: Offer
    """To the unidentified."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class IdentityOffered:
    """Their HELO with its whole data. Answer with ``welcome(tag, offer)`` or ``answer(tag, ERR ...)``."""

    tag: int
    host: str
    """What the other side calls itself; "" where it does not say."""
    nonce: str
    """For our own proof, should we give one; "" when none was given."""
    prove: bool
    """We are asked to prove ourselves by a HELO of our own."""
    certificate: bytes = field(repr=False)
    """Certificate data; b"" means: the TLS client certificate is my identity."""


@dataclass(frozen=True, slots=True)
class OptionsAsked:
    """Options of extensions in their OPT. Answer with ``answer_options(tag, extensions)``; the core has
    answered its own options and adds them."""

    tag: int
    options: tuple[Extension, ...]


@dataclass(frozen=True, slots=True)
class TlsAgreed:
    """TLS begins now (MT2-9): send what is left, hand the connection to TLS, then call ``tls_started``."""


@dataclass(frozen=True, slots=True)
class VerbAsked:
    """A request with a verb of an extension. Answer with ``answer(tag, result)``."""

    tag: int
    verb: str
    params: tuple[Param, ...]
    extensions: tuple[Extension, ...]


@dataclass(frozen=True, slots=True)
class StatusAsked:
    """STAT. Answer with ``answer_status(tag, status)``: only what belongs to the proven identity."""

    tag: int
    transfer_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The final answer to HELO, OPT, STAT, NOOP, ABOR, QUIT or an extension's verb of ours."""

    tag: int
    verb: str
    result: Result
    offer: Offer | None = None
    """HELO: what is offered to us now that we are known."""


@dataclass(frozen=True, slots=True)
class PeerLeaves:
    """``[* TMP 99.0.3.9 (LAST=n)]``: begin nothing more here; what was begun is still answered."""

    last: int
    text: str


@dataclass(frozen=True, slots=True)
class NoticeReceived:
    """Another unsolicited response; for the log."""

    result: Result


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Close the connection, after what is left to send. The last event."""

    reason: str
    """A sentence of ours."""
    orderly: bool
    """By QUIT, or with nothing under way."""
    misbehaved: bool = False
    """The other side broke the protocol."""


# -- their transfers ---------------------------------------------------------------------------------


@dataclass(slots=True)
class ObjectOffered:
    """A request to send an object (its first fragment). ``grant(tag)``, or ``answer(tag, result)`` to
    refuse; an OK with `codes.ALREADY_TAKEN` ends the transfer without any data."""

    tag: int
    transfer_id: str
    media_type: str
    size: int
    """Of this fragment."""
    to_come: int
    """Fragments after it."""
    offset: int = 0
    """Octets of the object said to be held already (MT2-18b): refuse with `WRONG_OFFSET` unless they are."""


@dataclass(slots=True)
class ObjectOctets:
    """The next octets of an object; b"" only for one without any (left)."""

    tag: int
    transfer_id: str
    media_type: str
    octets: bytes = field(repr=False)
    fragment_ended: bool
    object_ended: bool


class DropReason(Enum):
    KILLED = "killed"
    """ABOR: partial data is discarded."""
    RULE_BROKEN = "rule broken"
    """Wrong counts, sizes or order: refused; partial data is discarded."""


@dataclass(frozen=True, slots=True)
class TransferDropped:
    """Everything of it has been answered by the core."""

    transfer_id: str
    reason: DropReason
    result: Result


# -- our transfers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """One object of a transfer of ours."""

    media_type: str
    size: int
    """Octets of the whole object."""
    octets: bytes | None = field(default=None, repr=False)
    """All of them; None: the core asks with `OctetsWanted`."""
    offset: int = 0
    """Where to begin, as STAT said (MT2-18b)."""


@dataclass(frozen=True, slots=True)
class OctetsWanted:
    """Give octets of a stream by ``send_octets(tag, octets)``, at once or later, `count` in all."""

    tag: int
    transfer_id: str
    media_type: str
    offset: int
    """Of the first, in the whole object."""
    count: int


@dataclass(slots=True)
class ObjectAnswered:
    """An object was accepted or refused."""

    transfer_id: str
    media_type: str
    result: Result


@dataclass(slots=True)
class TransferEnded:
    """The outcome of one transfer of ours."""

    transfer_id: str
    result: Result | None
    """The answer that ended it: OK means taken. None: the session ended first."""
    envelope: Result | None
    """The answer to the envelope, with the recipients refused there; None if it had none."""
    may_be_taken: bool = False
    """Without a result: everything had been sent, so ask STAT before sending it again."""


Mt2Event = (
    Greeted
    | IdentityOffered
    | OptionsAsked
    | TlsAgreed
    | VerbAsked
    | StatusAsked
    | Answered
    | PeerLeaves
    | NoticeReceived
    | SessionEnded
    | ObjectOffered
    | ObjectOctets
    | TransferDropped
    | OctetsWanted
    | ObjectAnswered
    | TransferEnded
)
