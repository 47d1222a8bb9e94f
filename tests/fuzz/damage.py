"""Ways to damage valid inputs: any octets, XML, JSON and compact JWS. All chance comes from one generator."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import islice

Chance = random.Random
Change = Callable[[bytes, Chance], bytes]

MAX_INPUT = 262_144
"""Octets of a damaged input: what multiplies stops there."""
NUMBERS = (
    b"0", b"-1", b"00", b"1e9", b"9" * 10, b"9" * 20, b"9" * 4301, b"2147483648", b"18446744073709551616",
    b"0x10", b"1.0", "\u0661".encode(), b"+1", b" 1", b"",
)  # fmt: skip
PIECES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"\r", b"\n", b"\r\n", b"\x0b",
    b"\x85",
    "\u2028".encode(), "\u202e".encode(), b"%s", b"../", b"=", b"==", b"&#0;", b"\\u0000", b"'", b'"',
    b"<", b">",
)  # fmt: skip


def octets(given: bytes, others: Sequence[bytes], chance: Chance) -> bytes:
    """One to four changes that know nothing of the form."""
    changed = given
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        changed = _octets_once(changed, others, chance)[:MAX_INPUT]
    return changed


def _octets_once(given: bytes, others: Sequence[bytes], chance: Chance) -> bytes:
    at = chance.randrange(len(given) + 1)
    end = min(len(given), at + chance.choice((1, 1, 2, 4, 16, 100, 1000)))
    head, piece, tail = given[:at], given[at:end], given[end:]
    match chance.randrange(11):
        case 0:
            return head + bytes((piece[0] ^ (1 << chance.randrange(8)),)) + given[at + 1 :] if piece else head
        case 1:
            return head + bytes((chance.randrange(256),)) + given[at + 1 :]
        case 2:
            return head + tail
        case 3:
            return head + chance.choice(PIECES) + given[at:]
        case 4:
            return head + piece * chance.choice((2, 2, 3, 100)) + tail
        case 5:
            return _other_number(given, chance)
        case 6:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            return head + other[start : start + chance.choice((4, 40, 400, len(other)))] + tail
        case 7:
            return head + chance.choice(others)[at:]
        case 8:
            return head
        case 9:
            to = chance.randrange(len(tail) + 1)
            return head + tail[:to] + piece + tail[to:]
        case _:
            return _recoded(given, chance)


def _other_number(given: bytes, chance: Chance) -> bytes:
    found = list(re.finditer(rb"[0-9]+", given[:16_384]))
    if not found:
        return given + chance.choice(NUMBERS)
    one = chance.choice(found)
    return given[: one.start()] + chance.choice(NUMBERS) + given[one.end() :]


def _recoded(given: bytes, chance: Chance) -> bytes:
    text = given.decode("utf-8", "replace")
    kind = chance.choice(("utf-16", "utf-16-be", "utf-32", "utf-7", "utf-8-sig", "cp037"))
    return text.encode(kind, "replace")


# -- XML -------------------------------------------------------------------------------------------------

_TAG = re.compile(rb"<[^<>]*>")
_ATTRIBUTE = re.compile(rb"""\s[A-Za-z0-9:_.-]+="[^"]*\"""")
_VALUE = re.compile(rb"""(?<==")[^"]*(?=")|(?<=>)[^<>]+(?=<)""")
_STRAY = (
    b"<!DOCTYPE e [<!ENTITY x 'y'>]>", b"<!-- c -->", b"<![CDATA[x]]>", b"<?pi x?>", b"&x;", b"&amp;",
    b"&#65;",
    b"&#x0;", b"&#xD800;", b"&#x10FFFF;", b"&#x110000;", b"&lt;", b"<x/>", b"<x:y xmlns:x='u'/>",
    b"<field name='A'/>",
    b"]]>", b"<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='file:///etc/passwd'/>",
)  # fmt: skip
_HEADS = (
    b"<?xml version='1.0'?>", b"<?xml version='1.0' encoding='utf-8'?>",
    b"<?xml version='1.0' encoding='utf-16'?>",
    b"<?xml version='1.1'?>", b"\xef\xbb\xbf", b"\n", b"<!DOCTYPE envelope SYSTEM 'file:///etc/passwd'>",
)  # fmt: skip
_STRANGE = (
    b"", b" ", b"\t", b"&#0;", b"&#10;", b"&quot;", b"1970-01-01T00:00:00Z", b"9999-12-31T23:59:60Z",
    b"0000-00-00T00:00:00Z", b"a@b", b"@", b"<>", b"a@" + b"b." * 200, b"x" * 70_000, b"====", b"AAAA",
    b"0" * 64,
    b"true", b"A-Z", b"NEVER,SUCCESS", b"..", b"a.b.c", b"1.2." + b"3." * 400 + b"4", "\u0000\ufffe".encode(),
    b"urn:oid:1", b"=?utf-8?q?=00?=", b"=?utf-8?b?AAAA?=", b"Content-Type", b"a:b", b'"' * 3,
    b"postmaster", b"[::1]",
)  # fmt: skip


def xml(given: bytes, others: Sequence[bytes], chance: Chance) -> bytes:
    """Elements and attributes repeated, removed, moved, renamed, nested; values that are none."""
    changed = given
    for _ in range(chance.choice((1, 1, 2, 3))):
        changed = _xml_once(changed, others, chance)[:MAX_INPUT]
    return changed


def _xml_once(given: bytes, others: Sequence[bytes], chance: Chance) -> bytes:
    match chance.randrange(12):
        case 0 | 1 | 2:
            return _replaced(_VALUE, given, chance.choice((*_STRANGE, *NUMBERS)), chance)
        case 3:
            return _replaced(_TAG, given, b"", chance)
        case 4:
            return _repeated(_TAG, given, chance)
        case 5:
            return _repeated(_ATTRIBUTE, given, chance)
        case 6:
            return _replaced(_ATTRIBUTE, given, b"", chance)
        case 7:
            return _replaced(
                _ATTRIBUTE, given, chance.choice((b' xmlns="u"', b' xmlns:p="u"', b' id="1"')), chance
            )
        case 8:
            at = chance.randrange(len(given) + 1)
            return given[:at] + chance.choice(_STRAY) + given[at:]
        case 9:
            return chance.choice(_HEADS) + given
        case 10:
            found = _TAG.findall(chance.choice(others)[:65_536]) or [b""]
            return _replaced(_TAG, given, chance.choice(found), chance)
        case _:
            deep = chance.choice((2, 50, 1000, 20_000))
            return _replaced(_VALUE, given, b"<x>" * deep + b"</x>" * chance.choice((0, deep)), chance)


def _replaced(form: re.Pattern[bytes], given: bytes, new: bytes, chance: Chance) -> bytes:
    start, end = _place(form, given, chance)
    return given[:start] + new + given[end:]


def _repeated(form: re.Pattern[bytes], given: bytes, chance: Chance) -> bytes:
    start, end = _place(form, given, chance)
    times = min(chance.choice((1, 1, 2, 500)), MAX_INPUT // (end - start + 1) + 1)
    return given[:end] + given[start:end] * times + given[end:]


def _place(form: re.Pattern[bytes], given: bytes, chance: Chance) -> tuple[int, int]:
    """One of the first places of that form; the end where there is none."""
    places = [one.span() for one in islice(form.finditer(given), 1_000)]
    return chance.choice(places) if places else (len(given), len(given))


# -- JSON ------------------------------------------------------------------------------------------------


class Members(list[tuple[str, object]]):
    """An object whose members may stand twice, in any order."""


_VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, 2**64, 10**400, 1.5, 1e308, "", "x", "\x00", "\ud800",
    "\u202e", "x" * 5_000, "none", "HS256", "ES384", "dir", "A128KW", "RSA1_5", "P-384", "mx.evil.example",
    [], {},
    [[]], ["x"] * 300, "A" * 43, "mt2-seal+jws", "mt2-proof+jws", "core", "hop", "client", "server",
)  # fmt: skip
_NAMES = (
    "alg", "crit", "jwk", "jku", "x5c", "kid", "b64", "zip", "p2c", "apu", "unprotected", "aad",
    "__proto__", "",
    "kind", "by", "by\x00", "time", "previous", "certificates", "recipients", "epk", "x5t#S256",
)  # fmt: skip


def json_tree(octets: bytes) -> object:
    """What a text says, with objects as `Members`."""
    return json.loads(octets, object_pairs_hook=Members)


def changed_tree(tree: object, chance: Chance) -> object:
    """One value exchanged, or one member or item removed, repeated, renamed or added."""
    if isinstance(tree, Members) and tree and chance.random() < 0.85:
        at = chance.randrange(len(tree))
        return Members(_changed_members(tree, at, chance))
    if isinstance(tree, list) and tree and not isinstance(tree, Members) and chance.random() < 0.7:
        at = chance.randrange(len(tree))
        head, one, tail = tree[:at], tree[at], tree[at + 1 :]
        kind = chance.randrange(4)
        if kind == 0:
            return [*head, *tail]
        return [
            *head,
            *([one] * chance.choice((2, 2, 150)) if kind == 1 else [changed_tree(one, chance)]),
            *tail,
        ]
    return chance.choice(_VALUES)


def _changed_members(tree: Members, at: int, chance: Chance) -> list[tuple[str, object]]:
    head, (name, value), tail = tree[:at], tree[at], tree[at + 1 :]
    match chance.randrange(8):
        case 0:
            return [*head, *tail]
        case 1:
            return [*head, (name, value), (name, changed_tree(value, chance)), *tail]
        case 2:
            return [*head, (chance.choice(_NAMES), value), *tail]
        case 3:
            return [*head, (name, value), (chance.choice(_NAMES), chance.choice(_VALUES)), *tail]
        case 4:
            other = chance.randrange(len(tree))
            return [*head, (name, tree[other][1]), *tail]
        case _:
            return [*head, (name, changed_tree(value, chance)), *tail]


def json_text(tree: object, chance: Chance) -> bytes:
    """The tree as text: canonical mostly, with its members sorted; now and then in another way."""
    style = chance.random()
    text = _text(tree, in_order=style < 0.9, escaped=style > 0.97)
    if 0.9 < style < 0.93:
        text = text.replace(":", ": ").replace(",", ", ")
    if style < 0.01:
        text = "[" * 100_000
    return text.encode("utf-8", "surrogatepass")[:MAX_INPUT]


def _text(tree: object, *, in_order: bool, escaped: bool) -> str:
    if isinstance(tree, Members):
        members = sorted(tree, key=lambda one: one[0]) if in_order else tree
        inner = (
            f"{json.dumps(name, ensure_ascii=escaped)}:{_text(value, in_order=in_order, escaped=escaped)}"
            for name, value in members
        )
        return "{" + ",".join(inner) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(_text(one, in_order=in_order, escaped=escaped) for one in tree) + "]"
    return json.dumps(tree, ensure_ascii=escaped)
