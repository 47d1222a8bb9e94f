"""What is kept of a transfer of theirs, and of each fragment of it that has not been answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from outrider.protocols.mt2.events import ENVELOPE_TYPE, ObjectOctets
from outrider.protocols.mt2.wire_out import Wire


class Phase(Enum):
    """Of a transfer; the diagram is in `incoming`."""

    AWAITED = auto()
    """The next object's first request has not come."""
    OFFERED = auto()
    """It has, and our driver decides."""
    OPEN = auto()
    """Granted; fragments come."""
    ANSWERING = auto()
    """All of the object is here; our driver decides."""
    ENDED = auto()


class Arrivals:
    """Sums over all transfers of a connection. Octets."""

    __slots__ = ("due", "octets", "skippable", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.octets = 0
        """That came, or will not come any more."""
        self.due = 0
        """Permitted and not here."""
        self.skippable = 0
        """Permitted to requests that have ended since: they may be on their way."""


class Fragment:
    """One XFER of theirs that has not been answered."""

    __slots__ = (
        "arrivals", "media_type", "offset", "permitted", "received", "size", "tag", "to_come", "transfer",
    )  # fmt: skip

    def __init__(
        self, tag: int, transfer: Transfer, media_type: str, size: int, to_come: int, offset: int
    ) -> None:
        self.tag = tag
        self.transfer = transfer
        self.media_type = media_type
        self.size = size
        self.to_come = to_come
        self.offset = offset
        self.permitted = False
        self.received = 0
        self.arrivals = transfer.arrivals

    def take(self, octets: bytes) -> None:
        """Octets have come for it (`frames.Sink`)."""
        arrivals, transfer = self.arrivals, self.transfer
        count = len(octets)
        if self.tag not in transfer.live:  # dropped while a frame for it was coming in
            arrivals.skippable -= count
            return
        self.received += count
        arrivals.octets += count
        arrivals.due -= count
        ended = self.received == self.size
        whole = ended and not self.to_come
        if ended:
            transfer.arriving.popleft()
            if whole:
                transfer.phase = Phase.ANSWERING
        arrivals.wire.events.append(
            ObjectOctets(self.tag, transfer.transfer_id, self.media_type, octets, ended, whole)
        )

    @property
    def is_here(self) -> bool:
        """All its octets have come."""
        return self.permitted and self.received == self.size


class Transfer:
    """One message on its way to us."""

    __slots__ = (
        "arrivals", "arriving", "expected", "index", "killer", "last_tag", "live", "parts", "phase",
        "requested", "transfer_id", "waiting",
    )  # fmt: skip

    def __init__(self, transfer_id: str, arrivals: Arrivals) -> None:
        self.transfer_id = transfer_id
        self.arrivals = arrivals
        self.phase = Phase.AWAITED
        self.parts: Sequence[tuple[str, int]] = ()
        """What the envelope lists."""
        self.index = 0
        """Of the object whose turn it is: 0 is the envelope, 1 the first listed one."""
        self.expected: int | None = None
        """The count of the next fragment; -1: none follows; None: whatever the first one says."""
        self.requested = 0
        """Octets of the object that are held or asked for."""
        self.live: dict[int, Fragment] = {}
        """Requests not answered, by tag."""
        self.waiting: deque[Fragment] = deque()
        """Of them, those whose turn has not come."""
        self.arriving: deque[Fragment] = deque()
        """Of them, those whose octets are permitted and not all here, in order."""
        self.last_tag = 0
        self.killer = 0
        """Tag of an ABOR that waits for our driver's answer to the whole object; 0 = none."""

    @property
    def media_type(self) -> str:
        """Of the object whose turn it is."""
        return self.parts[self.index - 1][0] if self.index else ENVELOPE_TYPE

    def begin_object(self, index: int) -> None:
        """The turn of the next object has come."""
        self.index = index
        self.phase = Phase.AWAITED
        self.expected = None
        self.requested = 0
