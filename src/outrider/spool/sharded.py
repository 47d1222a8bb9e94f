"""A worker's own SQLite spool, and those of workers that are no more, as one `Spool`.

A spool that is *adopted* was another's: of a worker that was given up, or from a start with more workers than
now. Its mail is delivered and can be looked at and changed here, but nothing new goes there. (A report on a
message is stored beside the message: one commit says that the one has failed and that the other exists.)

While nothing is adopted, which is nearly always, `store` and `settle` are the own spool's methods themselves.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from outrider.model.layered import TakenTransfer
from outrider.model.message import (
    Event,
    Item,
    ItemKey,
    Leased,
    MessageId,
    NewMessage,
    Settlement,
    StoredMessage,
)
from outrider.spool.interface import (
    BodyWriter,
    Change,
    Counts,
    Filter,
    NotFound,
    QueueEntry,
    Recovery,
    Spool,
    SpoolError,
)

PAGE = 500
"""Entries in one of `ShardedSpool.pages`."""

T = TypeVar("T")


class ShardedSpool:
    """See `spool.interface.Spool`; what a method says there holds for all shards together."""

    def __init__(self, own: Spool) -> None:
        self._own = own
        self._adopted: tuple[Spool, ...] = ()
        self._leased: dict[ItemKey, tuple[Spool, int]] = {}
        """What was leased from an adopted spool, with the lease's token; all else is the own one's."""
        self._suspect: tuple[ItemKey, int] | None = None
        self._suspect_until = 0.0
        self._turn = 0
        # Nothing to decide yet: no call of ours is to stand in the way of the hot ones.
        self.store = own.store  # type: ignore[method-assign]
        self.settle = own.settle  # type: ignore[method-assign]
        self.find_transfer = own.find_transfer  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"ShardedSpool({self._own!r}, adopted={list(self._adopted)!r})"

    @property
    def own(self) -> Spool:
        """Where new mail goes."""
        return self._own

    @property
    def adopted(self) -> tuple[Spool, ...]:
        """The others."""
        return self._adopted

    @property
    def _shards(self) -> tuple[Spool, ...]:
        return (self._own, *self._adopted)

    # --- life -----------------------------------------------------------------------------------------

    async def start(self, now: float) -> Recovery:
        """Start the own spool. See `Spool.start`."""
        return await self._own.start(now)

    async def adopt(self, spool: Spool, now: float) -> Recovery:
        """Start a further spool and see to its mail from now on. Raises what `Spool.start` raises; nothing is
        adopted then."""
        recovery = await spool.start(now)
        self._adopted = (*self._adopted, spool)
        self.settle = self._settle_somewhere  # type: ignore[method-assign]
        self.find_transfer = self._find_transfer_somewhere  # type: ignore[method-assign]
        return recovery

    async def close(self) -> None:
        """Close all, whatever one of them meets. See `Spool.close`."""
        await _all_of([shard.close() for shard in (*self._adopted, self._own)])

    # --- new mail -------------------------------------------------------------------------------------

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.store`."""
        return self._own.store(message, lease_until=lease_until)

    def body_writer(self, message: MessageId) -> BodyWriter:
        """See `Spool.body_writer`."""
        return self._own.body_writer(message)

    def find_transfer(self, peer: str, transfer: str) -> Awaitable[TakenTransfer | None]:
        """See `Spool.find_transfer`."""
        return self._find_transfer_somewhere(peer, transfer)

    async def _find_transfer_somewhere(self, peer: str, transfer: str) -> TakenTransfer | None:
        for shard in self._shards:
            found = await shard.find_transfer(peer, transfer)
            if found is not None:
                return found
        return None

    def check_room(self) -> None:
        """See `Spool.check_room`."""
        self._own.check_room()

    # --- leases ---------------------------------------------------------------------------------------

    async def lease_due(
        self, now: float, until: float, limit: int, *, avoid: Sequence[str] = (), solo: bool = False
    ) -> tuple[Leased, ...]:
        """See `Spool.lease_due`. The shards take turns at being asked first, so that none waits for another's
        queue to become empty; the order by priority and age holds within each."""
        if not self._adopted:
            return await self._own.lease_due(now, until, limit, avoid=avoid, solo=solo)
        if solo and self._suspect is not None and now < self._suspect_until:
            return ()
        found: list[Leased] = []
        failure: SpoolError | None = None
        for shard in self._next_turn():
            wanted = limit - len(found)
            if wanted <= 0 or (solo and found):
                break
            try:
                leased = await shard.lease_due(now, until, wanted, avoid=avoid, solo=solo)
            except SpoolError as error:
                failure = error  # the others' mail goes on, and what is leased already must not be forgotten
                continue
            self._remember(shard, leased, until)
            found += leased
        if failure is not None and not found:
            raise failure
        return tuple(found)

    def _next_turn(self) -> tuple[Spool, ...]:
        shards = self._shards
        self._turn = (self._turn + 1) % len(shards)
        return shards[self._turn :] + shards[: self._turn]

    def _remember(self, shard: Spool, leased: Iterable[Leased], until: float) -> None:
        for one in leased:
            if shard is not self._own:
                self._leased[one.item.key] = shard, one.item.lease
            if one.item.solo:
                self._suspect, self._suspect_until = (one.item.key, one.item.lease), until

    def _forget(self, key: ItemKey, token: int) -> None:
        """The lease has ended. Another of the same item, taken since, stays."""
        if self._leased.get(key, (None, 0))[1] == token:
            del self._leased[key]
        if self._suspect == (key, token):
            self._suspect = None

    def _lessor(self, key: ItemKey) -> Spool:
        found = self._leased.get(key)
        return self._own if found is None else found[0]

    async def lease_one(self, key: ItemKey, now: float, until: float) -> Leased:
        """See `Spool.lease_one`."""
        for shard in self._shards:
            try:
                leased = await shard.lease_one(key, now, until)
            except NotFound:
                continue
            self._remember(shard, (leased,), until)
            return leased
        raise NotFound(f"{key.message}/{key.number}: no such item")

    def settle(self, settlement: Settlement, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.settle`."""
        return self._settle_somewhere(settlement, lease_until=lease_until)

    def _settle_somewhere(
        self, settlement: Settlement, *, lease_until: float = 0.0
    ) -> Awaitable[tuple[Leased, ...]]:
        key, token = settlement.key, settlement.lease
        shard = self._lessor(key)
        done = shard.settle(settlement, lease_until=lease_until)
        if key not in self._leased and (key, token) != self._suspect:
            return done

        def settled(future: asyncio.Future[tuple[Leased, ...]]) -> None:
            # One that failed may be tried again: its lease is still where it was.
            if not future.cancelled() and future.exception() is None:
                self._forget(key, token)
                self._remember(shard, future.result(), lease_until)

        ended = asyncio.ensure_future(done)
        ended.add_done_callback(settled)
        return ended

    async def renew(self, leases: Iterable[tuple[ItemKey, int]], until: float) -> tuple[ItemKey, ...]:
        """See `Spool.renew`."""
        by_shard = self._by_shard(leases)
        lost = [key for shard, part in by_shard.items() for key in await shard.renew(part, until)]
        renewed = {lease for part in by_shard.values() for lease in part if lease[0] not in lost}
        if self._suspect in renewed:
            self._suspect_until = until
        return tuple(lost)

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """See `Spool.release`."""
        by_shard = self._by_shard(leases)
        await _all_of([self._release(shard, part, next_attempt_at) for shard, part in by_shard.items()])

    async def _release(self, shard: Spool, leases: Sequence[tuple[ItemKey, int]], at: float) -> None:
        await shard.release(leases, at)
        for key, token in leases:
            self._forget(key, token)

    def _by_shard(self, leases: Iterable[tuple[ItemKey, int]]) -> dict[Spool, list[tuple[ItemKey, int]]]:
        parts: dict[Spool, list[tuple[ItemKey, int]]] = {}
        for lease in leases:
            parts.setdefault(self._lessor(lease[0]), []).append(lease)
        return parts

    async def postpone(self, destination: str, until: float) -> int:
        """See `Spool.postpone`."""
        return sum(await _all_of([shard.postpone(destination, until) for shard in self._shards]))

    async def next_due(self) -> float | None:
        """See `Spool.next_due`."""
        moments = await _all_of([shard.next_due() for shard in self._shards])
        return min((moment for moment in moments if moment is not None), default=None)

    # --- looking --------------------------------------------------------------------------------------

    async def find(self, wanted: Filter) -> tuple[QueueEntry, ...]:
        """See `Spool.find`."""
        if not self._adopted:
            return await self._own.find(wanted)
        parts = await _all_of([shard.find(wanted) for shard in self._shards])
        by_age = heapq.merge(*parts, key=lambda entry: entry.message.received_at)
        return tuple(itertools.islice(by_age, wanted.limit or None))

    async def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """See `Spool.pages`. No more than a page of each shard is in memory."""
        if not self._adopted:
            async for page in self._own.pages(wanted):
                yield page
            return
        entries: list[QueueEntry] = []
        left = wanted.limit
        async for entry in _by_age([shard.pages(wanted) for shard in self._shards]):
            entries.append(entry)
            left -= 1
            if left == 0:
                break
            if len(entries) == PAGE:
                yield tuple(entries)
                entries.clear()
        if entries:
            yield tuple(entries)

    async def read(self, message: MessageId) -> StoredMessage:
        """See `Spool.read`."""
        return await self._first(message, lambda shard: shard.read(message))

    async def items(self, message: MessageId) -> tuple[Item, ...]:
        """See `Spool.items`."""
        return await self._first(message, lambda shard: shard.items(message))

    async def events(self, message: MessageId) -> tuple[Event, ...]:
        """See `Spool.events`."""
        return await self._first(message, lambda shard: shard.events(message))

    async def _first(self, message: MessageId, ask: Callable[[Spool], Awaitable[T]]) -> T:
        """The answer of the shard that has the message; only one has. Raises NotFound."""
        for shard in self._shards:
            try:
                return await ask(shard)
            except NotFound:
                continue
        raise NotFound(f"{message}: no such message")

    async def counts(self) -> Counts:
        """See `Spool.counts`."""
        parts = await _all_of([shard.counts() for shard in self._shards])
        return Counts(
            ready=sum(one.ready for one in parts),
            active=sum(one.active for one in parts),
            held=sum(one.held for one in parts),
            oldest_received_at=min((at for one in parts if (at := one.oldest_received_at)), default=0.0),
        )

    # --- changing -------------------------------------------------------------------------------------

    async def change(
        self, keys: Sequence[ItemKey], change: Change, *, now: float, by: str, argument: str = ""
    ) -> dict[ItemKey, str]:
        """See `Spool.change`. A key that nobody knows is refused by the own spool."""
        refused: dict[ItemKey, str] = {}
        left = list(keys)
        for shard in self._adopted:
            theirs = await _those_in(shard, left)
            left = [key for key in left if key not in theirs]
            if theirs:
                refused |= await shard.change(list(theirs), change, now=now, by=by, argument=argument)
        if left:
            refused |= await self._own.change(left, change, now=now, by=by, argument=argument)
        return refused

    async def purge(self, now: float, finished_before: float) -> int:
        """See `Spool.purge`."""
        return sum(await _all_of([shard.purge(now, finished_before) for shard in self._shards]))


async def _by_age(sources: Sequence[AsyncIterator[tuple[QueueEntry, ...]]]) -> AsyncIterator[QueueEntry]:
    """Entries of several lists, each of them oldest first, as one."""
    singles = [_entries(source) for source in sources]
    heads = [await anext(one, None) for one in singles]
    while waiting := [(head.message.received_at, n) for n, head in enumerate(heads) if head is not None]:
        _, number = min(waiting)
        if (entry := heads[number]) is not None:
            yield entry
        heads[number] = await anext(singles[number], None)


async def _entries(pages: AsyncIterator[tuple[QueueEntry, ...]]) -> AsyncIterator[QueueEntry]:
    async for page in pages:
        for entry in page:
            yield entry


async def _those_in(shard: Spool, keys: Sequence[ItemKey]) -> dict[ItemKey, None]:
    """The keys whose messages are in that shard."""
    wanted = Filter(ids=tuple(dict.fromkeys(key.message for key in keys)), include_done=True)
    known = {entry.message.id for entry in await shard.find(wanted)} if keys else set()
    return {key: None for key in keys if key.message in known}


async def _all_of(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all to the end, then give the answers, or raise what went wrong first."""
    answers = await asyncio.gather(*works, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
