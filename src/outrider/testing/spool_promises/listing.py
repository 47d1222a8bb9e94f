"""What is to be seen of the queue."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.model.message import (
    Event,
    ItemKey,
    ItemState,
    MessageId,
)
from outrider.spool.interface import (
    Change,
    Filter,
    NotFound,
    Spool,
)
from outrider.testing.spool_promises.back_end import BackEnd
from outrider.testing.spool_samples import DEFERRED, DELIVERED, NOW, message, one_leased, outcome


class ListingContract(BackEnd):
    """See the module."""

    async def test_the_trail_is_in_order(self, spool: Spool) -> None:
        new = message()
        leased = await one_leased(spool, new)
        await spool.settle(outcome(leased, DEFERRED))
        await spool.change([leased.item.key], Change.HOLD, now=NOW + 2, by="root", argument="to look")
        await spool.change([leased.item.key], Change.RELEASE, now=NOW + 3, by="root")
        (leased,) = await spool.lease_due(NOW + 3, NOW + 300, 1)
        await spool.settle(outcome(leased, DELIVERED))
        events = await spool.events(new.id)
        assert [event.kind for event in events] == ["received", "deferred", "held", "released", "delivered"]
        assert events[2] == Event(NOW + 2, "held", "held by root: to look", ("bob@b.example",))
        with pytest.raises(NotFound):
            await spool.events(MessageId("NONE"))
        with pytest.raises(NotFound):
            await spool.items(MessageId("NONE"))

    async def test_find_by_every_part(self, spool: Spool) -> None:
        one = message("Bob@b.example", received_at=NOW)
        two = message("eve@c.example", sender=None, received_at=NOW + 10, state=ItemState.HELD)
        two = replace(two, items=(replace(two.items[0], reason="Suspicious content"),))
        three = message("x@d.example", "y@e.example", sender="Eve@A.example".lower(), received_at=NOW + 20)
        for new in (one, two, three):
            await spool.store(new)
        done = await one_leased(spool, message("bob@b.example", received_at=NOW + 30))
        await spool.settle(outcome(done, DELIVERED))
        waiting = await one_leased(spool, message("w@f.example", received_at=NOW + 40))
        await spool.settle(outcome(waiting, DEFERRED))

        async def ids(wanted: Filter) -> list[str]:
            return [entry.message.id for entry in await spool.find(wanted)]

        four = waiting.item.key.message
        assert await ids(Filter()) == [one.id, two.id, three.id, three.id, four]
        assert await ids(Filter(limit=2)) == [one.id, two.id]
        assert await ids(Filter(ids=(three.id, two.id))) == [two.id, three.id, three.id]
        assert await ids(Filter(states=(ItemState.HELD,))) == [two.id]
        assert await ids(Filter(sender="<>")) == [two.id]
        assert await ids(Filter(sender="EVE@a.example")) == [three.id, three.id]
        assert await ids(Filter(sender="@A.EXAMPLE")) == [one.id, three.id, three.id, four]
        assert await ids(Filter(recipient="bob@B.example")) == [one.id]
        assert await ids(Filter(recipient="bob@b.example", include_done=True)) == [
            one.id,
            done.item.key.message,
        ]
        assert await ids(Filter(recipient="@e.example")) == [three.id]
        assert await ids(Filter(destination="C.example")) == [two.id]
        assert await ids(Filter(older_than=NOW + 10)) == [one.id]
        assert await ids(Filter(reason="suspicious")) == [two.id]
        assert await ids(Filter(reason="no route")) == [four]
        assert await ids(Filter(states=(ItemState.DONE,))) == [done.item.key.message]
        assert await ids(Filter(sender="nobody@a.example")) == []
        (entry,) = await spool.find(Filter(ids=(one.id,)))
        assert entry.message.content is None
        assert entry.message.envelope == one.envelope

    async def test_pages_have_what_find_has(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        for size in self.pages:
            monkeypatch.setattr(size, 3)
        for number in range(20):
            where = "Odd.example" if number % 2 else "even.example"
            new = message(f"a{number}@{where}", "b@c.example", received_at=NOW + number)
            await spool.store(new)
            if number % 3 == 0:
                leased = await spool.lease_one(ItemKey(new.id, 1), NOW, NOW + 60)
                await spool.settle(outcome(leased, DELIVERED))
        for wanted in (
            Filter(),
            Filter(limit=1),
            Filter(limit=7),
            Filter(limit=30, include_done=True),
            Filter(include_done=True),
            Filter(states=(ItemState.DONE,)),
            Filter(destination="odd.EXAMPLE"),
            Filter(destination="odd.EXAMPLE", states=(ItemState.READY,)),
            Filter(destination="odd.EXAMPLE", states=(ItemState.READY,), limit=4, older_than=NOW + 9),
            Filter(recipient="a3@odd.example"),
            Filter(older_than=NOW + 4),
            Filter(states=(ItemState.HELD,)),
        ):
            pages = [page async for page in spool.pages(wanted)]
            assert [entry for page in pages for entry in page] == list(await spool.find(wanted))
            assert all(pages)
        everything = await spool.find(Filter())
        ids = tuple(entry.message.id for entry in everything[::5])
        assert [e for page in [p async for p in spool.pages(Filter(ids=ids))] for e in page] == list(
            await spool.find(Filter(ids=ids))
        )

    async def test_pages_go_on_while_what_they_had_is_changed(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for size in self.pages:
            monkeypatch.setattr(size, 2)
        for number in range(9):
            await spool.store(message(received_at=NOW + number))
        seen = []
        async for page in spool.pages(Filter()):
            seen += [entry.item.key for entry in page]
            await spool.change([page[0].item.key], Change.DROP, now=NOW, by="root")
            await spool.change([entry.item.key for entry in page[1:]], Change.HOLD, now=NOW, by="root")
        assert len(seen) == len(set(seen)) == 9
        assert (await spool.counts()).ready == 0
