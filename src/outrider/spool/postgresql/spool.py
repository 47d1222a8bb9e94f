"""The shared spool: several nodes on one PostgreSQL database (or whatever speaks its protocol).

The semantics are those of the embedded one; what differs is where leases live. Here they are rows, with an
owner, an end and a number that only grows, so that nodes need to know nothing of each other: an item whose
owner falls silent is taken over when its lease has run out, and what the silent one still says is refused.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from outrider.delivery.neighbours import Attendant
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
from outrider.spool import codec
from outrider.spool.codec import Malformed
from outrider.spool.columns import rank
from outrider.spool.interface import (
    BodyWriter,
    Change,
    Conflict,
    Counts,
    Filter,
    QueueEntry,
    Recovery,
    SpoolFull,
    SpoolUnavailable,
)
from outrider.spool.observer import NullObserver, SpoolObserver
from outrider.spool.postgresql import leasing, listing, reading, sharing
from outrider.spool.postgresql.bodies import PostgresBodyWriter, Scratch
from outrider.spool.postgresql.contents import Contents
from outrider.spool.postgresql.database import Database
from outrider.spool.postgresql.exchange import Connection
from outrider.spool.postgresql.leases import Lease
from outrider.spool.postgresql.leasing import Leasing, Outcome
from outrider.spool.postgresql.neighbours import Neighbours
from outrider.spool.postgresql.presence import Presence
from outrider.spool.postgresql.schema import migrate
from outrider.spool.postgresql.settling import Settling
from outrider.spool.postgresql.sharing import SlotSharing
from outrider.spool.postgresql.storing import transfer_key

ORPHAN_AGE = "1 day"
"""A body that another node began to write this long ago, and no message has, is nobody's any more."""
ROOM_SECONDS = 0.5
CLOCK_SECONDS = 5.0
"""More than this is worth a warning: leases are minutes long."""
GRACE_SECONDS = 10.0
"""After the database was away no lease is taken for ended: those who were cut off renew theirs first."""


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
        self._contents = Contents(self._database, self._scratch, self._observer)
        self._settling = Settling(self._database, owner, self._contents, self._observer)
        self._neighbours = Neighbours(self._database, owner)
        self._presence = Presence(self._database, owner, self._neighbours.hear, self._observer)
        self._sharing = SlotSharing(self._database, owner, processes=processes)
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
        self._settling.start()
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
        self._settling.shut()
        self._neighbours.stop()
        await self._sharing.stop()
        await self._settling.stop()
        await self._presence.stop()
        await self._database.close()

    # --- other nodes ----------------------------------------------------------------------------------

    @property
    def sharing(self) -> SlotSharing:
        """What this node may use of each lane."""
        return self._sharing

    def on_wake(self, callback: Callable[[], None]) -> None:
        """`callback` runs when another node has stored what nobody holds."""
        self._neighbours.on_wake(callback)

    def attend(self, attendant: Attendant) -> None:
        """See `delivery.neighbours.SharedQueue.attend`."""
        self._neighbours.attend(attendant)

    async def paused(self) -> frozenset[str]:
        """See `SharedQueue.paused`."""
        return await self._neighbours.paused()

    async def pause(self, destination: str) -> None:
        """See `SharedQueue.pause`."""
        await self._neighbours.pause(destination)

    async def resume(self, destination: str) -> bool:
        """See `SharedQueue.resume`."""
        return await self._neighbours.resume(destination)

    async def revive(self, lanes: Iterable[str]) -> None:
        """See `SharedQueue.revive`."""
        await self._neighbours.revive(lanes)

    # --- storing --------------------------------------------------------------------------------------

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.store`."""
        return self._settling.store(message, lease_until)

    def body_writer(self, message: MessageId) -> BodyWriter:
        """See `Spool.body_writer`."""
        return PostgresBodyWriter(self._database, self._scratch, message, self._owner, self._inline_limit)

    async def find_transfer(self, peer: str, transfer: str) -> TakenTransfer | None:
        """See `Spool.find_transfer`."""
        try:
            key = transfer_key(peer, transfer)
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
        self._settling.batches()
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
        self._settling.batches()
        await self._neighbours.call_back((key,))
        outcome = await self._database.transact(
            lambda connection: self._leasing.lease_one(connection, key, until)
        )
        if key in outcome.refused:
            raise Conflict(outcome.refused[key])
        (leased,) = await self._leased(outcome)
        return leased

    async def _leased(self, outcome: Outcome) -> tuple[Leased, ...]:
        leases = [
            Lease(taken.item, taken.received_at, rank(taken.record.priority), taken.due_before)
            for taken in outcome.taken
        ]
        for lease in leases:
            self._settling.leases.add(lease)
        given: list[Leased] = []
        try:
            for taken in outcome.taken:
                given.append(Leased(taken.item, await self._contents.of_taken(taken)))  # noqa: PERF401
        except BaseException:
            # Nobody will receive them: they must not stay taken until their leases run out.
            for lease in leases:
                if self._settling.leases.get(lease.item.key) is lease:
                    self._settling.give_back(lease)
            raise
        return tuple(given)

    async def renew(self, leases: Iterable[tuple[ItemKey, int]], until: float) -> tuple[ItemKey, ...]:
        """See `Spool.renew`."""
        wanted = list(leases)
        if not wanted:
            return ()
        kept = await self._database.transact(
            lambda connection: self._leasing.renew(connection, wanted, until)
        )
        for key, token in wanted:
            held = self._settling.leases.get(key)
            if key not in kept and held is not None and held.item.lease == token:
                self._settling.leases.remove(held)
        return tuple(key for key, _ in wanted if key not in kept)

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """See `Spool.release`."""
        await self._settling.release(leases, next_attempt_at)

    async def postpone(self, destination: str, until: float) -> int:
        """See `Spool.postpone`."""
        self._settling.batches()
        return await self._database.transact(
            lambda connection: leasing.postpone(connection, destination, until)
        )

    # --- settling -------------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """See `Spool.settle`. Raises ValueError for a settlement that forgets a recipient."""
        return self._settling.settle(settlement, lease_until)

    # --- reading and changing -------------------------------------------------------------------------

    async def next_due(self) -> float | None:
        """See `Spool.next_due`."""
        return await self._database.query(reading.next_due)

    async def find(self, wanted: Filter) -> tuple[QueueEntry, ...]:
        """See `Spool.find`."""
        return await self._database.query(lambda connection: listing.find(connection, wanted))

    async def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """See `Spool.pages`. Each page is a query of its own: see `listing`."""
        if wanted.ids:
            if entries := await self.find(wanted):
                yield entries
            return
        behind: listing.Place | None = listing.Place()
        left = wanted.limit
        while behind is not None:
            page = await self._database.query(partial(listing.page, wanted=wanted, behind=behind))
            entries, behind = page.entries[: left or None], page.end
            if entries:
                yield entries
            left -= min(left, len(entries))
            if wanted.limit and not left:
                return

    async def read(self, message: MessageId) -> StoredMessage:
        """See `Spool.read`. Content that is damaged is not given; its item is or will be held."""
        return await self._contents.read(message)

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
        self._settling.batches()
        await self._neighbours.call_back(keys)
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
        self._settling.batches()
        if self._database.lost:
            raise SpoolUnavailable("the spool's database cannot be reached")
        now = time.monotonic()
        if now - self._room_checked_at > ROOM_SECONDS:
            self._room_checked_at = now
            found = os.statvfs(self._scratch.directory)
            self._has_room = found.f_bavail * found.f_frsize >= self._reserve
        if not self._has_room:
            raise SpoolFull(f"less than {self._reserve} octets are free in {self._scratch.directory}")
