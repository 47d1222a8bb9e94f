"""The one rule for stray octets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.wire.line_ends import LineEndCheck, has_stray_octets

STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


@pytest.mark.covers("SMTP-1", "SEC-23")
@pytest.mark.parametrize("octets", [b"", b"abc", b"a\r\nb\r\n\r\n", b"\x85\x0b\x0c\xe2\x80\xa8"])
def test_text_is_clean(octets: bytes) -> None:
    assert not has_stray_octets(octets)


@pytest.mark.covers("SMTP-1", "SEC-23")
@pytest.mark.parametrize(
    "octets", [b"\r", b"\n", b"\0", b"a\nb", b"a\rb", b"\n\r", b"\r\r\n", b"\r\n\n", b"a\rb\n", b"x\r\0\n"]
)
def test_strays_are_found(octets: bytes) -> None:
    assert has_stray_octets(octets)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"bc", b"\0", b""]), max_size=12))
def test_pieces_cut_anywhere_are_judged_like_the_whole(pieces: list[bytes]) -> None:
    check = LineEndCheck()
    for piece in pieces:
        check.feed(piece)
    octets = b"".join(pieces)
    assert check.finish() is not has_stray_octets(octets)
    assert has_stray_octets(octets) is bool(STRAY.search(octets))
