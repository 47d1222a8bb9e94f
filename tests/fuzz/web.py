"""What AMDP's web side and its envelopes take from strangers: fields, policy reports, JSON, paths."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import msgspec

from outrider.message.header_fields import header_fields
from outrider.model.content import split_content
from outrider.protocols.amdp.callback import (
    AcknowledgementAnswers,
    Acknowledgements,
    Answers,
    Genuine,
    Queries,
)
from outrider.protocols.amdp.envelope import EnvelopeError, read_envelope, write_envelope
from outrider.protocols.amdp.json_forms import FormError, decode, encode
from outrider.protocols.amdp.mail_class import ClassError, parse_class, parse_pattern
from outrider.protocols.amdp.report_reader import parse_report
from outrider.protocols.amdp.retrieval import MessageAsked, Receipt, ReceiptTaken, page_path, read_page_path
from outrider.protocols.amdp.submission import read_submission
from tests.fuzz import damage
from tests.fuzz.running import Target, refused
from tests.protocols.amdp.examples import FULL, PLAIN
from tests.protocols.amdp.vectors import vectors

_FORMS: dict[str, type[msgspec.Struct]] = {
    form.__name__: form
    for form in (
        Queries, Answers, Acknowledgements, AcknowledgementAnswers, MessageAsked, Receipt, ReceiptTaken,
        Genuine,
    )
}  # fmt: skip


@cache
def _sections() -> tuple[bytes, ...]:
    """Header sections of envelopes."""
    written = (write_envelope(one, message_id="q1@mhf.example") for one in (PLAIN, FULL))
    return tuple(split_content(one)[0] for one in written)


@cache
def _submissions() -> tuple[bytes, ...]:
    return tuple(one["fields"].encode() for one in vectors("envelope")["submissions"])


@cache
def _reports() -> tuple[bytes, ...]:
    found = vectors("report")
    return (found["sample"]["text"].encode(), *(one["text"].encode() for one in found["lines"]))


def _fields(given: bytes, others: tuple[bytes, ...], chance: random.Random) -> bytes:
    """Some octets changed, or a field repeated, removed, moved, or given another one's value."""
    if chance.random() < 0.6:
        return damage.octets(given, others, chance)
    lines = [given[one.start : one.end] for one in header_fields(given)]
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines))
    name, value = lines[at].partition(b":")[0], lines[to].partition(b":")[2]
    match chance.randrange(4):
        case 0:
            lines[at:at] = [lines[to]] * chance.choice((1, 300))
        case 1:
            del lines[at]
        case 2:
            lines[at] = name + b":" + value
        case _:
            lines[at] = name + b": " + chance.choice((*damage.NUMBERS, *damage.PIECES)) + b"\r\n"
    return b"".join(lines)


def held(chance: random.Random) -> bool:
    """An envelope of AMDP, or of a submission: read, and written again the same; or EnvelopeError."""
    if chance.random() < 0.3:
        return _submission(chance)
    given = chance.choice(_sections())
    if chance.random() >= 0.03:
        given = _fields(given, _sections(), chance)
    try:
        found = read_envelope(given)
    except EnvelopeError as error:
        return refused(error)
    again = write_envelope(found, message_id="q1@mhf.example", utf8=True)
    read_again = read_envelope(split_content(again)[0])
    assert replace(read_again, about=found.about) == found  # no text of the sender's: ours is written
    return True


def _submission(chance: random.Random) -> bool:
    given = _fields(chance.choice(_submissions()), (*_submissions(), *_sections()), chance)
    try:
        _, left = read_submission(given)
    except EnvelopeError as error:
        return refused(error)
    assert not any(one.name.lower().startswith(b"amdp-") for one in header_fields(left))
    return True


def reports(chance: random.Random) -> bool:
    """A policy report is always read; what is not understood is among its problems, in printable words."""
    given = chance.choice(_reports())
    if chance.random() >= 0.03:
        given = damage.octets(given, _reports(), chance)
    found = parse_report(given, "beta.example")
    for problem in found.problems:
        assert problem.text.isprintable(), problem
    for text in given[:4_096].decode("utf-8", "replace").split():
        for parse in (parse_class, parse_pattern):
            try:
                parse(text)
            except ClassError as error:
                refused(error)
    return not found.problems


def bodies(chance: random.Random) -> bool:
    """A body of a request is its form, or FormError; a path is one of a page, or of none."""
    one = chance.choice(vectors("json")["good"])
    given = one["text"].encode()
    draw = chance.random()
    if 0.05 < draw < 0.4:
        given = damage.octets(given, [other["text"].encode() for other in vectors("json")["good"]], chance)
    elif draw >= 0.4:
        given = damage.json_text(damage.changed_tree(damage.json_tree(given), chance), chance)
    path = damage.octets(page_path("a" * 26, "b" * 26).encode(), [given], chance).decode("utf-8", "replace")
    asked = read_page_path(path)
    assert asked is None or path.startswith(page_path(asked.id, asked.secret))
    form = _FORMS[one["form"]]
    try:
        found = decode(given, form)
    except FormError as error:
        return refused(error)
    assert decode(encode(found), form) == found
    return True


TARGETS = (
    Target("held", held, short=300, long=100_000),
    Target("reports", reports, short=200, long=100_000),
    Target("bodies", bodies, short=300, long=100_000),
)
