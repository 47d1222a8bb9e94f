"""What `store` and the bodies before it promise."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given

from outrider.model.content import Content, InlineBody
from outrider.model.message import (
    ItemKey,
    ItemState,
    MessageId,
    NewItem,
    NewMessage,
)
from outrider.model.result import DeliveryResult
from outrider.spool.interface import (
    Conflict,
    Filter,
    NotFound,
    Spool,
    SpoolUnavailable,
)
from outrider.testing.spool_promises.back_end import BackEnd
from outrider.testing.spool_samples import (
    DEFERRED,
    DELIVERED,
    NOW,
    any_settings,
    item_of,
    message,
    messages,
    outcome,
    results,
)
from outrider.testing.writing import put


class StoringContract(BackEnd):
    """See the module."""

    @pytest.mark.covers("SMTP-5")
    @any_settings
    @given(new=messages(), result=results)
    async def test_every_field_comes_back(
        self, spool: Spool, new: NewMessage, result: DeliveryResult
    ) -> None:
        await spool.store(new)
        stored = await spool.read(new.id)
        assert stored.content is not None
        assert b"".join(stored.content.chunks()) == b"".join(new.content.chunks())
        assert (stored.content.headers, stored.content.is_ascii, stored.content.is_binary) == (
            new.content.headers,
            new.content.is_ascii,
            new.content.is_binary,
        )
        assert stored.size == new.content.size
        for name in ("id", "received_at", "envelope", "trace", "facts", "priority"):
            assert getattr(stored, name) == getattr(new, name), name
        assert await spool.events(new.id) == new.events
        items = await spool.items(new.id)
        assert [
            NewItem(
                item.destination,
                tuple(status.index for status in item.recipients),
                item.state,
                item.next_attempt_at,
                item.reason,
            )
            for item in items
        ] == list(new.items)
        leased = await spool.lease_one(items[0].key, NOW, NOW + 60)
        settlement = outcome(leased, result, hold_reason="kept")
        await spool.settle(settlement)
        assert (await item_of(spool, leased.item.key)).recipients == settlement.recipients

    async def test_a_store_with_lease_gives_what_is_due_from_memory(self, spool: Spool) -> None:
        new = message("bob@b.example", "eve@c.example")
        new = replace(new, items=(new.items[0], replace(new.items[1], next_attempt_at=NOW + 50)))
        (leased,) = await spool.store(new, lease_until=NOW + 300)
        assert leased.message.content is new.content
        assert leased.item.key == ItemKey(new.id, 0)
        assert leased.item.state is ItemState.ACTIVE
        now_stored = await item_of(spool, leased.item.key)
        assert (now_stored.state, now_stored.next_attempt_at) == (ItemState.ACTIVE, NOW + 300)
        assert [one.item.key.number for one in await spool.lease_due(NOW + 60, NOW + 360, 10)] == [1]

    async def test_held_items_are_not_leased(self, spool: Spool) -> None:
        new = message(state=ItemState.HELD)
        assert await spool.store(new, lease_until=NOW + 300) == ()
        assert await spool.lease_due(NOW + 9999, NOW + 99999, 10) == ()

    @pytest.mark.covers("SEC-94")
    async def test_an_id_is_taken_once(self, spool: Spool) -> None:
        new = message("first@b.example")
        await spool.store(new)
        results = await asyncio.gather(
            spool.store(message("second@b.example", id_=new.id)),
            spool.store(other := message("third@b.example")),
            return_exceptions=True,
        )
        assert isinstance(results[0], Conflict)
        assert results[1] == ()
        assert (await spool.read(new.id)).envelope == new.envelope
        assert (await spool.read(other.id)).envelope == other.envelope

    async def test_of_two_at_once_under_one_id_one_is_stored(self, spool: Spool) -> None:
        first, second = message("first@b.example"), message("second@b.example")
        second = replace(second, id=first.id)
        results = await asyncio.gather(spool.store(first), spool.store(second), return_exceptions=True)
        assert sorted(isinstance(result, Conflict) for result in results) == [False, True]
        winner = (first, second)[results.index(())]
        assert (await spool.read(first.id)).envelope == winner.envelope

    async def test_an_item_for_a_stranger_is_refused_alone(self, spool: Spool) -> None:
        bad = replace(message(), items=(NewItem("b.example", (7,)),))
        results = await asyncio.gather(
            spool.store(bad), spool.store(good := message()), return_exceptions=True
        )
        assert isinstance(results[0], Conflict)
        with pytest.raises(NotFound):
            await spool.read(bad.id)
        assert (await spool.read(good.id)).id == good.id

    async def test_text_that_is_not_unicode_is_refused_alone(self, spool: Spool) -> None:
        bad = message("b\udc80b@b.example")
        with pytest.raises(Conflict):
            await spool.store(bad)
        await spool.store(message())

    @pytest.mark.covers("SEC-68")
    async def test_sql_in_addresses_is_data(self, spool: Spool) -> None:
        nasty = (
            "x'/**/UNION/**/SELECT/**/X'41'--",
            "'';DROP TABLE messages;--",
            "100%_\\'\"",
            "a\x00b",
            "$1 %s ?1 :ids {0}",
        )
        for local in nasty:
            new = message(
                f"{local}@b.example", sender=f"{local}@a.example", destinations=(local.replace("\0", ""),)
            )
            await spool.store(new)
            leased = await spool.lease_one(ItemKey(new.id, 0), NOW, NOW + 60)
            await spool.settle(outcome(leased, replace(DEFERRED, text=local), hold_reason=local))
            stored = await spool.read(new.id)
            assert stored.envelope == new.envelope
            pattern = str(new.envelope.recipients[0].address)
            found = await spool.find(Filter(recipient=pattern, destination=local.replace("\0", "")))
            assert [entry.message.id for entry in found] == [new.id]
        for pattern in ("%@b.example", "_@b.example", "' OR 1=1 --", "%"):
            assert await spool.find(Filter(recipient=pattern)) == ()
            assert await spool.find(Filter(destination=pattern)) == ()
        assert len(await spool.find(Filter())) == len(nasty)

    async def test_a_streamed_body_comes_back(self, spool: Spool) -> None:
        body = bytes(range(256)) * 4096
        new = message()
        writer = spool.body_writer(new.id)
        for start in range(0, len(body), 100_001):
            await put(writer, body[start : start + 100_001])
        new = replace(new, content=Content(b"Subject: large\r\n\r\n", await writer.finish(), is_ascii=False))
        (leased,) = await spool.store(new, lease_until=NOW + 60)
        assert leased.message.content is not None
        assert b"".join(leased.message.content.body.chunks()) == body
        await spool.release([(leased.item.key, leased.item.lease)], NOW)
        (leased,) = await spool.lease_due(NOW, NOW + 60, 1)
        assert leased.message.content is not None
        assert leased.message.content.body.size == len(body)
        for _ in range(2):
            assert b"".join(leased.message.content.body.chunks(65_536)) == body
        stored = await spool.read(new.id)
        assert stored.content is not None
        assert b"".join(stored.content.chunks()) == new.content.headers + body
        await spool.settle(outcome(leased, DELIVERED))
        assert (await spool.read(new.id)).content is None

    async def test_a_small_streamed_body_stays_inline(self, spool: Spool) -> None:
        writer = spool.body_writer(MessageId("SMALL"))
        await put(writer, b"two ")
        await put(writer, b"words")
        body = await writer.finish()
        assert isinstance(body, InlineBody)
        assert body.octets == b"two words"

    async def test_an_abandoned_body_is_gone(self, spool: Spool) -> None:
        for finish in (False, True):
            writer = spool.body_writer(MessageId("GONE"))
            await put(writer, b"x" * 600_000)
            if finish:
                await writer.finish()
            await writer.abandon()
            await writer.abandon()
            with pytest.raises(SpoolUnavailable):
                await put(writer, b"more")

    async def test_abandoning_after_the_store_changes_nothing(self, spool: Spool) -> None:
        writer = spool.body_writer(MessageId("KEPT"))
        await put(writer, b"x" * 600_000)
        new = replace(message(id_="KEPT"), content=Content(b"\r\n", await writer.finish()))
        await spool.store(new)
        await writer.abandon()
        stored = await spool.read(new.id)
        assert stored.content is not None
        assert sum(map(len, stored.content.body.chunks())) == 600_000
