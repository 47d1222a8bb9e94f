"""What STAT asks and answers: what became of a transfer (MT2-13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, ok
from outrider.protocols.mt2.lines import MAX_MEDIA_TYPE, Extension, Pair, find
from outrider.protocols.mt2.recipients import recipient_extensions


class TransferState(Enum):
    UNKNOWN = "unknown"
    """Never heard of, forgotten, or another's: the answer is the same."""
    RECEIVING = "receiving"
    QUEUED = "queued"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """The answer to STAT."""

    state: TransferState
    held: Mapping[str, int] = field(default_factory=dict)
    """While receiving: octets held by media type. An object that is held whole shows its whole length."""
    recipients: Mapping[int, Result] = field(default_factory=dict)
    """Results of recipients that differ, by position from 1 (as in the final answer); only written."""


_CODES: Final = {
    TransferState.UNKNOWN: codes.STAT_UNKNOWN,
    TransferState.RECEIVING: codes.STAT_RECEIVING,
    TransferState.QUEUED: codes.STAT_QUEUED,
    TransferState.DELIVERED: codes.STAT_DELIVERED,
    TransferState.FAILED: codes.STAT_FAILED,
}
_STATES: Final = {state.value: state for state in TransferState}
_MAX_HELD_DIGITS: Final = 15
_MAX_PARTS: Final = 16


def status_result(status: TransferStatus) -> Result:
    """The response: ``OK <branch>.2.n (STATE=receiving) (PART=message/headers HELD=100)``."""
    extensions = [Extension("STATE", (status.state.value,))]
    for media_type, held in status.held.items():
        extensions.append(Extension("PART", (media_type,), (Pair("HELD", (str(held),)),)))
    extensions += recipient_extensions(status.recipients)
    return ok(_CODES[status.state], *extensions)


def read_status(result: Result) -> TransferStatus | None:
    """What a response to STAT says; None for a refusal or what is not understood. Results per recipient are
    read from the response itself, by `recipients.recipient_results`."""
    stated = find(result.extensions, "STATE")
    state = _STATES.get(stated.values[0]) if stated and stated.values else None
    if not result.is_ok or state is None:
        return None
    held: dict[str, int] = {}
    for extension in result.extensions:
        if extension.name == "PART" and extension.values and len(held) < _MAX_PARTS:
            octets = _number(extension.pair("HELD"))
            if octets is not None and len(extension.values[0]) <= MAX_MEDIA_TYPE:
                held[extension.values[0]] = octets
    return TransferStatus(state, held)


def _number(values: tuple[str, ...]) -> int | None:
    if len(values) != 1 or not values[0].isascii() or not values[0].isdigit():
        return None
    return int(values[0]) if len(values[0]) <= _MAX_HELD_DIGITS else None
