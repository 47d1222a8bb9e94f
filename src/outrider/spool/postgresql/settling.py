"""Requests that share commits: messages stored, attempts settled, items given back; and the leases concerned.

Between a request and its commit a lease that is being ended belongs to nobody. Once the commit is durable it
is gone; where it failed, it is held as before, unless another node has it by now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from typing import cast

from outrider.model.message import Item, ItemKey, ItemState, Leased, NewMessage, Settlement
from outrider.spool import transitions
from outrider.spool.interface import Conflict, LeaseLost, SpoolError, SpoolUnavailable
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql import leasing
from outrider.spool.postgresql.contents import Contents
from outrider.spool.postgresql.database import Database
from outrider.spool.postgresql.exchange import Connection
from outrider.spool.postgresql.leases import Lease, Leases, lost
from outrider.spool.postgresql.leasing import ending
from outrider.spool.postgresql.storing import Prepared, item_row, prepare
from outrider.spool.postgresql.writing import Batches, Request, Writes, held_of, write


class Settling:
    """See the module."""

    def __init__(self, database: Database, owner: str, contents: Contents, observer: SpoolObserver) -> None:
        self._database = database
        self._owner = owner
        self._contents = contents
        self._observer = observer
        self._open: Batches | None = None
        self._ending: Batches | None = None
        self.leases = Leases()

    def start(self) -> None:
        """Take requests from now on."""
        self._open = Batches(self._database, self._observer)
        self._open.start()

    def shut(self) -> None:
        """Take no more requests."""
        self._ending, self._open = self._open or self._ending, None

    async def stop(self) -> None:
        """After `shut`: give back what is only held, and write what was submitted."""
        batches, self._ending = self._ending, None
        if batches is None:
            return
        for lease in self.leases:
            if not lease.settling:
                self._submit_back(batches, lease, lease.due_before)
        await batches.stop()

    def batches(self) -> Batches:
        """Raises SpoolUnavailable when closed."""
        if self._open is None:
            raise SpoolUnavailable("the spool is closed")
        return self._open

    # --- storing --------------------------------------------------------------------------------------

    def store(self, message: NewMessage, lease_until: float) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.store`."""
        future = _new_future()
        try:
            batches = self.batches()
            prepared = prepare(message, lease_until, self._owner)
        except ValueError as error:
            future.set_exception(Conflict(f"{message.id}: {error}"))
        except SpoolError as error:
            future.set_exception(error)
        else:
            request = Request(future, prepared.writes, failed=prepared.undo)
            request.committed = lambda: self._handed_out(future, prepared.leases)
            batches.submit(request)
        return cast(Awaitable[tuple[Leased, ...]], future)

    def _handed_out(
        self, future: asyncio.Future[object], leases: Sequence[tuple[Leased, Lease]]
    ) -> tuple[Leased, ...]:
        """Leases of new messages, which are durable; given back where nobody waits for them any more."""
        for _, lease in leases:
            self.leases.add(lease)
            if future.cancelled():
                self.give_back(lease)
        return tuple(leased for leased, _ in leases)

    # --- settling -------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, lease_until: float) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.settle`. Raises ValueError for a settlement that forgets a recipient."""
        try:
            batches = self.batches()
            lease = self.leases.held(settlement.key, settlement.lease)
            future = self._settle(batches, lease, settlement, lease_until)
        except (SpoolError, ValueError) as error:
            future = _new_future()
            future.set_exception(error)
        return cast(Awaitable[tuple[Leased, ...]], future)

    def _settle(
        self, batches: Batches, lease: Lease, settlement: Settlement, lease_until: float
    ) -> asyncio.Future[object]:
        after = self._held_if_damaged(transitions.settled(lease.item, settlement))
        writes = ending(after, settlement.events, transitions.finish_time(lease.item, settlement))
        # A split is a transaction of its own, whose leases nobody hands out: its messages are looked for.
        until = 0.0 if settlement.extra else lease_until
        reports = [prepare(message, until, self._owner) for message in settlement.new_messages]
        for report in reports:
            writes.join(report.writes)
        if settlement.extra:
            split = self._settle_split(lease, settlement, writes, reports)
            return cast("asyncio.Future[object]", asyncio.ensure_future(split))
        return self._submit_ending(batches, lease, writes, reports)

    def _held_if_damaged(self, after: Item) -> Item:
        """A message whose content was found damaged waits for a person, whatever the attempt made of that."""
        if after.state is not ItemState.READY:
            return after
        why = self._contents.take_damage(after.key.message)
        if why is None:
            return after
        return replace(after, state=ItemState.HELD, reason=f"content damaged: {why}")

    def _submit_ending(
        self, batches: Batches, lease: Lease, writes: Writes, reports: Sequence[Prepared]
    ) -> asyncio.Future[object]:
        """Hand over what ends a lease: until that is durable the lease is taken, then it is gone."""
        future = _new_future()
        lease.settling = True
        request = Request(future, writes, lease=(lease.item.key, lease.item.lease))
        request.committed = lambda: self._ended(future, lease, reports)
        request.failed = lambda error: self._not_ended(lease, reports, error)
        batches.submit(request)
        return future

    def _ended(
        self, future: asyncio.Future[object], lease: Lease, reports: Sequence[Prepared]
    ) -> tuple[Leased, ...]:
        self.leases.remove(lease)
        return self._handed_out(future, [new for report in reports for new in report.leases])

    def _not_ended(self, lease: Lease, reports: Sequence[Prepared], error: Exception) -> None:
        lease.settling = False
        if isinstance(error, LeaseLost):
            self.leases.remove(lease)
        for report in reports:
            report.undo(error)

    async def _settle_split(
        self, lease: Lease, settlement: Settlement, writes: Writes, reports: Sequence[Prepared]
    ) -> tuple[Leased, ...]:
        """The rarer way, a transaction of its own: the new items' numbers have to be found first."""
        lease.settling = True
        key = lease.item.key

        async def work(connection: Connection) -> None:
            if not await held_of(connection, [(key, lease.item.lease)]):
                raise lost(key)
            number = await leasing.next_number(connection, key.message)
            extra = transitions.split_off(lease.item, settlement, number)
            rows = [item_row(item, lease.received_at, lease.rank, self._owner) for item in extra]
            await write(connection, Writes(items=rows, wake=True))
            await write(connection, writes)

        try:
            await self._database.transact(work)
        except Exception as error:
            self._not_ended(lease, reports, error)
            raise
        self.leases.remove(lease)
        return ()

    # --- giving back ----------------------------------------------------------------------------------

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """See `Spool.release`. Leases that were lost are passed over: another has the item."""
        batches = self.batches()
        futures = []
        for key, token in leases:
            lease = self.leases.get(key)
            if lease is not None and lease.item.lease == token and not lease.settling:
                futures.append(self._submit_back(batches, lease, next_attempt_at))
        for result in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, LeaseLost):
                raise result

    def give_back(self, lease: Lease) -> None:
        """As it was, soon, and without waiting; a spool that is closed has given all back."""
        if self._open is not None:
            self._submit_back(self._open, lease, lease.due_before)

    def _submit_back(self, batches: Batches, lease: Lease, due: float) -> asyncio.Future[object]:
        after = transitions.released(lease.item, due)
        future = self._submit_ending(batches, lease, Writes(changed=[after]), ())
        # Where nobody waits for it: a lease that was lost meanwhile is no matter.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future


def _new_future() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()
