"""Mail to try the gateway on: what CPython tests its e-mail package with, and what a generator makes up."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from tests.peers.images import image

_DATA = "usr/lib/python3.11/test/test_email/data"
_LINE_END = re.compile(rb"\r\n|\r|\n")


def cpython_messages() -> dict[str, bytes]:
    """Every message of CPython's e-mail test data by file name, octets as they are in the package."""
    folder = image("python-testsuite") / _DATA
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("msg_*.txt"))}


def with_crlf(octets: bytes) -> bytes:
    """The message as it would go over the wire."""
    return _LINE_END.sub(b"\r\n", octets)


def generated_messages(number: int, seed: int = 28) -> Iterator[bytes]:
    """Messages with folded, repeated, 8-bit and malformed fields, NUL, lone CR and LF, and odd ends."""
    chance = random.Random(seed)
    for _ in range(number):
        fields = [_field(chance) for _ in range(chance.randrange(0, 25))]
        if fields and chance.random() < 0.4:
            fields.extend(chance.choices(fields, k=chance.randrange(1, 4)))
            chance.shuffle(fields)
        section = b"".join(fields)
        end = chance.random()
        if end < 0.7:
            yield section + b"\r\n" + _text(chance, 200) + chance.choice((b"", b"\r\n", b"\n", b"\r"))
        elif end < 0.85:
            yield section
        else:
            yield section[: chance.randrange(len(section) + 1)]


_NAMES = (
    b"Received,Return-Path,From,To,Cc,Subject,SUBJECT,subject,Date,Message-ID,Message-Id,MIME-Version,"
    b"Mime-version,Content-Type,CONTENT-TYPE,Content-Transfer-Encoding,Content-X,content-,X-Mailer,X-,"
    b"DKIM-Signature,List-Id,A&<B>"
)
_WORDS = (
    b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
    b"=?UTF-8?B?w6TDtsO8?=",
    b"=?iso-8859-1*de?Q?a=E4_b?=",
    b"=?utf-8?q?=FF?=",
    b"=?nonsense?q?x?=",
    b"=?utf-8?b?%%%?=",
    b"=?utf-8?q?=00?=",
    b"=?utf-8?q?Ann=2C_Bob?= <ann@a.example>",
    b"Gr\xc3\xbc\xc3\x9fe",
    b"caf\xe9",
    b"\xff\xfe\x80",
    b"\xef\xbf\xbe",
    b'"quoted, \\" text"',
    b"plain words",
    b"<x@y.example>",
    b"&amp; ]]> <!-- -->",
    b"\x00",
    b"\x01\x7f\x1b[2J",
    b"\xc2\x85\xe2\x80\xa8",
    b"a\nb",
    b"a\rb",
    b"\r",
    b"\n",
)


def _field(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.06:
        return _text(chance, 60) + b"\r\n"
    if kind < 0.1:
        return chance.choice(
            (b" leading\r\n", b"\tleading\r\n", b": no name\r\n", b"no colon\r\n", b" \r\n", b"\x00\r\n")
        )
    name = chance.choice(_NAMES.split(b","))
    colon = chance.choice((b": ", b": ", b": ", b":", b" : ", b":  ", b":\t", b":\r\n ", b"\t:"))
    blank = chance.choice((b" ", b" ", b"\r\n ", b"\r\n\t", b"  ", b"\t", b""))
    value = blank.join(chance.choices(_WORDS, k=chance.randrange(0, 6)))
    return (
        name + colon + value + chance.choice((b"\r\n", b"\r\n", b"\r\n", b" \r\n", b"\r\r\n", b"\r\n \r\n"))
    )


def _text(chance: random.Random, most: int) -> bytes:
    return bytes(chance.choices(b"\r\n: \tab=?<\x00\xe4\xff", k=chance.randrange(most)))
