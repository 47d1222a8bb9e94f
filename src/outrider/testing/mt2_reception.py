"""A reception of MT2 mail in memory, with a ledger of transfers: for tests of the driver before it.

Envelopes are lines here, not XML: ``object TYPE LENGTH`` for each object, ``to ADDRESS`` for each recipient.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from outrider.identity.mt2_identity import Found, Mt2Identity
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, err, ok
from outrider.protocols.mt2.events import BODY_TYPE, ENVELOPE_TYPE, HEADERS_TYPE
from outrider.protocols.mt2.lines import Extension, Param
from outrider.protocols.mt2.options import Offer
from outrider.protocols.mt2.recipients import recipient_extensions
from outrider.protocols.mt2.status import TransferState, TransferStatus
from outrider.reception.interface import Session
from outrider.reception.mt2_interface import IncomingObject, ObjectAnswer, ObjectRequest

KEPT = 1_048_576
"""Octets of an object that are kept; of the rest only number and digest."""


def envelope(objects: Mapping[str, int], recipients: tuple[str, ...] = ("ann@peer.example",)) -> bytes:
    """An envelope as this reception reads it."""
    lines = [f"object {kind} {size}" for kind, size in objects.items()]
    return "\n".join([*lines, *(f"to {one}" for one in recipients)]).encode()


@dataclass(slots=True)
class Taken:
    """An object, or as much of it as is here."""

    size: int = 0
    octets: bytearray = field(default_factory=bytearray)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, octets: bytes) -> None:
        """Append."""
        self.size += len(octets)
        self.digest.update(octets)
        self.octets += octets[: max(0, KEPT - len(self.octets))]


@dataclass(slots=True)
class Kept:
    """One transfer, on its way or taken."""

    transfer: str
    envelope: bytes = b""
    parts: list[tuple[str, int]] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    objects: dict[str, Taken] = field(default_factory=dict)
    answer: Result | None = None
    """Once it is taken."""

    @property
    def next_part(self) -> tuple[str, int] | None:
        """What is to come."""
        return next(
            (one for one in self.parts if one[0] not in self.objects or self.objects[one[0]].size < one[1]),
            None,
        )


class MemoryMt2Reception:
    """Takes what it is told to take."""

    def __init__(self, offer: Offer | None = None) -> None:
        self.granted = offer or Offer(pipe=True, window=1_048_576, maxpart=262_144, inflight=96)
        self.transfers: dict[tuple[str, str], Kept] = {}
        """By identity and transfer id."""
        self.committed: list[Kept] = []
        self.names: dict[str, str] = {}
        """Who a session has proven to be, by its id."""
        self.found: list[Found] = []
        self.log: list[str] = []
        self.open_sessions = 0
        self.refuse_recipient: Callable[[str], Result | None] = lambda address: None
        self.refuse_object: Callable[[ObjectRequest], Result | None] = lambda request: None
        self.connect_result: Result = ok(codes.DONE)
        self.commit_gate: asyncio.Event | None = None
        self.commit_s = 0.0
        self.write_gate: asyncio.Event | None = None

    # -- sessions ------------------------------------------------------------------------------------------

    def connected(self, session: Session) -> Result | Awaitable[Result]:
        """As told."""
        self.open_sessions += 1
        return self.connect_result

    def offer(self, session: Session) -> Offer:
        """Pipelining for those who are known."""
        return self.granted if session.id in self.names else Offer()

    def identified(
        self, session: Session, found: Found, chain: tuple[bytes, ...] = ()
    ) -> Result | Awaitable[Result]:
        """Everybody may go on; who is proven is known by name."""
        self.found.append(found)
        if isinstance(found, Mt2Identity):
            self.names[session.id] = found.name
        return ok(codes.IDENTIFIED)

    def options_asked(self, session: Session, options: tuple[Extension, ...]) -> tuple[Extension, ...]:
        """None is known."""
        return tuple(Extension(one.name, result=err(codes.UNKNOWN_OPTION)) for one in options)

    async def verb_asked(
        self, session: Session, verb: str, params: tuple[Param, ...], extensions: tuple[Extension, ...]
    ) -> Result:
        """Says that it was asked."""
        self.log.append(f"verb {verb}")
        return ok(codes.DONE)

    @property
    def verbs(self) -> frozenset[str]:
        """One, to try it with."""
        return frozenset({"PING"})

    # -- transfers -----------------------------------------------------------------------------------------

    def _key(self, session: Session, transfer: str) -> tuple[str, str]:
        return (self.names.get(session.id, session.id), transfer)

    def offered(
        self, session: Session, request: ObjectRequest
    ) -> IncomingObject | Result | Awaitable[IncomingObject | Result]:
        """Permission, unless told otherwise."""
        refused = self.refuse_object(request)
        if refused is not None:
            return refused
        kept = self.transfers.setdefault(self._key(session, request.transfer), Kept(request.transfer))
        if request.media_type == ENVELOPE_TYPE:
            if kept.answer is not None:
                return ok(codes.ALREADY_TAKEN, *kept.answer.extensions)
            return _Object(self, kept, Taken(), request)
        held = kept.objects.get(request.media_type, Taken())
        if request.offset == 0:
            held = Taken()
        elif held.size != request.offset:
            return err(codes.WRONG_OFFSET)
        kept.objects[request.media_type] = held
        return _Object(self, kept, held, request)

    def aborted(self, session: Session, transfer: str, why: str = "killed by its sender") -> bool:
        """Forget it."""
        self.log.append(f"aborted {transfer}: {why}")
        kept = self.transfers.get(self._key(session, transfer))
        if kept is None or kept.answer is not None:
            return False
        del self.transfers[self._key(session, transfer)]
        return True

    async def status(self, session: Session, transfer: str) -> TransferStatus:
        """How it stands."""
        await asyncio.sleep(0)
        kept = self.transfers.get(self._key(session, transfer))
        self.log.append(f"status {transfer}")
        if kept is None or not kept.envelope:
            return TransferStatus(TransferState.UNKNOWN)
        if kept.answer is not None:
            return TransferStatus(TransferState.QUEUED)
        return TransferStatus(
            TransferState.RECEIVING, {kind: one.size for kind, one in kept.objects.items() if one.size}
        )

    async def closed(self, session: Session, why: str) -> None:
        """What is here stays."""
        self.open_sessions -= 1
        self.log.append(f"closed: {why}")

    # -- what objects call ---------------------------------------------------------------------------------

    def envelope_came(self, kept: Kept, octets: bytes) -> ObjectAnswer:
        """Read it; refuse recipients as told."""
        kept.envelope, kept.parts, kept.recipients = octets, [], []
        refused: dict[int, Result] = {}
        for line in octets.decode().split("\n"):
            word, _, rest = line.partition(" ")
            if word == "object":
                kind, _, size = rest.partition(" ")
                kept.parts.append((kind, int(size)))
            elif word == "to":
                kept.recipients.append(rest)
                result = self.refuse_recipient(rest)
                if result is not None:
                    refused[len(kept.recipients)] = result
        if len(refused) == len(kept.recipients):
            return ObjectAnswer(err(codes.NO_RECIPIENTS, *recipient_extensions(refused)))
        said = ok(codes.ENVELOPE_ACCEPTED, *recipient_extensions(refused))
        return ObjectAnswer(said, tuple(kept.parts))

    async def commit(self, kept: Kept) -> ObjectAnswer:
        """Durable, after a while."""
        if self.commit_gate is not None:
            await self.commit_gate.wait()
        await asyncio.sleep(self.commit_s)
        kept.answer = ok(codes.MESSAGE_TAKEN)
        self.committed.append(kept)
        return ObjectAnswer(kept.answer)


@dataclass(slots=True)
class _Object:
    reception: MemoryMt2Reception
    kept: Kept
    taken: Taken
    request: ObjectRequest

    def write(self, octets: bytes) -> Awaitable[None] | None:
        self.taken.add(octets)
        gate = self.reception.write_gate if self.request.media_type == BODY_TYPE else None
        return None if gate is None or gate.is_set() else self._wait(gate)

    async def _wait(self, gate: asyncio.Event) -> None:
        await gate.wait()

    def finish(self) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        kept = self.kept
        if self.request.media_type == ENVELOPE_TYPE:
            answer = self.reception.envelope_came(kept, bytes(self.taken.octets))
            return answer if kept.parts or not answer.result.is_ok else self.reception.commit(kept)
        if kept.next_part is None:
            return self.reception.commit(kept)
        return ObjectAnswer(ok(codes.OBJECT_ACCEPTED))


__all__ = ["BODY_TYPE", "HEADERS_TYPE", "Kept", "MemoryMt2Reception", "Taken", "envelope"]
