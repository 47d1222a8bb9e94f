"""What the nodes that share one queue want of each other: pauses that hold for all, and items given back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from outrider.delivery.sharing import LaneSharing
from outrider.model.message import ItemKey


class Attendant(Protocol):
    """What a node does when another one asks. The queue manager is one."""

    def set_paused(self, destinations: Iterable[str]) -> None:
        """These destinations are paused, and no others."""
        ...

    def revive(self, lanes: Iterable[str]) -> None:
        """Forget the back-offs of these lanes: an operator says that they may work again."""
        ...

    async def withdraw(self, keys: Iterable[ItemKey]) -> None:
        """Give those of the items back to the spool that wait here and are not being delivered."""
        ...


@runtime_checkable
class SharedQueue(Protocol):
    """A spool that several nodes deliver from. All raise SpoolUnavailable where the spool would."""

    @property
    def sharing(self) -> LaneSharing:
        """Slots and rates over all nodes."""
        ...

    def attend(self, attendant: Attendant) -> None:
        """Tell it from now on what other nodes want, and this one: everybody hears everything."""
        ...

    async def paused(self) -> frozenset[str]:
        """Destinations that are paused for all nodes."""
        ...

    async def pause(self, destination: str) -> None:
        """No node starts anything more to it; all are told."""
        ...

    async def resume(self, destination: str) -> bool:
        """Let it go on; False when it was not paused."""
        ...

    async def revive(self, lanes: Iterable[str]) -> None:
        """Have all nodes forget the back-offs of these lanes."""
        ...
