"""What a message's own header section gives for its envelope (AMDP-4a): names, subject, date, thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

from outrider.message.encoded_words import decode_text
from outrider.message.header_fields import field_values
from outrider.model.address import Address
from outrider.protocols.amdp.values import clean_text

MAX_FIELD = 16_384
"""Octets of a field that are looked at."""
MAX_NAME = 200
"""Characters of a display name."""
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
    ids = _message_ids(headers, b"message-id")
    references = (*_message_ids(headers, b"references"), *_message_ids(headers, b"in-reply-to"))
    shown = b",".join(_values(headers, b"to") + _values(headers, b"cc"))
    return SenderFields(
        subject=clean_text(decode_text(_first(headers, b"subject"))),
        sender_name=_name_of(sender, _first(headers, b"from")),
        names=tuple(_name_of(one, shown) for one in recipients),
        date=_date(_first(headers, b"date"), received_at),
        message_id=ids[0] if ids else "",
        references=tuple(dict.fromkeys(one for one in references if one not in ids[:1])),
    )


def _values(headers: bytes, name: bytes) -> tuple[bytes, ...]:
    return tuple(value[:MAX_FIELD] for value in field_values(headers, name, 3))


def _first(headers: bytes, name: bytes) -> bytes:
    return next(iter(_values(headers, name)), b"")


def _message_ids(headers: bytes, name: bytes) -> tuple[str, ...]:
    return tuple(
        found[1].decode("ascii") for value in _values(headers, name) for found in _MESSAGE_ID.finditer(value)
    )


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
