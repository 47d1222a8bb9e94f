"""From a new message to its rows, on the event loop: the part of a store that is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from outrider.model.content import InlineBody
from outrider.model.layered import TakenTransfer
from outrider.model.message import Item, ItemState, Leased, NewMessage
from outrider.spool import codec, transitions
from outrider.spool.bodies import FileBody
from outrider.spool.columns import rank
from outrider.spool.sqlite.operations import Moves, NewLease, item_row
from outrider.spool.sqlite.rows import Row, Rows


@dataclass(slots=True)
class Prepared:
    """The rows of a message, and what follows when they are durable - or are not."""

    rows: Rows
    moves: Moves
    leases: list[NewLease] = field(default_factory=list)
    body: FileBody | None = None
    """Adopted from its writer for this message; given back when the message is not stored."""

    def unsynced(self) -> tuple[FileBody, ...]:
        """The body, where it has to be made durable before the rows are."""
        return () if self.body is None or self.body.is_durable else (self.body,)

    def undo(self) -> None:
        """It was not stored: the body is its writer's again, to be abandoned or used once more."""
        if self.body is not None:
            self.body.adopted = False


def prepare(message: NewMessage, lease_until: float, next_number: Callable[[], int]) -> Prepared:
    """Encode; with `lease_until`, its items that are due are stored as leased (see `Spool.store`).

    Raises ValueError for a recipient that the envelope does not have and for text that is not Unicode.
    """
    seq, rank_ = next_number(), rank(message.priority)
    items = transitions.first_items(message)
    data = codec.encode_message(message)
    prepared = Prepared(Rows(messages=((seq, message.id, message.received_at, data),)), Moves())
    rows: list[Row] = []
    stored = transitions.stored_message(message)
    for item in items:
        kept = item
        if lease_until and _is_due(item, message):
            kept = transitions.leased(item, next_number(), lease_until)
            prepared.leases.append(NewLease(Leased(kept, stored), seq, rank_, item.next_attempt_at))
        rows.append(item_row(seq, rank_, kept))
        prepared.moves.add(kept.state)
    prepared.rows.items = rows
    prepared.rows.contents = (_content_row(seq, message, prepared),)
    if message.transfer is not None:
        prepared.rows.transfers = (transfer_row(message.transfer),)
    return prepared


def _is_due(item: Item, message: NewMessage) -> bool:
    return item.state is ItemState.READY and item.next_attempt_at <= message.received_at


def _content_row(seq: int, message: NewMessage, prepared: Prepared) -> Row:
    headers, body = message.content.headers, message.content.body
    objects = codec.encode_objects(message.id, message.objects)
    if isinstance(body, FileBody) and not body.adopted:
        body.adopted = True
        prepared.body = body
        digest = codec.content_digest(headers, b"")
        return (seq, headers, None, body.reference.encode(message.id), digest, objects)
    # A body that another message has goes when that one is finished: this message gets a copy.
    octets = body.octets if isinstance(body, InlineBody) else b"".join(body.chunks())
    return (seq, headers, octets, None, codec.content_digest(headers, octets), objects)


def transfer_row(transfer: TakenTransfer) -> Row:
    """The row of a transfer that is taken with this message."""
    return (transfer.peer, transfer.transfer, transfer.until, codec.encode_transfer(transfer))
