"""What is so on one connection: the state that the rules of both directions stand on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, tmp
from outrider.protocols.mt2.events import VERSION, PeerSettings, SessionEnded, TlsAgreed
from outrider.protocols.mt2.frames import FrameReader
from outrider.protocols.mt2.identity import TheirIdentity
from outrider.protocols.mt2.incoming import IncomingTransfers
from outrider.protocols.mt2.lines import UNSOLICITED, Extension
from outrider.protocols.mt2.options import Grant, Offer, first_grant, option_list
from outrider.protocols.mt2.outgoing import OutgoingTransfers
from outrider.protocols.mt2.timers import Timers
from outrider.protocols.mt2.wire_out import Wire


class State(Enum):
    """Of a connection::

    server:                   OPEN --OPT TLS--> TLS_BEGINS --> OPEN (greets again)
    client: AWAITING_GREETING --> OPEN --OPT TLS--> TLS_BEGINS --> AWAITING_GREETING
    either: QUIT, a violation, an alarm, [* ERR], the end of the stream --> ENDED
    """

    AWAITING_GREETING = auto()
    """A client's first; no request goes out."""
    OPEN = auto()
    TLS_BEGINS = auto()
    """Between two streams: nothing is read."""
    ENDED = auto()


@dataclass(slots=True)
class Asked:
    """A request of ours, not an XFER, that has not been answered."""

    verb: str
    certificate: bytes | None = None
    """HELO: sent when it is permitted; None afterwards."""
    options: tuple[Extension, ...] = ()
    transfer_id: str = ""
    """ABOR: of the transfer to be killed."""


class Session:
    """The state; what changes it according to the protocol is in `asking` and `answering`."""

    def __init__(
        self, settings: PeerSettings, offer: Offer, now: float, reader: FrameReader, *, is_server: bool
    ) -> None:
        self.settings = settings
        self.is_server = is_server
        self.over_tls = settings.over_tls
        self.offer = offer
        """To the other side, as far as it is known now."""
        self.wire = Wire(now)
        self.reader = reader
        self.timers = Timers(settings.limits, now)
        self.state = State.OPEN if is_server else State.AWAITING_GREETING

        self.outgoing = OutgoingTransfers(self.wire, self.next_tag, self.room)
        self.last_tag = 0
        """The highest of ours."""
        self.asked: dict[int, Asked] = {}
        self.our_quit = False

        self.their_identity = TheirIdentity(self.wire, settings.limits)
        self.incoming = IncomingTransfers(self.wire, settings.limits)
        if is_server:  # what a client offers is not known before it answers a HELO: the defaults hold
            self.incoming.grant = first_grant(offer)
        self.pending: dict[int, str] = {}
        """Verbs of theirs, but XFER and HELO, that our driver is to answer."""
        self.their_quit = 0
        """The tag of their QUIT."""
        self.their_last: int | None = None
        """The last request they serve, once they have said that they go away."""

    @property
    def outstanding(self) -> int:
        """Requests of ours not answered."""
        return self.outgoing.outstanding + len(self.asked)

    @property
    def their_requests(self) -> int:
        """Requests of theirs not answered; NOOP, ABOR and QUIT left aside."""
        return self.incoming.outstanding + len(self.pending) + bool(self.their_identity.pending_tag)

    @property
    def is_idle(self) -> bool:
        """Nothing under way in either direction."""
        return not (
            self.incoming.under_way or self.outgoing.under_way or self.their_requests or self.outstanding
        )

    def next_tag(self) -> int:
        """For a request of ours."""
        self.last_tag += 1
        return self.last_tag

    def room(self) -> int:
        """Requests of ours that may go out now (MT2-18d)."""
        if self.state is not State.OPEN or self.our_quit:
            return 0
        return self.outgoing.grant.requests - self.outstanding

    def unsolicited(self, result: Result) -> None:
        """A response to nothing."""
        self.wire.respond(UNSOLICITED, result)

    # -- changes -------------------------------------------------------------------------------------

    def greet(self, host: str, nonce: str) -> None:
        """A server's first frame (MT2-10a)."""
        extensions = [Extension("VER", (VERSION,))]
        if host:
            extensions.append(Extension("HOST", (host,)))
        if nonce:
            extensions.append(Extension("NONCE", (nonce,)))
        self.unsolicited(tmp(codes.GREETING, *extensions, *option_list(self.offer)))

    def begin_tls(self) -> None:
        """It was agreed upon: nothing more is read before TLS stands (MT2-9)."""
        self.state = State.TLS_BEGINS
        self.reader.stopped = True
        self.wire.events.append(TlsAgreed())

    def restart_in_tls(self, offer: Offer, now: float) -> None:
        """TLS stands: what was learnt before it is forgotten. Tags go on."""
        self.over_tls = True
        self.reader.restart()
        self.timers.resume(now)
        self.offer = offer
        self.their_identity = TheirIdentity(self.wire, self.settings.limits)
        self.incoming.grant = first_grant(offer) if self.is_server else Grant()
        self.outgoing.grant = Grant()
        self.state = State.OPEN if self.is_server else State.AWAITING_GREETING

    def end(self, reason: str, *, orderly: bool, misbehaved: bool = False) -> None:
        """The connection is to be closed, after what is left to send."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        self.reader.restart()
        self.reader.stopped = True
        self.outgoing.session_ended(self.their_last)
        self.wire.events.append(SessionEnded(reason, orderly, misbehaved))
