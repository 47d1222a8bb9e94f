"""Header sections are read without loss and in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.message.header_fields import (
    count_fields,
    field_names,
    field_values,
    find_field,
    has_more_hops_than,
    header_fields,
)

SECTION = (
    b"Received: from a\r\n\tby b; date\r\n"
    b"Subject : folded\r\n subject\r\n"
    b"no field at all\r\n"
    b"X-Empty:\r\n"
    b"SUBJECT: second\r\n"
    b"\r\n"
)


@pytest.mark.covers("SEC-117")
def test_fields_keep_names_values_and_offsets() -> None:
    fields = list(header_fields(SECTION))
    assert [field.name for field in fields] == [b"Received", b"Subject", b"", b"X-Empty", b"SUBJECT"]
    assert fields[0].value == b" from a\r\n\tby b; date"
    assert fields[1].unfolded == b"folded subject"
    assert fields[2].value == b"no field at all"
    assert b"".join(SECTION[f.start : f.end] for f in fields) + b"\r\n" == SECTION


@pytest.mark.covers("SEC-117")
@given(
    st.lists(st.sampled_from([b"A: b", b"\r\n", b" ", b"\t", b":", b"\r", b"\n", b"\xff", b"x"])).map(
        b"".join
    )
)
def test_offsets_cover_whatever_comes(section: bytes) -> None:
    position = 0
    for field in header_fields(section):
        assert field.start == position
        assert field.end > field.start
        position = field.end
    assert section[position:] == b"" or section.startswith(b"\r\n", position)


def test_finding_takes_the_first_in_any_case() -> None:
    field = find_field(SECTION, b"subject")
    assert field is not None
    assert field.unfolded == b"folded subject"
    assert find_field(SECTION, b"Date") is None
    assert field_values(SECTION, b"subject") == (b"folded subject", b"second")
    assert field_values(SECTION, b"subject", 1) == (b"folded subject",)
    assert field_names(SECTION) == {b"received", b"subject", b"x-empty"}


@pytest.mark.covers("SMTP-4", "SEC-169")
def test_hops_are_counted_by_field_and_not_by_the_word() -> None:
    hops = b"received: x\r\n" * 3 + b"Received-SPF: none\r\n" * 5 + b"Received : y\r\n\r\n"
    assert count_fields(hops, b"received") == 4
    assert not has_more_hops_than(hops, 4)
    assert has_more_hops_than(hops, 3)
    assert not has_more_hops_than(b"Subject: a\r\n received: no\r\n\r\n", 0)


@pytest.mark.covers("SEC-116")
def test_a_megabyte_of_fields_is_read_once() -> None:
    section = b"".join(b"X-%d: y\r\n" % number for number in range(80_000)) + b"\r\n"
    assert sum(1 for _ in header_fields(section)) == 80_000
