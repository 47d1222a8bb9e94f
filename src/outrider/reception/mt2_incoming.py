"""The three objects of a message on their way in: see `mt2_interface.IncomingObject`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from outrider.message.objects.envelope import MAX_ENVELOPE, ObjectEntry
from outrider.reception.mt2_interface import ObjectAnswer
from outrider.reception.mt2_transfers import Transfer


class ObjectDesk(Protocol):
    """Who is told what has come: `mt2_reception`."""

    async def envelope_ended(self, transfer: Transfer) -> ObjectAnswer:
        """The envelope has come whole: the answer to it."""
        ...

    def headers_ended(self, transfer: Transfer, entry: ObjectEntry) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """The headers object has come whole."""
        ...

    def begin_body(self, transfer: Transfer, entry: ObjectEntry) -> None:
        """The body object begins, or goes on."""
        ...

    def body_octets(self, transfer: Transfer, octets: bytes) -> Awaitable[None] | None:
        """Octets of the body object."""
        ...

    def body_ended(self, transfer: Transfer, entry: ObjectEntry) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """The body object has come whole."""
        ...


class IncomingEnvelope:
    """See `IncomingObject`."""

    __slots__ = ("_desk", "_held", "_transfer")

    def __init__(self, desk: ObjectDesk, transfer: Transfer) -> None:
        self._desk = desk
        self._transfer = transfer
        self._held = bytearray(transfer.octets)

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append."""
        if len(self._held) <= MAX_ENVELOPE:
            self._held += octets
        return None

    async def finish(self) -> ObjectAnswer:
        """Judge it."""
        self._transfer.octets = bytes(self._held)
        return await self._desk.envelope_ended(self._transfer)


class IncomingHeaders:
    """See `IncomingObject`."""

    __slots__ = ("_desk", "_entry", "_transfer")

    def __init__(self, desk: ObjectDesk, transfer: Transfer, entry: ObjectEntry) -> None:
        self._desk = desk
        self._transfer = transfer
        self._entry = entry

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append."""
        if len(self._transfer.headers) <= self._entry.length:
            self._transfer.headers += octets
        return None

    def finish(self) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """Judge it."""
        return self._desk.headers_ended(self._transfer, self._entry)


class IncomingBody:
    """See `IncomingObject`."""

    __slots__ = ("_desk", "_entry", "_transfer")

    def __init__(self, desk: ObjectDesk, transfer: Transfer, entry: ObjectEntry) -> None:
        self._desk = desk
        self._transfer = transfer
        self._entry = entry
        desk.begin_body(transfer, entry)

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append."""
        return self._desk.body_octets(self._transfer, octets)

    def finish(self) -> ObjectAnswer | Awaitable[ObjectAnswer]:
        """Store the message."""
        return self._desk.body_ended(self._transfer, self._entry)
