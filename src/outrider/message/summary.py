"""What a person sees of a message without opening it: for `queue show` and log lines.

Everything is decoded for display, bounded, and escaped: no control character, no text direction override
and no invisible character of a stranger reaches a terminal (SEC-75, SEC-210).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from outrider.message.encoded_words import decode_text
from outrider.message.header_fields import header_fields, unfold

MAX_SHOWN = 500
_SHOWN = (b"subject", b"from", b"to", b"cc", b"date", b"message-id")
# Cc and Cf: control and format characters (bidirectional marks, zero-width); Cs, Co, Cn: not characters;
# Zl, Zp: line and paragraph separators, line ends to some readers.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Summary:
    """The first field of each name, decoded and escaped; "" when it is missing."""

    subject: str = ""
    sender: str = ""
    """From."""
    to: str = ""
    cc: str = ""
    date: str = ""
    message_id: str = ""


def summarize(headers: bytes) -> Summary:
    """The summary of a header section."""
    found: dict[bytes, str] = {}
    for field in header_fields(headers):
        name = field.name.lower()
        if name in _SHOWN and name not in found:
            found[name] = displayable(decode_text(unfold(field.value[:16_384])))
    return Summary(
        subject=found.get(b"subject", ""),
        sender=found.get(b"from", ""),
        to=found.get(b"to", ""),
        cc=found.get(b"cc", ""),
        date=found.get(b"date", ""),
        message_id=found.get(b"message-id", ""),
    )


def displayable(text: str, limit: int = MAX_SHOWN) -> str:
    """The text in one line with every character shown or escaped as ``\\u202e``; cut at `limit`."""
    cut = text[:limit]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(map(_shown, cut))
    return shown + ("…" if len(text) > limit else "")


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
