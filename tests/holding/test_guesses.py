"""Misses of an address over a minute and over workers (AMDP-12)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from outrider.holding.facility.guesses import Guesses, MissCounts
from outrider.net.shared_counts import SharedCounts

CLIENT, OTHER = ip_address("192.0.2.9"), ip_address("192.0.2.10")
START = 1_800_000_000.0
"""The beginning of a minute."""


@pytest.mark.covers("AMDP-12", "SEC-181")
def test_the_limit_is_that_of_all_workers_together() -> None:
    memory = SharedCounts(2)
    first, second = (Guesses(10, MissCounts(memory.row(row))) for row in range(2))
    assert not first.missed(CLIENT, 9, START)
    assert second.wait_s(CLIENT, START) == 0
    assert second.missed(CLIENT, 1, START), "the tenth"
    assert first.wait_s(CLIENT, START + 1) > 0
    assert second.wait_s(CLIENT, START + 1) > 0
    assert second.wait_s(OTHER, START + 1) == 0


@pytest.mark.covers("AMDP-12")
def test_who_has_missed_nothing_is_heard_whatever_a_crowd_does() -> None:
    memory = SharedCounts(2)
    first, second = (Guesses(10, MissCounts(memory.row(row))) for row in range(2))
    for number in range(60_000):
        first.missed(ip_address(0x0A00_0000 + number), 10, START)
    assert second.wait_s(CLIENT, START) == 0


@pytest.mark.covers("AMDP-12")
@pytest.mark.parametrize("began", [START, START + 31.5, START + 59])
def test_it_is_heard_again_when_it_was_told_to_come_back_and_not_before(began: float) -> None:
    guesses = Guesses(10)
    for missed in (10, 300):
        guesses.missed(CLIENT, missed, began)
        wait = guesses.wait_s(CLIENT, began)
        assert 0 < wait <= 121
        assert guesses.wait_s(CLIENT, began + wait - 1.5) > 0
        assert guesses.wait_s(CLIENT, began + wait) == 0
        began += 600


@pytest.mark.covers("AMDP-12")
def test_a_minute_s_end_forgives_nothing() -> None:
    guesses = Guesses(10)
    guesses.missed(CLIENT, 9, START + 59)
    assert guesses.missed(CLIENT, 9, START + 61)
    assert guesses.wait_s(CLIENT, START + 61) > 0


@pytest.mark.covers("AMDP-12")
def test_what_was_long_ago_is_given_back_to_all() -> None:
    memory = SharedCounts(1)
    row = memory.row(0)
    guesses = Guesses(10, MissCounts(row))
    guesses.missed(CLIENT, 10, START)
    key = b"%d %s" % (int(START // 60), str(CLIENT).encode())
    assert row.total(key) == 10
    guesses.missed(OTHER, 1, START + 180)
    assert row.total(key) == 0
