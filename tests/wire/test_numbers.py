"""Numbers are digits."""

from __future__ import annotations

import pytest

from outrider.wire.numbers import maybe_number


@pytest.mark.covers("SEC-97")
@pytest.mark.parametrize(("octets", "value"), [(b"0", 0), (b"5", 5), (b"0005", 5), (b"99999", 99_999)])
def test_digits_are_numbers(octets: bytes, value: int) -> None:
    assert maybe_number(octets, 5) == value


@pytest.mark.covers("SEC-97")
@pytest.mark.parametrize(
    "octets",
    [b"", b"-1", b"+5", b" 5", b"5 ", b"1_0", b"0x10", b"1e9", "５".encode(), b"\xb2", b"123456", b"5\n"],
)
def test_everything_else_is_none(octets: bytes) -> None:
    assert maybe_number(octets, 5) is None
