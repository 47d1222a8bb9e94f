"""Our own transfers on an MT2 connection, many at once (MT2-14, MT2-18c).

What is small goes to the core whole; a large body is read piece by piece when the core wants it and while the
connection takes it, so that a transfer holds a bounded part of it. Reading runs in a thread.

Where the body cannot be read to its end, the transfer is killed (ABOR): what the peer has of it is discarded,
and the session goes on (MT2-12). The same when `carry` is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from outrider.delivery.mt2_assembly import OutgoingObjects
from outrider.model.content import Body, InlineBody
from outrider.net.mt2_line import Line
from outrider.protocols.mt2.events import (
    BODY_TYPE,
    ENVELOPE_TYPE,
    OctetsWanted,
    OutgoingObject,
    TransferEnded,
)

PIECE: Final = 262_144
"""Octets read, and sent, at a time."""
SMALL: Final = 65_536
"""A body in memory up to this is given to the core whole."""


class BodyReader:
    """A body object from front to back: its prefix, then the octets of the body; from any place onwards."""

    def __init__(self, prefix: bytes, body: Body) -> None:
        self._prefix = prefix
        self._body = body
        self._pieces = _pieces(prefix, body)
        self._held = memoryview(b"")
        self._offset = 0

    async def read(self, offset: int, most: int) -> memoryview:
        """Octets from `offset` on, at most `most`, at least one. Raises OSError where there are none, and
        whatever the body raises."""
        if offset < self._offset:
            self._pieces, self._held, self._offset = _pieces(self._prefix, self._body), memoryview(b""), 0
        while self._offset + len(self._held) <= offset:
            self._offset += len(self._held)
            self._held = memoryview(await self._next())
        octets = self._held[offset - self._offset :][:most]
        self._held, self._offset = self._held[offset - self._offset + len(octets) :], offset + len(octets)
        return octets

    async def _next(self) -> bytes:
        if isinstance(self._body, InlineBody):
            piece = next(self._pieces, b"")
        else:
            piece = await asyncio.to_thread(next, self._pieces, b"")
        if not piece:
            raise OSError("the stored body is shorter than before")
        return piece


def _pieces(prefix: bytes, body: Body) -> Iterator[bytes]:
    if prefix:
        yield prefix
    yield from body.chunks(PIECE)


@dataclass(slots=True)
class _Sending:
    """One transfer under way."""

    ended: asyncio.Future[TransferEnded]
    reader: BodyReader | None = None
    error: Exception | None = None
    """Why it was given up by us."""
    streams: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Fragments are read one after the other."""


class Outgoing:
    """Carries transfers of ours; made with the connection."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._transfers: dict[str, _Sending] = {}
        self.is_over = False
        """The session has ended: nothing is sent any more."""

    async def carry(self, objects: OutgoingObjects, held: Mapping[str, int]) -> TransferEnded:
        """Send one message. `held`: octets of each object, by media type, that the peer has already
        (MT2-18b). Raises what the body raises; the transfer has been killed by then."""
        transfer = objects.transfer_id
        while transfer in self._transfers:  # killed a moment ago, and not yet answered
            await asyncio.wait([self._transfers[transfer].ended])
        if self.is_over or not self._line.core.can_transfer:
            return TransferEnded(transfer, None, None)
        sending = _Sending(asyncio.get_running_loop().create_future())
        self._transfers[transfer] = sending
        sending.ended.add_done_callback(lambda _: self._transfers.pop(transfer, None))
        self._line.core.transfer(transfer, _objects(objects, held, sending), self._line.now())
        self._line.advance()
        try:
            ended = await asyncio.shield(sending.ended)
        except asyncio.CancelledError:
            self._line.core.abort(transfer, self._line.now())
            self._line.advance()
            raise
        if sending.error is not None and (ended.result is None or not ended.result.is_ok):
            raise sending.error
        return ended

    def octets_wanted(self, event: OctetsWanted) -> None:
        """The core wants a piece of a body."""
        sending = self._transfers.get(event.transfer_id)
        if sending is not None and sending.reader is not None:
            self._line.spawn(self._stream(sending, sending.reader, event))

    async def _stream(self, sending: _Sending, reader: BodyReader, wanted: OctetsWanted) -> None:
        line, offset, end = self._line, wanted.offset, wanted.offset + wanted.count
        async with sending.streams:
            while offset < end:
                await line.wait_room()
                try:
                    octets = await reader.read(offset, min(end - offset, PIECE))
                except Exception as error:
                    sending.error = error
                    line.core.abort(wanted.transfer_id, line.now())
                    line.advance()
                    return
                if not line.core.send_octets(wanted.tag, bytes(octets), line.now()):
                    return  # killed, refused, or the session is over
                offset += len(octets)
                line.advance()

    def transfer_ended(self, event: TransferEnded) -> None:
        """The outcome of one."""
        sending = self._transfers.get(event.transfer_id)
        if sending is not None and not sending.ended.done():
            sending.ended.set_result(event)

    def over(self) -> None:
        """The session has ended: who still waits is told."""
        self.is_over = True
        for transfer, sending in list(self._transfers.items()):
            if not sending.ended.done():
                sending.ended.set_result(TransferEnded(transfer, None, None, may_be_taken=True))


def _objects(
    objects: OutgoingObjects, held: Mapping[str, int], sending: _Sending
) -> tuple[OutgoingObject, ...]:
    """As the core wants them. What is held whole already is not sent again."""
    envelope = objects.envelope
    found = [OutgoingObject(ENVELOPE_TYPE, len(envelope), envelope)]
    if objects.has_headers:
        kind, octets = objects.headers_type, objects.headers
        found.append(OutgoingObject(kind, len(octets), octets, held.get(kind, 0)))
    if objects.body is not None:
        found.append(_body_object(objects, objects.body, held.get(BODY_TYPE, 0), sending))
    return tuple(found)


def _body_object(objects: OutgoingObjects, body: Body, offset: int, sending: _Sending) -> OutgoingObject:
    size = objects.body_size
    if isinstance(body, InlineBody) and size <= SMALL:
        return OutgoingObject(BODY_TYPE, size, objects.body_prefix + body.octets, offset)
    sending.reader = BodyReader(objects.body_prefix, body)
    return OutgoingObject(BODY_TYPE, size, None, offset)
