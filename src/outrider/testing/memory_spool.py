"""A spool in memory with the semantics of the real ones, for tests of the rooms above it.

Nothing survives the process, by design; `crash()` followed by `start()` plays an owner's death.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from outrider.model.content import Body, InlineBody
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
from outrider.spool.interface import (
    Change,
    Conflict,
    Counts,
    Filter,
    LeaseLost,
    NotFound,
    QueueEntry,
    Recovery,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
)
from outrider.spool.selection import matches


class MemoryBodyWriter:
    """Collects a body in memory."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._abandoned = False

    async def write(self, octets: bytes) -> None:
        """Append."""
        if self._abandoned:
            raise SpoolUnavailable("this body was abandoned")
        self._octets += octets

    async def finish(self) -> Body:
        """The body."""
        return InlineBody(bytes(self._octets))

    async def abandon(self) -> None:
        """Forget it."""
        self._abandoned = True


@dataclass(slots=True)
class _Entry:
    message: StoredMessage
    items: dict[int, Item]
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Lease:
    until: float
    due_before: float


class MemorySpool:
    """See `spool.interface.Spool`.

    `fail_with` is raised by store and settle while it is set; `full` makes check_room raise.
    """

    def __init__(self, *, poison_after: int = 3) -> None:
        self.fail_with: SpoolError | None = None
        self.full = False
        self.messages: dict[MessageId, _Entry] = {}
        self.transfers: dict[tuple[str, str], TakenTransfer] = {}
        self._leases: dict[ItemKey, _Lease] = {}
        self._token = 0
        self._poison_after = poison_after
        self._open = False

    # --- life ---------------------------------------------------------------------------------------

    async def start(self, now: float) -> Recovery:
        """Take back what a dead owner had leased."""
        del now
        self._open = True
        self._leases.clear()
        lost = [item for item in self._all_items() if item.state is ItemState.ACTIVE]
        after = [transitions.abandoned(item, self._poison_after) for item in lost]
        for item in after:
            self._put(item)
        poison = tuple(item.key for item in after if item.state is ItemState.HELD)
        return Recovery(released=len(lost) - len(poison), held_as_poison=poison)

    def crash(self) -> None:
        """As if the process had died: leases stay taken until the next `start`."""
        self._open = False

    async def close(self) -> None:
        """Give back leases."""
        for key, lease in tuple(self._leases.items()):
            self._put(transitions.released(self._item(key), lease.due_before))
        self._leases.clear()
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise SpoolUnavailable("the spool is closed")
        if self.fail_with is not None:
            raise self.fail_with

    # --- messages -----------------------------------------------------------------------------------

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """Keep a message."""
        return asyncio.ensure_future(self._store(message, lease_until))

    async def _store(self, message: NewMessage, lease_until: float) -> tuple[Leased, ...]:
        await asyncio.sleep(0)
        self._check_open()
        self._insert(message)
        return self._lease_new(message, lease_until)

    def _lease_new(self, message: NewMessage, lease_until: float) -> tuple[Leased, ...]:
        if not lease_until:
            return ()
        due = [
            item
            for item in self.messages[message.id].items.values()
            if item.state is ItemState.READY and item.next_attempt_at <= message.received_at
        ]
        return tuple(self._lease(item, lease_until) for item in due)

    def _insert(self, message: NewMessage) -> None:
        if message.id in self.messages:
            raise Conflict(f"{message.id}: a message of that id exists")
        transfer = message.transfer
        if transfer is not None and (transfer.peer, transfer.transfer) in self.transfers:
            raise Conflict(f"{transfer.transfer}: a transfer of that id exists")
        try:
            codec.encode_message(message)  # what no real back end can write is refused here too
            items = {item.key.number: item for item in transitions.first_items(message)}
        except ValueError as error:
            raise Conflict(f"{message.id}: {error}") from None
        self.messages[message.id] = _Entry(transitions.stored_message(message), items, list(message.events))
        if transfer is not None:
            self.transfers[transfer.peer, transfer.transfer] = transfer

    def body_writer(self, message: MessageId) -> MemoryBodyWriter:
        """A body in memory."""
        del message
        return MemoryBodyWriter()

    async def find_transfer(self, peer: str, transfer: str) -> TakenTransfer | None:
        """What is remembered of it."""
        self._check_open()
        return self.transfers.get((peer, transfer))

    # --- leases -------------------------------------------------------------------------------------

    async def lease_due(
        self, now: float, until: float, limit: int, *, avoid: Sequence[str] = (), solo: bool = False
    ) -> tuple[Leased, ...]:
        """Best priority first, then oldest due."""
        self._check_open()
        for key in [key for key, lease in self._leases.items() if lease.until <= now]:
            self._put(transitions.abandoned(self._item(key), self._poison_after))
            del self._leases[key]
        due = [
            item
            for item in self._all_items()
            if item.state is ItemState.READY
            and item.next_attempt_at <= now
            and item.solo == solo
            and item.destination not in avoid
        ]
        due.sort(key=lambda item: (-self.messages[item.key.message].message.priority, item.next_attempt_at))
        if solo:
            limit = 0 if any(self._item(key).solo for key in self._leases) else 1
        return tuple(self._lease(item, until) for item in due[:limit])

    def _lease(self, item: Item, until: float) -> Leased:
        self._token += 1
        self._leases[item.key] = _Lease(until, item.next_attempt_at)
        active = transitions.leased(item, self._token, until)
        self._put(active)
        return Leased(active, self.messages[item.key.message].message)

    async def lease_one(self, key: ItemKey, now: float, until: float) -> Leased:
        """Whatever its time."""
        del now
        self._check_open()
        item = self._item(key)
        if item.state not in (ItemState.READY, ItemState.HELD):
            busy = item.state is ItemState.ACTIVE
            raise Conflict("it is being delivered" if busy else "it is finished")
        return self._lease(item, until)

    def _held_lease(self, key: ItemKey, token: int) -> _Lease:
        lease = self._leases.get(key)
        if lease is None or self._item(key).lease != token:
            raise LeaseLost(f"{key.message}/{key.number}: the lease is no longer held")
        return lease

    def settle(self, settlement: Settlement, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """Record an attempt with all that it causes, or nothing."""
        return asyncio.ensure_future(self._settle(settlement, lease_until))

    async def _settle(self, settlement: Settlement, lease_until: float) -> tuple[Leased, ...]:
        await asyncio.sleep(0)
        self._check_open()
        key = settlement.key
        self._held_lease(key, settlement.lease)
        before = self._item(key)
        after = transitions.settled(before, settlement)
        entry = self.messages[key.message]
        extra = transitions.split_off(before, settlement, max(entry.items) + 1)
        if any(message.id in self.messages for message in settlement.new_messages):
            raise Conflict("a message of that id exists")
        for message in settlement.new_messages:
            self._insert(message)
        del self._leases[key]
        for item in (after, *extra):
            self._put(item)
        entry.events.extend(settlement.events)
        self._finish(entry, transitions.finish_time(before, settlement))
        return tuple(
            one for message in settlement.new_messages for one in self._lease_new(message, lease_until)
        )

    def _finish(self, entry: _Entry, at: float) -> None:
        if all(item.state is ItemState.DONE for item in entry.items.values()):
            entry.message = replace(entry.message, content=None, objects=None, finished_at=at)

    async def renew(self, leases: Iterable[tuple[ItemKey, int]], until: float) -> tuple[ItemKey, ...]:
        """The keys returned are those that were lost."""
        lost = []
        for key, token in leases:
            try:
                self._held_lease(key, token).until = until
            except LeaseLost:
                lost.append(key)
        return tuple(lost)

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """Leases that were lost are passed over: another has the item."""
        for key, token in leases:
            lease = self._leases.get(key)
            if lease is not None and self._item(key).lease == token:
                self._put(transitions.released(self._item(key), next_attempt_at))
                del self._leases[key]

    async def postpone(self, destination: str, until: float) -> int:
        """READY items due earlier."""
        moved = [
            item
            for item in self._all_items()
            if item.state is ItemState.READY
            and item.destination == destination
            and item.next_attempt_at < until
        ]
        for item in moved:
            self._put(replace(item, next_attempt_at=until))
        return len(moved)

    async def next_due(self) -> float | None:
        """Earliest READY."""
        return min(
            (item.next_attempt_at for item in self._all_items() if item.state is ItemState.READY),
            default=None,
        )

    # --- reading and changing -----------------------------------------------------------------------

    async def find(self, wanted: Filter) -> tuple[QueueEntry, ...]:
        """Oldest message first."""
        found = [
            QueueEntry(replace(entry.message, content=None, objects=None), item)
            for entry in sorted(self.messages.values(), key=lambda entry: entry.message.received_at)
            if not wanted.ids or entry.message.id in wanted.ids
            for item in entry.items.values()
            if matches(wanted, entry.message.received_at, entry.message.envelope, item)
        ]
        return tuple(found[: wanted.limit or None])

    async def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """Two at a time."""
        found = await self.find(wanted)
        for start in range(0, len(found), 2):
            yield found[start : start + 2]

    async def read(self, message: MessageId) -> StoredMessage:
        """With content if it still has any."""
        return self._entry(message).message

    async def items(self, message: MessageId) -> tuple[Item, ...]:
        """By number."""
        return tuple(self._entry(message).items.values())

    async def events(self, message: MessageId) -> tuple[Event, ...]:
        """In order."""
        return tuple(self._entry(message).events)

    async def change(
        self, keys: Sequence[ItemKey], change: Change, *, now: float, by: str, argument: str = ""
    ) -> dict[ItemKey, str]:
        """Each for itself."""
        refused: dict[ItemKey, str] = {}
        for key in keys:
            try:
                self._change(key, change, now, by, argument)
            except (Conflict, NotFound) as error:
                refused[key] = str(error)
        return refused

    def _change(self, key: ItemKey, change: Change, now: float, by: str, argument: str) -> None:
        item = self._item(key)
        after = transitions.changed(item, change, now, by, argument)
        entry = self.messages[key.message]
        envelope = entry.message.envelope
        entry.events.append(
            transitions.change_event(envelope, item, change, now=now, by=by, argument=argument)
        )
        if change is Change.REROUTE:
            entry.message = replace(entry.message, envelope=transitions.rerouted(envelope, item, argument))
        self._put(after)
        self._finish(entry, now)

    async def counts(self) -> Counts:
        """Counted on the spot."""
        states = [item.state for item in self._all_items()]
        unfinished = [e.message.received_at for e in self.messages.values() if not e.message.finished_at]
        return Counts(
            states.count(ItemState.READY),
            states.count(ItemState.ACTIVE),
            states.count(ItemState.HELD),
            min(unfinished, default=0.0),
        )

    async def purge(self, now: float, finished_before: float) -> int:
        """Forget what has left."""
        for key in [key for key, one in self.transfers.items() if one.until < now]:
            del self.transfers[key]
        gone = [
            id_
            for id_, entry in self.messages.items()
            if entry.message.content is None and entry.message.finished_at < finished_before
        ]
        for id_ in gone:
            del self.messages[id_]
        return len(gone)

    def check_room(self) -> None:
        """Raises while `full` is set."""
        if self.full:
            raise SpoolFull("no room")

    # --- looking things up --------------------------------------------------------------------------

    def _all_items(self) -> Iterable[Item]:
        return [item for entry in self.messages.values() for item in entry.items.values()]

    def _entry(self, message: MessageId) -> _Entry:
        try:
            return self.messages[message]
        except KeyError:
            raise NotFound(f"{message}: no such message") from None

    def _item(self, key: ItemKey) -> Item:
        try:
            return self._entry(key.message).items[key.number]
        except KeyError:
            raise NotFound(f"{key.message}/{key.number}: no such item") from None

    def _put(self, item: Item) -> None:
        self.messages[item.key.message].items[item.key.number] = item
