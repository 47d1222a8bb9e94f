"""What operators may do, and what they may not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from outrider.model.envelope import Arrival
from outrider.model.message import (
    ItemKey,
    ItemState,
    MessageId,
    RecipientState,
)
from outrider.model.mpc import parse_mpc
from outrider.spool.interface import (
    Change,
    Spool,
)
from outrider.testing.spool_promises.back_end import BackEnd
from outrider.testing.spool_samples import DELIVERED, NOW, item_of, message, one_leased, outcome


class ChangingContract(BackEnd):
    """See the module."""

    @pytest.mark.covers("SEC-208")
    async def test_what_is_being_delivered_is_left_alone(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        for change in Change:
            refused = await spool.change([leased.item.key], change, now=NOW, by="root", argument="x")
            assert refused == {leased.item.key: "it is being delivered"}
        await spool.settle(outcome(leased, DELIVERED))
        for change in Change:
            refused = await spool.change([leased.item.key], change, now=NOW, by="root", argument="x")
            assert refused == {leased.item.key: "it is finished"}
        missing = ItemKey(MessageId("NONE"), 0)
        assert missing in await spool.change([missing], Change.DROP, now=NOW, by="root")

    @pytest.mark.covers("SEC-208")
    async def test_of_two_administrators_one_wins(self, spool: Spool) -> None:
        new = message()
        await spool.store(new)
        key = ItemKey(new.id, 0)
        answers = await asyncio.gather(
            *(spool.change([key], Change.DROP, now=NOW, by=name) for name in ("ann", "bob")),
            spool.lease_due(NOW, NOW + 300, 10),
        )
        leased = answers[2]
        refusals = [bool(answer) for answer in answers[:2]]
        assert refusals.count(False) + len(leased) == 1
        dropped = [event for event in await spool.events(new.id) if event.kind == "dropped"]
        assert len(dropped) == refusals.count(False)

    async def test_a_bulk_change_takes_each_for_itself(self, spool: Spool) -> None:
        busy = await one_leased(spool, message())
        free = [message() for _ in range(3)]
        for new in free:
            await spool.store(new)
        keys = [ItemKey(new.id, 0) for new in free]
        refused = await spool.change([*keys, busy.item.key], Change.DROP, now=NOW + 5, by="root")
        assert list(refused) == [busy.item.key]
        for new in free:
            stored = await spool.read(new.id)
            assert (stored.content, stored.finished_at) == (None, NOW + 5)
            (item,) = await spool.items(new.id)
            assert item.state is ItemState.DONE
            assert item.recipients[0].state is RecipientState.DROPPED

    async def test_hold_release_retry(self, spool: Spool) -> None:
        new = message(due=NOW + 500)
        await spool.store(new)
        key = ItemKey(new.id, 0)
        assert await spool.change([key], Change.RELEASE, now=NOW, by="root") == {key: "it is not held"}
        assert not await spool.change([key], Change.HOLD, now=NOW, by="root")
        assert (await item_of(spool, key)).reason == "held by root"
        assert await spool.change([key], Change.HOLD, now=NOW, by="root") == {key: "it is held already"}
        assert key in await spool.change([key], Change.RETRY, now=NOW, by="root")
        assert await spool.lease_due(NOW + 999, NOW + 1999, 10) == ()
        assert not await spool.change([key], Change.RELEASE, now=NOW + 1, by="root")
        item = await item_of(spool, key)
        assert (item.state, item.next_attempt_at, item.reason) == (ItemState.READY, NOW + 1, "")
        later = message(due=NOW + 500)
        await spool.store(later)
        assert not await spool.change([ItemKey(later.id, 0)], Change.RETRY, now=NOW + 2, by="root")
        assert len(await spool.lease_due(NOW + 2, NOW + 300, 10)) == 2

    async def test_reroute_changes_way_and_destination(self, spool: Spool) -> None:
        new = message("a@b.example", "b@c.example", due=NOW + 500)
        await spool.store(new)
        route = "smtp:[127.0.0.9]:2525"
        assert not await spool.change(
            [ItemKey(new.id, 0)], Change.REROUTE, now=NOW, by="root", argument=route
        )
        (leased,) = await spool.lease_due(NOW, NOW + 300, 10)
        assert leased.item.destination == route
        assert [recipient.route for recipient in leased.message.envelope.recipients] == [route, ""]

    @pytest.mark.covers("AMTP-14", "AMTP-18", "AMDP-5a")
    async def test_code_arrival_and_token_stay_with_a_message(self, spool: Spool) -> None:
        """Through a change of its way, a crash and the lease after it."""
        new = message(due=NOW + 500)
        kept = replace(
            new.envelope, mpc=parse_mpc("com/optin"), arrival=Arrival.AMTP_PUBLIC, link_token="q" * 26
        )
        new = replace(new, envelope=kept)
        await spool.store(new)
        key = ItemKey(new.id, 0)
        assert not await spool.change([key], Change.REROUTE, now=NOW, by="root", argument="smtp:[::1]")
        spool = await self.reopen(spool, NOW, crash=True)
        (leased,) = await spool.lease_due(NOW + 500, NOW + 900, 10)
        envelope = leased.message.envelope
        assert (str(envelope.mpc), envelope.arrival) == ("com/optin", Arrival.AMTP_PUBLIC)
        assert envelope.link_token == "q" * 26
        await spool.close()
