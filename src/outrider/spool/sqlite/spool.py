"""The embedded spool: one process, one SQLite database, one thread that writes.

This is the event loop's side. It encodes, keeps the table of leases and the counts, and hands requests to
`writer.Writer`. Nothing that it remembers runs ahead of what is durable, and what it took out of its tables
for a request that then failed is put back.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from outrider.model.layered import TakenTransfer
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
from outrider.spool.bodies import Steps, no_steps
from outrider.spool.body_files import BodyFiles
from outrider.spool.body_writer import BodyFileWriter
from outrider.spool.interface import (
    BodyWriter,
    Change,
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
from outrider.spool.sqlite import operations, reading
from outrider.spool.sqlite.connection import spool_error
from outrider.spool.sqlite.leases import Lease, Leases
from outrider.spool.sqlite.opening import Opening
from outrider.spool.sqlite.operations import (
    Leasehold,
    Moves,
    NewLease,
    Operations,
    Outcome,
    item_row,
    settled_rows,
)
from outrider.spool.sqlite.place import BODIES
from outrider.spool.sqlite.rows import Rows
from outrider.spool.sqlite.storing import Prepared, prepare
from outrider.spool.sqlite.transfers import TransferLookups
from outrider.spool.sqlite.writer import Request, Writer

EPOCH_SHIFT = 36
"""seq, trail numbers and lease tokens are (epoch << 36) + a count: never used twice, never smaller."""
PAGE = 500
"""Entries in one of `SqliteSpool.pages`."""
ROOM_SECONDS = 0.5
"""How long an answer of statvfs is believed."""
SPARE_INODES = 1000
"""Below this many the device counts as full: bodies and mailboxes need them."""

T = TypeVar("T")


class SqliteSpool:
    """See `spool.interface.Spool`."""

    def __init__(
        self,
        directory: Path,
        *,
        inline_limit: int = 131_072,
        reserve: int = 64 * 1024 * 1024,
        poison_after: int = 3,
        has_siblings: bool = False,
        observer: SpoolObserver | None = None,
        steps: Steps = no_steps,
    ) -> None:
        """`directory` is made if missing. `has_siblings`: the folder above holds the spools of other workers.
        `steps` is called after each step of a write, for crash tests."""
        self._directory = directory
        self._has_siblings = has_siblings
        self._reserve = reserve
        self._observer: SpoolObserver = observer or NullObserver()
        self._steps = steps
        self._file_threads = ThreadPoolExecutor(4, thread_name_prefix="outrider-spool-bodies")
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="outrider-spool-keeper")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="outrider-spool-reader")
        self._bodies = BodyFiles(
            directory / BODIES, self._file_threads, inline_limit=inline_limit, steps=steps
        )
        self._opening = Opening(directory, self._bodies, self._observer)
        self._operations = Operations(
            next_number=self._next_number,
            bodies=self._bodies,
            damaged=self._content_damaged,
            observer=self._observer,
            poison_after=poison_after,
        )
        self._numbers = itertools.count()
        self._leases = Leases()
        self._moves = Moves()
        self._damaged: dict[MessageId, str] = {}
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._transfers: TransferLookups | None = None
        self._room_checked_at = float("-inf")
        self._no_room = ""

    def __repr__(self) -> str:
        return f"SqliteSpool({str(self._directory)!r})"

    # --- life -----------------------------------------------------------------------------------------

    async def start(self, now: float) -> Recovery:
        """See `Spool.start`."""
        del now
        loop = asyncio.get_running_loop()
        opened = await loop.run_in_executor(self._keeper, self._opening.open, self._operations)
        self._numbers = itertools.count(opened.epoch << EPOCH_SHIFT)
        self._moves = opened.moves
        self._reader = opened.reader
        self._writer = Writer(
            self._opening.database,
            opened.connection,
            opened.epoch,
            keeper=self._keeper,
            file_threads=self._file_threads,
            observer=self._observer,
            steps=self._steps,
        )
        self._writer.start()
        return opened.recovery

    async def close(self) -> None:
        """See `Spool.close`. May be called twice, and without a start."""
        writer, self._writer = self._writer, None
        if writer is not None:
            for lease in self._leases:
                if not lease.settling:
                    self._give_back(writer, lease, lease.due_before)
            await writer.stop()
            reader, self._reader = self._reader, None
            loop = asyncio.get_running_loop()
            if self._transfers is not None:
                self._transfers.close()
                self._transfers = None
            if reader is not None:
                await loop.run_in_executor(self._reading, reader.close)
            await loop.run_in_executor(self._file_threads, self._bodies.remove_spare)
            await loop.run_in_executor(self._keeper, self._close_database, writer)
        for executor in (self._file_threads, self._reading, self._keeper):
            executor.shutdown(wait=False)

    def _close_database(self, writer: Writer) -> None:
        writer.close_checkpoint()  # a copy that was under way is through: it ran in this thread
        self._opening.close(writer.connection, writer.epoch)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise SpoolUnavailable("the spool is closed")
        return self._writer

    def _next_number(self) -> int:
        return next(self._numbers)

    # --- requests -------------------------------------------------------------------------------------

    async def _call(
        self,
        call: Callable[[sqlite3.Connection], Outcome],
        *,
        failed: Callable[[], None] | None = None,
    ) -> Outcome:
        """Let the writer make a call, and enter what it did into the tables of this side."""
        future = _new_future()
        self._open_writer().submit(Request(future, call=call, committed=self._enter, failed=failed))
        try:
            return cast(Outcome, await asyncio.shield(future))
        except asyncio.CancelledError:
            # It will be done all the same, but leases that nobody receives must not stay taken.
            future.add_done_callback(self._return_unwanted)
            raise

    def _enter(self, result: object) -> Outcome:
        outcome = cast(Outcome, result)
        self._moves.add_all(outcome.moves)
        for new in outcome.leases:
            self._leases.add(new.leased, new.seq, new.rank, new.due_before)
        self._bodies.give_back(outcome.finished)
        self._bodies.discard(outcome.dropped)
        return outcome

    def _return_unwanted(self, future: asyncio.Future[object]) -> None:
        if not future.cancelled() and future.exception() is None:
            for new in cast(Outcome, future.result()).leases:
                self._return(new.leased, new.due_before)

    def _return(self, leased: Leased, due: float) -> None:
        """Give an item back that its receiver no longer wants."""
        if self._writer is not None:
            self._give_back(self._writer, self._leases.held(leased.item.key, leased.item.lease), due)

    # --- storing --------------------------------------------------------------------------------------

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.store`."""
        future = _new_future()
        try:
            writer = self._open_writer()
            prepared = prepare(message, lease_until, self._next_number)
        except ValueError as error:
            future.set_exception(Conflict(f"{message.id}: {error}"))
        except SpoolError as error:
            future.set_exception(error)
        else:
            committed = self._store_committed(future, prepared)
            bodies = prepared.unsynced()
            writer.submit(
                Request(future, prepared.rows, committed=committed, failed=prepared.undo, bodies=bodies)
            )
        return cast(Awaitable[tuple[Leased, ...]], future)

    def _store_committed(
        self, future: asyncio.Future[object], prepared: Prepared
    ) -> Callable[[object], object]:
        def committed(result: object) -> object:
            del result
            self._moves.add_all(prepared.moves)
            return self._handed_out(future, prepared.leases)

        return committed

    def _handed_out(self, future: asyncio.Future[object], leases: Sequence[NewLease]) -> tuple[Leased, ...]:
        """Leases of new messages, which are durable; given back where nobody waits for them any more."""
        for new in leases:
            self._leases.add(new.leased, new.seq, new.rank, new.due_before)
            if future.cancelled():
                self._return(new.leased, new.due_before)
        return tuple([new.leased for new in leases])

    def body_writer(self, message: MessageId) -> BodyWriter:
        """See `Spool.body_writer`."""
        del message
        return BodyFileWriter(self._bodies)

    def find_transfer(self, peer: str, transfer: str) -> Awaitable[TakenTransfer | None]:
        """See `Spool.find_transfer`. What this waits for is the end of the loop's tick."""
        try:
            if self._transfers is None:
                self._open_writer()
                database = self._opening.database
                self._transfers = TransferLookups(database, has_siblings=self._has_siblings)
            return self._transfers.find(peer, transfer)
        except sqlite3.Error as error:
            failure: SpoolError = spool_error(error)
        except SpoolError as error:
            failure = error
        future = _new_future()
        future.set_exception(failure)
        return cast(Awaitable[TakenTransfer | None], future)

    # --- leases ---------------------------------------------------------------------------------------

    async def lease_due(
        self, now: float, until: float, limit: int, *, avoid: Sequence[str] = (), solo: bool = False
    ) -> tuple[Leased, ...]:
        """See `Spool.lease_due`."""
        self._open_writer()
        expired = self._leases.take_expired(now)
        for lease in expired:
            self._observer.lease_expired(lease.item.key.message, lease.item.key.number)
        gone = tuple(Leasehold(lease.item, lease.seq, lease.rank) for lease in expired)
        if solo and self._leases.any_solo():
            limit = 0

        def call(connection: sqlite3.Connection) -> Outcome:
            return self._operations.lease_due(
                connection, now=now, until=until, limit=limit, avoid=avoid, solo=solo, expired=gone
            )

        def restore() -> None:
            for lease in expired:
                self._leases.restore(lease)

        outcome = await self._call(call, failed=restore)
        return tuple(new.leased for new in outcome.leases)

    async def lease_one(self, key: ItemKey, now: float, until: float) -> Leased:
        """See `Spool.lease_one`."""
        del now
        outcome = await self._call(lambda connection: self._operations.lease_one(connection, key, until))
        if key in outcome.refused:
            raise Conflict(outcome.refused[key])
        return outcome.leases[0].leased

    async def renew(self, leases: Iterable[tuple[ItemKey, int]], until: float) -> tuple[ItemKey, ...]:
        """See `Spool.renew`. Nothing is written: who alone owns the spool need not convince others."""
        return tuple(key for key, token in leases if not self._leases.renew(key, token, until))

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """See `Spool.release`. Leases that were lost are passed over: another has the item."""
        writer = self._open_writer()
        futures = []
        for key, token in leases:
            try:
                lease = self._leases.held(key, token)
            except LeaseLost:
                continue
            futures.append(self._give_back(writer, lease, next_attempt_at))
        if futures:
            await asyncio.gather(*futures)

    def _give_back(self, writer: Writer, lease: Lease, due: float) -> asyncio.Future[object]:
        after = transitions.released(lease.item, due)
        rows = Rows(items=(item_row(lease.seq, lease.rank, after),))
        return self._submit_ending(writer, _Ending(lease, rows, Moves(ready=1, active=-1)))

    async def postpone(self, destination: str, until: float) -> int:
        """See `Spool.postpone`; in steps, so that stores do not wait for a long one."""
        moved = await self._count(
            lambda connection: operations.postpone_suspects(connection, destination, until)
        )
        while True:
            some = await self._count(
                lambda connection: operations.postpone_some(connection, destination, until)
            )
            moved += some
            if some < operations.POSTPONE_STEP:
                return moved

    async def _count(self, call: Callable[[sqlite3.Connection], int]) -> int:
        """Let the writer make a call that moves nothing between the states."""
        future = _new_future()
        self._open_writer().submit(Request(future, call=call))
        return cast(int, await future)

    # --- settling -------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.settle`. Raises ValueError for a settlement that forgets a recipient."""
        try:
            writer = self._open_writer()
            lease = self._leases.held(settlement.key, settlement.lease)
            future = self._settle(writer, lease, settlement, lease_until)
        except (SpoolError, ValueError) as error:
            future = _new_future()
            future.set_exception(error)
        return cast(Awaitable[tuple[Leased, ...]], future)

    def _settle(
        self, writer: Writer, lease: Lease, settlement: Settlement, lease_until: float
    ) -> asyncio.Future[object]:
        after = self._held_if_damaged(transitions.settled(lease.item, settlement))
        rows = settled_rows(lease.seq, lease.rank, after, transitions.finish_time(lease.item, settlement))
        done = after if after.state is ItemState.DONE else None
        if done is not None or settlement.events:
            trail = codec.encode_trail(after.key.message, settlement.events, done)
            rows.trail = ((lease.seq, next(self._numbers), trail),)
        moves = Moves(active=-1)
        moves.add(after.state)
        reports = [prepare(message, lease_until, self._next_number) for message in settlement.new_messages]
        for report in reports:
            rows.join(report.rows)
            moves.add_all(report.moves)
        ending = _Ending(lease, rows, moves, reports)
        if settlement.extra or (done is not None and lease.body_file):
            # The rarer way: items are split off, or a file goes with the message's last item.
            ending.call = lambda connection: self._operations.settle(
                connection, Leasehold(lease.item, lease.seq, lease.rank), settlement, rows, lease.body_file
            )
        return self._submit_ending(writer, ending)

    def _held_if_damaged(self, after: Item) -> Item:
        """A message whose content was found damaged waits for a person, whatever the attempt made of that."""
        why = self._damaged.get(after.key.message)
        if why is None or after.state is not ItemState.READY:
            return after
        del self._damaged[after.key.message]
        return replace(after, state=ItemState.HELD, reason=f"content damaged: {why}")

    def _submit_ending(self, writer: Writer, ending: _Ending) -> asyncio.Future[object]:
        """Hand over what ends a lease: until that is durable the lease is taken, then it is gone."""
        future = _new_future()
        ending.lease.settling = True

        def committed(result: object) -> tuple[Leased, ...]:
            self._leases.remove(ending.lease)
            self._moves.add_all(ending.moves)
            if result is not None:
                self._enter(result)
            return self._handed_out(future, [new for report in ending.reports for new in report.leases])

        def failed() -> None:
            self._leases.restore(ending.lease)
            for report in ending.reports:
                report.undo()

        rows = ending.rows if ending.call is None else None
        bodies = [body for report in ending.reports for body in report.unsynced()]
        writer.submit(Request(future, rows, ending.call, True, committed, failed, bodies))
        return future

    def _content_damaged(self, message: MessageId, why: str) -> None:
        self._damaged[message] = why
        self._observer.content_damaged(message, why)

    # --- reading and changing -------------------------------------------------------------------------

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        reader = self._reader
        if reader is None:
            raise SpoolUnavailable("the spool is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, work, reader)
        except sqlite3.Error as error:
            raise spool_error(error) from error

    async def next_due(self) -> float | None:
        """See `Spool.next_due`."""
        return await self._read(reading.next_due)

    async def find(self, wanted: Filter) -> tuple[QueueEntry, ...]:
        """See `Spool.find`."""
        return await self._read(lambda connection: reading.find(connection, wanted))

    async def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """See `Spool.pages`. Each page is a reading transaction of its own, so that a slow reader does not
        keep the write-ahead log from being taken over."""
        if wanted.ids:
            yield await self.find(wanted)
            return
        left, behind = wanted.limit, reading.BEFORE_ALL
        while True:
            part = replace(wanted, limit=min(left or PAGE, PAGE))
            page = await self._read(partial(reading.page, wanted=part, after=behind))
            entries, behind = page.entries[: left or None], page.last
            if entries:
                yield entries
            left = max(left - len(entries), 0)
            if page.is_last or (wanted.limit and not left):
                return

    async def read(self, message: MessageId) -> StoredMessage:
        """See `Spool.read`."""
        return await self._read(
            lambda connection: reading.read(connection, message, self._bodies, self._content_damaged)
        )

    async def items(self, message: MessageId) -> tuple[Item, ...]:
        """See `Spool.items`."""
        return await self._read(lambda connection: reading.items(connection, message))

    async def events(self, message: MessageId) -> tuple[Event, ...]:
        """See `Spool.events`."""
        return await self._read(lambda connection: reading.events(connection, message))

    async def change(
        self, keys: Sequence[ItemKey], change: Change, *, now: float, by: str, argument: str = ""
    ) -> dict[ItemKey, str]:
        """See `Spool.change`."""
        wanted = tuple(keys)
        outcome = await self._call(
            lambda connection: self._operations.change(
                connection, wanted, change, now=now, by=by, argument=argument
            )
        )
        return outcome.refused

    async def counts(self) -> Counts:
        """See `Spool.counts`. Kept in memory, and one seek for the oldest."""
        oldest = await self._read(reading.oldest_received_at)
        return Counts(self._moves.ready, self._moves.active, self._moves.held, oldest)

    async def purge(self, now: float, finished_before: float) -> int:
        """See `Spool.purge`; in steps, so that stores do not wait for a long one."""
        self._bodies.remove_used()
        while await self._count(lambda connection: operations.purge_transfers(connection, now)) == (
            operations.PURGE_STEP
        ):
            pass
        forgotten = 0
        while True:
            gone = await self._count(lambda connection: operations.purge_some(connection, finished_before))
            forgotten += gone
            if gone < operations.PURGE_STEP:
                return forgotten

    def check_room(self) -> None:
        """See `Spool.check_room`. Raises SpoolUnavailable while nothing can be written."""
        if self._open_writer().unavailable:
            raise SpoolUnavailable(self._open_writer().unavailable)
        now = time.monotonic()
        if now - self._room_checked_at > ROOM_SECONDS:
            self._room_checked_at = now
            self._no_room = _missing_room(self._directory, self._reserve)
        if self._no_room:
            raise SpoolFull(self._no_room)


@dataclass(slots=True)
class _Ending:
    """What ends a lease: its rows, or a call that writes them and more, and what follows."""

    lease: Lease
    rows: Rows
    moves: Moves
    reports: Sequence[Prepared] = ()
    call: Callable[[sqlite3.Connection], Outcome] | None = None


def _missing_room(directory: Path, reserve: int) -> str:
    """What the device lacks; "" when there is room."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        return f"{directory}: {error.strerror}"
    if found.f_bavail * found.f_frsize < reserve:
        return f"less than {reserve} octets are free for the spool"
    if found.f_files and found.f_favail < SPARE_INODES:
        return f"less than {SPARE_INODES} files can be made on the spool's device"
    return ""


def _new_future() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()
