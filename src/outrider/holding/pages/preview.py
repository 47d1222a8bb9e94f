"""What a person may see of a message before saving it: its text, and nothing that could act (AMDP-13,
SEC-196).

HTML parts are turned into text with their links written out; nothing is rendered, nothing is loaded. Of a
large message only the beginning is looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from outrider.holding.pages.html_text import html_to_text
from outrider.holding.pages.message_parts import FoundPart, PartFinder, UnreadableError, decode_all
from outrider.holding.pages.part_headers import decoded
from outrider.message.encoded_words import decode_text
from outrider.message.header_fields import field_values, find_field
from outrider.message.mailboxes import mailboxes
from outrider.model.content import split_content

HEAD_OCTETS: Final = 524_288
"""Text that begins further back is not shown."""
MAX_TEXT: Final = 200_000
"""Characters that are shown."""
_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Preview:
    """Decoded, not escaped, any characters."""

    sender: str = ""
    """Addresses of From, parted by commas; no names: those are whatever their writer likes (AMDP-8)."""
    to: str = ""
    subject: str = ""
    text: str = ""
    from_html: bool = False
    cut: bool = False
    """There is more text than this."""
    attachments: tuple[FoundPart, ...] = ()
    readable: bool = True
    """False: it cannot be taken apart."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A message that has passed by once."""

    head: bytes
    parts: tuple[FoundPart, ...]
    readable: bool
    size: int


async def examine(content: AsyncIterator[bytes]) -> Examined:
    """Read a message to its end, keeping its beginning and the places of its parts."""
    finder, head, readable, size = PartFinder(), bytearray(), True, 0
    async for piece in content:
        size += len(piece)
        head += piece[: HEAD_OCTETS - len(head)]
        if readable:
            try:
                finder.feed(piece)
            except UnreadableError:
                readable = False
    parts: tuple[FoundPart, ...] = ()
    try:
        parts = finder.finish() if readable else ()
    except UnreadableError:
        readable = False
    return Examined(bytes(head), parts, readable, size)


def preview(message: Examined) -> Preview:
    """What is shown of it; never raises."""
    headers, _ = split_content(message.head)
    texts = _texts(message)
    shown = "\n\n".join(text for _, text, _ in texts if text)
    return Preview(
        sender=_named(headers, b"from"),
        to=_named(headers, b"to"),
        subject=_first(headers, b"subject"),
        text=shown[:MAX_TEXT],
        from_html=any(part.headers.media_type == "text/html" for part, _, _ in texts),
        cut=len(shown) > MAX_TEXT or any(cut for _, _, cut in texts),
        attachments=tuple(part for part in message.parts if not part.is_text),
        readable=message.readable,
    )


def _texts(message: Examined) -> list[tuple[FoundPart, str, bool]]:
    """The parts that are read, with their text, and whether some of it is missing; of alternatives the plain
    one."""
    plain = {
        part.alternative
        for part in message.parts
        if part.is_text and part.headers.media_type == "text/plain" and part.end > part.start
    }
    found: list[tuple[FoundPart, str, bool]] = []
    for part in message.parts:
        spare = part.alternative in plain and part.alternative and part.headers.media_type == "text/html"
        if not part.is_text or spare:
            continue
        octets = decode_all(message.head[part.start : part.end], part.headers.encoding)
        text = decoded(octets, part.headers.charset).replace("\r\n", "\n")
        if part.headers.media_type == "text/html":
            text = html_to_text(text)
        found.append((part, text.strip("\n"), part.end > len(message.head)))
    return found


def _named(headers: bytes, name: bytes) -> str:
    values = field_values(headers, name, 1)
    return ", ".join(str(one) for one in mailboxes(values[0], _MOST_NAMED)) if values else ""


def _first(headers: bytes, name: bytes) -> str:
    field = find_field(headers, name)
    return decode_text(field.unfolded) if field else ""
