"""What a message's own header section gives for its envelope (AMDP-4a): names, subject, date, thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

from outrider.message.encoded_words import decode_text
from outrider.message.header_fields import header_fields, unfold
from outrider.model.address import Address
from outrider.protocols.amdp.values import clean_text

MAX_FIELD = 16_384
"""Octets of a field that are looked at."""
MOST_ALIKE = 3
"""Fields of one name that are looked at."""
MAX_NAME = 200
"""Characters of a display name."""
_WANTED = (b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"references", b"in-reply-to")
_LATEST = 253_402_300_799
_MESSAGE_ID = re.compile(rb"<([\x21-\x3b\x3d\x3f-\x7e]{1,250})>")
_ESCAPED = re.compile(r"\\(.)")
_FORGED = re.compile(r"[<>@]")


@dataclass(frozen=True, slots=True)
class SenderFields:
    """Decoded, each one line without control characters."""

    subject: str
    sender_name: str
    names: tuple[str, ...]
    """Of the recipients that were asked for, in their order; "" where To and Cc tell none."""
    date: int
    """Seconds since the epoch; the moment of reception where Date says nothing."""
    message_id: str
    """Without angle brackets; "" where there is none."""
    references: tuple[str, ...]
    """Of References and In-Reply-To, oldest first."""


def sender_fields(
    headers: bytes, sender: Address, recipients: Sequence[Address], received_at: float
) -> SenderFields:
    """The values of a header section; nonsense in it is left out."""
    found = _fields(headers)
    ids = _message_ids(found[b"message-id"])
    references = (*_message_ids(found[b"references"]), *_message_ids(found[b"in-reply-to"]))
    shown = b",".join(found[b"to"] + found[b"cc"])
    return SenderFields(
        subject=clean_text(decode_text(_first(found[b"subject"]))),
        sender_name=_name_of(sender, _first(found[b"from"])),
        names=tuple(_name_of(one, shown) for one in recipients),
        date=_date(_first(found[b"date"]), received_at),
        message_id=ids[0] if ids else "",
        references=tuple(dict.fromkeys(one for one in references if one not in ids[:1])),
    )


def _fields(headers: bytes) -> dict[bytes, list[bytes]]:
    """The first values of the fields that count, unfolded and cut, in one pass."""
    found: dict[bytes, list[bytes]] = {name: [] for name in _WANTED}
    for field in header_fields(headers):
        values = found.get(field.name.lower())
        if values is not None and len(values) < MOST_ALIKE:
            values.append(unfold(field.value[:MAX_FIELD]))
    return found


def _first(values: Sequence[bytes]) -> bytes:
    return values[0] if values else b""


def _message_ids(values: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(found[1].decode("ascii") for value in values for found in _MESSAGE_ID.finditer(value))


def _name_of(address: Address, field: bytes) -> str:
    """The display name before an address in angle brackets. One that looks like an address itself is left
    out: it is there to deceive."""
    where = field.lower().find(f"<{address}>".lower().encode())
    if where < 0:
        return ""
    before = field[:where].rstrip(b" \t")
    if before.endswith(b'"'):
        opening = _opening_quote(before)
        text = _ESCAPED.sub(r"\1", before[opening + 1 : -1].decode("utf-8", "replace"))
        name = decode_text(text.encode()) if text.isascii() else text
    else:
        name = decode_text(re.split(rb"[,;:]", before)[-1])
    name = clean_text(name.replace('"', " "), MAX_NAME)
    return "" if _FORGED.search(name) else name


def _opening_quote(text: bytes) -> int:
    """Where the quotation begins that ends with the text."""
    at = len(text) - 1
    while (at := text.rfind(b'"', 0, at)) > 0:
        backslashes = len(text[:at]) - len(text[:at].rstrip(b"\\"))
        if backslashes % 2 == 0:
            break
    return max(at, 0)


def _date(value: bytes, received_at: float) -> int:
    try:
        parsed = parsedate_tz(value[:100].decode("ascii", "replace"))
        moment = mktime_tz(parsed) if parsed is not None else received_at
    except (ValueError, OverflowError, TypeError, IndexError):
        moment = received_at
    return int(moment) if 0 <= moment <= _LATEST else int(received_at)
