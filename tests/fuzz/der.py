"""DER as a tree that can be changed and written again, with right lengths or wrong ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_CONSTRUCTED = 0x20
_BIT_STRING, _OCTET_STRING = 0x03, 0x04
_DEEPEST = 40


class NoDer(ValueError):
    """Octets that are no sequence of whole elements."""


@dataclass
class Node:
    """One element; `content` are octets, or the elements within."""

    tag: int
    content: bytes | list[Node]
    prefix: bytes = b""
    """Of a BIT STRING with elements within: its count of unused bits."""
    length: bytes | None = field(default=None)
    """Written in place of the right one."""

    def octets(self) -> bytes:
        """As DER."""
        inner = self.content
        if isinstance(inner, list):
            inner = self.prefix + b"".join(one.octets() for one in inner)
        return bytes((self.tag,)) + (_length(len(inner)) if self.length is None else self.length) + inner

    def nodes(self) -> Iterator[Node]:
        """Itself and all below."""
        yield self
        if isinstance(self.content, list):
            for one in self.content:
                yield from one.nodes()


def _length(count: int) -> bytes:
    if count < 0x80:
        return bytes((count,))
    octets = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def parse(octets: bytes, depth: int = 0) -> list[Node]:
    """The elements of which the octets consist. Raises NoDer."""
    found: list[Node] = []
    at = 0
    while at < len(octets):
        tag, at = octets[at], at + 1
        count, at = _read_length(octets, at)
        inner = octets[at : at + count]
        if len(inner) != count or depth > _DEEPEST:
            raise NoDer
        at += count
        found.append(_node(tag, inner, depth))
    return found


def _read_length(octets: bytes, at: int) -> tuple[int, int]:
    if at >= len(octets):
        raise NoDer
    first = octets[at]
    if first < 0x80:
        return first, at + 1
    more = first & 0x7F
    if not 1 <= more <= 4 or at + 1 + more > len(octets):
        raise NoDer
    return int.from_bytes(octets[at + 1 : at + 1 + more], "big"), at + 1 + more


def _node(tag: int, inner: bytes, depth: int) -> Node:
    if tag & _CONSTRUCTED:
        return Node(tag, parse(inner, depth + 1))
    skip = {_BIT_STRING: 1, _OCTET_STRING: 0}.get(tag)
    if skip is not None and inner[skip : skip + 1] == b"\x30":
        try:
            return Node(tag, parse(inner[skip:], depth + 1), inner[:skip])
        except NoDer:
            pass
    return Node(tag, inner)


_STRANGE: dict[int, tuple[bytes, ...]] = {
    0x01: (b"", b"\x01", b"\x00\x00"),
    0x02: (b"", b"\x00", b"\xff", b"\x00\x01", b"\x7f" * 20, b"\x7f" * 21, b"\x01" + b"\x00" * 2048, b"\x80"),
    0x03: (b"", b"\x00", b"\x08\xff", b"\x07\x80", b"\x00\x04" + b"\xff" * 64, b"\x00\x04" + b"\x00" * 64),
    0x06: (b"", b"\x80", b"\x55\x1d\x11", b"\x55\x1d\x12", b"\x55\x1d\x1e",
           b"\x2a\x86\x48\xce\x3d\x03\x01\x01",
           b"\x2b\x06\x01\x05\x05\x07\x08\x07", b"\x88" * 40 + b"\x01",
           b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19"),
    0x17: (b"", b"991231235959Z", b"000101000000Z", b"261399999999Z", b"2611220000Z", b"261122000000+0100"),
    0x18: (b"99991231235959Z", b"00000101000000Z", b"20261122000000.5Z", b"100000101000000Z"),
}  # fmt: skip
_TEXTS = (
    b"", b"\x00", b"mx.a.example\x00.evil.example", b"*.example", b"*", b".", b".a.example", b"a.example.",
    b"\xff" * 9,
    "m\u00fc.example".encode(), "\u212aelvin.example".encode(), b"alice@a.example", b"@", b"a@b@c.example",
    b"x" * 300 + b".example", b"192.0.2.1", b"[192.0.2.1]", b"xn--\xff.example", b"co.uk", b"mx.a.example",
    b" ",
    b"\xd8\x00", b"\x00\x61\x00", b"_amtp.a.example", b"\x16\x7f_amtp.a.example", b"a." * 120 + b"example",
)  # fmt: skip
_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1E, 0x30, 0x31, 0x80,
         0x81, 0x82,
         0x84, 0x86, 0x87, 0x88, 0xA0, 0xA1, 0xA3, 0xA4, 0x1F, 0x00)  # fmt: skip
_LENGTHS = (
    b"\x80",
    b"\x84\xff\xff\xff\xff",
    b"\x81\x01",
    b"\x82\x00\x01",
    b"\x00",
    b"\xff",
    b"\x88" + b"\xff" * 8,
)


def change(root: Node, others: Sequence[bytes], chance: random.Random) -> None:
    """One element of the tree changed, removed, repeated, moved, nested, or exchanged for another's."""
    nodes = list(root.nodes())
    one = chance.choice(nodes)
    inner = one.content
    match chance.randrange(9):
        case 0 | 1 | 2 if isinstance(inner, bytes):
            one.content = chance.choice((*_STRANGE.get(one.tag, ()), *_TEXTS))
        case 0 | 1 if isinstance(inner, list) and inner:
            del inner[chance.randrange(len(inner))]
        case 2 | 3 if isinstance(inner, list) and inner:
            repeated = chance.choice(inner)
            inner[0:0] = [repeated] * chance.choice((1, 1, 2, 300))
        case 4 if isinstance(inner, list):
            chance.shuffle(inner)
        case 5:
            one.tag = chance.choice(_TAGS)
        case 6:
            taken = chance.choice(list(parse(chance.choice(others))[0].nodes()))
            one.tag, one.content, one.prefix = taken.tag, taken.content, taken.prefix
        case 7:
            content: bytes | list[Node] = inner
            for _ in range(chance.choice((1, 2, 60))):
                content = [Node(one.tag, content, one.prefix)]
                one.tag, one.prefix = 0x30, b""
            one.content = content
        case 8 if chance.random() < 0.4:
            one.length = chance.choice(_LENGTHS)
        case _ if isinstance(inner, bytes) and inner:
            at = chance.randrange(len(inner))
            one.content = inner[:at] + bytes((chance.randrange(256),)) + inner[at + 1 :]
        case _:
            one.content = b""
