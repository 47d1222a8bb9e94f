"""What a queue manager stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outrider.delivery.clock import Clock
from outrider.delivery.interface import Dialler
from outrider.delivery.neighbours import SharedQueue
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.sharing import LaneSharing
from outrider.spool.interface import Spool

CAPACITY = 10_000
"""Items in memory, waiting or being delivered: some 40 MiB of envelopes; bodies above the inline limit stay
in their files."""


@dataclass(frozen=True, slots=True)
class QueueParts:
    """It stays the same over a reload."""

    spool: Spool
    dialler: Dialler
    clock: Clock
    chance: Callable[[], float]
    observer: DeliveryObserver
    lease_s: float = 300.0
    """[spool] lease."""
    capacity: int = CAPACITY
    paused: frozenset[str] = frozenset()
    """Destinations that the operator had paused before."""
    sharing: LaneSharing | None = None
    """What other processes that deliver use too; None when there are none."""
    shared: SharedQueue | None = None
    """The spool, where other nodes deliver from it too: it keeps the pauses, and their word is heard."""
