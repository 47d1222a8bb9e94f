"""The shared spool: several nodes on one PostgreSQL database (or whatever speaks its protocol).

The semantics are those of the embedded one; what differs is where leases live. Here they are rows, with an
owner, an end and a number that only grows, so that nodes need to know nothing of each other: an item whose
owner falls silent is taken over when its lease has run out, and what the silent one still says is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from outrider.delivery.neighbours import Attendant
from outrider.model.content import Content, InlineBody
from outrider.model.layered import MessageObjects, TakenTransfer
from outrider.model.message import (
    Event,
    Item,
    ItemKey,
    ItemState,
    Leased,
    MessageId,
    NewMessage,
    Settlement,
    StoredMessage,
)
from outrider.spool import codec, transitions
from outrider.spool.bodies import BodyReference, FileBody, decode_reference
from outrider.spool.codec import Malformed
from outrider.spool.columns import rank, state_number
from outrider.spool.interface import (
    BodyWriter,
    Change,
    CommitUnknown,
    Conflict,
    Counts,
    Filter,
    LeaseLost,
    QueueEntry,
    Recovery,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
)
from outrider.spool.observer import NullObserver, SpoolObserver
from outrider.spool.postgresql import leasing, reading, sharing
from outrider.spool.postgresql.bodies import PostgresBodyWriter, Scratch, fetch
from outrider.spool.postgresql.database import Connection, Database
from outrider.spool.postgresql.leasing import Leasing, Outcome, Taken, ending
from outrider.spool.postgresql.presence import (
    Note,
    Presence,
    Word,
    key_name,
    named_key,
    notes_of,
    telling,
)
from outrider.spool.postgresql.schema import migrate
from outrider.spool.postgresql.sharing import SlotSharing
from outrider.spool.postgresql.writing import Batches, Request, Writes, held_of, write

PAGE = 500
"""Entries in one of `PostgresSpool.pages`."""
ORPHAN_AGE = "1 day"
"""A body that another node began to write this long ago, and no message has, is nobody's any more."""
WITHDRAW_SECONDS = 1.0
"""For other nodes to give back what an operator here wants to change."""
WITHDRAW_STEP_SECONDS = 0.02
ROOM_SECONDS = 0.5
CLOCK_SECONDS = 5.0
"""More than this is worth a warning: leases are minutes long."""
GRACE_SECONDS = 10.0
"""After the database was away no lease is taken for ended: those who were cut off renew theirs first."""


@dataclass(slots=True)
class _Lease:
    item: Item
    received_at: float
    rank: int
    due_before: float
    settling: bool = False


class PostgresSpool:
    """See `spool.interface.Spool`."""

    def __init__(
        self,
        dsn: str,
        *,
        owner: str,
        scratch: Path,
        inline_limit: int = 131_072,
        reserve: int = 64 * 1024 * 1024,
        poison_after: int = 3,
        processes: int = 1,
        observer: SpoolObserver | None = None,
    ) -> None:
        """`owner` names this process among all that use the database, the same after a restart; no two share
        one. `processes` is how many of them this machine runs.

        Raises SpoolError for what is not a connection string.
        """
        self._observer: SpoolObserver = observer or NullObserver()
        self._owner = owner
        self._database = Database(dsn, self._observer)
        self._scratch = Scratch(scratch)
        self._inline_limit = inline_limit
        self._reserve = reserve
        self._leasing = Leasing(owner, self._observer, poison_after)
        self._batches: Batches | None = None
        self._leases: dict[ItemKey, _Lease] = {}
        self._damaged: dict[MessageId, str] = {}
        self._presence = Presence(self._database, owner, self._hear, self._observer)
        self._sharing = SlotSharing(self._database, owner, processes=processes)
        self._attendant: Attendant | None = None
        self._wake: Callable[[], None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._room_checked_at = float("-inf")
        self._has_room = True

    def __repr__(self) -> str:
        return f"PostgresSpool(owner={self._owner!r})"

    # --- life -----------------------------------------------------------------------------------------

    async def start(self, now: float) -> Recovery:
        """See `Spool.start`."""
        del now
        await asyncio.get_running_loop().run_in_executor(None, self._scratch.prepare)
        await self._database.open()
        try:
            async with self._database.connection() as connection:
                await migrate(connection)
            await self._presence.start()  # from here on, what has our name is our dead predecessor's
            await self._compare_clocks()
            outcome = await self._database.transact(self._leasing.recover)
            orphans = await self._database.transact(self._tidy)
            await self._sharing.start()
        except BaseException:
            await self._presence.stop()
            await self._database.close()
            raise
        self._batches = Batches(self._database, self._observer)
        self._batches.start()
        self._observer.spool_opened(f"postgresql as {self._owner}", self._database.found)
        return Recovery(outcome.released, orphans, outcome.quarantined, tuple(outcome.poison))

    async def _compare_clocks(self) -> None:
        """Warn when this node's clock is wrong: leases end by the clock of whoever looks."""
        before = time.time()
        ahead = before - await self._database.query(reading.clock)
        if abs(ahead) - (time.time() - before) > CLOCK_SECONDS:
            self._observer.spool_warned(
                f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the "
                "database's: nodes whose clocks differ take each other's leases for ended"
            )

    async def _tidy(self, connection: Connection) -> int:
        """Remove bodies that nobody will name, and fold the counters of sessions that have ended."""
        cursor = await connection.execute(
            "DELETE FROM outrider.bodies WHERE NOT named AND (owner = %s OR begun_at < now() - %s::interval)",
            (self._owner, ORPHAN_AGE),
        )
        await connection.execute(
            """
            WITH ended AS (
              DELETE FROM outrider.counters WHERE session NOT IN (SELECT pid FROM pg_stat_activity)
              RETURNING ready, active, held)
            INSERT INTO outrider.counters AS c
            SELECT 0, coalesce(sum(ready), 0), coalesce(sum(active), 0), coalesce(sum(held), 0) FROM ended
            ON CONFLICT (session) DO UPDATE SET ready = c.ready + excluded.ready,
              active = c.active + excluded.active, held = c.held + excluded.held
            """
        )
        return cursor.rowcount

    async def close(self) -> None:
        """See `Spool.close`. May be called twice, and without a start."""
        batches, self._batches = self._batches, None
        for task in self._background:
            task.cancel()
        await self._sharing.stop()
        if batches is not None:
            for lease in tuple(self._leases.values()):
                if not lease.settling:
                    self._give_back(batches, lease, lease.due_before)
            await batches.stop()
        await self._presence.stop()
        await self._database.close()

    # --- other nodes ----------------------------------------------------------------------------------

    @property
    def sharing(self) -> SlotSharing:
        """What this node may use of each lane."""
        return self._sharing

    def on_wake(self, callback: Callable[[], None]) -> None:
        """`callback` runs when another node has stored what nobody holds."""
        self._wake = callback

    def attend(self, attendant: Attendant) -> None:
        """See `delivery.neighbours.SharedQueue.attend`."""
        self._attendant = attendant

    def _hear(self, note: Note) -> None:
        attendant = self._attendant
        if note.word is Word.WAKE and self._wake is not None:
            self._wake()
        if attendant is None:
            return
        if note.word is Word.PAUSES:
            self._in_background(self._tell_pauses(attendant))
        elif note.word is Word.REVIVE:
            attendant.revive(note.names)
        elif note.word is Word.WITHDRAW:
            keys = [named_key(name) for name in note.names]
            self._in_background(attendant.withdraw([key for key in keys if key is not None]))

    async def _tell_pauses(self, attendant: Attendant) -> None:
        attendant.set_paused(await self.paused())

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        """What fails here is a database that is away: once it is back, all is looked up again."""

        async def guarded() -> None:
            with contextlib.suppress(SpoolError):
                await work

        task = asyncio.create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def paused(self) -> frozenset[str]:
        """See `SharedQueue.paused`."""
        return await self._database.query(reading.paused)

    async def pause(self, destination: str) -> None:
        """See `SharedQueue.pause`."""
        await self._database.transact(lambda connection: leasing.pause(connection, destination))

    async def resume(self, destination: str) -> bool:
        """See `SharedQueue.resume`."""
        return await self._database.transact(lambda connection: leasing.resume(connection, destination))

    async def revive(self, lanes: Iterable[str]) -> None:
        """See `SharedQueue.revive`."""
        notes = notes_of(Word.REVIVE, sorted(set(lanes)))
        if notes:
            await self._database.query(telling(notes))

    async def _call_back(self, keys: Sequence[ItemKey]) -> None:
        """Have other nodes give back those of the items that only wait there; return when they have, or soon
        after: an item that is still held then is being delivered."""
        deadline = time.monotonic() + WITHDRAW_SECONDS
        told = False
        while True:
            held = await self._database.query(
                lambda connection: reading.held_elsewhere(connection, self._owner, keys)
            )
            if not held or time.monotonic() > deadline:
                return
            if not told:
                told = True
                notes = notes_of(Word.WITHDRAW, [key_name(key) for key in held])
                await self._database.query(telling(notes))
            await asyncio.sleep(WITHDRAW_STEP_SECONDS)

    def _open_batches(self) -> Batches:
        if self._batches is None:
            raise SpoolUnavailable("the spool is closed")
        return self._batches

    # --- storing --------------------------------------------------------------------------------------

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.store`."""
        future = _new_future()
        try:
            batches = self._open_batches()
            prepared = self._prepare(message, lease_until)
        except ValueError as error:
            future.set_exception(Conflict(f"{message.id}: {error}"))
        except SpoolError as error:
            future.set_exception(error)
        else:
            request = Request(future, prepared.writes, failed=prepared.undo)
            request.committed = lambda: self._stored(future, prepared)
            batches.submit(request)
        return cast(Awaitable[tuple[Leased, ...]], future)

    def _prepare(self, message: NewMessage, lease_until: float) -> _Prepared:
        if "\0" in message.id:
            raise ValueError("NUL in an id")
        items = transitions.first_items(message)
        row = (message.id, message.received_at, codec.encode_message(message))
        prepared = _Prepared(Writes(messages=[row]))
        stored = transitions.stored_message(message)
        for item in items:
            kept = item
            due = item.state is ItemState.READY and item.next_attempt_at <= message.received_at
            if lease_until and due:
                kept = transitions.leased(item, 1, lease_until)
                lease = _Lease(kept, message.received_at, rank(message.priority), item.next_attempt_at)
                prepared.leases.append((Leased(kept, stored), lease))
            elif due:
                prepared.writes.wake = True
            prepared.writes.items.append(self._item_row(kept, message.received_at, rank(message.priority)))
        self._add_content(message, prepared)
        return prepared

    def _item_row(
        self, item: Item, received_at: float, rank_: int
    ) -> tuple[str, int, int, int, float, bytes, bytes, int, float, str, bool, float]:
        active = item.state is ItemState.ACTIVE
        return (
            item.key.message,
            item.key.number,
            state_number(item),
            rank_,
            item.next_attempt_at,
            item.destination.encode(),
            codec.encode_item(item),
            item.lease,
            item.next_attempt_at if active else 0.0,
            self._owner if active else "",
            item.solo,
            received_at,
        )

    def _add_content(self, message: NewMessage, prepared: _Prepared) -> None:
        headers, body = message.content.headers, message.content.body
        objects = codec.encode_objects(message.id, message.objects)
        if (transfer := message.transfer) is not None:
            row = (*_transfer_key(transfer.peer, transfer.transfer), transfer.until)
            prepared.writes.transfers.append((*row, codec.encode_transfer(transfer)))
        if isinstance(body, FileBody) and not body.adopted:
            body.adopted = True
            prepared.body = body
            digest = codec.content_digest(headers, b"")
            reference = body.reference.encode(message.id)
            prepared.writes.contents.append((message.id, headers, None, reference, digest, objects))
            prepared.writes.bodies.append(body.reference.name)
            return
        # A body that another message has goes when that one is finished: this message gets a copy.
        octets = body.octets if isinstance(body, InlineBody) else b"".join(body.chunks())
        digest = codec.content_digest(headers, octets)
        prepared.writes.contents.append((message.id, headers, octets, None, digest, objects))

    def _stored(self, future: asyncio.Future[object], prepared: _Prepared) -> tuple[Leased, ...]:
        for leased, lease in prepared.leases:
            self._leases[leased.item.key] = lease
            if future.cancelled() and self._batches is not None:
                self._give_back(self._batches, lease, lease.due_before)
        return tuple(leased for leased, _ in prepared.leases)

    def body_writer(self, message: MessageId) -> BodyWriter:
        """See `Spool.body_writer`."""
        return PostgresBodyWriter(self._database, self._scratch, message, self._owner, self._inline_limit)

    async def find_transfer(self, peer: str, transfer: str) -> TakenTransfer | None:
        """See `Spool.find_transfer`."""
        try:
            key = _transfer_key(peer, transfer)
        except ValueError:
            return None
        data = await self._database.query(lambda connection: reading.transfer_row(connection, key))
        try:
            return None if data is None else codec.decode_transfer(peer, transfer, data)
        except Malformed as error:
            raise SpoolUnavailable(f"the record of transfer {transfer!r} is damaged: {error}") from None

    # --- leases ---------------------------------------------------------------------------------------

    async def lease_due(
        self, now: float, until: float, limit: int, *, avoid: Sequence[str] = (), solo: bool = False
    ) -> tuple[Leased, ...]:
        """See `Spool.lease_due`."""
        self._open_batches()
        expire = self._database.settled_s >= GRACE_SECONDS
        outcome = await self._database.transact(
            lambda connection: self._leasing.lease_due(
                connection, now=now, until=until, limit=limit, avoid=avoid, solo=solo, expire=expire
            )
        )
        return await self._leased(outcome)

    async def lease_one(self, key: ItemKey, now: float, until: float) -> Leased:
        """See `Spool.lease_one`."""
        del now
        self._open_batches()
        await self._call_back((key,))
        outcome = await self._database.transact(
            lambda connection: self._leasing.lease_one(connection, key, until)
        )
        if key in outcome.refused:
            raise Conflict(outcome.refused[key])
        (leased,) = await self._leased(outcome)
        return leased

    async def _leased(self, outcome: Outcome) -> tuple[Leased, ...]:
        for taken in outcome.taken:
            self._leases[taken.item.key] = _Lease(
                taken.item, taken.received_at, rank(taken.record.priority), taken.due_before
            )
        given: list[Leased] = []
        try:
            for taken in outcome.taken:
                given.append(Leased(taken.item, await self._message(taken)))  # noqa: PERF401
        except BaseException:
            # Nobody will receive them: they must not stay taken until their leases run out.
            for taken in outcome.taken:
                lease = self._leases.get(taken.item.key)
                if lease is not None and self._batches is not None:
                    self._give_back(self._batches, lease, lease.due_before)
            raise
        return tuple(given)

    async def _message(self, taken: Taken) -> StoredMessage:
        content = await self._content(
            taken.item.key.message, taken.record, taken.headers, taken.body, taken.reference
        )
        return codec.assemble(
            taken.item.key.message, taken.received_at, taken.record, content, objects=taken.objects
        )

    async def _content(
        self,
        message: MessageId,
        record: codec.MessageRecord,
        headers: bytes,
        body: bytes | None,
        reference: BodyReference | None,
    ) -> Content:
        if reference is None:
            return codec.assemble_content(record, headers, InlineBody(body or b""))
        fetched = await fetch(
            self._database, self._scratch, reference, lambda why: self._content_damaged(message, why)
        )
        return codec.assemble_content(record, headers, fetched)

    def _content_damaged(self, message: MessageId, why: str) -> None:
        self._damaged[message] = why
        self._observer.content_damaged(message, why)

    async def renew(self, leases: Iterable[tuple[ItemKey, int]], until: float) -> tuple[ItemKey, ...]:
        """See `Spool.renew`."""
        wanted = list(leases)
        if not wanted:
            return ()
        kept = await self._database.transact(
            lambda connection: self._leasing.renew(connection, wanted, until)
        )
        lost = tuple(key for key, _ in wanted if key not in kept)
        for key, token in wanted:
            held = self._leases.get(key)
            if key not in kept and held is not None and held.item.lease == token:
                del self._leases[key]
        return lost

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """See `Spool.release`. Leases that were lost are passed over: another has the item."""
        batches = self._open_batches()
        futures = []
        for key, token in leases:
            lease = self._leases.get(key)
            if lease is not None and lease.item.lease == token and not lease.settling:
                futures.append(self._give_back(batches, lease, next_attempt_at))
        for result in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, LeaseLost):
                raise result

    def _give_back(self, batches: Batches, lease: _Lease, due: float) -> asyncio.Future[object]:
        after = transitions.released(lease.item, due)
        future = self._submit_ending(batches, lease, Writes(changed=[after]), ())
        # Where nobody waits for it: a lease that was lost meanwhile is no matter.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def postpone(self, destination: str, until: float) -> int:
        """See `Spool.postpone`."""
        self._open_batches()
        return await self._database.transact(
            lambda connection: leasing.postpone(connection, destination, until)
        )

    # --- settling -------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement) -> Awaitable[None]:
        """See `Spool.settle`. Raises ValueError for a settlement that forgets a recipient."""
        try:
            batches = self._open_batches()
            lease = self._held(settlement.key, settlement.lease)
            future = self._settle(batches, lease, settlement)
        except (SpoolError, ValueError) as error:
            future = _new_future()
            future.set_exception(error)
        return cast(Awaitable[None], future)

    def _held(self, key: ItemKey, token: int) -> _Lease:
        lease = self._leases.get(key)
        if lease is None or lease.settling or lease.item.lease != token:
            raise LeaseLost(f"{key.message}/{key.number}: the lease is no longer held")
        return lease

    def _settle(self, batches: Batches, lease: _Lease, settlement: Settlement) -> asyncio.Future[object]:
        after = self._held_if_damaged(transitions.settled(lease.item, settlement))
        writes = ending(after, settlement.events, transitions.finish_time(lease.item, settlement))
        reports = [self._prepare(message, 0.0) for message in settlement.new_messages]
        for report in reports:
            writes.join(report.writes)
        if settlement.extra:
            return asyncio.ensure_future(self._settle_split(lease, settlement, writes, reports))
        return self._submit_ending(batches, lease, writes, reports)

    def _held_if_damaged(self, after: Item) -> Item:
        """A message whose content was found damaged waits for a person, whatever the attempt made of that."""
        why = self._damaged.get(after.key.message)
        if why is None or after.state is not ItemState.READY:
            return after
        del self._damaged[after.key.message]
        return replace(after, state=ItemState.HELD, reason=f"content damaged: {why}")

    def _submit_ending(
        self, batches: Batches, lease: _Lease, writes: Writes, reports: Sequence[_Prepared]
    ) -> asyncio.Future[object]:
        """Hand over what ends a lease: until that is durable the lease is taken, then it is gone."""
        future = _new_future()
        lease.settling = True
        key = lease.item.key
        request = Request(future, writes, lease=(key, lease.item.lease))
        request.committed = lambda: self._forget(lease)
        request.failed = lambda error: self._not_settled(lease, reports, error)
        batches.submit(request)
        return future

    def _forget(self, lease: _Lease) -> None:
        if self._leases.get(lease.item.key) is lease:
            del self._leases[lease.item.key]

    def _not_settled(self, lease: _Lease, reports: Sequence[_Prepared], error: Exception) -> None:
        lease.settling = False
        if isinstance(error, LeaseLost):
            self._forget(lease)
        for report in reports:
            report.undo(error)

    async def _settle_split(
        self, lease: _Lease, settlement: Settlement, writes: Writes, reports: Sequence[_Prepared]
    ) -> None:
        """The rarer way, a transaction of its own: the new items' numbers have to be found first."""
        lease.settling = True
        key = lease.item.key

        async def work(connection: Connection) -> None:
            if not await held_of(connection, [(key, lease.item.lease)]):
                raise LeaseLost(f"{key.message}/{key.number}: the lease is no longer held")
            number = await leasing.next_number(connection, key.message)
            extra = transitions.split_off(lease.item, settlement, number)
            rows = [self._item_row(item, lease.received_at, lease.rank) for item in extra]
            await write(connection, Writes(items=rows, wake=True))
            await write(connection, writes)

        try:
            await self._database.transact(work)
        except Exception as error:
            self._not_settled(lease, reports, error)
            raise
        self._forget(lease)

    # --- reading and changing -------------------------------------------------------------------------

    async def next_due(self) -> float | None:
        """See `Spool.next_due`."""
        return await self._database.query(reading.next_due)

    async def find(self, wanted: Filter) -> tuple[QueueEntry, ...]:
        """See `Spool.find`."""
        return await self._database.query(lambda connection: reading.find(connection, wanted))

    async def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """See `Spool.pages`. What matched when the first was asked for: envelopes, without content."""
        found = await self.find(wanted)
        for start in range(0, len(found), PAGE):
            yield found[start : start + PAGE]

    async def read(self, message: MessageId) -> StoredMessage:
        """See `Spool.read`. Content that is damaged is not given; its item is or will be held."""
        row = await self._database.query(lambda connection: reading.message_row(connection, message))
        received_at, data, headers, body, file, digest, kept, finished_at = row
        record = reading.decoded(message, data)
        content: Content | None = None
        objects: MessageObjects | None = None
        if headers is not None:
            try:
                objects = codec.decode_objects(message, kept)
                reference = None if file is None else decode_reference(message, file)
                codec.verified_body(headers, body if reference is None else b"", digest)
                content = await self._content(message, record, headers, body, reference)
            except Malformed as error:
                self._content_damaged(message, str(error))
        return codec.assemble(message, received_at, record, content, finished_at, objects)

    async def items(self, message: MessageId) -> tuple[Item, ...]:
        """See `Spool.items`."""
        return await self._database.query(lambda connection: reading.items(connection, message))

    async def events(self, message: MessageId) -> tuple[Event, ...]:
        """See `Spool.events`."""
        return await self._database.query(lambda connection: reading.events(connection, message))

    async def change(
        self, keys: Sequence[ItemKey], change: Change, *, now: float, by: str, argument: str = ""
    ) -> dict[ItemKey, str]:
        """See `Spool.change`."""
        self._open_batches()
        await self._call_back(keys)
        outcome = await self._database.transact(
            lambda connection: self._leasing.change(
                connection, keys, change, now=now, by=by, argument=argument
            )
        )
        return outcome.refused

    async def counts(self) -> Counts:
        """See `Spool.counts`."""
        return await self._database.query(reading.counts)

    async def purge(self, now: float, finished_before: float) -> int:
        """See `Spool.purge`; in steps, so that no transaction is long."""
        while (
            await self._database.transact(lambda connection: leasing.purge_transfers(connection, now))
            == leasing.PURGE_STEP
        ):
            pass
        await self._database.forget_marks()
        await self._database.note(sharing.tidy)
        forgotten = 0
        while True:
            gone = await self._database.transact(
                lambda connection: leasing.purge_some(connection, finished_before)
            )
            forgotten += gone
            if gone < leasing.PURGE_STEP:
                return forgotten

    def check_room(self) -> None:
        """See `Spool.check_room`: room for copies here; the database's own shows when it is written to."""
        if self._batches is None:
            raise SpoolUnavailable("the spool is closed")
        if self._database.lost:
            raise SpoolUnavailable("the spool's database cannot be reached")
        now = time.monotonic()
        if now - self._room_checked_at > ROOM_SECONDS:
            self._room_checked_at = now
            found = os.statvfs(self._scratch.directory)
            self._has_room = found.f_bavail * found.f_frsize >= self._reserve
        if not self._has_room:
            raise SpoolFull(f"less than {self._reserve} octets are free in {self._scratch.directory}")


@dataclass(slots=True)
class _Prepared:
    """The rows of a message, and what follows when they are durable - or are not."""

    writes: Writes
    leases: list[tuple[Leased, _Lease]] = field(default_factory=list)
    body: FileBody | None = None

    def undo(self, error: Exception) -> None:
        """It was not stored: the body is its writer's again; unless nobody knows whether it was."""
        if self.body is not None and not isinstance(error, CommitUnknown):
            self.body.adopted = False


def _transfer_key(peer: str, transfer: str) -> tuple[bytes, bytes]:
    """As it stands in the database. Raises ValueError for what is not Unicode."""
    return peer.encode(), transfer.encode()


def _new_future() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()
