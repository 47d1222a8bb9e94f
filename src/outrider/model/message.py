"""A message on its way: what the spool keeps, leases out and settles."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from outrider.model.content import Content
from outrider.model.envelope import Envelope
from outrider.model.facts import Fact
from outrider.model.layered import MessageObjects, TakenTransfer
from outrider.model.result import DeliveryResult

MessageId = NewType("MessageId", str)
"""The queue id: named in the 250 reply, in Received, in every log line, and found by all tools."""


class ItemState(Enum):
    """States of a delivery item; `spool/STATES.md` names every way from one to another."""

    READY = "ready"
    """Waits for its next attempt."""
    ACTIVE = "active"
    """Leased to a queue manager."""
    HELD = "held"
    """Waits for a person (or a rule's time-out)."""
    DONE = "done"
    """Every recipient of it is in a final state."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a message's trail: when, what, and in which words (ITP-5)."""

    at: float
    kind: str
    """A short fixed word: received, verdict, attempt, delivered, deferred, failed, held, released, ..."""
    text: str
    """The sentence that reply and log also use."""
    recipients: tuple[str, ...] = ()
    """Whom it concerns; empty for all."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """The recipients of one message that go the same way at first: one domain or one local transport.

    `destination` is the key for concurrency, rate and pause: the recipient domain, or the operator's
    route. `recipients` are positions in the envelope.
    """

    destination: str
    recipients: tuple[int, ...]
    state: ItemState = ItemState.READY
    next_attempt_at: float = 0.0
    """Seconds since the epoch."""
    reason: str = ""
    """Why it is held; "" otherwise."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """All that becomes durable before the 250 (SMTP-5)."""

    id: MessageId
    received_at: float
    envelope: Envelope
    trace: bytes
    """Fields put on top of the content when it leaves: Return-Path excepted, Received first (SMTP-4)."""
    content: Content
    items: tuple[NewItem, ...]
    facts: tuple[Fact, ...] = ()
    events: tuple[Event, ...] = ()
    priority: int = 0
    """-1 bulk, 0 normal, 1 high."""
    objects: MessageObjects | None = None
    """The MT2 form, where the message came in one; kept and removed with the content."""
    transfer: TakenTransfer | None = None
    """The MT2 transfer that brought it: remembered from the same commit on, and when the message is long
    forgotten (MT2-18a)."""


class RecipientState(Enum):
    """Where one recipient stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    FAILED = "failed"
    DROPPED = "dropped"
    """Removed by the operator, or ended by a transport that tells nobody (AMDP-10); without a report."""

    @property
    def is_final(self) -> bool:
        """Whether delivery to this recipient has ended."""
        return self is not RecipientState.PENDING


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """One recipient of an item as the spool remembers it."""

    index: int
    """Position in the envelope."""
    state: RecipientState = RecipientState.PENDING
    attempts: int = 0
    last: DeliveryResult | None = None
    delay_reported: bool = False
    """A delay DSN has gone out (at most one)."""


@dataclass(frozen=True, slots=True)
class ItemKey:
    """Names one item in the spool."""

    message: MessageId
    number: int


@dataclass(frozen=True, slots=True)
class Item:
    """A delivery item as stored."""

    key: ItemKey
    destination: str
    state: ItemState
    next_attempt_at: float
    recipients: tuple[RecipientStatus, ...]
    attempts: int = 0
    crashes: int = 0
    """How often a server died while it held the lease (poison messages are held)."""
    solo: bool = False
    """Leased alone, so that a crash can be laid to this message."""
    reason: str = ""
    lease: int = 0
    """Fencing token of the current lease: a settle with another is refused (SEC-213)."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message read back: content is None once every recipient is final."""

    id: MessageId
    received_at: float
    envelope: Envelope
    trace: bytes
    content: Content | None
    size: int
    """Octets of the content as received."""
    facts: tuple[Fact, ...]
    priority: int = 0
    finished_at: float = 0.0
    objects: MessageObjects | None = None
    """As in `NewMessage`; read with the content, and None without it."""


@dataclass(frozen=True, slots=True)
class Leased:
    """One item handed out for delivery, with its message."""

    item: Item
    message: StoredMessage


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of one attempt, stored in one transaction with the reports that it causes."""

    key: ItemKey
    lease: int
    recipients: tuple[RecipientStatus, ...]
    """The item's recipients as they now stand."""
    next_attempt_at: float = 0.0
    """For what is still pending; ignored when all are final."""
    hold_reason: str = ""
    """Not "": the item is held instead of rescheduled."""
    events: tuple[Event, ...] = ()
    new_messages: tuple[NewMessage, ...] = ()
    """Status reports and the like: stored if and only if the settlement is."""
    count_attempt: bool = True
    extra: tuple[NewItem, ...] = field(default=())
    """Items added to the same message, where an attempt splits it; their recipients are left out of
    `recipients` and keep what is known of them."""
    at: float = 0.0
    """When the attempt ended (the message's `finished_at`, with the last one); 0 = with the last event."""
