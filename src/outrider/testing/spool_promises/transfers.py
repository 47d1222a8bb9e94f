"""What MT2 leaves in a spool: objects, and transfers that were taken."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from outrider.model.message import (
    MessageId,
)
from outrider.spool.interface import (
    Conflict,
    Filter,
    NotFound,
    Spool,
)
from outrider.testing.spool_promises.back_end import BackEnd
from outrider.testing.spool_samples import DELIVERED, NOW, OBJECTS, message, one_leased, outcome, transfer


class TransferContract(BackEnd):
    """See the module."""

    @pytest.mark.covers("MT2-1", "MT2-29")
    async def test_objects_are_kept_and_leave_with_the_content(self, spool: Spool) -> None:
        new = replace(message(), objects=OBJECTS)
        assert (await one_leased(spool, new)).message.objects == OBJECTS
        assert (await spool.read(new.id)).objects == OBJECTS
        spool = await self.reopen(spool, NOW + 500, crash=True)
        (again,) = await spool.lease_due(NOW + 500, NOW + 900, 5)
        assert again.message.objects == OBJECTS
        (entry,) = await spool.find(Filter())
        assert entry.message.objects is None, "a list of the queue is without content"
        await spool.settle(outcome(again, DELIVERED))
        assert (await spool.read(new.id)).objects is None
        await spool.close()

    async def test_a_message_without_objects_has_none(self, spool: Spool) -> None:
        assert (await one_leased(spool, new := message())).message.objects is None
        assert (await spool.read(new.id)).objects is None

    @pytest.mark.covers("MT2-18a")
    async def test_a_transfer_is_remembered_with_its_message(self, spool: Spool) -> None:
        new = message()
        new = replace(new, transfer=(taken := transfer(new.id)))
        assert await spool.find_transfer(taken.peer, taken.transfer) is None
        await spool.store(new)
        assert await spool.find_transfer(taken.peer, taken.transfer) == taken
        assert await spool.find_transfer("other.example", taken.transfer) is None
        assert await spool.find_transfer(taken.peer, taken.transfer + "x") is None
        spool = await self.reopen(spool, NOW + 1, crash=True)
        assert await spool.find_transfer(taken.peer, taken.transfer) == taken
        await spool.close()

    @pytest.mark.covers("MT2-18a")
    async def test_a_transfer_is_taken_once(self, spool: Spool) -> None:
        first, second = message(), message()
        first = replace(first, transfer=(taken := transfer(first.id)))
        second = replace(second, transfer=replace(taken, message=second.id))
        await spool.store(first)
        with pytest.raises(Conflict):
            await spool.store(second)
        with pytest.raises(NotFound):
            await spool.read(second.id)
        assert await spool.find_transfer(taken.peer, taken.transfer) == taken

    @pytest.mark.covers("MT2-18a")
    async def test_of_two_at_once_one_is_stored_and_nobody_else_suffers(self, spool: Spool) -> None:
        new = [message() for _ in range(4)]
        same = [replace(one, transfer=transfer(one.id, id_="same")) for one in new[:2]]
        other = replace(new[2], transfer=transfer(new[2].id))
        outcomes = await asyncio.gather(
            *(spool.store(one) for one in (*same, other, new[3])), return_exceptions=True
        )
        assert [isinstance(one, Conflict) for one in outcomes].count(True) == 1
        assert not any(isinstance(one, Exception) for one in outcomes[2:])
        found = await spool.find_transfer("mx.peer.example", "same")
        assert found is not None
        assert await spool.read(MessageId(found.message))

    @pytest.mark.covers("MT2-18a")
    async def test_a_transfer_outlives_its_message_and_is_forgotten_in_time(self, spool: Spool) -> None:
        new = message()
        new = replace(new, transfer=transfer(new.id, id_="kept", until=NOW + 600))
        await spool.settle(outcome(await one_leased(spool, new), DELIVERED))
        assert await spool.purge(NOW + 599, NOW + 500) == 1
        with pytest.raises(NotFound):
            await spool.read(new.id)
        assert await spool.find_transfer("mx.peer.example", "kept") == new.transfer
        await spool.purge(NOW + 601, NOW)
        assert await spool.find_transfer("mx.peer.example", "kept") is None
        await spool.store(replace(message(), transfer=transfer("M-again", id_="kept")))

    async def test_many_transfers_are_asked_for_at_once(self, spool: Spool) -> None:
        new = [message() for _ in range(40)]
        await asyncio.gather(*(spool.store(replace(one, transfer=transfer(one.id))) for one in new))
        wanted = [f"t.{one.id}@peer" for one in new] + ["t.unknown@peer"]
        found = await asyncio.gather(*(spool.find_transfer("mx.peer.example", name) for name in wanted))
        assert [one.message if one else None for one in found] == [*(one.id for one in new), None]
