"""What is kept of a transfer of ours, and of each fragment of it that has not been answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from outrider.protocols.mt2.codes import Result
from outrider.protocols.mt2.events import OutgoingObject
from outrider.protocols.mt2.lines import format_value


class SentFragment:
    """One XFER of ours that has not been answered."""

    __slots__ = ("asked", "index", "permitted", "sent", "size", "start", "tag", "to_come", "transfer")

    def __init__(
        self, tag: int, transfer: SentTransfer, index: int, start: int, size: int, to_come: int
    ) -> None:
        self.tag = tag
        self.transfer = transfer
        self.index = index
        """Of the object it belongs to."""
        self.start = start
        """Of its octets, in the whole object."""
        self.size = size
        self.to_come = to_come
        self.permitted = False
        self.asked = False
        """Our driver has been asked for its octets."""
        self.sent = 0


class SentTransfer:
    """One message on its way to the other side."""

    __slots__ = (
        "aborting", "ended", "envelope", "first_tag", "index", "last_tag", "live", "name", "objects",
        "position", "sending", "transfer_id",
    )  # fmt: skip

    def __init__(self, transfer_id: str, objects: Sequence[OutgoingObject]) -> None:
        self.transfer_id = transfer_id
        self.name = format_value(transfer_id)
        """As it stands in a request."""
        self.objects = objects
        self.index = 0
        """Of the object whose next fragment is to be requested."""
        self.position = objects[0].offset
        """Where that fragment begins."""
        self.live: dict[int, SentFragment] = {}
        self.sending: deque[SentFragment] = deque()
        """Permitted, and not sent to their end; in order."""
        self.envelope: Result | None = None
        self.first_tag = 0
        self.last_tag = 0
        self.aborting = False
        self.ended = False

    @property
    def is_requested(self) -> bool:
        """Every fragment has been requested."""
        return self.index >= len(self.objects)

    @property
    def is_sent(self) -> bool:
        """Every octet has gone out."""
        return self.is_requested and all(part.sent == part.size for part in self.live.values())

    def next_fragment(self, tag: int, most: int) -> SentFragment:
        """The next one to request, of at most so many octets."""
        whole = self.objects[self.index].size
        left = whole - self.position
        size = min(left, most)
        to_come = max(0, -(-(left - size) // most))
        fragment = SentFragment(tag, self, self.index, self.position, size, to_come)
        self.position += size
        if not to_come:
            self.index += 1
            self.position = 0 if self.is_requested else self.objects[self.index].offset
        self.live[tag] = fragment
        self.first_tag = self.first_tag or tag
        self.last_tag = tag
        return fragment
