"""Encoded words (RFC 2047) turned into text for people, never for machines.

Only charsets on a list are decoded (SEC-115): Python's codec registry also holds compressors and quadratic
ones, and a message may not choose among them.
"""

from __future__ import annotations

import binascii
import re

CHARSETS = frozenset(
    {"us-ascii", "utf-8", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5", "shift_jis"}
    | {"euc-jp", "iso-2022-jp", "euc-kr", "macintosh"}
    | {f"iso-8859-{part}" for part in (*range(1, 12), 13, 14, 15, 16)}
    | {f"windows-{page}" for page in range(1250, 1259)}
)
MAX_OCTETS = 8192
"""More of a field than a person reads: what is behind is cut off before any work is done."""
_WORD = re.compile(
    rb"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([BbQq])\?([\x21-\x3e\x40-\x7e]{0,1024})\?="
)
_BETWEEN = re.compile(rb"(?<=\?=)[ \t]+(?==\?)")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")


def decode_text(value: bytes) -> str:
    """An unfolded field value as text. Unknown charsets and broken words stay as they stand; octets above
    127 outside words are read as UTF-8, what is none is replaced."""
    parts: list[str] = []
    position = 0
    value = _BETWEEN.sub(b"", value[:MAX_OCTETS])
    for word in _WORD.finditer(value):
        parts.append(value[position : word.start()].decode("utf-8", "replace"))
        parts.append(_decode_word(word))
        position = word.end()
    parts.append(value[position:].decode("utf-8", "replace"))
    return "".join(parts)


def _decode_word(word: re.Match[bytes]) -> str:
    charset = word[1].decode("ascii").lower()
    if charset not in CHARSETS:
        return word[0].decode("ascii")
    try:
        octets = _from_q(word[3]) if word[2] in b"Qq" else binascii.a2b_base64(word[3], strict_mode=True)
    except binascii.Error:
        return word[0].decode("ascii")
    return octets.decode(charset, "replace")


def _from_q(text: bytes) -> bytes:
    return _HEX.sub(lambda match: bytes((int(match[1], 16),)), text.replace(b"_", b" "))


def encode_phrase(text: str, *, always: bool = False) -> str:
    """A short text of ours as it may stand in a header: itself when ASCII and not `always`, else one or more
    encoded words."""
    if text.isascii() and not always:
        return text
    # RFC 2047 section 2: a word has at most 75 octets; these have 72 when each character takes four.
    words = [text[at : at + 11].encode() for at in range(0, len(text), 11)]
    return "\r\n ".join(f"=?utf-8?B?{binascii.b2a_base64(word, newline=False).decode()}?=" for word in words)
