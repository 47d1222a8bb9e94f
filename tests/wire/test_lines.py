"""Lines end with CRLF and nothing else, whatever the pieces they come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.wire.lines import BareLineFeed, LineBuffer, LineTooLong


def buffer_of(*pieces: bytes) -> LineBuffer:
    buffer = LineBuffer()
    for piece in pieces:
        buffer.append(piece)
    return buffer


def test_lines_come_out_in_order_and_the_rest_waits() -> None:
    buffer = buffer_of(b"one\r\ntw", b"o\r\n\r\nthr")
    assert [buffer.maybe_line(100) for _ in range(4)] == [b"one", b"two", b"", None]
    assert len(buffer) == 3
    buffer.append(b"ee\r\n")
    assert buffer.maybe_line(100) == b"three"
    assert len(buffer) == 0


@pytest.mark.covers("SEC-24")
@pytest.mark.parametrize("octets", [b"NOOP\nNOOP\r\n", b"\nNOOP\r\n", b"NOOP\n"])
def test_a_bare_line_feed_is_not_an_end(octets: bytes) -> None:
    buffer = buffer_of(octets)
    with pytest.raises(BareLineFeed) as caught:
        buffer.maybe_line(100)
    assert caught.value.line == octets.split(b"\n")[0]
    assert len(buffer) == len(octets)


@pytest.mark.covers("SEC-24")
def test_a_bare_carriage_return_stays_in_the_line() -> None:
    assert buffer_of(b"NOOP\rNOOP\r\r\n").maybe_line(100) == b"NOOP\rNOOP\r"


@pytest.mark.covers("SEC-82")
@pytest.mark.parametrize("feeding", [1, 3, 1000])
def test_the_limit_counts_the_line_end(feeding: int) -> None:
    for length, fits in ((8, True), (9, False)):
        octets = b"x" * length + b"\r\n"
        buffer = LineBuffer()
        outcome: bytes | str | None = None
        for n in range(0, len(octets), feeding):
            buffer.append(octets[n : n + feeding])
            try:
                outcome = buffer.maybe_line(10)
            except LineTooLong:
                outcome = "too long"
                break
        assert outcome == (b"x" * 8 if fits else "too long")


@pytest.mark.covers("SEC-82")
def test_a_line_too_long_is_skipped_to_its_end() -> None:
    buffer = buffer_of(b"x" * 50 + b"\nNOOP\r")
    with pytest.raises(LineTooLong):
        buffer.maybe_line(10)
    assert buffer.skip_line() == (55, False)
    buffer.append(b"\nQUIT\r\n")
    assert buffer.skip_line() == (2, True)
    assert buffer.maybe_line(10) == b"QUIT"


def test_octets_are_taken_by_count() -> None:
    buffer = buffer_of(b"BDAT 5\r\nab")
    buffer.maybe_line(100)
    assert buffer.take(5) == b"ab"
    buffer.append(b"cdeQUIT\r\n")
    assert buffer.take(3) == b"cde"
    assert buffer.starts_with(b"QUIT")
    assert not buffer.starts_with(b"cde")
    assert buffer.maybe_line(100) == b"QUIT"
    assert buffer.take(9) == b""


def test_what_was_taken_too_much_is_put_back() -> None:
    buffer = buffer_of(b"abc")
    assert buffer.take_all() == b"abc"
    buffer.append(b"d\r\n")
    buffer.put_back(b"c")
    assert buffer.maybe_line(100) == b"cd"


@pytest.mark.covers("TLS-1")
def test_everything_can_be_forgotten() -> None:
    buffer = buffer_of(b"EHLO inj")
    buffer.clear()
    buffer.append(b"ect\r\n")
    assert buffer.maybe_line(100) == b"ect"


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"bcd"])), st.lists(st.integers(1, 4)))
def test_the_pieces_make_no_difference(tokens: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(tokens)

    def read(pieces: list[bytes]) -> list[bytes | str]:
        buffer, lines = LineBuffer(), list[bytes | str]()
        for piece in pieces:
            buffer.append(piece)
            while True:
                try:
                    line = buffer.maybe_line(6)
                except (BareLineFeed, LineTooLong) as error:
                    return [*lines, type(error).__name__]
                if line is None:
                    break
                lines.append(line)
        return lines

    pieces, rest = list[bytes](), octets
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert read([*pieces, rest]) == read([octets])
