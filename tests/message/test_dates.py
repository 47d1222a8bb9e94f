"""Dates as RFC 5322 writes them, read back by an independent reader."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st

from outrider.message.dates import format_date


def test_the_form() -> None:
    assert format_date(0) == "Thu, 1 Jan 1970 00:00:00 +0000"
    assert format_date(1_763_769_723.9, 60) == "Sat, 22 Nov 2025 01:02:03 +0100"
    assert format_date(1_763_769_723, -210) == "Fri, 21 Nov 2025 20:32:03 -0330"


@given(st.integers(0, 253_402_000_000), st.integers(-720, 840))
def test_it_reads_back_as_the_same_moment(moment: int, offset: int) -> None:
    assert parsedate_to_datetime(format_date(moment, offset)).timestamp() == moment


def test_moments_beyond_the_calendar_stay_in_it() -> None:
    assert format_date(-5) == format_date(0)
    assert format_date(1e18).startswith("Fri, 31 Dec 9999")
    assert format_date(1e18, 840).endswith("+0000")
