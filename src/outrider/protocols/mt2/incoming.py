"""Their transfers: XFER as it is asked of us (MT2-14 to MT2-18c).

A transfer is the objects of one message in order: the envelope, then what the envelope lists. An object
comes as fragments, each an XFER of its own, whose count falls by one to 0. The life of a transfer::

    AWAITED --first XFER of the object--> OFFERED --grant--> OPEN --last octet--> ANSWERING
       ^                                     |                 |                      |
       |                                     +-------ERR-------+---------ERR----------+--> ended
       +------------------------OK, and a further object is listed--------------------+
                                                       OK, and nothing more is listed +--> ended

Requests for later objects may be here already (pipelining); they wait in the transfer until their object's
turn. Permissions are given as the window allows, in the order in which they fall due. The octets of one
transfer arrive in the order of its requests; those of several mix.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.arrivals import Arrivals, Fragment, Phase, Transfer
from outrider.protocols.mt2.codes import Result, err, ok, tmp
from outrider.protocols.mt2.events import (
    ENVELOPE_TYPE,
    HEADERS_TYPE,
    DropReason,
    Limits,
    ObjectOctets,
    ObjectOffered,
    TransferDropped,
)
from outrider.protocols.mt2.frames import ProtocolViolation, Sink
from outrider.protocols.mt2.options import Grant
from outrider.protocols.mt2.wire_out import Wire

_SEND_ENVELOPE: Final = tmp(codes.SEND_ENVELOPE)
_SEND_HEADERS: Final = tmp(codes.SEND_HEADERS)
_SEND_BODY: Final = tmp(codes.SEND_BODY)
_HELD: Final = ok(codes.FRAGMENT_HELD)
_KILLED: Final = err(codes.TRANSFER_KILLED)
_EARLIER: Final = err(codes.EARLIER_PART_REFUSED)
_NOT_EXPECTED: Final = err(codes.OBJECT_NOT_EXPECTED)
_OTHERS: Final = {codes.ALREADY_TAKEN: ok(codes.ALREADY_TAKEN), codes.TRANSFER_KILLED: _KILLED}
"""What the other requests of a transfer are answered when it ends with such a code."""
_MOST_ENDED: Final = 1024
"""Ended transfers remembered, for requests about them that were on their way."""


class _Skip:
    """Where the octets for a request that has ended go: nowhere."""

    __slots__ = ()

    def take(self, octets: bytes) -> None:
        """Skip."""


_SKIP: Final = _Skip()


class _Memory:
    """What is remembered of an ended transfer."""

    __slots__ = ("answer", "next_count")

    def __init__(self, answer: Result, next_count: int) -> None:
        self.answer = answer
        self.next_count = next_count
        """The count of the next fragment of an envelope that was refused before its end; -1 = no such."""


class IncomingTransfers:
    """All transfers of theirs on one connection."""

    def __init__(self, wire: Wire, limits: Limits) -> None:
        self.grant = Grant()
        """Options in force."""
        self.leaving = False
        """No transfer begins any more (MT2-12)."""
        self.last_tag = 0
        """The highest of theirs, whatever was asked with it."""
        self.arrivals = Arrivals(wire)
        self.window_used = 0
        """Octets permitted and not answered (MT2-18c)."""
        self._wire = wire
        self._limits = limits
        self._transfers: dict[str, Transfer] = {}
        self._live: dict[int, Fragment] = {}
        self._by_last_tag: dict[int, Transfer] = {}
        self._blocked: deque[Fragment] = deque()  # their permission waits for the window
        self._ended: dict[str, _Memory] = {}

    @property
    def outstanding(self) -> int:
        """XFER requests not answered."""
        return len(self._live)

    @property
    def under_way(self) -> int:
        """Transfers begun and not ended."""
        return len(self._transfers)

    # -- what comes ----------------------------------------------------------------------------------

    def request(
        self, tag: int, transfer_id: str, media_type: str, size: int, to_come: int, offset: int
    ) -> None:
        """XFER (MT2-14)."""
        transfer = self._transfers.get(transfer_id)
        if transfer is None:
            transfer = self._begin(tag, transfer_id, media_type, to_come)
            if transfer is None:
                return
        else:
            del self._by_last_tag[transfer.last_tag]
        fragment = Fragment(tag, transfer, media_type, size, to_come, offset)
        self._live[tag] = transfer.live[tag] = fragment
        transfer.last_tag = tag
        self._by_last_tag[tag] = transfer
        transfer.waiting.append(fragment)
        self._advance(transfer)

    def _begin(self, tag: int, transfer_id: str, media_type: str, to_come: int) -> Transfer | None:
        refusal = self._refusal(transfer_id, media_type, to_come)
        if refusal is not None:
            self._wire.respond(tag, refusal)
            return None
        self._ended.pop(transfer_id, None)
        transfer = self._transfers[transfer_id] = Transfer(transfer_id, self.arrivals)
        return transfer

    def _refusal(self, transfer_id: str, media_type: str, to_come: int) -> Result | None:
        """Why a request for a transfer that is not under way begins none."""
        memory = self._ended.get(transfer_id)
        if memory is not None and (media_type != ENVELOPE_TYPE or to_come == memory.next_count):
            memory.next_count = to_come - 1 if media_type == ENVELOPE_TYPE else memory.next_count
            return memory.answer
        if media_type != ENVELOPE_TYPE:
            return err(codes.OBJECT_NOT_EXPECTED)
        if self.leaving:
            return err(codes.LEAVING)
        limits = self._limits
        most = limits.transfers if self.grant.pipe else limits.transfers_without_pipe
        return err(codes.TOO_MANY_TRANSFERS) if len(self._transfers) >= most else None

    def sink(self, tag: int, length: int) -> Sink:
        """Where the octets of their data frame go.

        Raises `ProtocolViolation` for data that was not permitted.
        """
        fragment = self._live.get(tag)
        if fragment is None:
            return self._skip(tag, length)
        if not fragment.permitted or length > fragment.size - fragment.received:
            raise ProtocolViolation("data beyond what was granted")
        if fragment.transfer.arriving[0] is not fragment:
            raise ProtocolViolation("data of a transfer out of order")
        return fragment

    def _skip(self, tag: int, length: int) -> Sink:
        """For a finished request: skipped, but no more than was once permitted (MT2-14)."""
        if tag > self.last_tag:
            raise ProtocolViolation("data for a tag never used")
        if length > self.arrivals.skippable:
            raise ProtocolViolation("data beyond what was granted")
        self.arrivals.skippable -= length
        return _SKIP

    # -- from request to permission ------------------------------------------------------------------

    def _advance(self, transfer: Transfer) -> None:
        """Deal with the requests whose turn it is."""
        waiting = transfer.waiting
        while waiting:
            fragment = waiting[0]
            if transfer.phase is Phase.AWAITED:
                if not self._is_in_order(transfer, fragment):
                    return
                transfer.phase = Phase.OFFERED
                self._wire.events.append(
                    ObjectOffered(
                        fragment.tag,
                        transfer.transfer_id,
                        fragment.media_type,
                        fragment.size,
                        fragment.to_come,
                        fragment.offset,
                    )
                )
                return
            if transfer.phase is not Phase.OPEN or transfer.expected == -1:
                return
            if not self._is_in_order(transfer, fragment):
                return
            self._admit(transfer, waiting.popleft())

    def _is_in_order(self, transfer: Transfer, fragment: Fragment) -> bool:
        """Whether a request keeps to what was announced; one that does not ends the transfer."""
        fault = self._fault(transfer, fragment)
        if fault is None:
            return True
        result = err(fault)
        self._drop(transfer, fragment.tag, result)
        self._wire.events.append(TransferDropped(transfer.transfer_id, DropReason.RULE_BROKEN, result))
        return False

    def _fault(self, transfer: Transfer, fragment: Fragment) -> str | None:
        if fragment.media_type != transfer.media_type:
            return codes.OBJECT_NOT_EXPECTED if transfer.expected is None else codes.WRONG_FRAGMENT_COUNT
        if fragment.size > self.grant.maxpart:
            return codes.FRAGMENT_TOO_LARGE
        first = transfer.expected is None
        if not first and fragment.to_come != transfer.expected:
            return codes.WRONG_FRAGMENT_COUNT
        if fragment.offset and (not first or not transfer.index):
            return codes.WRONG_OFFSET
        if not fragment.size and (not first or fragment.to_come):
            return codes.WRONG_SIZE
        return self._size_fault(transfer, fragment)

    def _size_fault(self, transfer: Transfer, fragment: Fragment) -> str | None:
        """Fragments to come have an octet each at least: a count that cannot be true is found at once."""
        least = transfer.requested + fragment.offset + fragment.size + fragment.to_come
        if not transfer.index:
            return codes.MESSAGE_TOO_LARGE if least > self._limits.envelope_size else None
        length = transfer.parts[transfer.index - 1][1]
        if least > length or (not fragment.to_come and least != length):
            return codes.WRONG_SIZE
        return None

    def grant_object(self, tag: int) -> bool:
        """Our driver lets the object of an `ObjectOffered` come."""
        fragment = self._live.get(tag)
        if fragment is None:
            return False
        transfer = fragment.transfer
        if transfer.phase is not Phase.OFFERED or transfer.waiting[0] is not fragment:
            raise RuntimeError("only an object that was offered can be granted, and once")
        transfer.phase = Phase.OPEN
        self._admit(transfer, transfer.waiting.popleft())
        if transfer.waiting:
            self._advance(transfer)
        return True

    def _admit(self, transfer: Transfer, fragment: Fragment) -> None:
        """A request is in order: it is permitted when the window allows."""
        transfer.expected = fragment.to_come - 1
        transfer.requested += fragment.offset + fragment.size
        if not fragment.size:  # no data frame comes, and no permission is needed
            fragment.permitted = True
            transfer.phase = Phase.ANSWERING
            self._wire.events.append(
                ObjectOctets(fragment.tag, transfer.transfer_id, fragment.media_type, b"", True, True)
            )
        elif self._blocked or not self._fits(fragment):
            self._blocked.append(fragment)
        else:
            self._permit(fragment)

    def _fits(self, fragment: Fragment) -> bool:
        return self.window_used + fragment.size <= self.grant.window or not self.window_used

    def _permit(self, fragment: Fragment) -> None:
        fragment.permitted = True
        fragment.transfer.arriving.append(fragment)
        self.window_used += fragment.size
        self.arrivals.due += fragment.size
        if not fragment.transfer.index:
            result = _SEND_ENVELOPE
        elif fragment.media_type.startswith(HEADERS_TYPE):
            result = _SEND_HEADERS
        else:
            result = _SEND_BODY
        self._wire.respond(fragment.tag, result)

    def _unblock(self) -> None:
        """The window has room again."""
        blocked = self._blocked
        while blocked and (blocked[0].tag not in self._live or self._fits(blocked[0])):
            fragment = blocked.popleft()
            if fragment.tag in self._live:
                self._permit(fragment)

    # -- answers -------------------------------------------------------------------------------------

    def _finish_fragment(self, fragment: Fragment, result: Result) -> None:
        """One request gets its final answer."""
        del self._live[fragment.tag], fragment.transfer.live[fragment.tag]
        if fragment.permitted:
            self.window_used -= fragment.size
            missing = fragment.size - fragment.received
            if missing:
                self.arrivals.skippable += missing
                self.arrivals.octets += missing
                self.arrivals.due -= missing
        self._wire.respond(fragment.tag, result)

    def taken(self, tag: int) -> bool:
        """Our driver has dealt with a fragment that ended inside its object."""
        fragment = self._live.get(tag)
        if fragment is None:
            return False
        if not fragment.is_here or not fragment.to_come:
            raise RuntimeError("only a fragment that has come, and that others follow, can be taken")
        self._finish_fragment(fragment, _HELD)
        self._unblock()
        return True

    def answer(self, tag: int, result: Result, parts: Sequence[tuple[str, int]]) -> bool:
        """Our driver's answer to a whole object, or its refusal at any moment."""
        fragment = self._live.get(tag)
        if fragment is None:
            return False
        transfer = fragment.transfer
        if not result.is_ok or result.code == codes.ALREADY_TAKEN:
            self._drop(transfer, tag, result)
        else:
            if not fragment.is_here or fragment.to_come:
                raise RuntimeError("only an object that is here whole can be accepted")
            self._accept(transfer, fragment, result, parts)
        return True

    def _accept(
        self, transfer: Transfer, fragment: Fragment, result: Result, parts: Sequence[tuple[str, int]]
    ) -> None:
        if not transfer.index:
            transfer.parts = tuple(parts)
        if transfer.index == len(transfer.parts):
            self._drop(transfer, fragment.tag, result)
            return
        if transfer.killer:
            self._kill(transfer, transfer.killer)
            return
        for earlier in [other for other in transfer.live.values() if other.is_here and other is not fragment]:
            self._finish_fragment(earlier, _HELD)
        self._finish_fragment(fragment, result)
        transfer.begin_object(transfer.index + 1)
        if transfer.waiting:
            self._advance(transfer)
        self._unblock()

    def refuse_transfer(self, transfer_id: str, result: Result) -> bool:
        """Our driver gives up a transfer, wherever it stands."""
        transfer = self._transfers.get(transfer_id)
        if transfer is None:
            return False
        self._drop(transfer, next(iter(transfer.live), 0), result)
        return True

    def _drop(self, transfer: Transfer, tag: int, result: Result) -> None:
        """The transfer ends: `result` answers `tag`, and its other requests are answered for what they
        are."""
        if transfer.killer:
            self._wire.respond(transfer.killer, err(codes.TOO_LATE))
            transfer.killer = 0
        others = _OTHERS.get(result.code, _NOT_EXPECTED if result.is_ok else _EARLIER)
        refused_midway = not result.is_ok and not transfer.index and transfer.expected != -1
        next_count = -1
        for fragment in list(transfer.live.values()):
            if refused_midway and fragment.media_type == ENVELOPE_TYPE:
                next_count = fragment.to_come - 1
            held = result.is_ok and fragment.is_here and fragment.to_come
            self._finish_fragment(fragment, result if fragment.tag == tag else _HELD if held else others)
        self._remember(transfer, _Memory(others, next_count))
        self._unblock()

    def _remember(self, transfer: Transfer, memory: _Memory) -> None:
        transfer.phase = Phase.ENDED
        transfer.waiting.clear()
        transfer.arriving.clear()
        del self._by_last_tag[transfer.last_tag]
        del self._transfers[transfer.transfer_id]
        self._ended[transfer.transfer_id] = memory
        if len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    # -- ABOR ----------------------------------------------------------------------------------------

    def abort(self, abor_tag: int, tag: int) -> None:
        """ABOR of a request (MT2-12): ends its whole transfer, unless that is too late. The last request of a
        transfer may be named though it was answered: its answer may have crossed the ABOR."""
        fragment = self._live.get(tag)
        transfer = fragment.transfer if fragment else self._by_last_tag.get(tag)
        if transfer is None:
            late = 0 < tag <= self.last_tag and tag != abor_tag
            self._wire.respond(abor_tag, err(codes.TOO_LATE if late else codes.NO_SUCH_REQUEST))
        elif transfer.phase is not Phase.ANSWERING:
            self._kill(transfer, abor_tag)
        elif transfer.killer:
            self._wire.respond(abor_tag, err(codes.TOO_LATE))
        else:
            transfer.killer = abor_tag  # our driver may be committing: its answer tells

    def _kill(self, transfer: Transfer, abor_tag: int) -> None:
        transfer.killer = 0
        self._wire.respond(abor_tag, ok(codes.KILLED))
        self._drop(transfer, 0, _KILLED)
        self._wire.events.append(TransferDropped(transfer.transfer_id, DropReason.KILLED, _KILLED))
