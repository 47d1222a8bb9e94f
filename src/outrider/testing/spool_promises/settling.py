"""How an attempt is recorded, with what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.model.content import inline_content
from outrider.model.message import (
    ItemKey,
    ItemState,
    NewItem,
    RecipientState,
    RecipientStatus,
)
from outrider.spool.interface import (
    Conflict,
    LeaseLost,
    NotFound,
    Spool,
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


class SettlingContract(BackEnd):
    """See the module."""

    async def test_the_last_item_finishes_the_message(self, spool: Spool) -> None:
        new = message("a@b.example", "b@c.example")
        first, second = await spool.store(new, lease_until=NOW + 300)
        await spool.settle(outcome(first, DELIVERED))
        between = await spool.read(new.id)
        assert between.content is not None
        assert between.finished_at == 0
        await spool.settle(outcome(second, FAILED, at=NOW + 7))
        after = await spool.read(new.id)
        assert (after.content, after.finished_at, after.size) == (None, NOW + 7, new.content.size)
        items = await spool.items(new.id)
        assert [item.state for item in items] == [ItemState.DONE, ItemState.DONE]
        assert [item.recipients[0].last for item in items] == [DELIVERED, FAILED]
        assert [item.attempts for item in items] == [1, 1]

    async def test_what_is_pending_waits_or_is_held(self, spool: Spool) -> None:
        waiting = await one_leased(spool, message())
        await spool.settle(outcome(waiting, DEFERRED))
        item = await item_of(spool, waiting.item.key)
        assert (item.state, item.next_attempt_at, item.attempts) == (ItemState.READY, NOW + 600, 1)
        held = await one_leased(spool, message())
        await spool.settle(outcome(held, DEFERRED, hold_reason="look at me", count_attempt=False))
        item = await item_of(spool, held.item.key)
        assert (item.state, item.reason, item.attempts) == (ItemState.HELD, "look at me", 0)

    async def test_a_settlement_that_forgets_a_recipient_is_refused(self, spool: Spool) -> None:
        leased = await one_leased(spool, message("a@b.example", "b@b.example", destinations=("b.example",)))
        settlement = outcome(leased, DELIVERED)
        with pytest.raises(ValueError, match="recipient"):
            await spool.settle(replace(settlement, recipients=settlement.recipients[:1]))
        await spool.settle(settlement)

    async def test_an_attempt_may_split_an_item(self, spool: Spool) -> None:
        leased = await one_leased(spool, message("a@b.example", "b@b.example", destinations=("b.example",)))
        await spool.settle(outcome(leased, DEFERRED))
        leased = await spool.lease_one(leased.item.key, NOW, NOW + 300)
        settlement = outcome(leased, DELIVERED)
        split = replace(
            settlement,
            recipients=settlement.recipients[:1],
            extra=(NewItem("other.example", (1,), next_attempt_at=NOW + 60),),
        )
        await spool.settle(split)
        first, second = await spool.items(leased.item.key.message)
        assert first.state is ItemState.DONE
        assert second.key.number == 1
        assert (second.destination, second.state, second.next_attempt_at) == (
            "other.example",
            ItemState.READY,
            NOW + 60,
        )
        assert second.recipients == (RecipientStatus(1, RecipientState.PENDING, 1, DEFERRED),)
        (leased,) = await spool.lease_due(NOW + 60, NOW + 300, 10)
        await spool.settle(outcome(leased, DELIVERED))
        assert (await spool.read(leased.item.key.message)).content is None

    @pytest.mark.covers("SMTP-6")
    async def test_a_report_is_stored_with_the_settlement_or_not_at_all(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        report = message("ann@a.example", sender=None, content=inline_content(b"Subject: failed\r\n\r\n"))
        stale = replace(outcome(leased, FAILED, new_messages=(report,)), lease=leased.item.lease - 1)
        with pytest.raises(LeaseLost):
            await spool.settle(stale)
        with pytest.raises(NotFound):
            await spool.read(report.id)
        await spool.settle(outcome(leased, FAILED, new_messages=(report,)))
        assert (await spool.read(report.id)).envelope == report.envelope
        assert [one.item.key.message for one in await spool.lease_due(NOW, NOW + 300, 10)] == [report.id]

    async def test_what_an_attempt_makes_goes_on_from_memory(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        made = message("ann@a.example", "eve@c.example")
        made = replace(made, items=(made.items[0], replace(made.items[1], next_attempt_at=NOW + 50)))
        (new,) = await spool.settle(outcome(leased, DELIVERED, new_messages=(made,)), lease_until=NOW + 300)
        assert (new.item.key, new.message.content) == (ItemKey(made.id, 0), made.content)
        stored = await item_of(spool, new.item.key)
        assert (stored.state, stored.next_attempt_at) == (ItemState.ACTIVE, NOW + 300)
        assert [one.item.key.number for one in await spool.lease_due(NOW + 60, NOW + 360, 10)] == [1]
        counts = await spool.counts()
        assert (counts.ready, counts.active) == (0, 2)
        assert await spool.settle(outcome(new, DELIVERED), lease_until=NOW + 300) == ()
        assert (await item_of(spool, new.item.key)).state is ItemState.DONE

    @pytest.mark.covers("FAULT-F11")
    async def test_what_an_attempt_made_comes_back_after_a_crash(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        made = message("ann@a.example")
        await spool.settle(outcome(leased, DELIVERED, new_messages=(made,)), lease_until=NOW + 300)
        spool = await self.reopen(spool, NOW + 400, crash=True)
        due = await spool.lease_due(NOW + 400, NOW + 700, 10)
        assert [one.item.key.message for one in due] == [made.id]

    async def test_a_report_under_a_taken_id_undoes_the_settlement(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        await spool.store(taken := message())
        with pytest.raises(Conflict):
            await spool.settle(outcome(leased, FAILED, new_messages=(message(id_=taken.id),)))
        assert (await item_of(spool, leased.item.key)).state is ItemState.ACTIVE
        await spool.settle(outcome(leased, FAILED))
