"""The end of data, exactly; dots unstuffed, exactly."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.wire.smuggling import MATRIX, ROWS, TRUE_END_AFTER_STRAY_CR, is_true_end

from outrider.wire.dot_reader import DotReader

BOUNDARIES = (4096, 8192, 65_536)


def read(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """Content, and what followed the end; None where no end was found."""
    reader, content = DotReader(), b""
    for n, piece in enumerate(pieces):
        content += reader.read(piece)
        if reader.finished:
            return content, reader.rest + b"".join(pieces[n + 1 :])
    return content, None


def octet_by_octet(octets: bytes) -> list[bytes]:
    return [octets[n : n + 1] for n in range(len(octets))]


def reference(octets: bytes) -> tuple[bytes, bytes | None]:
    """RFC 5321 4.5.2 by lines, the slow way: lines end with CRLF, and only with CRLF."""
    content = b""
    while True:
        line, end, rest = octets.partition(b"\r\n")
        if not end:
            return content, None
        if line == b".":
            return content, rest
        content += line.removeprefix(b".") + end
        octets = rest


@pytest.mark.covers("SMTP-1", "SEC-22")
@pytest.mark.parametrize(
    ("stuffed", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..\r\n...\r\n....\r\n.\r\n", b".\r\n..\r\n...\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"." + b"y" * 997 + b"\r\n.\r\n", b"y" * 997 + b"\r\n"),
        (b"a.\r\n.b.\r\nc\r\n.\r\n", b"a.\r\nb.\r\nc\r\n"),
    ],
)
def test_dots_are_unstuffed_exactly(stuffed: bytes, content: bytes) -> None:
    for pieces in ([stuffed + b"NEXT"], octet_by_octet(stuffed + b"NEXT")):
        assert read(pieces) == (content, b"NEXT")


@pytest.mark.covers("SEC-16", "SEC-17", "SEC-18")
def test_of_all_ambiguous_forms_none_is_an_end() -> None:
    ambiguous = [variant for variant in MATRIX if not is_true_end(variant)]
    assert len(MATRIX) == 1176
    assert len(ambiguous) > 1100
    for variant in ambiguous:
        octets = b"Subject: x\r\n\r\nbody" + variant + b"MAIL FROM:<a@b>"
        assert read([octets])[1] is None, variant
        assert read(octet_by_octet(octets))[1] is None, variant


@pytest.mark.covers("SEC-18")
def test_the_true_ends_of_the_matrix_end_where_they_are() -> None:
    for variant in filter(is_true_end, MATRIX):
        octets = b"body" + variant + b"NEXT"
        assert read([octets])[1] == octets.partition(b"\r\n.\r\n")[2], variant


@pytest.mark.covers("SEC-1", "SEC-2", "SEC-3")
@pytest.mark.parametrize("row", [row for row in ROWS if row <= 5])
def test_rows_1_to_5_in_every_split(row: int) -> None:
    assert_never_an_end(row)


@pytest.mark.covers("SEC-6", "SEC-7", "SEC-9")
@pytest.mark.parametrize("row", [6, 7, 9])
def test_rows_6_to_9_in_every_split(row: int) -> None:
    assert_never_an_end(row)


@pytest.mark.covers("SEC-11", "SEC-12", "SEC-13")
@pytest.mark.parametrize("row", [11, 12, 13])
def test_rows_11_to_13_in_every_split(row: int) -> None:
    assert_never_an_end(row)


@pytest.mark.covers("SEC-14", "SEC-15", "SEC-19")
@pytest.mark.parametrize("row", [14, 15, 16, 17])
def test_rows_14_to_17_in_every_split(row: int) -> None:
    assert_never_an_end(row)


def assert_never_an_end(row: int) -> None:
    for variant in ROWS[row]:
        octets = b"ab" + variant + b"cd"
        whole = read([octets])
        assert whole[1] is None
        for cut in range(len(octets)):
            assert read([octets[:cut], octets[cut:]]) == whole
        assert read(octet_by_octet(octets)) == whole


@pytest.mark.covers("SEC-8")
def test_a_late_line_feed_makes_the_end_whenever_it_comes() -> None:
    reader = DotReader()
    assert reader.read(b"a\r\n.\r") == b"a"
    assert not reader.finished
    assert reader.read(b"\n") == b"\r\n"
    assert reader.finished


@pytest.mark.covers("SEC-10")
def test_a_stray_return_before_the_end_does_not_hide_it() -> None:
    assert read([b"a" + TRUE_END_AFTER_STRAY_CR + b"NEXT"]) == (b"a\r\r\n", b"NEXT")


@pytest.mark.covers("SEC-20")
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_rows_astride_of_buffer_sizes(boundary: int, shift: int) -> None:
    for variant in [variant for row in ROWS.values() for variant in row]:
        for inside in range(len(variant)):
            octets = b"x" * (boundary + shift - inside) + variant + b"y"
            assert read([octets[:boundary], octets[boundary:]])[1] is None


@pytest.mark.covers("SEC-20")
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_true_end_astride_of_buffer_sizes(boundary: int) -> None:
    for inside in range(6):
        octets = b"x" * (boundary - inside) + b"\r\n.\r\nNEXT"
        content = b"x" * (boundary - inside) + b"\r\n"
        assert read([octets[:boundary], octets[boundary:]]) == (content, b"NEXT")


tokens = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"\0", b"a", b"\r\n.\r\n", b"\r\n.", b"..x"]))


@pytest.mark.covers("SMTP-1", "SEC-19")
@given(tokens, st.lists(st.integers(0, 5)))
@example([b"\r", b"\n.", b"\r\n"], [1, 1])
def test_any_octets_in_any_split_read_like_the_reference(parts: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(parts)
    content, rest = reference(octets)
    pieces, left = list[bytes](), octets
    for cut in cuts:
        pieces.append(left[:cut])
        left = left[cut:]
    found, after = read([*pieces, left])
    assert after == rest
    if rest is None:
        assert content.startswith(found) or found.startswith(content)
    else:
        assert found == content
