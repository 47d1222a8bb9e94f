"""Contents as they are read back: whole in a row, or in pieces that are fetched to this machine first."""

from __future__ import annotations

from outrider.model.content import Content, InlineBody
from outrider.model.layered import MessageObjects
from outrider.model.message import MessageId, StoredMessage
from outrider.spool import codec
from outrider.spool.bodies import BodyReference, decode_reference
from outrider.spool.codec import Malformed
from outrider.spool.observer import SpoolObserver
from outrider.spool.postgresql import reading
from outrider.spool.postgresql.bodies import Scratch, fetch
from outrider.spool.postgresql.database import Database
from outrider.spool.postgresql.leasing import Taken


class Contents:
    """Gives messages with their contents, and remembers which were found damaged."""

    def __init__(self, database: Database, scratch: Scratch, observer: SpoolObserver) -> None:
        self._database = database
        self._scratch = scratch
        self._observer = observer
        self._damaged: dict[MessageId, str] = {}

    async def of_taken(self, taken: Taken) -> StoredMessage:
        """The message of an item that was leased. Raises SpoolUnavailable."""
        message = taken.item.key.message
        content = await self._content(message, taken.record, taken.headers, taken.body, taken.reference)
        return codec.assemble(message, taken.received_at, taken.record, content, objects=taken.objects)

    async def read(self, message: MessageId) -> StoredMessage:
        """See `Spool.read`. Content that is damaged is not given; its item is or will be held."""
        row = await self._database.query(lambda connection: reading.message_row(connection, message))
        received_at, data, headers, body, file, digest, kept, finished_at = row
        record = reading.decoded(message, data)
        content: Content | None = None
        objects: MessageObjects | None = None
        if headers is not None:
            try:
                objects = codec.decode_objects(message, kept)
                reference = None if file is None else decode_reference(message, file)
                codec.verified_body(headers, body if reference is None else b"", digest)
                content = await self._content(message, record, headers, body, reference)
            except Malformed as error:
                self._note_damage(message, str(error))
        return codec.assemble(message, received_at, record, content, finished_at, objects)

    def take_damage(self, message: MessageId) -> str | None:
        """Why its content is no good, once; None while nothing is known against it."""
        return self._damaged.pop(message, None)

    async def _content(
        self,
        message: MessageId,
        record: codec.MessageRecord,
        headers: bytes,
        body: bytes | None,
        reference: BodyReference | None,
    ) -> Content:
        if reference is None:
            return codec.assemble_content(record, headers, InlineBody(body or b""))
        fetched = await fetch(
            self._database, self._scratch, reference, lambda why: self._note_damage(message, why)
        )
        return codec.assemble_content(record, headers, fetched)

    def _note_damage(self, message: MessageId, why: str) -> None:
        self._damaged[message] = why
        self._observer.content_damaged(message, why)
