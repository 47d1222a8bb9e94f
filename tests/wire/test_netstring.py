"""Netstrings: what is one, what is none, and how they are cut."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.wire.netstring import NetstringError, NetstringReader, encode_netstring, split_netstrings

MALFORMED = [
    b"-1:",
    b"007:abcdefg,",
    b"00:,",
    b" 6:abcdef,",
    b"6 :abcdef,",
    b"1_0:",
    b"+6:abcdef,",
    "６:abcdef,".encode(),
    b":,",
    b"a",
    b",",
    b"5;hello,",
    b"0x5:hello,",
    b"99999999999:",
    b"9" * 1_000_000,
    b"5:hello;",
    b"5:hello5:",
    b"1001:",
]


def read(octets: bytes, size: int, *, limit: int) -> list[bytes]:
    """All netstrings in octets that arrive `size` at a time."""
    reader, found = NetstringReader(), []
    for start in range(0, len(octets), size):
        reader.append(octets[start : start + size])
        while (one := reader.maybe_whole(limit)) is not None:
            found.append(one)
    return found


@pytest.mark.covers("SEC-176")
@pytest.mark.parametrize("octets", MALFORMED)
@pytest.mark.parametrize("size", [1, 3, 10_000_000])
def test_what_is_no_netstring(octets: bytes, size: int) -> None:
    with pytest.raises(NetstringError):
        read(octets, size, limit=1000)


@pytest.mark.covers("SEC-176")
def test_nothing_is_allocated_from_a_length() -> None:
    reader = NetstringReader()
    reader.append(b"999999999:x")
    assert reader.maybe_whole(999_999_999) is None
    assert len(reader) == 1


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 20))
def test_what_was_written_is_read_however_it_is_cut(strings: list[bytes], size: int) -> None:
    wire = b"".join(map(encode_netstring, strings))
    assert list(split_netstrings(wire, 30)) == strings
    assert read(wire, size, limit=30) == strings


@given(st.binary(max_size=40), st.integers(1, 7))
def test_any_octets_give_netstrings_or_the_one_error(octets: bytes, size: int) -> None:
    with contextlib.suppress(NetstringError):
        assert all(len(one) <= 20 for one in read(octets, size, limit=20))


@pytest.mark.covers("SEC-177")
@pytest.mark.parametrize("inner", [b"5:abc,", b"3:abcd", b"3:abc", b"3", b"3:abc,,", b"1:a,2:b,"])
def test_an_inner_string_is_bounded_by_the_outer(inner: bytes) -> None:
    with pytest.raises(NetstringError):
        list(split_netstrings(inner, 100))


def test_piece_by_piece() -> None:
    reader = NetstringReader()
    reader.append(b"11:hello")
    assert reader.maybe_length(100) == 11
    assert reader.take(3) == b"hel"
    reader.append(b" world,0:,")
    assert reader.take(100) == b"lo world,0:,"[:100]
    reader.clear()
    reader.append(b"0:;")
    assert reader.maybe_length(9) == 0
    with pytest.raises(NetstringError):
        reader.comma()
