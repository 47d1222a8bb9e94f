"""The spool: durable messages, queue and event trails. The contract that every back end keeps.

The one promise (SMTP-5): when :meth:`Spool.store` or :meth:`Spool.settle` resolves without an error, what
it was given survives the loss of power. When it raises, nothing of it was stored - or, for
:class:`CommitUnknown`, the caller must not acknowledge, and a duplicate (never a loss) may follow.

All times are seconds since the epoch and come from the caller. `STATES.md` beside this file lists the
states and who may move a message from one to another. Back ends are safe for use from one event loop;
several processes share a PostgreSQL spool, one process owns a SQLite spool at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from outrider.model.content import Body
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


class SpoolError(Exception):
    """Base of what a spool raises; the text is for the operator."""


class SpoolUnavailable(SpoolError):
    """Not now: disk full, read-only, database away. Answer 451 or 452; nothing was stored."""


class SpoolFull(SpoolUnavailable):
    """No room on the device, or less than the configured reserve (452)."""


class CommitUnknown(SpoolUnavailable):
    """The connection broke during commit: stored or not, do not acknowledge."""


class UnsafeSettings(SpoolError):
    """Settings under which an acknowledged message could be lost (FAULT-F5, FAULT-F6): start is refused."""


class LeaseLost(SpoolError):
    """Another holds the item now: the caller's result is not recorded and it must stop (SEC-213)."""


class NotFound(SpoolError):
    """No such message or item."""


class ContentDamaged(SpoolError):
    """Raised while a body is read: an octet differs from what was stored, or is missing (FAULT-F9).

    What was yielded before is good, the rest must not be made up: break off, do not end the data. The
    spool holds the item when its attempt is settled, whatever the settlement asks for what is pending.
    """


class Conflict(SpoolError):
    """The item is in a state from which this change is not allowed; the text says which."""


class BodyWriter(Protocol):
    """A body streamed into the spool before its message is stored.

    A body never named by a stored message is removed at the next start.
    """

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append. None: there is room for more at once; else await it before the next. Either may raise
        SpoolUnavailable, after which only `abandon` may follow."""
        ...

    async def finish(self) -> Body:
        """The body to put into `NewMessage.content`; `Spool.store` sees to it that it is durable with its
        message. Raises SpoolUnavailable."""
        ...

    async def abandon(self) -> None:
        """Remove what was written, after `finish` too, unless a message was stored with it; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Filter:
    """Which queue items are meant; every set part must match. Text parts are compared without case.

    `sender` and `recipient` are an address, ``@domain``, or ``<>`` for the null sender.
    """

    ids: tuple[MessageId, ...] = ()
    states: tuple[ItemState, ...] = ()
    sender: str = ""
    recipient: str = ""
    destination: str = ""
    older_than: float = 0.0
    """Received before this moment; 0 = any."""
    reason: str = ""
    """A part of the hold reason or of the last result's text."""
    include_done: bool = False
    limit: int = 0
    """At most this many, oldest first; 0 = all."""


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One row of `queue list`."""

    message: StoredMessage
    """Without content."""
    item: Item


class Change(Enum):
    """What an operator may do to an item that is not being delivered."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    """Due at once."""
    DROP = "drop"
    """Every pending recipient becomes DROPPED, without a report."""
    REROUTE = "reroute"
    """Recipients get the route in `argument`, destination likewise; due at once."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the queue holds, for metrics and start-up."""

    ready: int
    active: int
    held: int
    oldest_received_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `start` found: items a dead owner had leased, bodies nobody named, rows set aside."""

    released: int = 0
    orphans_removed: int = 0
    quarantined: int = 0
    held_as_poison: tuple[ItemKey, ...] = ()


class Spool(Protocol):
    """See the module's text for the promise; each method says what it adds."""

    async def start(self, now: float) -> Recovery:
        """Open or create, migrate the schema, check settings, take back this owner's old leases.

        Raises UnsafeSettings, SpoolUnavailable, SpoolError (the text names file and remedy).
        """
        ...

    async def close(self) -> None:
        """Finish what was handed in, give back leases, close. `store` afterwards raises SpoolUnavailable."""
        ...

    def store(self, message: NewMessage, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """Store one message; resolves when it is durable, with all that share the commit.

        With `lease_until`, its READY items that are due come back leased to the caller, so that delivery
        starts from memory; their stored next attempt is already in the future (a crash cannot become
        hammering). A `NewMessage.id` that exists raises Conflict, and so does a `NewMessage.transfer` that
        was taken before (MT2-18a).
        """
        ...

    def body_writer(self, message: MessageId) -> BodyWriter:
        """For a body too large for memory."""
        ...

    def find_transfer(self, peer: str, transfer: str) -> Awaitable[TakenTransfer | None]:
        """What is remembered of an MT2 transfer of that proven identity (MT2-18a); None = it was not taken,
        or so long ago that its sender has given up. Raises SpoolUnavailable: then nobody knows."""
        ...

    async def lease_due(
        self, now: float, until: float, limit: int, *, avoid: Sequence[str] = (), solo: bool = False
    ) -> tuple[Leased, ...]:
        """Take up to `limit` due READY items, best priority then oldest due first; also ACTIVE items whose
        lease has run out. Items to destinations in `avoid` are passed over. Suspects (two crashes or
        more) are given only when `solo`, one at a time. Content is attached, lazily readable."""
        ...

    def settle(self, settlement: Settlement, *, lease_until: float = 0.0) -> Awaitable[tuple[Leased, ...]]:
        """Record an attempt. The item becomes READY, HELD or DONE; when the message's last item is done its
        content is removed and `finished_at` set. With `lease_until`, what is due of its new messages comes
        back leased, as from `store`. Raises LeaseLost."""
        ...

    async def renew(self, leases: Iterable[tuple[ItemKey, int]], until: float) -> tuple[ItemKey, ...]:
        """Extend leases; the keys returned are those that were lost."""
        ...

    async def release(self, leases: Iterable[tuple[ItemKey, int]], next_attempt_at: float) -> None:
        """Give items back without an attempt (shutdown, limits, pause)."""
        ...

    async def postpone(self, destination: str, until: float) -> int:
        """Move READY items of a destination that are due earlier to `until`; the number moved."""
        ...

    async def next_due(self) -> float | None:
        """When the earliest READY item is due; None when there is none."""
        ...

    async def find(self, wanted: Filter) -> tuple[QueueEntry, ...]:
        """Items that match, oldest message first: all in memory, so with a limit, or where they are few."""
        ...

    def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """The same, some at a time, for a queue of any length. What is stored, changed or finished while the
        pages are read may be in them as it was or as it is; everything else is in them once."""
        ...

    async def read(self, message: MessageId) -> StoredMessage:
        """One message, with content if it still has any. Raises NotFound."""
        ...

    async def items(self, message: MessageId) -> tuple[Item, ...]:
        """Its items. Raises NotFound."""
        ...

    async def events(self, message: MessageId) -> tuple[Event, ...]:
        """Its trail in order. Raises NotFound."""
        ...

    async def change(
        self, keys: Sequence[ItemKey], change: Change, *, now: float, by: str, argument: str = ""
    ) -> dict[ItemKey, str]:
        """Compare and set, each item for itself: an item being delivered is never dropped or rerouted
        (SEC-208). An event is added to each changed. The answer has the refused ones with the reason."""
        ...

    async def lease_one(self, key: ItemKey, now: float, until: float) -> Leased:
        """Lease one READY or HELD item whatever its time (for `queue fail`). Raises Conflict, NotFound."""
        ...

    async def counts(self) -> Counts:
        """For metrics; cheap enough for every scrape of a queue of a million."""
        ...

    async def purge(self, now: float, finished_before: float) -> int:
        """Forget trails of messages finished before that moment, and transfers whose `until` is past; the
        number of messages forgotten."""
        ...

    def check_room(self) -> None:
        """Raise SpoolFull when the device has less than the reserve: asked at MAIL, costs microseconds."""
        ...
