"""Between MT2's driver and the rest of the house: what happens to its sessions and transfers (MT2-1, MT2-15).

The driver turns the core's events into calls here and gives the results back. It keeps one
:class:`outrider.reception.interface.Session` (``protocol="mt2"``) for each connection, with `hello_name` the
name that HELO claimed. Everything below is called on the event loop; what may have to wait (for a fact, a
seal, the disk) answers with an awaitable, and the driver goes on serving other requests meanwhile.

The course of one transfer:

1. ``offered(session, ObjectRequest)`` for each `ObjectOffered`. A `Result` answers it before any octet was
   sent: a refusal, or OK with ``ALREADY_TAKEN``. An `IncomingObject` grants it.
2. ``write(octets)`` as they come, then ``finish()`` when the object has ended: its result answers the
   request, for an envelope with the objects that are to follow. The OK to the last of them - to the
   envelope, where it lists none - is the commit (MT2-17).
3. ``aborted(session, transfer_id)`` for `TransferDropped`; ``closed(session)`` when the connection is gone,
   however it ended, once for each session.

The steps of one transfer are handed in one after another, each when the one before has been answered; those
of several transfers in any order, and at once.

Durability (SMTP-5, MT2-18a): when a result says ``MESSAGE_TAKEN``, message and transfer are stored. A crash
between that and the answer loses nothing: the sender repeats its transfer, or asks STAT, and hears
``ALREADY_TAKEN`` with the recipients' results. Of an unfinished transfer nothing is stored but what is kept
to be resumed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from outrider.identity.mt2_identity import Found
    from outrider.protocols.mt2.codes import Result
    from outrider.protocols.mt2.lines import Extension, Param
    from outrider.protocols.mt2.options import Offer
    from outrider.protocols.mt2.status import TransferStatus
    from outrider.reception.interface import Session


class PartKind(Enum):
    """The objects of a message, in the order in which they are sent (MT2-1, MT2-14)."""

    ENVELOPE = "envelope"
    HEADERS = "headers"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """An object that a peer wants to send (MT2-14): `protocols.mt2.events.ObjectOffered` without its tag."""

    transfer: str
    """The transfer id."""
    media_type: str
    """``message/envelope``, or as the envelope lists the object."""
    size: int
    """Octets of the first fragment."""
    to_come: int = 0
    """Fragments after it."""
    offset: int = 0
    """Octets before this one are said to be held here, from a connection that broke (MT2-18b)."""


@dataclass(frozen=True, slots=True)
class ObjectAnswer:
    """What is said of an object that has come whole."""

    result: Result
    """OK, or ERR, which ends the transfer."""
    parts: tuple[tuple[str, int], ...] = ()
    """Of an envelope that was accepted: media types and lengths of the objects to come, in order. None: it is
    a message of its own, and taken."""


class IncomingObject(Protocol):
    """An object that may be sent now."""

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Octets of it, in order. None: there is room for more at once; else await it before the next. Never
        raises for the disk's sake, nor for too many octets: `finish` says so."""
        ...

    def finish(self) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """All its octets were written. Never raises."""
        ...


class Mt2Reception(Protocol):
    """One object for all MT2 sessions of a server; exchanged as a whole by a reload."""

    def connected(self, session: Session) -> Result | Awaitable[Result]:
        """A client is there. OK: greet it with `offer`; ERR: say this, unsolicited, and close."""
        ...

    def offer(self, session: Session) -> Offer:
        """What is granted on request, and so the option list, for this session as it stands: to a stranger
        before `identified`, then to that identity; generated from policy, partners and extensions (ITP-4d,
        MT2-10a). `tls` is the driver's to add."""
        ...

    def identified(
        self, session: Session, found: Found, chain: tuple[bytes, ...] = ()
    ) -> Result | Awaitable[Result]:
        """HELO's proof was checked: who it is, or why that is not known; `chain` is what it proved the key of
        (DER, leaf first). OK: ``welcome`` with `offer`, which
        is that identity's now; ERR: the answer to HELO, after which the session is as it was before."""
        ...

    def options_asked(self, session: Session, options: tuple[Extension, ...]) -> tuple[Extension, ...]:
        """OPT with options that are not the core's: an answer, with a `result`, for each (MT2-11)."""
        ...

    def verb_asked(
        self,
        session: Session,
        verb: str,
        params: tuple[Param, ...],
        extensions: tuple[Extension, ...],
    ) -> Awaitable[Result]:
        """A request with a verb of an extension (MT2-20)."""
        ...

    @property
    def verbs(self) -> frozenset[str]:
        """Verbs, in capitals, of the extensions that are available."""
        ...

    def offered(
        self, session: Session, request: ObjectRequest
    ) -> IncomingObject | Result | Awaitable[IncomingObject | Result]:
        """XFER: permission, or the answer to it (MT2-14, MT2-15). Never raises."""
        ...

    def aborted(self, session: Session, transfer: str, why: str = "killed by its sender") -> bool:
        """ABOR, or a broken rule: what the transfer brought is forgotten (MT2-12). False: too late, it is
        taken or being stored."""
        ...

    def status(self, session: Session, transfer: str) -> Awaitable[TransferStatus]:
        """STAT: of transfers of this session's proven identity, whatever connection they came by (MT2-13);
        UNKNOWN to everybody else. Raises SpoolUnavailable where that is not to be had now."""
        ...

    def closed(self, session: Session, why: str) -> Awaitable[None]:
        """The connection is gone: what it left unfinished is kept to be resumed, for a proven identity within
        its bounds, or removed (MT2-18b). Never raises."""
        ...
