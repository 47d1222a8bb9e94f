"""JSON from strangers: typed, bounded, or refused; never anything else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.amdp.vectors import vectors

from outrider.protocols.amdp.callback import (
    Acknowledgement,
    AcknowledgementAnswers,
    Acknowledgements,
    Answer,
    Answers,
    Done,
    Genuine,
    Queries,
    Query,
)
from outrider.protocols.amdp.json_forms import MAX_OCTETS, FormError, decode, encode
from outrider.protocols.amdp.retrieval import MessageAsked, Receipt, ReceiptTaken

FORMS: dict[str, type[msgspec.Struct]] = {
    form.__name__: form
    for form in (
        Queries,
        Answers,
        Acknowledgements,
        AcknowledgementAnswers,
        MessageAsked,
        Receipt,
        ReceiptTaken,
        Genuine,
    )
}
SECRET = "c" * 26


@pytest.mark.covers("AMDP-9", "AMDP-13")
@pytest.mark.parametrize("case", vectors("json")["good"], ids=lambda case: case["name"])
def test_the_forms_of_the_specification(case: Any) -> None:
    form = FORMS[case["form"]]
    read = decode(case["text"].encode(), form)
    assert msgspec.json.decode(encode(read)) == case["means"]
    assert decode(encode(read), form) == read


@pytest.mark.covers("AMDP-9", "SEC-204")
@pytest.mark.parametrize("case", vectors("json")["bad"], ids=lambda case: case["name"])
def test_what_is_refused(case: Any) -> None:
    with pytest.raises(FormError) as refused:
        decode(case["text"].encode(), FORMS[case["form"]])
    assert case["text"][:20] not in str(refused.value) or not case["text"]


@pytest.mark.covers("AMDP-9", "SEC-204")
def test_at_most_a_hundred_in_one_request() -> None:
    query = Query(SECRET, 1, 2, "f" * 64)
    assert len(decode(encode(Queries((query,) * 100)), Queries).queries) == 100
    with pytest.raises(FormError):
        decode(encode(Queries((query,) * 101)), Queries)
    answers = Answers((Answer(True, "a" * 64 + "@b.example", SECRET, ("<x@y>",) * 100),) * 100)
    assert decode(encode(answers), Answers) == answers


@pytest.mark.covers("SEC-204")
@pytest.mark.parametrize(
    "octets",
    [
        b"[" * 100_000,
        b'{"queries":' * 50_000,
        b'{"x":' + b"[" * 100_000,
        b'{"queries":[],"x":' + b"[" * 90_000,
        b'{"queries":[],"x":' + b"9" * 900_000 + b"}",
        b'{"queries":[{"id":"a","timestamp":' + b"9" * 900_000,
        b'{"queries":[]}' + b" " * MAX_OCTETS,
        b"\xff\xfe",
        b'"\\ud800"',
        b"",
        b"\x00",
    ],
    ids=lambda octets: repr(octets[:24]),
)
def test_bombs(octets: bytes) -> None:
    try:
        assert decode(octets, Queries) == Queries(())
    except FormError as error:
        said = str(error)
    else:
        said = ""
    assert said in ("", "body is too large", "body is not the JSON that is expected here")


@pytest.mark.covers("AMDP-9", "SEC-204")
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(FORMS)), st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode))
)
def test_anything_is_read_or_refused(name: str, octets: bytes) -> None:
    try:
        read = decode(octets, FORMS[name])
    except FormError:
        return
    assert decode(encode(read), FORMS[name]) == read


@pytest.mark.covers("AMDP-13")
@pytest.mark.parametrize(
    "value",
    [
        Answer(True, "a@b", SECRET),
        Acknowledgement(SECRET, SECRET),
        Done(True, SECRET),
        MessageAsked(SECRET, SECRET),
        Receipt(SECRET, SECRET, "x"),
        Answers((Answer(True, "a@b", SECRET),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_secrets_are_not_shown(value: Any) -> None:
    assert SECRET not in repr(value)
    assert SECRET not in f"{value}"


def test_unknown_means_nothing_else_is_said() -> None:
    assert encode(Answers((Answer(False),))) == b'{"answers":[{"known":false}]}'
    assert encode(AcknowledgementAnswers((Done(False),))) == b'{"answers":[{"done":false}]}'
