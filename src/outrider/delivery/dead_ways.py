"""Mail whose way is backed off: put off until the probe, told why, and returned when its time is over.

SEC-174, FAULT-F13: a host that is away must not be hammered, and its mail must cost next to nothing
meanwhile; yet nobody is left without a word, and nothing waits for ever because it was never tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from outrider.config.schema import Delivery
from outrider.delivery.lanes import Entry, Lane, LaneBoard
from outrider.delivery.leases import Leases
from outrider.delivery.queue_parts import QueueParts
from outrider.delivery.results import deferred
from outrider.delivery.settlement import Attempt, put_off, schedule_of
from outrider.model.message import ItemState
from outrider.spool.interface import Conflict, Filter, NotFound, SpoolError

OVERDUE_BATCH = 500
"""Expired items settled at once when their way has died."""


class DeadWays:
    """See the module."""

    def __init__(
        self,
        parts: QueueParts,
        leases: Leases,
        board: LaneBoard,
        record: Callable[[Attempt, float], Awaitable[None]],
        settings: Callable[[], Delivery],
    ) -> None:
        """`record(attempt, not_before)` settles an attempt; `settings` gives those that hold now."""
        self.postponing: set[str] = set()
        """Destinations whose items are being put off in the spool: a million take a while."""
        self._parts = parts
        self._leases = leases
        self._board = board
        self._record = record
        self._settings = settings

    async def back_off(self, lane: Lane, destination: str) -> None:
        """Nothing more is tried on the lane: what waits in memory and in the spool waits for the probe."""
        entries = self._board.empty(lane)
        try:
            for one in sorted({destination, *(entry.destination for entry in entries)}):
                await self._postpone(one, lane.dead_until)
        except SpoolError as error:
            # What waits in the spool comes up by itself, and is put off then; what waits here must not be
            # forgotten over it.
            self._parts.observer.spool_failed("postponing mail", str(error))
        # All at once, so that they share a commit.
        await asyncio.gather(*(self.put_off(entry, lane) for entry in entries))
        await self._expire_overdue(destination)

    async def _postpone(self, destination: str, until: float) -> None:
        """Nothing of it is leased meanwhile: there would be no end of putting off one by one."""
        self.postponing.add(destination)
        try:
            await self._parts.spool.postpone(destination, until)
        finally:
            self.postponing.discard(destination)

    async def put_off(self, entry: Entry, lane: Lane) -> None:
        """Give an item back until the way is open. Who has not been told why, or has waited too long, is
        told (ITP-7); all others cost the spool as little as can be."""
        now = self._parts.clock.now()
        if self._must_be_told(entry, now):
            text = f"not tried: the last attempts by {lane.name} reached nobody ({lane.last_error})"
            try:
                await self._record(put_off(entry.leased, deferred("4.4.1", text), now), lane.dead_until)
            finally:
                # The lease of what nobody carries any more is never renewed.
                self._leases.held.pop(entry.key, None)
        else:
            # A little after the others, so that the next round brings up those that were not reached in this.
            await self._leases.release([entry], lane.dead_until + self._parts.chance() * 60.0)

    def _must_be_told(self, entry: Entry, now: float) -> bool:
        schedule = schedule_of(entry.leased, self._settings())
        statuses = [one for one in entry.leased.item.recipients if not one.state.is_final]
        if schedule.is_expired(now) or any(one.last is None for one in statuses):
            return True
        return schedule.warning_due(now) and not all(one.delay_reported for one in statuses)

    async def _expire_overdue(self, destination: str) -> None:
        """Items postponed again and again would never be tried, and never returned: those past their
        lifetime are returned now."""
        delivery, spool = self._settings(), self._parts.spool
        now = self._parts.clock.now()
        oldest = now - min(delivery.max_age, delivery.bounce_max_age)
        if (await spool.counts()).oldest_received_at > oldest:
            return
        wanted = Filter(
            states=(ItemState.READY,), destination=destination, older_than=oldest, limit=OVERDUE_BATCH
        )
        for entry in await spool.find(wanted):
            try:
                leased = await spool.lease_one(entry.item.key, now, now + self._leases.length_s)
            except (Conflict, NotFound):
                continue
            reason = next((one.last for one in leased.item.recipients if one.last is not None), None)
            attempt = put_off(leased, reason or deferred("4.4.1", "no host could be reached"), now)
            await self._record(attempt, 0.0)
