"""What a lease is worth: one holder, an end, a token that grows; and what a crash makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from outrider.model.message import (
    ItemKey,
    ItemState,
    MessageId,
)
from outrider.spool.interface import (
    Conflict,
    LeaseLost,
    NotFound,
    Spool,
    SpoolUnavailable,
)
from outrider.testing.spool_promises.back_end import BackEnd
from outrider.testing.spool_samples import (
    DEFERRED,
    DELIVERED,
    FAILED,
    NOW,
    item_of,
    message,
    one_leased,
    outcome,
)


class LeasingContract(BackEnd):
    """See the module."""

    async def test_leases_come_by_priority_then_age(self, spool: Spool) -> None:
        wanted = []
        for priority, due in ((0, 5), (-1, 1), (1, 9), (0, 3), (1, 2)):
            new = message(priority=priority, due=NOW + due)
            wanted.append((-priority, due, new.id))
            await spool.store(new)
        await spool.store(message(due=NOW + 100))
        leased = [
            *await spool.lease_due(NOW + 10, NOW + 300, 3),
            *await spool.lease_due(NOW + 10, NOW + 300, 9),
        ]
        assert [one.item.key.message for one in leased] == [id_ for _, _, id_ in sorted(wanted)]
        assert all(one.message.content is not None for one in leased)

    async def test_avoided_destinations_are_passed_over(self, spool: Spool) -> None:
        for number in range(30):
            await spool.store(message(f"user{number}@busy.example", due=NOW + number / 100))
        last = message("user@idle.example", due=NOW + 1)
        await spool.store(last)
        leased = await spool.lease_due(NOW + 2, NOW + 300, 5, avoid=("busy.example",))
        assert [one.item.key.message for one in leased] == [last.id]
        assert len(await spool.lease_due(NOW + 2, NOW + 300, 100)) == 30

    async def test_a_crowd_of_avoided_items_hides_nothing(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for window in self.windows:
            monkeypatch.setattr(window, 3)
        for number in range(20):
            await spool.store(message(f"user{number}@busy.example", due=NOW + number / 100))
        others = [message(f"user@{name}.example", due=NOW + 1) for name in ("alpha", "omega", "zeta")]
        for new in others:
            await spool.store(new)
        leased = [
            one.item.key.message
            for _ in range(2)
            for one in await spool.lease_due(NOW + 2, NOW + 300, 2, avoid=("busy.example",))
        ]
        assert sorted(leased) == sorted(new.id for new in others)

    async def test_nothing_is_leased_twice(self, spool: Spool) -> None:
        for _ in range(20):
            await spool.store(message())
        rounds = await asyncio.gather(*(spool.lease_due(NOW, NOW + 300, 7) for _ in range(5)))
        keys = [one.item.key for leased in rounds for one in leased]
        assert len(keys) == len(set(keys)) == 20

    @pytest.mark.covers("SEC-213")
    async def test_a_lease_that_ran_out_is_fenced(self, spool: Spool) -> None:
        old = await one_leased(spool, message())
        assert await spool.lease_due(NOW + 299, NOW + 900, 10) == ()
        (new,) = await spool.lease_due(NOW + 301, NOW + 900, 10)
        assert new.item.key == old.item.key
        assert new.item.lease > old.item.lease
        assert new.item.crashes == 1
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(old, FAILED))
        assert await spool.renew([(old.item.key, old.item.lease)], NOW + 9999) == (old.item.key,)
        await spool.release([(old.item.key, old.item.lease)], NOW)
        assert (await item_of(spool, new.item.key)).state is ItemState.ACTIVE
        await spool.settle(outcome(new, DELIVERED))
        assert (await item_of(spool, new.item.key)).recipients[0].last == DELIVERED

    async def test_a_lease_settles_once(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        results = await asyncio.gather(
            spool.settle(outcome(leased, DELIVERED)),
            spool.settle(outcome(leased, FAILED)),
            return_exceptions=True,
        )
        assert sorted(isinstance(result, LeaseLost) for result in results) == [False, True]
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(leased, FAILED))

    async def test_a_renewed_lease_holds_longer(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        assert await spool.renew([(leased.item.key, leased.item.lease)], NOW + 900) == ()
        assert await spool.lease_due(NOW + 400, NOW + 1300, 10) == ()
        await spool.settle(outcome(leased, DELIVERED))

    async def test_tokens_grow_across_restarts(self, spool: Spool) -> None:
        first = await one_leased(spool, message())
        spool = await self.reopen(spool, NOW + 1, crash=True)
        (second,) = await spool.lease_due(NOW + 301, NOW + 900, 10)
        assert second.item.lease > first.item.lease
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(first, DELIVERED))
        await spool.close()

    async def test_release_gives_back_without_an_attempt(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        await spool.release([(leased.item.key, leased.item.lease)], NOW + 60)
        item = await item_of(spool, leased.item.key)
        assert (item.state, item.next_attempt_at, item.attempts) == (ItemState.READY, NOW + 60, 0)
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(leased, DELIVERED))

    async def test_close_gives_leases_back(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        spool = await self.reopen(spool, NOW + 1, crash=False)
        item = await item_of(spool, leased.item.key)
        assert (item.state, item.next_attempt_at, item.crashes) == (ItemState.READY, NOW, 0)
        await spool.close()

    async def test_closed_means_closed(self, spool: Spool) -> None:
        await spool.close()
        with pytest.raises(SpoolUnavailable):
            await spool.store(message())
        with pytest.raises(SpoolUnavailable):
            await spool.lease_due(NOW, NOW + 1, 1)

    async def test_postpone_moves_one_destination(self, spool: Spool) -> None:
        await spool.store(message("a@b.example"))
        await spool.store(message("b@b.example", due=NOW + 500))
        await spool.store(message("c@c.example"))
        await one_leased(spool, message("d@b.example"))
        assert await spool.postpone("b.example", NOW + 100) == 1
        assert [one.item.destination for one in await spool.lease_due(NOW + 50, NOW + 300, 10)] == [
            "c.example"
        ]
        assert await spool.next_due() == NOW + 100

    async def test_next_due_is_the_earliest_ready(self, spool: Spool) -> None:
        assert await spool.next_due() is None
        await spool.store(message(due=NOW + 50, priority=-1))
        await spool.store(message(due=NOW + 70, priority=1))
        await spool.store(message(due=NOW + 10, state=ItemState.HELD))
        assert await spool.next_due() == NOW + 50

    @pytest.mark.covers("FAULT-F11")
    async def test_a_poison_message_is_leased_alone_then_held(self, spool: Spool) -> None:
        poison = await one_leased(spool, message("poison@b.example"))
        bystander = await one_leased(spool, message("bystander@b.example"))
        for crashes, at in ((1, 400.0), (2, 800.0)):
            spool = await self.reopen(spool, NOW + at, crash=True)
            assert {(await item_of(spool, one.item.key)).crashes for one in (poison, bystander)} == {crashes}
            if crashes < 2:
                assert len(await spool.lease_due(NOW + at, NOW + at + 300, 10)) == 2
        assert await spool.lease_due(NOW + 1200, NOW + 1500, 10) == ()
        assert await spool.next_due() is not None
        (suspect,) = await spool.lease_due(NOW + 1200, NOW + 1500, 10, solo=True)
        assert suspect.item.solo
        assert await spool.lease_due(NOW + 1200, NOW + 1500, 10, solo=True) == ()
        spool = await self.reopen(spool, NOW + 1600, crash=True)
        assert (await item_of(spool, suspect.item.key)).state is ItemState.HELD
        (other,) = await spool.lease_due(NOW + 2000, NOW + 2300, 10, solo=True)
        assert {suspect.item.key, other.item.key} == {poison.item.key, bystander.item.key}
        await spool.settle(outcome(other, DEFERRED))
        assert not (await item_of(spool, other.item.key)).solo
        await spool.close()

    async def test_lease_one_takes_any_waiting_item(self, spool: Spool) -> None:
        new = message("a@b.example", "b@c.example")
        await spool.store(
            replace(new, items=(replace(new.items[0], state=ItemState.HELD, reason="why"), new.items[1]))
        )
        held = await spool.lease_one(ItemKey(new.id, 0), NOW, NOW + 60)
        assert held.item.reason == "why"
        with pytest.raises(Conflict):
            await spool.lease_one(held.item.key, NOW, NOW + 60)
        await spool.settle(outcome(held, FAILED))
        with pytest.raises(Conflict):
            await spool.lease_one(held.item.key, NOW, NOW + 60)
        with pytest.raises(NotFound):
            await spool.lease_one(ItemKey(new.id, 5), NOW, NOW + 60)
        with pytest.raises(NotFound):
            await spool.lease_one(ItemKey(MessageId("NONE"), 0), NOW, NOW + 60)
