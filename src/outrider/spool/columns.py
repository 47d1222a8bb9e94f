"""What the columns of both databases hold for an item's state and a message's priority."""

from __future__ import annotations

from outrider.model.message import Item, ItemState

READY, ACTIVE, HELD, SUSPECT = 0, 1, 2, 4
"""`items.state`; SUSPECT is READY with `Item.solo`, in an index of its own."""

STATES = {READY: ItemState.READY, ACTIVE: ItemState.ACTIVE, HELD: ItemState.HELD, SUSPECT: ItemState.READY}
STATE_NUMBERS = {ItemState.READY: (READY, SUSPECT), ItemState.ACTIVE: (ACTIVE,), ItemState.HELD: (HELD,)}
RANKS = (0, 1, 2)

_BY_NAME = {"ready": READY, "active": ACTIVE, "held": HELD}


def state_number(item: Item) -> int:
    """What the column holds for an item that is not done."""
    number = _BY_NAME[item.state.value]
    return SUSPECT if number == READY and item.solo else number


def rank(priority: int) -> int:
    """0 for high, 1 for normal, 2 for bulk: the first part of the order in which items are leased."""
    return 1 - max(-1, min(1, priority))
