"""How messages, items and events are written into rows: compact MessagePack, sealed with a checksum.

A record is an array whose first element is the format's number. What is read is checked against types and
checksum before anyone believes it (SEC-212, FAULT-F9): a row that fails raises :class:`Malformed`.

Encoding stands on the path of every message, so it builds plain tuples and leaves the rest to msgspec.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from outrider.model.address import Address, Domain
from outrider.model.content import Body, Content, InlineBody
from outrider.model.envelope import Arrival, BodyType, Envelope, Notify, Recipient, Return
from outrider.model.facts import Fact, FactValue, Provenance
from outrider.model.layered import MessageObjects, RecipientResult, TakenTransfer
from outrider.model.message import (
    Event,
    Item,
    ItemKey,
    ItemState,
    MessageId,
    NewMessage,
    RecipientState,
    RecipientStatus,
    StoredMessage,
)
from outrider.model.mpc import Mpc, MpcError, parse_mpc
from outrider.model.result import DeliveryResult, Kind

FORMAT = 1
ITEM_FORMAT = 2
"""Of items, whose seal also covers number and destination; those of format 1 are read too."""
_SEAL_OCTETS = 4

T = TypeVar("T")
AddressRow = tuple[str, str]
FactRow = tuple[str, str | int | bool | tuple[str, ...], Provenance, str, float]
EventRow = tuple[float, str, str, tuple[str, ...]]
ResultRow = tuple[Kind, str, str, int, str, str, str]
RecipientRow = tuple[str, str, Notify, str, str]
StatusRow = tuple[int, RecipientState, int, ResultRow | None, bool]
RecipientResultRow = tuple[int, str, str, str, str]


class Malformed(ValueError):
    """A row that this program cannot have written, or that changed since."""


class _MessageRecord(msgspec.Struct, array_like=True, frozen=True):
    format: int
    sender: AddressRow | None
    recipients: tuple[RecipientRow, ...]
    body_type: BodyType
    smtputf8: bool
    ret: Return
    envelope_id: str
    hold_until: float
    authenticated_as: str
    trace: bytes
    size: int
    priority: int
    is_ascii: bool
    is_binary: bool
    facts: tuple[FactRow, ...]
    events: tuple[EventRow, ...]
    # Rows written before there was AMTP end here.
    mpc: str = ""
    arrival: Arrival = Arrival.OTHER
    # And here those written before there was AMDP.
    link_token: str = ""


class _ItemRecord(msgspec.Struct, array_like=True, frozen=True):
    format: int
    recipients: tuple[StatusRow, ...]
    attempts: int
    crashes: int
    solo: bool
    lease: int
    reason: str


class _TrailRecord(msgspec.Struct, array_like=True, frozen=True):
    format: int
    events: tuple[EventRow, ...]
    done: tuple[int, str, bytes] | None


class _ObjectsRecord(msgspec.Struct, array_like=True, frozen=True):
    format: int
    envelope: bytes
    headers: bytes
    body_prefix: bytes
    headers_type: str
    has_body: bool


class _TransferRecord(msgspec.Struct, array_like=True, frozen=True):
    format: int
    digest: bytes
    message: str
    taken_at: float
    until: float
    recipients: tuple[RecipientResultRow, ...]


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """What a message's row holds beside its id and time."""

    envelope: Envelope
    trace: bytes
    size: int
    priority: int
    is_ascii: bool
    is_binary: bool
    facts: tuple[Fact, ...]
    events: tuple[Event, ...]
    """Those it was stored with; later ones are in the trail."""


@dataclass(frozen=True, slots=True)
class TrailRecord:
    """What one change added to a message's trail: events, and the item if it ended by that."""

    events: tuple[Event, ...]
    done: Item | None


_encode = msgspec.msgpack.Encoder().encode
_message_decoder = msgspec.msgpack.Decoder(_MessageRecord)
_item_decoder = msgspec.msgpack.Decoder(_ItemRecord)
_trail_decoder = msgspec.msgpack.Decoder(_TrailRecord)
_objects_decoder = msgspec.msgpack.Decoder(_ObjectsRecord)
_transfer_decoder = msgspec.msgpack.Decoder(_TransferRecord)


# --- seals ------------------------------------------------------------------------------------------


def seal(record: bytes, name: str) -> bytes:
    """The record with its checksum, which also covers the name under which it is kept."""
    return record + zlib.crc32(record, zlib.crc32(name.encode())).to_bytes(_SEAL_OCTETS, "big")


def unseal(octets: object, name: str) -> memoryview:
    """The record without its checksum. Raises Malformed."""
    if not isinstance(octets, bytes) or len(octets) <= _SEAL_OCTETS:
        raise Malformed("not a record")
    record = memoryview(octets)[:-_SEAL_OCTETS]
    checksum = zlib.crc32(record, zlib.crc32(name.encode("utf-8", "surrogateescape")))
    if checksum.to_bytes(_SEAL_OCTETS, "big") != octets[-_SEAL_OCTETS:]:
        raise Malformed("checksum does not match")
    return record


def _decode(decoder: msgspec.msgpack.Decoder[T], octets: object, name: str) -> T:
    record = unseal(octets, name)
    try:
        return decoder.decode(record)
    except msgspec.DecodeError as error:  # ValidationError is one of these
        raise Malformed(f"unreadable record: {error}") from None


def _check_format(found: int, wanted: int = FORMAT) -> None:
    if found != wanted:
        raise Malformed(f"record format {found} is not known")


# --- messages ---------------------------------------------------------------------------------------


def encode_message(message: NewMessage) -> bytes:
    """The row of a new message. Raises ValueError for text that is not valid Unicode."""
    return _encode_message(
        message.id,
        MessageRecord(
            message.envelope,
            message.trace,
            message.content.size,
            message.priority,
            message.content.is_ascii,
            message.content.is_binary,
            message.facts,
            message.events,
        ),
    )


def encode_record(message: MessageId, record: MessageRecord) -> bytes:
    """The row of a message that changed."""
    return _encode_message(message, record)


def _encode_message(message: MessageId, record: MessageRecord) -> bytes:
    envelope = record.envelope
    sender = envelope.sender
    row = (
        FORMAT,
        None if sender is None else (sender.local, sender.domain),
        [
            (who.address.local, who.address.domain, who.notify, who.original, who.route)
            for who in envelope.recipients
        ],
        envelope.body_type,
        envelope.smtputf8,
        envelope.ret,
        envelope.envelope_id,
        envelope.hold_until,
        envelope.authenticated_as,
        record.trace,
        record.size,
        record.priority,
        record.is_ascii,
        record.is_binary,
        [(fact.name, fact.value, fact.provenance, fact.how, fact.at) for fact in record.facts],
        [_event_row(event) for event in record.events],
        "" if envelope.mpc is None else str(envelope.mpc),
        envelope.arrival,
        envelope.link_token,
    )
    return seal(_encode(row), message)


def decode_message(message: str, octets: object) -> MessageRecord:
    """A message's row. Raises Malformed."""
    row = _decode(_message_decoder, octets, message)
    _check_format(row.format)
    envelope = Envelope(
        sender=None if row.sender is None else _address(row.sender),
        recipients=tuple(
            Recipient(_address((local, domain)), notify, original, route)
            for local, domain, notify, original, route in row.recipients
        ),
        body_type=row.body_type,
        smtputf8=row.smtputf8,
        ret=row.ret,
        envelope_id=row.envelope_id,
        hold_until=row.hold_until,
        authenticated_as=row.authenticated_as,
        mpc=_mpc(row.mpc),
        arrival=row.arrival,
        link_token=row.link_token,
    )
    return MessageRecord(
        envelope,
        row.trace,
        row.size,
        row.priority,
        row.is_ascii,
        row.is_binary,
        tuple(_fact(fact) for fact in row.facts),
        tuple(Event(*event) for event in row.events),
    )


def _address(row: AddressRow) -> Address:
    return Address(row[0], Domain(row[1]))


def _mpc(text: str) -> Mpc | None:
    try:
        return parse_mpc(text) if text else None
    except MpcError as error:
        raise Malformed(f"not a Mail Policy Code: {error}") from None


def _fact(row: FactRow) -> Fact:
    value: FactValue = row[1]
    return Fact(row[0], value, row[2], row[3], row[4])


def _event_row(event: Event) -> EventRow:
    return (event.at, event.kind, event.text, event.recipients)


def assemble(
    message: str,
    received_at: float,
    record: MessageRecord,
    content: Content | None,
    finished_at: float = 0.0,
    objects: MessageObjects | None = None,
) -> StoredMessage:
    """The message as others see it."""
    return StoredMessage(
        MessageId(message),
        received_at,
        record.envelope,
        record.trace,
        content,
        record.size,
        record.facts,
        record.priority,
        finished_at,
        objects,
    )


def assemble_content(record: MessageRecord, headers: bytes, body: Body) -> Content:
    """Header section and body with what is known of them."""
    return Content(headers, body, record.is_ascii, record.is_binary)


# --- MT2 --------------------------------------------------------------------------------------------


def encode_objects(message: MessageId, objects: MessageObjects | None) -> bytes | None:
    """The MT2 form of a message, for the row of its content; None where it came in none."""
    if objects is None:
        return None
    row = (
        FORMAT,
        objects.envelope,
        objects.headers,
        objects.body_prefix,
        objects.headers_type,
        objects.has_body,
    )
    return seal(_encode(row), message)


def decode_objects(message: str, octets: object) -> MessageObjects | None:
    """The MT2 form, read back. Raises Malformed."""
    if octets is None:
        return None
    row = _decode(_objects_decoder, octets, message)
    _check_format(row.format)
    return MessageObjects(row.envelope, row.headers, row.body_prefix, row.headers_type, row.has_body)


def encode_transfer(transfer: TakenTransfer) -> bytes:
    """What is not in columns of its own (peer, transfer). Raises ValueError for text that is not Unicode."""
    recipients = [(one.position, one.word, one.code, one.text, one.status) for one in transfer.recipients]
    row = (FORMAT, transfer.digest, transfer.message, transfer.taken_at, transfer.until, recipients)
    return seal(_encode(row), _transfer_name(transfer.peer, transfer.transfer))


def decode_transfer(peer: str, transfer: str, octets: object) -> TakenTransfer:
    """A transfer from its row. Raises Malformed."""
    row = _decode(_transfer_decoder, octets, _transfer_name(peer, transfer))
    _check_format(row.format)
    results = tuple(RecipientResult(*one) for one in row.recipients)
    return TakenTransfer(peer, transfer, row.digest, row.message, row.taken_at, row.until, results)


def _transfer_name(peer: str, transfer: str) -> str:
    return f"{peer} {transfer}"


# --- items ------------------------------------------------------------------------------------------


def encode_item(item: Item) -> bytes:
    """What of an item is not in columns of its own (state, next attempt, destination)."""
    row = (
        ITEM_FORMAT,
        [
            (
                status.index,
                status.state,
                status.attempts,
                None if status.last is None else _result_row(status.last),
                status.delay_reported,
            )
            for status in item.recipients
        ],
        item.attempts,
        item.crashes,
        item.solo,
        item.lease,
        item.reason,
    )
    return seal(_encode(row), item_name(item.key, item.destination))


def item_name(key: ItemKey, destination: str) -> str:
    """What the seal of an item covers beside its record: where it goes must not change unnoticed either."""
    return f"{key.message}/{key.number} {destination}"


def _result_row(result: DeliveryResult) -> ResultRow:
    return (
        result.kind,
        result.status,
        result.text,
        result.code,
        result.remote,
        result.protocol,
        result.tls,
    )


def decode_item(
    key: ItemKey, destination: str, state: ItemState, next_attempt_at: float, octets: object
) -> Item:
    """An item from its columns and record. Raises Malformed."""
    row = _item_row(key, destination, octets)
    return Item(
        key,
        destination,
        state,
        next_attempt_at,
        tuple(
            RecipientStatus(
                index, recipient_state, attempts, None if last is None else DeliveryResult(*last), reported
            )
            for index, recipient_state, attempts, last, reported in row.recipients
        ),
        row.attempts,
        row.crashes,
        row.solo,
        row.reason,
        row.lease,
    )


def _item_row(key: ItemKey, destination: str, octets: object) -> _ItemRecord:
    try:
        row, wanted = _decode(_item_decoder, octets, item_name(key, destination)), ITEM_FORMAT
    except Malformed as error:
        try:
            row, wanted = _decode(_item_decoder, octets, key.message), FORMAT
        except Malformed:
            raise error from None
    _check_format(row.format, wanted)
    return row


def check_positions(record: MessageRecord, item: Item) -> None:
    """Raises Malformed where an item names a recipient that the envelope does not have."""
    count = len(record.envelope.recipients)
    if any(not 0 <= status.index < count for status in item.recipients):
        raise Malformed("an item names a recipient that the envelope does not have")


# --- trail ------------------------------------------------------------------------------------------


def encode_trail(message: MessageId, events: Sequence[Event], done: Item | None) -> bytes:
    """What a change added to the trail."""
    ended = None if done is None else (done.key.number, done.destination, encode_item(done))
    return seal(_encode((FORMAT, [_event_row(event) for event in events], ended)), message)


def decode_trail(message: str, octets: object) -> TrailRecord:
    """One row of a trail. Raises Malformed."""
    row = _decode(_trail_decoder, octets, message)
    _check_format(row.format)
    done = None
    if row.done is not None:
        number, destination, record = row.done
        done = decode_item(ItemKey(MessageId(message), number), destination, ItemState.DONE, 0.0, record)
    return TrailRecord(tuple(Event(*event) for event in row.events), done)


# --- content ----------------------------------------------------------------------------------------


def content_digest(headers: bytes, body: bytes) -> bytes:
    """Of a content that is kept in the database: a CRC-32, which finds what a device spoils."""
    return zlib.crc32(body, zlib.crc32(headers, len(headers))).to_bytes(_SEAL_OCTETS, "big")


def verified_body(headers: object, body: object, digest: object) -> tuple[bytes, InlineBody]:
    """Header section and body, read back. Raises Malformed where one octet differs (FAULT-F9)."""
    if not isinstance(headers, bytes) or not isinstance(body, bytes):
        raise Malformed("content is not octets")
    if content_digest(headers, body) != digest:
        raise Malformed("checksum of the content does not match")
    return headers, InlineBody(body)
