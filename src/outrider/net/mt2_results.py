"""From the answers of an MT2 peer to a result for every recipient (MT2-8, MT2-16). Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from outrider.delivery.mt2_assembly import OutgoingObjects
from outrider.delivery.results import cleaned
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, status_of
from outrider.protocols.mt2.events import TransferEnded
from outrider.protocols.mt2.recipients import recipient_results

_OF_THE_SESSION: Final = frozenset(
    {
        codes.MALFORMED,
        codes.UNKNOWN_VERB,
        codes.WRONG_PARAMETERS,
        codes.WRONG_ORDER,
        codes.NO_PIPELINING,
        codes.TOO_MANY_REQUESTS,
        codes.TOO_MANY_ERRORS,
        codes.TAKES_NO_MAIL,
        codes.IDENTITY_REQUIRED,
        codes.TLS_REQUIRED,
        codes.FRAGMENT_TOO_LARGE,
        codes.WRONG_FRAGMENT_COUNT,
        codes.TRANSFER_ID_REUSED,
        codes.WRONG_OFFSET,
        codes.TRANSFER_KILLED,
        codes.WRONG_SIZE,
        codes.WRONG_DIGEST,
    }
)
"""Refusals that say nothing of the message, only of this session or of this attempt: it waits."""


def is_final(said: Result) -> bool:
    """Whether the answer to a transfer will be the same at the next attempt."""
    return said.is_ok or not (said.is_transient or said.code in _OF_THE_SESSION)


@dataclass(frozen=True, slots=True)
class PeerView:
    """The peer as results name it."""

    remote: str
    tls: str

    def result(self, kind: Kind, status: str, text: str) -> DeliveryResult:
        """A result by MT2."""
        return DeliveryResult(kind, status, cleaned(text), 0, self.remote, "mt2", self.tls)

    def of(self, said: Result) -> DeliveryResult:
        """What one answer means for who it is about."""
        text = f"{said.code} {said.text or codes.text_of(said.code)}"
        if said.is_ok:
            return self.result(Kind.DELIVERED, _with_class(status_of(said), "2"), text)
        if not is_final(said):
            return self.result(Kind.DEFERRED, _with_class(status_of(said), "4"), text)
        return self.result(Kind.FAILED, _with_class(status_of(said), "5"), text)


def transfer_results(
    view: PeerView, objects: OutgoingObjects, ended: TransferEnded
) -> dict[int, DeliveryResult]:
    """A result for every recipient of a transfer."""
    positions = objects.positions
    if ended.result is None:
        text = (
            "the session ended before the message was answered"
            if ended.may_be_taken
            else "the session ended before the message was sent"
        )
        return dict.fromkeys(positions, view.result(Kind.DEFERRED, "4.4.2", text))
    said = list(recipient_results(ended.result, len(positions)))
    if ended.envelope is not None:
        # MT2-16: who was refused with the envelope need not be named again.
        at_first = recipient_results(ended.envelope, len(positions))
        said = [early if not early.is_ok else late for early, late in zip(at_first, said, strict=True)]
    hop = _hop(ended.result)
    return {position: _told(view.of(one), hop) for position, one in zip(positions, said, strict=True)}


def _hop(said: Result) -> str:
    """What TRACE says of the next host, where it was asked (MT2-21a)."""
    params = next((one.params for one in said.extensions if one.name == "TRACE"), ())
    return next((one for one in params if isinstance(one, str)), "")


def _told(result: DeliveryResult, hop: str) -> DeliveryResult:
    if not hop or result.kind is not Kind.DELIVERED:
        return result
    return replace(result, text=cleaned(f"{result.text} [{hop}]"))


def _with_class(status: str, wanted: str) -> str:
    """The status with the class that the answer's word has: a peer's own may not fit it."""
    return wanted + status[1:]
