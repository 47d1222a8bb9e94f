"""A message as it is handed to a mailbox or a command: a few fields on top, the trace, the content.

Line ends: messages travel with CRLF and are stored with LF, as every Maildir reader expects. Because a
message that was accepted has no other line ends, LF back to CRLF gives every octet again. A binary message
(BINARYMIME: NUL, or lines that do not end in CRLF) is stored as it came, octet for octet, with CRLF in the
fields on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from outrider.message.mpc_field import mpc_field
from outrider.model.address import Address
from outrider.model.message import StoredMessage

_DELIVERED_TO = re.compile(rb"(?:\A|\n)delivered-to:[ \t]*([^\r\n]{1,512})", re.IGNORECASE)


def local_content(message: StoredMessage, recipient: Address) -> Iterator[bytes]:
    """The octets for one recipient, in pieces. The content must be there."""
    content = message.content
    if content is None:
        raise LookupError("the message has no content any more")
    head = fields_on_top(message, recipient) + message.trace
    if content.is_binary:
        yield head
        yield from content.chunks()
    else:
        yield from _with_lf(head, content.chunks())


def fields_on_top(message: StoredMessage, recipient: Address) -> bytes:
    """Return-Path (RFC 5321 4.4, once, at final delivery), Delivered-To (the loop guard), and the Mail Policy
    Code where the message has one (AMTP-14)."""
    envelope = message.envelope
    sender = "" if envelope.sender is None else str(envelope.sender)
    fields = f"Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n".encode()
    return fields if envelope.mpc is None else fields + mpc_field(envelope.mpc)


def _with_lf(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """CRLF to LF; a CR at the end of a piece waits for the next one."""
    held = head
    for chunk in chunks:
        held += chunk
        keep = 1 if held.endswith(b"\r") else 0
        yield held[: len(held) - keep].replace(b"\r\n", b"\n")
        held = b"\r" if keep else b""
    if held:
        yield held.replace(b"\r\n", b"\n")


def was_delivered_to(message: StoredMessage, recipient: Address) -> bool:
    """Whether the message has been in this mailbox before: mail forwarded in a circle (SEC-168)."""
    if message.content is None:
        return False
    wanted = str(recipient).casefold().encode()
    found = _DELIVERED_TO.finditer(message.content.headers)
    return any(match[1].strip().lower() == wanted for match in found)
