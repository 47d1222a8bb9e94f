"""Addresses out of From, To, Cc and the like (RFC 5322 section 3.4), in one pass over hostile text.

The stdlib's `email` takes super-linear time on some such fields (SEC-116); this reader looks at each octet
once, keeps a count instead of a stack for comments, and stops at a bound.
"""

from __future__ import annotations

import re

from outrider.model.address import Address, AddressError, parse_path

MAX_FIELD_OCTETS = 65_536
_TOKEN = re.compile(rb'[^\\"()<>,;:]+')


def mailboxes(value: bytes, limit: int = 100) -> tuple[Address, ...]:
    """Up to `limit` mailboxes named in an unfolded field value, in order; what is none is passed over."""
    found: list[Address] = []
    for text in _address_texts(value[:MAX_FIELD_OCTETS]):
        try:
            address = parse_path(text.strip(b" \t\r\n"), smtputf8=True)
        except AddressError:
            continue
        if address is not None and address.domain:
            found.append(address)
            if len(found) == limit:
                break
    return tuple(found)


def _address_texts(value: bytes) -> list[bytes]:
    """What stands in angle brackets, or alone between commas, with comments taken out."""
    reader = _Reader()
    position, length = 0, len(value)
    while position < length:
        token = _TOKEN.match(value, position)
        if token is not None:
            reader.text(token[0])
            position = token.end()
        elif value[position] == 0x5C:  # backslash: the next octet is taken as it is
            reader.text(value[position : position + 2])
            position += 2
        else:
            reader.special(value[position : position + 1])
            position += 1
    reader.end_of_address()
    return reader.found


class _Reader:
    """Where in the grammar we are: comment depth, inside quotes, inside angle brackets."""

    def __init__(self) -> None:
        self.found: list[bytes] = []
        self._outside: list[bytes] = []
        self._inside: list[bytes] | None = None
        self._angle = b""
        self._depth = 0
        self._quoted = False

    def text(self, octets: bytes) -> None:
        if not self._depth:
            (self._outside if self._inside is None else self._inside).append(octets)

    def special(self, octet: bytes) -> None:
        if self._depth and not self._quoted:
            self._depth += {b"(": 1, b")": -1}.get(octet, 0)
        elif self._quoted:
            self._quoted = octet != b'"'
            self.text(octet)
        elif octet == b"(":
            self._depth = 1
        else:
            self._delimiter(octet)

    def _delimiter(self, octet: bytes) -> None:
        if octet == b'"':
            self._quoted = True
            self.text(octet)
        elif octet == b"<" and self._inside is None:
            self._inside = []
        elif octet == b">" and self._inside is not None:
            self._angle, self._inside = b"".join(self._inside), None
        elif octet in b",;" and self._inside is None:
            self.end_of_address()
        elif octet == b":" and self._inside is None:
            self._outside.clear()  # the name of a group (RFC 5322 3.4)
        else:
            self.text(octet)

    def end_of_address(self) -> None:
        address = self._angle or b"".join(self._outside).strip()
        if address:
            self.found.append(address)
        self._outside.clear()
        self._inside, self._angle = None, b""
