"""Several SQLite spools as one: the contract for every mixture, and what only a mixture can get wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from outrider.model.message import ItemKey, ItemState, Leased, MessageId, NewMessage
from outrider.spool.interface import (
    BodyWriter,
    Change,
    Filter,
    NotFound,
    Spool,
    SpoolError,
    SpoolUnavailable,
)
from outrider.spool.sharded import ShardedSpool
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_contract import SpoolContract
from outrider.testing.spool_samples import DEFERRED, DELIVERED, NOW, message, outcome


class StoresWithOthers(ShardedSpool):
    """Puts new mail into the adopted spool, so that all the rest of the contract is kept by that one."""

    async def adopt(self, spool: Spool, now: float) -> object:  # type: ignore[override]
        """And from now on store there."""
        recovery = await super().adopt(spool, now)
        self.store = self._store_there  # type: ignore[method-assign]
        return recovery

    def _store_there(self, new: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        stored = self.adopted[0].store(new, lease_until=lease_until)
        assert isinstance(stored, asyncio.Future)
        stored.add_done_callback(self._stored)
        return stored

    def _stored(self, future: asyncio.Future[tuple[Leased, ...]]) -> None:
        if not future.cancelled() and future.exception() is None:
            leased = future.result()
            self._remember(self.adopted[0], leased, max((x.item.next_attempt_at for x in leased), default=0))

    def body_writer(self, message: MessageId) -> BodyWriter:
        """There too."""
        return self.adopted[0].body_writer(message)


def crash(spool: SqliteSpool) -> None:
    """Leave the leases in the database, as a process does that is gone."""
    spool._leases._leases.clear()


class ShardedContract(SpoolContract):
    """The contract on two directories."""

    windows = ("outrider.spool.sqlite.operations.WINDOW",)
    pages = ("outrider.spool.sqlite.spool.PAGE", "outrider.spool.sharded.PAGE")
    kind: type[ShardedSpool] = ShardedSpool
    adopts = True

    @pytest.fixture
    async def spool(self, tmp_path: Path) -> AsyncIterator[Spool]:
        """In directories of their own."""
        self.directory = tmp_path
        self.open: list[ShardedSpool] = []
        yield await self.start(NOW)
        for one in self.open:
            await one.close()

    async def start(self, now: float) -> ShardedSpool:
        """Open what is there."""
        sharded = self.kind(SqliteSpool(self.directory / "1"))
        self.open.append(sharded)
        await sharded.start(now)
        if self.adopts:
            await sharded.adopt(SqliteSpool(self.directory / "2"), now)
        return sharded

    async def reopen(self, spool: Spool, now: float, *, crash: bool) -> Spool:
        """New objects on the same directories."""
        assert isinstance(spool, ShardedSpool)
        if crash:
            for one in (spool.own, *spool.adopted):
                assert isinstance(one, SqliteSpool)
                one._leases._leases.clear()
        await spool.close()
        return await self.start(now)


class TestNothingAdopted(ShardedContract):
    """The own spool alone."""

    adopts = False


class TestOwnOfTwo(ShardedContract):
    """All mail in the own spool, an empty one beside it."""


class TestAdoptedOfTwo(ShardedContract):
    """All mail in the adopted spool, an empty one for new mail."""

    kind = StoresWithOthers


# --- mixtures -----------------------------------------------------------------------------------------


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[ShardedSpool]:
    """Started, with one adopted spool; nothing in either."""
    sharded = ShardedSpool(SqliteSpool(tmp_path / "1"))
    await sharded.start(NOW)
    await sharded.adopt(SqliteSpool(tmp_path / "2"), NOW)
    yield sharded
    await sharded.close()


async def in_both(pair: ShardedSpool, number: int = 1) -> tuple[list[NewMessage], list[NewMessage]]:
    """As many messages in the own and in the adopted spool, by turns older and younger."""
    own = [message(due=NOW + 2 * n, received_at=NOW + 2 * n) for n in range(number)]
    other = [message(due=NOW + 2 * n + 1, received_at=NOW + 2 * n + 1) for n in range(number)]
    for new in own:
        await pair.store(new)
    for new in other:
        await pair.adopted[0].store(new)
    return own, other


def ids(*messages: NewMessage) -> set[MessageId]:
    """Their ids."""
    return {one.id for one in messages}


async def test_without_an_adopted_spool_the_hot_calls_are_the_own_ones(tmp_path: Path) -> None:
    own = SqliteSpool(tmp_path / "1")
    sharded = ShardedSpool(own)
    assert (sharded.store, sharded.settle) == (own.store, own.settle)
    await sharded.start(NOW)
    await sharded.adopt(SqliteSpool(tmp_path / "2"), NOW)
    assert sharded.store == own.store
    (leased,) = await sharded.store(message(), lease_until=NOW + 60)
    done = sharded.settle(outcome(leased, DELIVERED))
    assert isinstance(done, asyncio.Future)
    await done
    await sharded.close()


async def test_new_mail_goes_into_the_own_spool(pair: ShardedSpool) -> None:
    new = message()
    await pair.store(new)
    assert (await pair.own.read(new.id)).id == new.id
    with pytest.raises(NotFound):
        await pair.adopted[0].read(new.id)


@pytest.mark.covers("FAULT-F2")
async def test_mail_of_both_is_leased_and_settled_where_it_is(pair: ShardedSpool) -> None:
    own, other = await in_both(pair, 3)
    leased = await pair.lease_due(NOW + 100, NOW + 400, 10)
    assert {one.item.key.message for one in leased} == ids(*own, *other)
    for one in leased:
        await pair.settle(outcome(one, DELIVERED))
    for shard, mail in ((pair.own, own), (pair.adopted[0], other)):
        for new in mail:
            assert (await shard.items(new.id))[0].state is ItemState.DONE
    assert not pair._leased


async def test_neither_waits_for_the_other_to_become_empty(pair: ShardedSpool) -> None:
    own, other = await in_both(pair, 4)
    first = await pair.lease_due(NOW + 100, NOW + 400, 2)
    second = await pair.lease_due(NOW + 100, NOW + 400, 2)
    got = {one.item.key.message for one in (*first, *second)}
    assert got & ids(*own)
    assert got & ids(*other)


async def test_a_limit_is_filled_from_both(pair: ShardedSpool) -> None:
    await in_both(pair, 3)
    assert len(await pair.lease_due(NOW + 100, NOW + 400, 5)) == 5
    assert len(await pair.lease_due(NOW + 100, NOW + 400, 5)) == 1


@pytest.mark.covers("SEC-213")
async def test_an_old_lease_does_not_undo_a_new_one(pair: ShardedSpool) -> None:
    await pair.adopted[0].store(message())
    (old,) = await pair.lease_due(NOW, NOW + 10, 1)
    (new,) = await pair.lease_due(NOW + 20, NOW + 100, 1)
    await pair.release([(old.item.key, old.item.lease)], NOW)
    await pair.settle(outcome(new, DELIVERED))
    assert (await pair.items(new.item.key.message))[0].state is ItemState.DONE


async def test_leases_of_both_are_renewed_and_released(pair: ShardedSpool) -> None:
    await in_both(pair)
    leased = await pair.lease_due(NOW + 10, NOW + 20, 10)
    leases = [(one.item.key, one.item.lease) for one in leased]
    assert await pair.renew(leases, NOW + 500) == ()
    assert await pair.lease_due(NOW + 100, NOW + 600, 10) == ()
    await pair.release(leases, NOW + 100)
    assert set(await pair.renew(leases, NOW + 500)) == {key for key, _ in leases}
    assert len(await pair.lease_due(NOW + 100, NOW + 600, 10)) == 2


@pytest.mark.covers("FAULT-F11")
async def test_one_suspect_at_a_time_over_both(tmp_path: Path) -> None:
    async def started() -> ShardedSpool:
        sharded = ShardedSpool(SqliteSpool(tmp_path / "1"))
        await sharded.start(NOW)
        await sharded.adopt(SqliteSpool(tmp_path / "2"), NOW)
        return sharded

    pair = await started()
    await in_both(pair)
    for at in (100.0, 200.0):
        assert len(await pair.lease_due(NOW + at, NOW + at + 50, 10)) == 2
        for shard in (pair.own, *pair.adopted):
            assert isinstance(shard, SqliteSpool)
            crash(shard)
        await pair.close()
        pair = await started()
    assert await pair.lease_due(NOW + 9_000, NOW + 9_100, 10) == ()
    (first,) = await pair.lease_due(NOW + 9_000, NOW + 9_100, 10, solo=True)
    assert await pair.lease_due(NOW + 9_001, NOW + 9_100, 10, solo=True) == ()
    assert await pair.renew([(first.item.key, first.item.lease)], NOW + 9_200) == ()
    assert await pair.lease_due(NOW + 9_150, NOW + 9_300, 10, solo=True) == ()
    await pair.settle(outcome(first, DELIVERED))
    (second,) = await pair.lease_due(NOW + 9_151, NOW + 9_300, 10, solo=True)
    assert second.item.key != first.item.key
    await pair.release([(second.item.key, second.item.lease)], NOW)
    assert len(await pair.lease_due(NOW + 9_152, NOW + 9_300, 10, solo=True)) == 1
    await pair.close()


async def test_lists_are_merged_by_age_and_then_cut(pair: ShardedSpool) -> None:
    own, other = await in_both(pair, 3)
    expected = [new.id for both in zip(own, other, strict=True) for new in both]
    assert [entry.message.id for entry in await pair.find(Filter())] == expected
    assert [entry.message.id for entry in await pair.find(Filter(limit=4))] == expected[:4]
    for limit in (0, 4):
        pages = [page async for page in pair.pages(Filter(limit=limit))]
        assert [entry.message.id for page in pages for entry in page] == expected[: limit or None]


async def test_counts_are_sums_and_the_oldest_of_all(pair: ShardedSpool) -> None:
    await in_both(pair, 2)
    await pair.adopted[0].store(message(state=ItemState.HELD, received_at=NOW + 9))
    await pair.lease_due(NOW, NOW + 100, 1)
    counts = await pair.counts()
    assert (counts.ready, counts.active, counts.held) == (3, 1, 1)
    assert await pair.next_due() == NOW + 1
    assert counts.oldest_received_at == NOW


async def test_a_message_is_found_wherever_it_is(pair: ShardedSpool) -> None:
    (own,), (other,) = await in_both(pair)
    for new in (own, other):
        assert (await pair.read(new.id)).id == new.id
        assert len(await pair.items(new.id)) == 1
        assert [event.kind for event in await pair.events(new.id)] == ["received"]
    for ask in (pair.read, pair.items, pair.events):
        with pytest.raises(NotFound):
            await ask(MessageId("NONE"))


@pytest.mark.covers("SEC-208")
async def test_changes_reach_the_right_spool_and_refusals_are_kept_apart(pair: ShardedSpool) -> None:
    (own,), (other,) = await in_both(pair)
    await pair.adopted[0].store(busy := message("x@busy.example"))
    await pair.lease_one(ItemKey(busy.id, 0), NOW, NOW + 100)
    keys = [ItemKey(new.id, 0) for new in (own, other, busy)]
    nobody = ItemKey(MessageId("NONE"), 0)
    refused = await pair.change([*keys, nobody], Change.HOLD, now=NOW, by="root", argument="why")
    assert set(refused) == {keys[2], nobody}
    for key in keys[:2]:
        assert (await pair.items(key.message))[0].state is ItemState.HELD
    leased = await pair.lease_one(keys[1], NOW, NOW + 100)
    await pair.settle(outcome(leased, DEFERRED))
    assert (await pair.adopted[0].items(other.id))[0].attempts == 1


async def test_a_destination_is_postponed_and_old_trails_go_everywhere(pair: ShardedSpool) -> None:
    await in_both(pair)
    assert await pair.postpone("b.example", NOW + 500) == 2
    for leased in await pair.lease_due(NOW + 500, NOW + 600, 10):
        await pair.settle(outcome(leased, DELIVERED))
    assert await pair.purge(NOW + 9_000, NOW + 9_000) == 2


@pytest.mark.covers("FAULT-F7")
async def test_a_spool_that_fails_does_not_stop_the_other(
    pair: ShardedSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own,), _ = await in_both(pair)

    async def away(*_: object, **__: object) -> tuple[Leased, ...]:
        raise SpoolUnavailable("the disk is away")

    monkeypatch.setattr(pair.adopted[0], "lease_due", away)
    (leased,) = await pair.lease_due(NOW + 10, NOW + 100, 10)
    assert leased.item.key.message == own.id
    for _ in range(2):
        with pytest.raises(SpoolUnavailable):
            await pair.lease_due(NOW + 10, NOW + 100, 10)


@pytest.mark.covers("SEC-209")
async def test_what_another_has_open_is_not_adopted(tmp_path: Path) -> None:
    theirs = SqliteSpool(tmp_path / "2")
    await theirs.start(NOW)
    sharded = ShardedSpool(SqliteSpool(tmp_path / "1"))
    await sharded.start(NOW)
    with pytest.raises(SpoolError, match="in use"):
        await sharded.adopt(SqliteSpool(tmp_path / "2"), NOW)
    assert sharded.adopted == ()
    await theirs.close()
    await sharded.adopt(SqliteSpool(tmp_path / "2"), NOW)
    await sharded.close()
