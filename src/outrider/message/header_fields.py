"""The fields of a header section, as they were sent (RFC 5322 section 2.2).

Tolerant and lossless: whatever is not a field is still reported, with an empty name, and the offsets of
all entries cover the section without a gap. Every function is linear in the section's length (SEC-116).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")  # blanks before the colon: RFC 5322 4.5
_BLANKS = (b" ", b"\t")
_FOLD = re.compile(rb"\r\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field, or one line that is none (then `name` is empty and `value` the whole line)."""

    name: bytes
    """As sent, without the colon."""
    value: bytes
    """As sent, folds included, without the last CRLF."""
    start: int
    """Offset of its first octet."""
    end: int
    """Offset behind its last CRLF."""

    @property
    def unfolded(self) -> bytes:
        """The value in one line, outer blanks removed (RFC 5322 section 2.2.3)."""
        return unfold(self.value)


def header_fields(section: bytes) -> Iterator[HeaderField]:
    """The fields in order, up to the empty line that ends the section."""
    return (HeaderField(*field) for field in raw_fields(section))


def raw_fields(section: bytes) -> Iterator[tuple[bytes, bytes, int, int]]:
    """The same as bare tuples, for who looks at thousands in a second."""
    position, length = 0, len(section)
    while position < length:
        stop = section.find(b"\r\n", position)
        if stop == position:
            return
        while stop >= 0 and section[stop + 2 : stop + 3] in _BLANKS:
            stop = section.find(b"\r\n", stop + 2)
        stop, end = (stop, stop + 2) if stop >= 0 else (length, length)
        name = _NAME.match(section, position, stop)
        if name is None:
            yield b"", section[position:stop], position, end
        else:
            yield name[1], section[name.end() : stop], position, end
        position = end


def unfold(value: bytes) -> bytes:
    """A raw value in one line, outer blanks removed."""
    return (_FOLD.sub(b"", value) if b"\r\n" in value else value).strip(b" \t\r\n")


def find_field(section: bytes, name: bytes) -> HeaderField | None:
    """The first field of that name, in whatever case; None when there is none."""
    wanted = name.lower()
    if wanted not in section.lower():
        return None
    return next((field for field in header_fields(section) if field.name.lower() == wanted), None)


def field_values(section: bytes, name: bytes, limit: int = 100) -> tuple[bytes, ...]:
    """The unfolded values of the first `limit` fields of that name."""
    wanted = name.lower()
    found: list[bytes] = []
    for field in header_fields(section):
        if field.name.lower() == wanted:
            found.append(field.unfolded)
            if len(found) == limit:
                break
    return tuple(found)


def field_names(section: bytes) -> frozenset[bytes]:
    """Names present, in lower case."""
    return frozenset(field.name.lower() for field in header_fields(section) if field.name)


def count_fields(section: bytes, name: bytes) -> int:
    """How many fields bear that name."""
    wanted = name.lower()
    return sum(field.name.lower() == wanted for field in header_fields(section))


def has_more_hops_than(section: bytes, limit: int) -> bool:
    """Whether more than `limit` Received fields stand in the section (SMTP-4, SEC-169).

    The ordinary message is answered by counting octets; only one that looks like a loop is read by field.
    """
    lowered = section.lower()
    at_most = lowered.count(b"\nreceived") + lowered.startswith(b"received")
    return at_most > limit and count_fields(section, b"received") > limit
