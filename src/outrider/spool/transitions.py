"""What each change does to an item, decided in one place for every back end (see `STATES.md`).

Nothing here reads or writes: a back end brings the item as it stands and stores the one that comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from outrider.model.envelope import Envelope
from outrider.model.message import (
    Event,
    Item,
    ItemKey,
    ItemState,
    MessageId,
    NewItem,
    NewMessage,
    RecipientState,
    RecipientStatus,
    Settlement,
    StoredMessage,
)
from outrider.spool.interface import Change, Conflict

SUSPECT_AT = 2
"""Crashes from which an item is leased alone, so that the next crash can be laid to it (FAULT-F11)."""


def stored_message(message: NewMessage) -> StoredMessage:
    """The message as it will be read back."""
    return StoredMessage(
        message.id,
        message.received_at,
        message.envelope,
        message.trace,
        message.content,
        message.content.size,
        message.facts,
        message.priority,
        objects=message.objects,
    )


def first_items(message: NewMessage) -> tuple[Item, ...]:
    """The items of a new message, numbered from 0. Raises ValueError for a strange recipient position."""
    count = len(message.envelope.recipients)
    for new in message.items:
        if new.recipients and not 0 <= min(new.recipients) <= max(new.recipients) < count:
            raise ValueError(f"{message.id}: an item names a recipient that the envelope does not have")
    return tuple(
        new_item(message.id, number, new, tuple([RecipientStatus(index) for index in new.recipients]))
        for number, new in enumerate(message.items)
    )


def new_item(message: MessageId, number: int, new: NewItem, recipients: tuple[RecipientStatus, ...]) -> Item:
    """An item that has not been tried. Raises ValueError for a state in which none begins."""
    if new.state not in (ItemState.READY, ItemState.HELD):
        raise ValueError(f"{message}: an item cannot begin as {new.state.value}")
    return Item(
        ItemKey(message, number),
        new.destination,
        new.state,
        new.next_attempt_at,
        recipients,
        reason=new.reason,
    )


def leased(item: Item, token: int, until: float) -> Item:
    """READY (or expired, or picked by hand) to ACTIVE.

    The next attempt moves to the end of the lease now, so that a crash cannot become hammering.
    """
    # Spelt out instead of `replace`, here and in `settled`: every message passes both, and this is faster.
    return Item(
        item.key,
        item.destination,
        ItemState.ACTIVE,
        until,
        item.recipients,
        item.attempts,
        item.crashes,
        item.solo,
        item.reason,
        token,
    )


def released(item: Item, next_attempt_at: float) -> Item:
    """ACTIVE to READY without an attempt."""
    return replace(item, state=ItemState.READY, next_attempt_at=next_attempt_at, lease=0)


def abandoned(item: Item, poison_after: int) -> Item:
    """ACTIVE to READY, or to HELD at last: the owner died or went silent holding the lease (FAULT-F11).

    After a first death the item is due at once, so that a restart does not leave mail lying; after further
    ones it waits until its lease would have ended, so that a crash cannot become hammering.
    """
    crashes = item.crashes + 1
    due = 0.0 if crashes == 1 else item.next_attempt_at
    ready = replace(
        item,
        state=ItemState.READY,
        next_attempt_at=due,
        crashes=crashes,
        solo=crashes >= SUSPECT_AT,
        lease=0,
    )
    if poison_after and crashes >= poison_after:
        reason = f"the server ended abnormally {crashes} times while delivering this"
        return replace(ready, state=ItemState.HELD, reason=reason)
    return ready


def settled(item: Item, settlement: Settlement) -> Item:
    """ACTIVE to DONE, HELD or READY by what the attempt brought.

    The count of crashes begins anew: this attempt came to an end. Raises ValueError when the settlement
    forgets a recipient or names a strange one, since that would lose mail.
    """
    _check_recipients(item, settlement)
    state, due, reason = ItemState.READY, settlement.next_attempt_at, settlement.hold_reason
    if all(status.state is not RecipientState.PENDING for status in settlement.recipients):
        state, due, reason = ItemState.DONE, 0.0, ""
    elif reason:
        state = ItemState.HELD
    attempts = item.attempts + (1 if settlement.count_attempt else 0)
    return Item(item.key, item.destination, state, due, settlement.recipients, attempts, reason=reason)


def _check_recipients(item: Item, settlement: Settlement) -> None:
    named = [status.index for status in settlement.recipients]
    if not settlement.extra and named == [status.index for status in item.recipients]:
        return  # nearly always
    for extra in settlement.extra:
        named.extend(extra.recipients)
    if sorted(named) != sorted(status.index for status in item.recipients):
        raise ValueError(f"{item.key.message}: a settlement must name each recipient of its item once")


def split_off(item: Item, settlement: Settlement, first_number: int) -> tuple[Item, ...]:
    """The items that an attempt adds; each recipient keeps what is known of it."""
    known = {status.index: status for status in item.recipients}
    return tuple(
        new_item(
            item.key.message, first_number + offset, new, tuple(known[index] for index in new.recipients)
        )
        for offset, new in enumerate(settlement.extra)
    )


def finish_time(item: Item, settlement: Settlement) -> float:
    """When an attempt ended: the settlement's own word, else its last event, else the lease's end."""
    if settlement.at:
        return settlement.at
    return settlement.events[-1].at if settlement.events else item.next_attempt_at


_ALLOWED: dict[Change, tuple[ItemState, ...]] = {
    Change.HOLD: (ItemState.READY,),
    Change.RELEASE: (ItemState.HELD,),
    Change.RETRY: (ItemState.READY,),
    Change.DROP: (ItemState.READY, ItemState.HELD),
    Change.REROUTE: (ItemState.READY, ItemState.HELD),
}
"""From which states each change is allowed; from any other it is refused and nothing changes."""

_REFUSED: dict[ItemState, str] = {
    ItemState.READY: "it is not held",
    ItemState.ACTIVE: "it is being delivered",
    ItemState.HELD: "it is held; release it first",
    ItemState.DONE: "it is finished",
}

_PAST: dict[Change, str] = {
    Change.HOLD: "held",
    Change.RELEASE: "released",
    Change.RETRY: "retried",
    Change.DROP: "dropped",
    Change.REROUTE: "rerouted",
}


def changed(item: Item, change: Change, now: float, by: str, argument: str) -> Item:
    """An operator's change. Raises Conflict, with the reason as its text, where the state forbids it."""
    if item.state not in _ALLOWED[change]:
        already = change is Change.HOLD and item.state is ItemState.HELD
        raise Conflict("it is held already" if already else _REFUSED[item.state])
    if change is Change.HOLD:
        return replace(item, state=ItemState.HELD, reason=argument or f"held by {by}")
    if change is Change.DROP:
        return replace(
            item, state=ItemState.DONE, next_attempt_at=0.0, recipients=_dropped(item.recipients), reason=""
        )
    if change is Change.REROUTE:
        # A held item stays held: another way does not answer the question for which it waits.
        return replace(item, destination=argument or item.destination, next_attempt_at=now)
    return replace(item, state=ItemState.READY, next_attempt_at=now, reason="")


def _dropped(recipients: Iterable[RecipientStatus]) -> tuple[RecipientStatus, ...]:
    return tuple(
        status if status.state.is_final else replace(status, state=RecipientState.DROPPED)
        for status in recipients
    )


def rerouted(envelope: Envelope, item: Item, route: str) -> Envelope:
    """The envelope with `route` for every recipient of the item that is still pending."""
    pending = {status.index for status in item.recipients if not status.state.is_final}
    recipients = tuple(
        replace(recipient, route=route) if index in pending else recipient
        for index, recipient in enumerate(envelope.recipients)
    )
    return replace(envelope, recipients=recipients)


def change_event(
    envelope: Envelope, item: Item, change: Change, *, now: float, by: str, argument: str
) -> Event:
    """The line that a change leaves in the trail; `item` as it was before."""
    text = f"{_PAST[change]} by {by}" + (f": {argument}" if argument else "")
    pending = tuple(
        str(envelope.recipients[status.index].address)
        for status in item.recipients
        if not status.state.is_final
    )
    return Event(now, _PAST[change], text, pending)
