"""The items that are leased to this queue manager: renewed in time, given back, or lost to another
(SEC-213)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from outrider.delivery.background import Background
from outrider.delivery.lanes import Entry
from outrider.delivery.queue_parts import QueueParts
from outrider.model.message import ItemKey, Leased
from outrider.spool.interface import SpoolError, SpoolUnavailable

RENEW_RETRY_S = 1.0
"""Before leases are renewed again that the spool could not renew."""
RELEASE_RETRY_S = 5.0
"""Before items are given back again that the spool could not take back."""


class Leases:
    """See the module. `held` has every item, waiting or being delivered."""

    def __init__(
        self, parts: QueueParts, background: Background, given_back: Callable[[float], None]
    ) -> None:
        """`given_back(at)` is told that items are due again at that moment."""
        self.held: dict[ItemKey, Entry] = {}
        self.length_s = parts.lease_s
        self._spool = parts.spool
        self._clock = parts.clock
        self._observer = parts.observer
        self._background = background
        self._given_back = given_back
        self._closing = False
        self._renew_at = self._clock.now() + self.length_s / 3
        self._retry_at = 0.0

    @property
    def renewal_due_at(self) -> float:
        """When `renew` is to be called next."""
        return max(self._renew_at, self._retry_at)

    def renew_soon(self, now: float) -> None:
        """The clock was set back: moments noted by the old time mean nothing."""
        self._renew_at = self._retry_at = now

    def close(self) -> None:
        """From now on nothing is given back a second time."""
        self._closing = True

    async def renew(self, now: float) -> list[Entry]:
        """Extend all leases; those that another has now, and that are not ours any more.

        One that could not be extended is tried again soon: the next third of its time is left for that, and
        in the last nothing is started any more. Raises SpoolUnavailable.
        """
        leases = [(key, entry.leased.item.lease) for key, entry in self.held.items()]
        lost: Sequence[ItemKey] = ()
        if leases:
            try:
                lost = await self._spool.renew(leases, now + self.length_s)
            except SpoolUnavailable:
                self._retry_at = now + RENEW_RETRY_S
                raise
        self._renew_at = self._retry_at = now + self.length_s / 3
        return [self.held.pop(key) for key in lost if key in self.held]

    def is_renewal_overdue(self, now: float) -> bool:
        """A process that was stopped, or cut off from the spool, may hold leases that have run out: what it
        starts under them another may be sending as well (SEC-213)."""
        return bool(self.held) and now >= self._renew_at + self.length_s / 3

    async def release(self, entries: Sequence[Entry], next_attempt_at: float) -> None:
        """Give items back to the spool, due at that moment."""
        for entry in entries:
            self.held.pop(entry.key, None)
        await self.give_back([entry.leased for entry in entries], next_attempt_at)

    async def give_back(self, leased: Sequence[Leased], next_attempt_at: float) -> None:
        """The same for items that were never held."""
        if not leased:
            return
        try:
            await self._spool.release([(one.item.key, one.item.lease) for one in leased], next_attempt_at)
        except SpoolError as error:
            self._observer.spool_failed("giving items back", str(error))
            if not self._closing:
                self._background.start(self._give_back_later(leased, next_attempt_at))
        self._given_back(next_attempt_at)

    async def _give_back_later(self, leased: Sequence[Leased], next_attempt_at: float) -> None:
        """A full disk passes: a lease that ran out meanwhile would look like a death of the server, and mail
        that is under suspicion for that would be held in the end."""
        await self._clock.wait(asyncio.Event(), self._clock.now() + RELEASE_RETRY_S)
        await self.give_back(leased, next_attempt_at)
