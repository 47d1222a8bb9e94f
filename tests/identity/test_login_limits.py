"""Guessing is limited, and no stranger locks an owner out."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from outrider.identity import login_limits
from outrider.identity.login_limits import LoginLimits

HOME, STRANGER = ip_address("192.0.2.1"), ip_address("198.51.100.1")


@pytest.mark.covers("SEC-106")
def test_an_address_waits_after_its_failures_until_the_window_has_passed() -> None:
    limits = LoginLimits(3, 100, 600)
    for second in range(3):
        assert limits.wait_s(STRANGER, f"user{second}", second) == 0
        limits.failed(STRANGER, f"user{second}", second)
    assert limits.wait_s(STRANGER, "", 3) == 597
    assert limits.wait_s(HOME, "", 3) == 0
    assert limits.wait_s(STRANGER, "", 600) == 0


@pytest.mark.covers("SEC-106")
def test_strangers_guessing_from_everywhere_do_not_lock_the_owner_out() -> None:
    limits = LoginLimits(10, 30, 600)
    limits.succeeded(HOME, "ann")
    for number in range(1000):
        limits.failed(ip_address(0x0A000000 + number), "Ann", 1.0)
    assert limits.wait_s(STRANGER, "ann", 2.0) > 0
    assert limits.wait_s(STRANGER, "bob", 2.0) == 0
    assert limits.wait_s(HOME, "ANN", 2.0) == 0


@pytest.mark.covers("SEC-106")
def test_an_account_of_his_own_does_not_wash_a_guesser_clean() -> None:
    limits = LoginLimits(3, 30, 600)
    for second in range(3):
        limits.failed(STRANGER, "ann", second)
        limits.succeeded(STRANGER, "mallory")
    assert limits.wait_s(STRANGER, "ann", 4) > 0


@pytest.mark.covers("SEC-106")
def test_answers_come_later_and_later() -> None:
    limits = LoginLimits(100, 100, 600)
    assert [limits.failed(STRANGER, "ann", 1.0) for _ in range(5)] == [1, 2, 4, 8, 8]


@pytest.mark.covers("SEC-106")
def test_an_ipv6_network_counts_as_one() -> None:
    limits = LoginLimits(2, 100, 600)
    limits.failed(ip_address("2001:db8::1"), "a", 1)
    limits.failed(ip_address("2001:db8::ffff:1"), "b", 1)
    assert limits.wait_s(ip_address("2001:db8::2"), "", 2) > 0
    assert limits.wait_s(ip_address("2001:db8:0:1::2"), "", 2) == 0
    limits.failed(ip_address("::ffff:192.0.2.1"), "a", 1)
    limits.failed(HOME, "a", 1)
    assert limits.wait_s(HOME, "", 2) > 0


@pytest.mark.covers("SEC-106")
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_limits, "MAX_KEYS", 100)
    limits = LoginLimits(3, 3, 600)
    for number in range(1000):
        limits.failed(ip_address(number), f"user{number}", 1.0)
        limits.succeeded(ip_address(number), f"user{number}")
    assert len(limits._addresses._moments) == 100
    assert len(limits._users._moments) <= 100
    assert len(limits._known) == 100


def test_zero_means_no_limit() -> None:
    limits = LoginLimits(0, 0, 600)
    for _ in range(100):
        limits.failed(STRANGER, "ann", 1.0)
    assert limits.wait_s(STRANGER, "ann", 1.0) == 0
