"""Lines of an envelope's header section: what is remembered of them is what stands there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.message.header_fields import raw_fields, unfold
from outrider.protocols.amdp.envelope_lines import LONGEST_LINE, Line, lines

SECTION = b"From: <a@b.example>\r\nAMDP-Subject:  a\t b\r\nX-Own: 1\r\nMIME-Version: 1.0\r\n"
PIECES = st.sampled_from(
    [
        *(b"From: <a@b.example>", b"AMDP-X : 1", b"amdp-y:\t2  3 ", b"Subject:", b"no field", b"\r\n", b"\r"),
        *(b"\n", b"\r\n ", b"\r\n\t", b" ", b":", b"AMDP-Verified-Z: 4", b"Content-Type: text/plain"),
        *(b"To: " + b"x" * LONGEST_LINE, b"References: <c@d>\r\n", b"\r\n\r\n"),
    ]
)


@pytest.mark.covers("AMDP-4a", "AMDP-9")
def test_a_line_knows_what_is_asked_of_it() -> None:
    sender, subject, own, version = lines(SECTION)
    assert sender == Line(
        b"from", b"<a@b.example>", b"from:<a@b.example>\n", b"From: <a@b.example>\r\n", b"From"
    )
    assert subject[:4] == (
        *(b"amdp-subject", b"a\t b", b"amdp-subject:a b\n", b"AMDP-Verified-Subject:  a\t b\r\n"),
    )
    assert (own.canonical, own.verified) == (b"", b"X-Own: 1\r\n")
    assert (version.canonical, version.verified) == (b"", b"")


@pytest.mark.covers("AMDP-4a", "SEC-116")
@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_the_lines_are_the_fields_whatever_stands_there(headers: bytes) -> None:
    expected = [(name.lower(), unfold(value), name) for name, value, _, _ in raw_fields(headers)]
    for _ in range(2):  # the second time from memory
        assert [(line.name, line.value, line.written_name) for line in lines(headers)] == expected


@pytest.mark.covers("AMDP-14")
@pytest.mark.parametrize("end", [b"\r\n", b"\r\n\r\n", b""])
def test_every_line_of_the_readers_envelope_ends(end: bytes) -> None:
    assert [line.verified for line in lines(b"A: 1\r\nB: 2" + end)] == [b"A: 1\r\n", b"B: 2\r\n"]
    assert [line.verified for line in lines(b"A: 1\r\n 2" + end)] == [b"A: 1\r\n 2\r\n"]
