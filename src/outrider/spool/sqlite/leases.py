"""The table of leases: in memory, since one process owns the spool; the event loop alone touches it.

What a crash has to leave behind (this item was being delivered) is the item's state in the database; what
only the living need (until when, under which token) is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from outrider.model.content import Body
from outrider.model.message import Item, ItemKey, Leased
from outrider.spool.bodies import FileBody
from outrider.spool.interface import LeaseLost


@dataclass(slots=True)
class Lease:
    """One item handed out."""

    item: Item
    seq: int
    rank: int
    until: float
    due_before: float
    """The next attempt as it stood before: for giving the item back untouched."""
    body_file: str = ""
    """The file that goes when the message is finished."""
    settling: bool = False
    """A settlement is on its way to the disk: nothing else may use the lease meanwhile."""


class Leases:
    """All leases of this process."""

    def __init__(self) -> None:
        self._leases: dict[ItemKey, Lease] = {}
        self._earliest = float("inf")

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._leases.values()))

    def add(self, leased: Leased, seq: int, rank: int, due_before: float) -> None:
        """A new lease, which is durable. Its end is the item's next attempt."""
        item = leased.item
        content = leased.message.content
        name = body_file(content.body) if content is not None else ""
        self.restore(Lease(item, seq, rank, item.next_attempt_at, due_before, name))

    def restore(self, lease: Lease) -> None:
        """Put back what was taken out, since its change did not become durable."""
        lease.settling = False
        self._leases[lease.item.key] = lease
        self._earliest = min(self._earliest, lease.until)

    def held(self, key: ItemKey, token: int) -> Lease:
        """The lease under this token. Raises LeaseLost (SEC-213)."""
        lease = self._leases.get(key)
        if lease is None or lease.settling or lease.item.lease != token:
            raise LeaseLost(f"{key.message}/{key.number}: the lease is no longer held")
        return lease

    def renew(self, key: ItemKey, token: int, until: float) -> bool:
        """Extend; False when it was lost."""
        lease = self._leases.get(key)
        if lease is None or lease.item.lease != token:
            return False
        lease.until = until
        return True

    def remove(self, lease: Lease) -> None:
        """The item is no longer leased."""
        self._leases.pop(lease.item.key, None)

    def take_expired(self, now: float) -> list[Lease]:
        """Remove and give those that have run out; looks through the table only when one may have."""
        if now < self._earliest:
            return []
        expired = [lease for lease in self._leases.values() if lease.until <= now and not lease.settling]
        for lease in expired:
            self.remove(lease)
        self._earliest = min((lease.until for lease in self._leases.values()), default=float("inf"))
        return expired

    def any_solo(self) -> bool:
        """Whether a suspect is being delivered."""
        return any(lease.item.solo for lease in self._leases.values())


def body_file(body: Body) -> str:
    """The name of the body's file; "" when it has none."""
    return body.reference.name if isinstance(body, FileBody) else ""
