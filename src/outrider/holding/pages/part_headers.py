"""What the header section of a part says of its body (RFC 2045, 2183, 2231), read for people to look at.

Tolerant: what is unclear has the default; nothing raises. Every pattern is linear in a bounded value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from outrider.message.encoded_words import CHARSETS, decode_text
from outrider.message.header_fields import header_fields, unfold

_MOST_OCTETS: Final = 8192
"""Of one field; more is not read."""
_MOST_PARAMETERS: Final = 50
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE: Final = re.compile(rb"[ \t]*(%b/%b)[ \t]*(?=;|\(|\Z)" % (_TOKEN, _TOKEN))
_WORD: Final = re.compile(rb"[ \t]*(%b)[ \t]*(?=;|\Z)" % _TOKEN)
_PARAMETER: Final = re.compile(
    rb'[ \t]*;[ \t]*(%b)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^";]*))' % _TOKEN, re.DOTALL
)
_SECTIONED: Final = re.compile(rb"(.+?)(?:\*(0|[1-9][0-9]?))?(\*)?")
_ALIASES: Final = {
    "": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "utf8": "utf-8",
    "latin1": "windows-1252",
    # What calls itself Latin-1 is its superset nearly always (WHATWG Encoding says so too).
    "iso-8859-1": "windows-1252",
    "cp1252": "windows-1252",
    "shift-jis": "shift_jis",
    "ks_c_5601-1987": "euc-kr",
}


@dataclass(frozen=True, slots=True)
class PartHeaders:
    """Decoded, not cleaned."""

    media_type: str = "text/plain"
    """Lower case."""
    boundary: bytes = b""
    """Of a multipart that can be taken apart; else b""."""
    charset: str = ""
    """As named, lower case."""
    encoding: str = "7bit"
    disposition: str = ""
    name: str = ""


def read_part_headers(section: bytes, default_type: str = "text/plain") -> PartHeaders:
    """What stands in a header section; of several fields of a name the first."""
    values: dict[bytes, bytes] = {}
    for field in header_fields(section):
        name = field.name.lower()
        if name.startswith(b"content-") and name not in values:
            values[name] = unfold(field.value[:_MOST_OCTETS])
    media_type, parameters = _type_and_parameters(values.get(b"content-type"), _TYPE)
    disposition, placing = _type_and_parameters(values.get(b"content-disposition"), _WORD)
    encoding = values.get(b"content-transfer-encoding", b"7bit").lower().decode("ascii", "replace")
    return PartHeaders(
        media_type=media_type or default_type,
        boundary=_boundary(media_type, parameters),
        charset=_text(parameters, b"charset").lower()[:40],
        encoding=encoding.strip(),
        disposition=disposition,
        name=_text(placing, b"filename") or _text(parameters, b"name"),
    )


def decoded(octets: bytes, charset: str) -> str:
    """Text in a charset of a message's choice; only those on the list are known (SEC-115), others are read as
    UTF-8. What cannot be decoded is replaced."""
    known = _ALIASES.get(charset, charset)
    return octets.decode(known if known in CHARSETS else "utf-8", "replace")


def _type_and_parameters(value: bytes | None, main: re.Pattern[bytes]) -> tuple[str, Mapping[bytes, bytes]]:
    """The first word in lower case, "" when there is none; and the parameters as they stand, unquoted."""
    first = main.match(value) if value else None
    if value is None or first is None:
        return "", {}
    parameters: dict[bytes, bytes] = {}
    position = first.end()
    while len(parameters) < _MOST_PARAMETERS and (found := _PARAMETER.match(value, position)):
        plain = found[3].strip() if found[3] is not None else re.sub(rb"\\(.)", rb"\1", found[2])
        parameters.setdefault(found[1].lower(), plain)
        position = found.end()
    return first[1].lower().decode("ascii"), parameters


def _boundary(media_type: str, parameters: Mapping[bytes, bytes]) -> bytes:
    return parameters.get(b"boundary", b"").rstrip(b" \t") if media_type.startswith("multipart/") else b""


def _text(parameters: Mapping[bytes, bytes], name: bytes) -> str:
    """A parameter as text: plain, with encoded words (which many send), or in RFC 2231's pieces."""
    if name in parameters:
        return decode_text(parameters[name])
    pieces: dict[int, tuple[bytes, bool]] = {}
    for key, value in parameters.items():
        found = _SECTIONED.fullmatch(key)
        if found is not None and found[1] == name:
            pieces.setdefault(int(found[2] or 0), (value, found[3] is not None))
    return _assembled([pieces[number] for number in sorted(pieces)])


def _assembled(pieces: list[tuple[bytes, bool]]) -> str:
    if not pieces:
        return ""
    charset, (first, extended) = "", pieces[0]
    if extended and first.count(b"'") >= 2:
        named, _, rest = first.split(b"'", 2)
        charset, pieces = named.decode("ascii", "replace").lower(), [(rest, True), *pieces[1:]]
    return decoded(b"".join(unquote_to_bytes(one) if coded else one for one, coded in pieces), charset)
