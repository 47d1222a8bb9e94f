"""What a submission server completes (RFC 6409 section 8): Date, Message-ID and From, where they are missing.

Nobody else's messages are touched, and these are not changed either: the fields are put on top.
"""

from __future__ import annotations

from outrider.message.dates import format_date
from outrider.message.header_fields import field_names
from outrider.model.address import Address


def missing_fields(
    headers: bytes, *, sender: Address | None, message_id: str, hostname: str, now: float, utc_offset: int
) -> bytes:
    """The fields to add, each with its CRLF; empty when all are there."""
    present = field_names(headers)
    fields: list[str] = []
    if b"date" not in present:
        fields.append(f"Date: {format_date(now, utc_offset)}\r\n")
    if b"message-id" not in present:
        fields.append(f"Message-ID: <{message_id}@{hostname}>\r\n")
    if b"from" not in present and sender is not None:
        fields.append(f"From: <{sender}>\r\n")
    return "".join(fields).encode("utf-8")
