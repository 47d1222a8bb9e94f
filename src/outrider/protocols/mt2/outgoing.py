"""Our transfers: XFER as we ask it of the other side (MT2-14 to MT2-18d).

Transfers wait in one line. As many requests go out as options allow: one, or with PIPE up to INFLIGHT. A
transfer with many fragments has only some of them outstanding, so that others come in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, Word, err
from outrider.protocols.mt2.departures import SentFragment, SentTransfer
from outrider.protocols.mt2.events import ObjectAnswered, OctetsWanted, OutgoingObject, TransferEnded
from outrider.protocols.mt2.frames import ProtocolViolation, data_head
from outrider.protocols.mt2.lines import Pair, format_param, format_value
from outrider.protocols.mt2.options import Grant
from outrider.protocols.mt2.wire_out import Wire

FRAGMENTS_AHEAD: Final = 16
"""Requests of one transfer outstanding at once."""


class OutgoingTransfers:
    """All transfers of ours on one connection. `next_tag` gives a new tag, `room` how many requests may
    go."""

    def __init__(self, wire: Wire, next_tag: Callable[[], int], room: Callable[[], int]) -> None:
        self.grant = Grant()
        """Options in force for us."""
        self._wire = wire
        self._next_tag = next_tag
        self._room = room
        self._transfers: dict[str, SentTransfer] = {}
        self._ready: deque[SentTransfer] = deque()  # something of it may be requested
        self._live: dict[int, SentFragment] = {}
        self._paused: set[str] = (
            set()
        )  # not in `_ready`: as many fragments outstanding as one transfer may have

    @property
    def outstanding(self) -> int:
        """XFER requests not answered."""
        return len(self._live)

    @property
    def under_way(self) -> int:
        """Transfers begun, or waiting, and not ended."""
        return len(self._transfers)

    def add(self, transfer_id: str, objects: Sequence[OutgoingObject]) -> None:
        """A message to send."""
        if transfer_id in self._transfers:
            raise RuntimeError("this transfer is already under way")
        if not objects or not 0 < len(transfer_id) <= 255:
            raise ValueError("a transfer has an id and an envelope at least")
        transfer = self._transfers[transfer_id] = SentTransfer(transfer_id, objects)
        self._ready.append(transfer)
        self.pump()

    # -- requesting ----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Request what may be requested now."""
        ready = self._ready
        while ready and self._room() > 0:
            transfer = ready[0]
            if transfer.ended or transfer.aborting or transfer.is_requested:
                ready.popleft()
            elif len(transfer.live) >= FRAGMENTS_AHEAD:
                ready.popleft()
                self._paused.add(transfer.transfer_id)
            else:
                self._request(transfer)

    def _request(self, transfer: SentTransfer) -> None:
        part = transfer.objects[transfer.index]
        fragment = transfer.next_fragment(self._next_tag(), self.grant.maxpart)
        self._live[fragment.tag] = fragment
        media_type = format_value(part.media_type)
        line = f"[{fragment.tag} XFER {transfer.name} {media_type} {{{fragment.size}}} {{{fragment.to_come}}}"
        if part.offset and fragment.start == part.offset:
            line += f" ({format_param(Pair('OFFSET', (str(part.offset),)))})"
        self._wire.out.append(f"{line}]\r\n".encode())

    # -- answers -------------------------------------------------------------------------------------

    def awaits(self, tag: int) -> bool:
        """A request with this tag has not been answered."""
        return tag in self._live

    def response(self, tag: int, result: Result) -> bool:
        """A response to one of our XFER requests; False when the tag is of no such.

        Raises `ProtocolViolation` when it makes no sense.
        """
        fragment = self._live.get(tag)
        if fragment is None:
            return False
        if result.word is Word.TMP:
            self._permitted(fragment)
            return True
        if result.word is Word.OK and fragment.sent < fragment.size and result.code != codes.ALREADY_TAKEN:
            raise ProtocolViolation("a fragment accepted that was not sent")
        del self._live[tag], fragment.transfer.live[tag]
        if not fragment.transfer.ended:
            self._answered(fragment, result)
        if self._ready:
            self.pump()
        return True

    def _answered(self, fragment: SentFragment, result: Result) -> None:
        transfer = fragment.transfer
        if fragment.to_come and result.is_ok and result.code != codes.ALREADY_TAKEN:
            self._resume(transfer)
            return
        media_type = transfer.objects[fragment.index].media_type
        self._wire.events.append(ObjectAnswered(transfer.transfer_id, media_type, result))
        if not fragment.index:
            transfer.envelope = result
        last = fragment.index == len(transfer.objects) - 1
        if not result.is_ok or last or result.code == codes.ALREADY_TAKEN:
            self._end(transfer, result)
        else:
            self._resume(transfer)

    def _resume(self, transfer: SentTransfer) -> None:
        if transfer.transfer_id in self._paused:
            self._paused.discard(transfer.transfer_id)
            self._ready.append(transfer)

    def _end(self, transfer: SentTransfer, result: Result | None, *, may_be_taken: bool = False) -> None:
        transfer.ended = True
        transfer.sending.clear()
        self._paused.discard(transfer.transfer_id)
        del self._transfers[transfer.transfer_id]
        self._wire.events.append(TransferEnded(transfer.transfer_id, result, transfer.envelope, may_be_taken))

    # -- data ----------------------------------------------------------------------------------------

    def _permitted(self, fragment: SentFragment) -> None:
        if fragment.permitted:
            raise ProtocolViolation("a permission given twice")
        fragment.permitted = True
        transfer = fragment.transfer
        if transfer.ended or transfer.aborting:
            return
        transfer.sending.append(fragment)
        self._send(transfer)

    def _send(self, transfer: SentTransfer) -> None:
        """Send what is at hand, ask for what is not; the octets of a transfer go in order."""
        while transfer.sending:
            fragment = transfer.sending[0]
            part = transfer.objects[fragment.index]
            if part.octets is None:
                self._ask(fragment, part)
                return
            transfer.sending.popleft()
            fragment.sent = fragment.size
            self._wire.out.append(data_head(fragment.tag, fragment.size))
            self._wire.out.append(part.octets[fragment.start : fragment.start + fragment.size])

    def _ask(self, fragment: SentFragment, part: OutgoingObject) -> None:
        if not fragment.asked:
            fragment.asked = True
            self._wire.events.append(
                OctetsWanted(
                    fragment.tag,
                    fragment.transfer.transfer_id,
                    part.media_type,
                    fragment.start,
                    fragment.size,
                )
            )

    def send_octets(self, tag: int, octets: bytes) -> bool:
        """Our driver gives octets it was asked for."""
        fragment = self._live.get(tag)
        if fragment is None or fragment.transfer.ended or fragment.transfer.aborting:
            return False
        transfer = fragment.transfer
        if not transfer.sending or transfer.sending[0] is not fragment or not fragment.asked:
            raise RuntimeError("octets are given when they are wanted")
        if len(octets) > fragment.size - fragment.sent:
            raise ValueError("more octets than were wanted")
        if octets:
            self._wire.out.append(data_head(tag, len(octets)))
            self._wire.out.append(octets)
            fragment.sent += len(octets)
            if fragment.sent == fragment.size:
                transfer.sending.popleft()
                self._send(transfer)
        return True

    # -- giving up -----------------------------------------------------------------------------------

    def abort(self, transfer_id: str) -> int | None:
        """Give a transfer up: the tag to name in ABOR; 0 when nothing of it was requested, so that it has
        ended; None when there is no such transfer or it is being killed already."""
        transfer = self._transfers.get(transfer_id)
        if transfer is None or transfer.aborting:
            return None
        transfer.aborting = True
        if not transfer.last_tag:
            self._end(transfer, err(codes.TRANSFER_KILLED))
            return 0
        return transfer.last_tag

    def aborted(self, transfer_id: str, result: Result) -> None:
        """ABOR was answered. Where it came too late the transfer goes on: its own result is to come."""
        transfer = self._transfers.get(transfer_id)
        if transfer is None or not transfer.aborting:
            return
        if result.is_ok:
            self._end(transfer, err(codes.TRANSFER_KILLED))
            return
        transfer.aborting = False
        transfer.sending = deque(
            part for part in transfer.live.values() if part.permitted and part.sent < part.size
        )
        for fragment in transfer.sending:
            fragment.asked = False
        if transfer not in self._ready:
            self._ready.append(transfer)
        self._send(transfer)

    def give_back(self) -> None:
        """The other side takes nothing more: what has not been requested ends, to be sent elsewhere."""
        for transfer in [one for one in self._transfers.values() if not one.first_tag]:
            self._end(transfer, err(codes.LEAVING))
        self._ready = deque(one for one in self._ready if not one.ended)

    def session_ended(self, last_served: int | None) -> None:
        """Nothing more will be answered. `last_served`: what the other side said of its last request."""
        for transfer in list(self._transfers.values()):
            served = last_served is None or transfer.first_tag <= last_served
            maybe = transfer.is_sent and bool(transfer.first_tag) and served
            self._end(transfer, None, may_be_taken=maybe)
        self._live.clear()
        self._ready.clear()
