"""MX order, MXPS, ourselves among the exchangers, bounds, and addresses that strangers' DNS may not name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from outrider.routing.mail_exchangers import (
    MAX_ADDRESSES,
    MAX_EXCHANGERS,
    Exchanger,
    NoWay,
    Ourselves,
    Target,
    interleave,
    null_mx,
    protocols_for,
    rank,
    targets,
)
from outrider.routing.private_addresses import AddressGuard, address_guard, plain_address

NOBODY = Ourselves()
OPEN = AddressGuard()


def chance(*numbers: float) -> Callable[[], float]:
    """Gives the numbers in turn, then 0.5 for ever."""

    def numbers_then_half() -> Iterator[float]:
        yield from numbers
        while True:
            yield 0.5

    source = numbers_then_half()
    return lambda: next(source)


def ip(*texts: str) -> tuple[IPv4Address | IPv6Address, ...]:
    return tuple(ip_address(text) for text in texts)


@pytest.mark.covers("SMTP-7")
def test_lower_preference_comes_first_and_chance_orders_equals() -> None:
    records = [Exchanger(20, "c"), Exchanger(10, "a"), Exchanger(10, "b")]
    ranked = rank("d.example", records, NOBODY, chance(0.1, 0.9, 0.2))
    assert ranked == (Exchanger(10, "b"), Exchanger(10, "a"), Exchanger(20, "c"))


@pytest.mark.covers("SMTP-7")
@pytest.mark.parametrize(
    ("own", "left"),
    [
        ("c", ["a", "b"]),  # worse ones than we fall away
        ("b", ["a"]),  # equal ones too
        ("nobody", ["a", "b", "c", "d"]),
    ],
)
def test_hosts_not_better_than_ourselves_are_dropped(own: str, left: list[str]) -> None:
    records = [Exchanger(5, "a"), Exchanger(10, "b"), Exchanger(20, "c"), Exchanger(20, "d")]
    ranked = rank("d.example", records, Ourselves(frozenset({own})), chance())
    assert isinstance(ranked, tuple)
    assert [one.host for one in ranked] == left


@pytest.mark.covers("SMTP-7", "SEC-168")
def test_being_the_best_exchanger_unknowingly_is_a_loop() -> None:
    ranked = rank(
        "d.example", [Exchanger(10, "MX.us.example")], Ourselves(frozenset({"mx.us.example"})), chance()
    )
    assert isinstance(ranked, NoWay)
    assert ranked.status == "5.4.6"


@pytest.mark.covers("SMTP-7", "SEC-158")
def test_ourselves_is_also_recognised_by_address() -> None:
    exchangers = [Exchanger(10, "a"), Exchanger(20, "alias-of-us"), Exchanger(30, "c")]
    known = {"a": ip("192.0.9.1"), "alias-of-us": ip("::ffff:192.0.9.5"), "c": ip("192.0.9.3")}
    us = Ourselves(addresses=frozenset(ip("192.0.9.5")))
    guard = address_guard(("192.0.9.0/24",))
    found = targets("d.example", exchangers, known, us, guard, chance())
    assert found == (Target("smtp", "a", ip("192.0.9.1")),)
    lost = targets("d.example", exchangers[1:], known, us, guard, chance())
    assert isinstance(lost, NoWay)
    assert lost.status == "5.4.6"


@pytest.mark.covers("SEC-158")
def test_null_mx() -> None:
    assert null_mx("d.example").status == "5.1.10"


@pytest.mark.covers("QMTP-2")
@pytest.mark.parametrize(
    ("preference", "spoken"),
    [
        (0, ("smtp",)),
        (10, ("smtp",)),
        (12800, ("smtp",)),
        (12801, ("qmtp", "smtp")),
        (12802, ("smtp",)),
        (12816, ("smtp",)),
        (12817, ("qmtp", "smtp")),
        (12818, ("smtp",)),
        (13025, ("qmtp", "smtp")),
        (13041, ("qmtp", "smtp")),
        (13042, ("smtp",)),
        (13057, ("smtp",)),
        (65535, ("smtp",)),
    ],
)
def test_mxps(preference: int, spoken: tuple[str, ...]) -> None:
    assert protocols_for(preference) == spoken


@pytest.mark.covers("QMTP-2")
def test_every_sixteenth_preference_from_12801_to_13041_and_no_other_says_qmtp() -> None:
    says_qmtp = [number for number in range(65536) if "qmtp" in protocols_for(number)]
    assert says_qmtp == [12801 + 16 * step for step in range(16)]


@pytest.mark.covers("QMTP-2")
def test_a_qmtp_exchanger_is_tried_by_qmtp_and_then_by_smtp_at_the_same_host() -> None:
    exchangers = [Exchanger(12801, "q"), Exchanger(12816, "s")]
    known = {"q": ip("8.8.1.1"), "s": ip("8.8.1.2")}
    found = targets("d.example", exchangers, known, NOBODY, OPEN, chance())
    assert isinstance(found, tuple)
    assert [(one.protocol, one.host) for one in found] == [("qmtp", "q"), ("smtp", "q"), ("smtp", "s")]


@pytest.mark.covers("SEC-159")
def test_thousands_of_exchangers_and_addresses_are_cut() -> None:
    records = [Exchanger(number, f"mx{number}") for number in range(10_000)]
    ranked = rank("d.example", records, NOBODY, chance())
    assert isinstance(ranked, tuple)
    assert len(ranked) == MAX_EXCHANGERS
    many = {one.host: [IPv4Address(0x08080000 + n) for n in range(1000)] for one in ranked}
    found = targets("d.example", ranked, many, NOBODY, OPEN, chance())
    assert isinstance(found, tuple)
    assert sum(len(one.addresses) for one in found) == MAX_ADDRESSES
    assert len(found) == 2, "the second host gets its chance"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("8.8.8.8", True),
        ("::ffff:8.8.8.8", True),
        ("2606:4700::1", True),
    ],
)
@pytest.mark.covers("SMTP-7", "SEC-158")
def test_which_addresses_strangers_may_name(text: str, allowed: bool) -> None:
    assert (OPEN.refusal(ip_address(text)) == "") is allowed


@pytest.mark.covers("SMTP-7")
def test_private_destinations_open_what_they_name_and_no_more() -> None:
    guard = address_guard(("127.0.0.0/8", "fd00::/8"))
    for text in ("127.0.0.1", "::ffff:127.0.0.1", "fd00::5"):
        assert guard.refusal(ip_address(text)) == ""
    for text in ("10.0.0.1", "::1", "0.0.0.0", "::", "255.255.255.255"):
        assert guard.refusal(ip_address(text)) != ""


def test_a_network_that_is_none_names_its_key() -> None:
    with pytest.raises(ValueError, match=r"net\.private_destinations"):
        address_guard(("127.0.0.1/8",))


@pytest.mark.covers("SEC-158")
def test_private_addresses_are_dropped_and_when_nothing_is_left_the_reason_is_told() -> None:
    known = {"a": ip("127.0.0.1", "8.8.8.8"), "b": ip("::ffff:10.0.0.1")}
    found = targets("d.example", [Exchanger(1, "a"), Exchanger(2, "b")], known, NOBODY, OPEN, chance())
    assert found == (Target("smtp", "a", ip("8.8.8.8")),)
    lost = targets("d.example", [Exchanger(2, "b")], known, NOBODY, OPEN, chance())
    assert isinstance(lost, NoWay)
    assert "private_destinations" in lost.text


def test_families_take_turns_and_can_be_switched_off() -> None:
    mixed = ip("8.8.0.1", "8.8.0.2", "2606::1")
    assert interleave(mixed, chance(0.2, 0.1, 0.3)) == ip("2606::1", "8.8.0.2", "8.8.0.1")
    assert interleave(mixed, chance(), ipv6=False) == ip("8.8.0.1", "8.8.0.2")


def test_addresses_inside_addresses_are_found() -> None:
    assert plain_address(ip_address("::ffff:1.2.3.4")) == IPv4Address("1.2.3.4")
    assert plain_address(ip_address("::1")) == IPv6Address("::1")
