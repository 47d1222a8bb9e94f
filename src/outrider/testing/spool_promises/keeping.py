"""Counts, restarts, and what is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from outrider.model.message import (
    ItemKey,
    ItemState,
)
from outrider.spool.interface import (
    Change,
    Filter,
    NotFound,
    Spool,
)
from outrider.testing.spool_promises.back_end import BackEnd
from outrider.testing.spool_samples import DELIVERED, FAILED, NOW, item_of, message, one_leased, outcome


class KeepingContract(BackEnd):
    """See the module."""

    async def test_counts_follow_every_move(self, spool: Spool) -> None:
        async def counted() -> tuple[int, int, int]:
            counts = await spool.counts()
            return counts.ready, counts.active, counts.held

        assert await counted() == (0, 0, 0)
        assert (await spool.counts()).oldest_received_at == 0
        leased = await one_leased(spool, message(received_at=NOW))
        await spool.store(message("a@b.example", "b@c.example", received_at=NOW + 5))
        await spool.store(held := message(state=ItemState.HELD, received_at=NOW + 6))
        assert await counted() == (2, 1, 1)
        assert (await spool.counts()).oldest_received_at == NOW
        await spool.settle(outcome(leased, FAILED, new_messages=(message(received_at=NOW + 7),)))
        assert await counted() == (3, 0, 1)
        assert (await spool.counts()).oldest_received_at == NOW + 5
        await spool.change([ItemKey(held.id, 0)], Change.RELEASE, now=NOW, by="root")
        assert await counted() == (4, 0, 0)
        leases = await spool.lease_due(NOW, NOW + 300, 3)
        assert await counted() == (1, 3, 0)
        await spool.release([(one.item.key, one.item.lease) for one in leases], NOW)
        assert await counted() == (4, 0, 0)
        await spool.lease_due(NOW, NOW + 300, 2)
        spool = await self.reopen(spool, NOW + 500, crash=True)
        assert await counted() == (4, 0, 0)
        await spool.close()

    async def test_purge_forgets_what_left_long_ago(self, spool: Spool) -> None:
        old = await one_leased(spool, message())
        await spool.settle(outcome(old, DELIVERED, at=NOW + 10))
        fresh = await one_leased(spool, message())
        await spool.settle(outcome(fresh, DELIVERED, at=NOW + 100))
        await spool.store(waiting := message())
        assert await spool.purge(NOW + 200, NOW + 50) == 1
        with pytest.raises(NotFound):
            await spool.read(old.item.key.message)
        assert await spool.events(fresh.item.key.message)
        assert await spool.events(waiting.id)
        assert await spool.purge(NOW + 200, NOW + 500) == 1
        assert [entry.message.id for entry in await spool.find(Filter(include_done=True))] == [waiting.id]

    async def test_everything_survives_a_restart(self, spool: Spool) -> None:
        kept = [message(f"user{number}@b.example") for number in range(50)]
        await asyncio.gather(*(spool.store(new) for new in kept))
        spool = await self.reopen(spool, NOW, crash=False)
        for new in kept:
            assert (await spool.read(new.id)).envelope == new.envelope
        assert (await spool.counts()).ready == 50
        await spool.close()

    async def test_a_cancelled_caller_leaves_no_lease_behind(self, spool: Spool) -> None:
        new = message()
        waiting = asyncio.ensure_future(spool.store(new, lease_until=NOW + 9999))
        # In company, so that no spool is done with it before it can be cancelled.
        others = [asyncio.ensure_future(spool.store(message())) for _ in range(4)]
        await asyncio.sleep(0)
        assert waiting.cancel()
        await asyncio.gather(waiting, *others, return_exceptions=True)
        await spool.store(message(state=ItemState.HELD))
        await spool.store(message(state=ItemState.HELD))
        try:
            item = await item_of(spool, ItemKey(new.id, 0))
        except NotFound:
            return  # not stored at all
        assert item.state is ItemState.READY

    async def test_check_room_is_silent_when_there_is_room(self, spool: Spool) -> None:
        spool.check_room()
