"""What a field says: its octets as text for people and programs, by rules that any reader can repeat
(MT2-28a).

Because a reader refuses an object whose values it cannot recompute, the rules leave nothing to taste: only
charsets whose tables nobody disputes are decoded, a word that is not perfect stands as it is, and what is no
text becomes U+FFFD. Every function is linear in its input.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from outrider.message.objects.field_registry import Reading

CHARSETS: Final = frozenset(
    {"us-ascii", "utf-8", "koi8-r"}
    | {f"iso-8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)}
    | {f"windows-{page}" for page in range(1250, 1259)}
)
"""Those of encoded words that are decoded, in lower case."""
MAX_WORD: Final = 1024
"""Octets of an encoded word's text; RFC 2047 allows 75 for the whole word."""

_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_NO_TEXT: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ufffe\uffff]")
_ABOVE: Final = re.compile(rb"[\x80-\xff]")
_WORD: Final = (
    r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([BbQq])\?"
    rf"([!->@-~]{{0,{MAX_WORD}}})\?="
)
_WORDS: Final = re.compile(_WORD)
_TOKENS: Final = re.compile(rf'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)|<[^<>]*>|{_WORD}', re.DOTALL)
_HEX: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_BAD_HEX: Final = re.compile(rb"=(?![0-9A-Fa-f]{2})")
_SPECIALS: Final = re.compile(r'[()<>\[\]:;@\\,"]')


def field_value(raw: bytes, reading: Reading) -> str:
    """The text of a value: what stands behind the colon, without the last CRLF."""
    if raw.isascii() and b"=?" not in raw and (plain := raw.decode("ascii")).isprintable():
        return plain.strip(" ")  # the usual field: nothing to unfold, to decode or to replace
    octets = _FOLD.sub(b"", raw).strip(b" \t")
    text = _characters(octets)
    if reading is not Reading.EXACT and "=?" in text:
        text = _decode_words(text, in_addresses=reading is Reading.ADDRESSES)
    return _NO_TEXT.sub("\ufffd", text)


def line_text(raw: bytes) -> str:
    """What can be shown of a line that is no field, its last CRLF removed."""
    return _NO_TEXT.sub("\ufffd", _characters(_FOLD.sub(b"", raw)))


def _characters(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return _ABOVE.sub(b"\xef\xbf\xbd", octets).decode("utf-8")


def _decode_words(text: str, *, in_addresses: bool) -> str:
    """Encoded words as what they mean; blanks between two of them vanish (RFC 2047 section 6.2)."""
    parts: list[str] = []
    run: list[str] = []
    position = 0
    for token in (_TOKENS if in_addresses else _WORDS).finditer(text):
        decoded = _decode_word(token)
        between = text[position : token.start()]
        if decoded is None or not run or between.strip(" \t"):
            parts.append(_joined(run, in_addresses))
            parts.append(between)
            run = []
        if decoded is None:
            parts.append(token[0])
        else:
            run.append(decoded)
        position = token.end()
    parts.append(_joined(run, in_addresses))
    parts.append(text[position:])
    return "".join(parts)


def _joined(run: list[str], in_addresses: bool) -> str:
    text = "".join(run)
    if in_addresses and _SPECIALS.search(text):
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return text


def _decode_word(token: re.Match[str]) -> str | None:
    """None for what stands as it is: no word, an unknown charset, wrong coding, or text with controls."""
    if token[1] is None:
        return None
    charset = token[1].lower()
    if charset not in CHARSETS:
        return None
    content = token[3].encode("ascii")
    try:
        octets = _from_q(content) if token[2] in "Qq" else exact_base64(content)
        text = octets.decode(charset)
    except (binascii.Error, UnicodeDecodeError):
        return None
    return None if _NO_TEXT.search(text) else text


def exact_base64(text: bytes) -> bytes:
    """What `text` is the base64 of, blanks and stray bits excluded. Raises binascii.Error."""
    octets = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(octets, newline=False) != text:
        raise binascii.Error("bits behind the end")
    return octets


def _from_q(content: bytes) -> bytes:
    if _BAD_HEX.search(content):
        raise binascii.Error("not quoted-printable")
    return _HEX.sub(lambda match: bytes((int(match[1], 16),)), content.replace(b"_", b" "))
