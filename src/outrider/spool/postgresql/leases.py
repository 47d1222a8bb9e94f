"""The leases that this node holds. The database says whose they are; here is what their holder must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from outrider.model.message import Item, ItemKey
from outrider.spool.interface import LeaseLost


@dataclass(slots=True)
class Lease:
    """One item handed out."""

    item: Item
    received_at: float
    rank: int
    due_before: float
    """The next attempt as it stood before: for giving the item back untouched."""
    settling: bool = False
    """A settlement is on its way to the database: nothing else may use the lease meanwhile."""


class Leases:
    """All of this process."""

    def __init__(self) -> None:
        self._leases: dict[ItemKey, Lease] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._leases.values()))

    def add(self, lease: Lease) -> None:
        """A new one, which is durable."""
        self._leases[lease.item.key] = lease

    def get(self, key: ItemKey) -> Lease | None:
        """The one of that item."""
        return self._leases.get(key)

    def held(self, key: ItemKey, token: int) -> Lease:
        """The one under this token. Raises LeaseLost (SEC-213)."""
        lease = self._leases.get(key)
        if lease is None or lease.settling or lease.item.lease != token:
            raise lost(key)
        return lease

    def remove(self, lease: Lease) -> None:
        """The item is no longer leased, or under another lease by now."""
        if self._leases.get(lease.item.key) is lease:
            del self._leases[lease.item.key]


def lost(key: ItemKey) -> LeaseLost:
    """What is raised when another has the item."""
    return LeaseLost(f"{key.message}/{key.number}: the lease is no longer held")
