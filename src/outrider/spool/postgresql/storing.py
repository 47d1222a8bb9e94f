"""From a new message to its rows, on the event loop: the part of a store that is computed."""

from __future__ import annotations

from dataclasses import dataclass, field

from outrider.model.content import InlineBody
from outrider.model.layered import TakenTransfer
from outrider.model.message import Item, ItemState, Leased, NewMessage
from outrider.spool import codec, transitions
from outrider.spool.bodies import FileBody
from outrider.spool.columns import rank, state_number
from outrider.spool.interface import CommitUnknown
from outrider.spool.postgresql.leases import Lease
from outrider.spool.postgresql.writing import ItemRow, TransferRow, Writes


@dataclass(slots=True)
class Prepared:
    """The rows of a message, and what follows when they are durable - or are not."""

    writes: Writes
    leases: list[tuple[Leased, Lease]] = field(default_factory=list)
    body: FileBody | None = None
    """Adopted from its writer for this message; given back when the message is not stored."""

    def undo(self, error: Exception) -> None:
        """It was not stored: the body is its writer's again; unless nobody knows whether it was."""
        if self.body is not None and not isinstance(error, CommitUnknown):
            self.body.adopted = False


def prepare(message: NewMessage, lease_until: float, owner: str) -> Prepared:
    """Encode; with `lease_until`, its items that are due are stored as leased by the owner (see
    `Spool.store`).

    Raises ValueError for a recipient that the envelope does not have and for text that is not Unicode.
    """
    if "\0" in message.id:
        raise ValueError("NUL in an id")
    items = transitions.first_items(message)
    row = (message.id, message.received_at, codec.encode_message(message))
    prepared = Prepared(Writes(messages=[row]))
    stored, rank_ = transitions.stored_message(message), rank(message.priority)
    for item in items:
        kept = item
        due = item.state is ItemState.READY and item.next_attempt_at <= message.received_at
        if lease_until and due:
            kept = transitions.leased(item, 1, lease_until)
            lease = Lease(kept, message.received_at, rank_, item.next_attempt_at)
            prepared.leases.append((Leased(kept, stored), lease))
        elif due:
            prepared.writes.wake = True
        prepared.writes.items.append(item_row(kept, message.received_at, rank_, owner))
    if message.transfer is not None:
        prepared.writes.transfers.append(_transfer_row(message.transfer))
    _add_content(message, prepared)
    return prepared


def item_row(item: Item, received_at: float, rank_: int, owner: str) -> ItemRow:
    """The columns of a new item, which the owner has if it is leased."""
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
        owner if active else "",
        item.solo,
        received_at,
    )


def _add_content(message: NewMessage, prepared: Prepared) -> None:
    headers, body = message.content.headers, message.content.body
    objects = codec.encode_objects(message.id, message.objects)
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


def _transfer_row(transfer: TakenTransfer) -> TransferRow:
    peer, name = transfer_key(transfer.peer, transfer.transfer)
    return (peer, name, transfer.until, codec.encode_transfer(transfer))


def transfer_key(peer: str, transfer: str) -> tuple[bytes, bytes]:
    """As it stands in the database. Raises ValueError for what is not Unicode."""
    return peer.encode(), transfer.encode()
