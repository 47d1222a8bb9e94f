"""Forward-confirmed reverse DNS, case by case."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from outrider.dns.answers import (
    Confirmation,
    DnsDisabled,
    DnsError,
    DnsTemporary,
    ForwardConfirmed,
    NoData,
    NoSuchDomain,
    UnusableAnswer,
)
from outrider.testing.dns import StaticResolver

ADDRESS = ip_address("192.0.2.1")


def resolver(*names: str) -> StaticResolver:
    table = {
        "192.0.2.1": {"PTR": list(names)},
        "good.example": {"A": ["192.0.2.1"]},
        "also.example": {"A": ["192.0.2.9", "192.0.2.1"], "AAAA": ["2001:db8::1"]},
        "bank.example": {"A": ["192.0.2.200"]},
        "empty.example": {"TXT": ["no address"]},
        "2001:db8::1": {"PTR": ["also.example"]},
    }
    return StaticResolver(table)


@pytest.mark.covers("SEC-153")
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["good.example"], ForwardConfirmed(Confirmation.CONFIRMED, ("good.example",))),
        (
            ["good.example", "also.example"],
            ForwardConfirmed(Confirmation.CONFIRMED, ("good.example", "also.example")),
        ),
        (["bank.example"], ForwardConfirmed(Confirmation.NO_MATCH, rejected=("bank.example",))),
        (["missing.example"], ForwardConfirmed(Confirmation.NO_MATCH, rejected=("missing.example",))),
        (["empty.example"], ForwardConfirmed(Confirmation.NO_MATCH, rejected=("empty.example",))),
        (
            ["bank.example", "good.example"],
            ForwardConfirmed(Confirmation.CONFIRMED, ("good.example",), ("bank.example",)),
        ),
    ],
)
async def test_only_names_that_have_the_address_are_confirmed(
    names: list[str], expected: ForwardConfirmed
) -> None:
    found = await resolver(*names).forward_confirmed(ADDRESS)
    assert found == expected
    assert found.name == (expected.names[0] if expected.names else None)


async def test_both_families_and_disguise() -> None:
    assert (await resolver().forward_confirmed(ip_address("2001:db8::1"))).name == "also.example"
    disguised = ip_address("::ffff:192.0.2.1")
    assert (await resolver("good.example").forward_confirmed(disguised)).name == "good.example"


@pytest.mark.covers("SEC-154")
@pytest.mark.parametrize("error", [NoSuchDomain, NoData, UnusableAnswer])
async def test_no_name_is_an_answer(error: type[DnsError]) -> None:
    static = resolver("good.example")
    static.fail("192.0.2.1", error)
    assert await static.forward_confirmed(ADDRESS) == ForwardConfirmed(Confirmation.NO_NAME)


@pytest.mark.covers("SEC-154")
@pytest.mark.parametrize("error", [DnsTemporary, DnsDisabled])
async def test_no_answer_is_an_error(error: type[DnsError]) -> None:
    static = resolver("good.example")
    static.fail("192.0.2.1", error)
    with pytest.raises(error):
        await static.forward_confirmed(ADDRESS)


@pytest.mark.covers("SEC-154")
async def test_a_name_that_cannot_be_looked_up_might_have_been_the_one() -> None:
    static = resolver("bank.example", "good.example")
    static.fail("good.example")
    with pytest.raises(DnsTemporary, match=r"good\.example"):
        await static.forward_confirmed(ADDRESS)


@pytest.mark.covers("SEC-154")
async def test_half_an_answer_denies_nothing() -> None:
    """The A records do not have the address, and the AAAA records are unknown: still open."""
    static = resolver("bank.example")
    static.fail("bank.example", DnsTemporary, "AAAA")
    with pytest.raises(DnsTemporary):
        await static.forward_confirmed(ADDRESS)


@pytest.mark.covers("SEC-153")
async def test_one_confirmed_name_is_enough_though_another_is_open() -> None:
    static = resolver("good.example", "also.example")
    static.fail("also.example")
    found = await static.forward_confirmed(ADDRESS)
    assert (found.name, found.undecided) == ("good.example", ("also.example",))
