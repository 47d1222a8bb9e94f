"""The header section of an envelope, line by line.

Envelopes of one holder are alike in nearly all their lines, so what a line says is found out once and
remembered, and an envelope costs little more than the lines in which it differs from the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from outrider.message.header_fields import raw_fields, unfold

VERIFIED: Final = b"amdp-verified-"
MOST_LINES: Final = 4096
"""Lines that are remembered."""
LONGEST_LINE: Final = 256
"""Octets of the longest that is."""

_BLANKS = re.compile(rb"[ \t]+")
_SHOWN = (b"from", b"to", b"subject")
"""Ordinary fields that count with AMDP's."""
_OF_THE_BODY = (b"content-", b"mime-version", VERIFIED)
"""What does not pass to the reader's envelope: it is written anew there."""
_END = b"\r\n"


class Line(NamedTuple):
    """A field with its folds, looked at once for all that is asked of it."""

    name: bytes
    """In lower case; empty where it is no field."""
    value: bytes
    """Unfolded."""
    canonical: bytes
    """In the canonical form of docs/protocols/amdp.md section 3; empty where it does not count."""
    verified: bytes
    """In the reader's envelope; empty where it does not stand there."""
    written_name: bytes
    """As it was sent."""


def lines(headers: bytes) -> tuple[Line, ...]:
    """The lines of a section, up to the empty one that ends it."""
    return tuple([_line(raw) if len(raw) <= LONGEST_LINE else _read(raw) for raw in _raw_lines(headers)])


def _raw_lines(headers: bytes) -> Iterable[bytes]:
    """Each with its folds, without its end."""
    if b"\r\n " in headers or b"\r\n\t" in headers:
        return [headers[start:end].removesuffix(_END) for _, _, start, end in raw_fields(headers)]
    section, _, _ = headers.partition(b"\r\n\r\n")
    return [] if section.startswith(_END) else section.removesuffix(_END).split(_END) if section else []


def _read(raw: bytes) -> Line:
    written, value, _, _ = next(raw_fields(raw))
    name, value = written.lower(), unfold(value)
    counts = name.startswith(b"amdp-") or name in _SHOWN
    canonical = b"%b:%b\n" % (name, _BLANKS.sub(b" ", value)) if counts else b""
    return Line(name, value, canonical, _verified(name, raw), written)


def _verified(name: bytes, raw: bytes) -> bytes:
    if not name or name.startswith(_OF_THE_BODY):
        return b""
    return (b"AMDP-Verified-" + raw[5:] if name.startswith(b"amdp-") else raw) + _END


_line = lru_cache(maxsize=MOST_LINES)(_read)
