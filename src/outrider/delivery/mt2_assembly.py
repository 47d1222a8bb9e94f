"""A message on its way out by MT2: the objects as they go, sealed, one transfer for each destination domain.

The core of MT2 and its driver know nothing of queues, gateways or keys: they are handed `OutgoingObjects`.
Assembling is pure work on memory; only the digest of a body that lies in a file is made in a thread, and
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from outrider.delivery.interface import Job
from outrider.model.content import Body
from outrider.model.message import MessageId
from outrider.model.result import DeliveryResult


@dataclass(frozen=True, slots=True)
class OutgoingObjects:
    """One transfer: what is sent by ``XFER`` under one transfer id, in this order (MT2-14)."""

    transfer_id: str
    """Unique per envelope and sending host; the same again whenever the same envelope is sent again, so that
    the peer knows a duplicate and a broken transfer goes on where it stood (MT2-18a, b). An `atom` of at
    most 128 octets."""
    envelope: bytes
    """``message/envelope``."""
    headers: bytes
    """The headers object; b"" and `headers_type` "" where the message has none."""
    headers_type: str
    """The type to name in XFER: ``message/headers``, or ``application/jose`` where encrypted (MT2-4)."""
    body_prefix: bytes
    """The first octets of the body object."""
    body: Body | None
    """The rest of it; None where the message has no body object."""
    positions: tuple[int, ...]
    """Positions in `Job.message.envelope.recipients`, in the order in which the envelope names them: what the
    peer says of the n-th recipient is said of the n-th of these."""

    @property
    def body_size(self) -> int:
        """Octets of the body object."""
        return 0 if self.body is None else len(self.body_prefix) + self.body.size

    @property
    def has_headers(self) -> bool:
        """Whether there is a headers object."""
        return bool(self.headers_type)


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a job comes to: transfers to make, and results for recipients for whom none can be made."""

    transfers: tuple[OutgoingObjects, ...]
    results: Mapping[int, DeliveryResult]


class Assembler(Protocol):
    """Makes the objects of a job."""

    async def assemble(self, job: Job, peer: str) -> Assembled:
        """For the host `peer`: the name that the server has proven, which becomes *to* in our hop entry
        (MT2-23a). One transfer for each destination domain, except that what came by MT2 keeps its core.

        Raises OSError where a body cannot be read.
        """
        ...

    def answered(self, message: MessageId, objects: OutgoingObjects, peer: str) -> None:
        """The peer has said of a transfer what will not change: the same octets are not needed again."""
        ...
