"""Which queue entries a `Filter` means: the same answer from every back end."""

from __future__ import annotations

from collections.abc import Iterable

from outrider.model.address import Address
from outrider.model.envelope import Envelope
from outrider.model.message import Item, ItemState
from outrider.spool.interface import Filter

OPEN_STATES = (ItemState.READY, ItemState.ACTIVE, ItemState.HELD)


def wanted_states(wanted: Filter) -> tuple[ItemState, ...]:
    """The states that can match: those named, or all that are not finished unless those are wanted too."""
    if wanted.states:
        return wanted.states
    return (*OPEN_STATES, ItemState.DONE) if wanted.include_done else OPEN_STATES


def matches(wanted: Filter, received_at: float, envelope: Envelope, item: Item) -> bool:
    """Whether every part that is set matches. `ids` and `limit` are the back end's to keep."""
    return (
        item.state in wanted_states(wanted)
        and (not wanted.older_than or received_at < wanted.older_than)
        and (not wanted.destination or item.destination.casefold() == wanted.destination.casefold())
        and (not wanted.sender or address_matches(wanted.sender, envelope.sender))
        and (not wanted.recipient or _any_recipient(wanted.recipient, envelope, item))
        and (not wanted.reason or _reason_matches(wanted.reason.casefold(), item))
    )


def address_matches(pattern: str, address: Address | None) -> bool:
    """`pattern` is an address, ``@domain``, or ``<>`` for the null sender; case never counts."""
    if pattern == "<>" or address is None:
        return pattern == "<>" and address is None
    if pattern.startswith("@"):
        return address.domain.casefold() == pattern[1:].casefold()
    return str(address).casefold() == pattern.strip("<>").casefold()


def domain_octets(pattern: str) -> bytes | None:
    """The domain of an address pattern as it must occur in the message's record; None if it names none."""
    domain = pattern.strip("<>").rpartition("@")[2].lower()
    # A literal is kept in mixed case ([IPv6:...]) and therefore not looked for in this way.
    return domain.encode() if "@" in pattern and domain and domain[0] != "[" else None


def _any_recipient(pattern: str, envelope: Envelope, item: Item) -> bool:
    return any(
        address_matches(pattern, envelope.recipients[status.index].address) for status in item.recipients
    )


def _reason_matches(part: str, item: Item) -> bool:
    texts: Iterable[str] = (status.last.text for status in item.recipients if status.last)
    return part in item.reason.casefold() or any(part in text.casefold() for text in texts)
