"""The resolver with set answers does what its table and its schedule say."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from outrider.dns.answers import DnsTemporary, MxHost, NoData, NoSuchDomain, Resolver, SrvHost
from outrider.testing.dns import StaticResolver


def resolver() -> StaticResolver:
    table = {
        "Alpha.Example": {
            "MX": ["20 mx2.alpha.example", "10 MX1.alpha.example."],
            "TXT": ["v=spf1 -all"],
            "TLSA": ["3 1 1 " + "ab" * 32],
        },
        "mx1.alpha.example": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
        "mx2.alpha.example": {"CNAME": ["mx1.alpha.example."]},
        "null.example": {"MX": ["0 ."]},
        "_x._tcp.alpha.example": {"SRV": ["5 0 25 b.example", "1 2 3 a.example"]},
        "_y._tcp.alpha.example": {"SRV": ["0 0 0 ."]},
        "192.0.2.1": {"PTR": ["mx1.alpha.example"]},
    }
    return StaticResolver(table, secure_names=["alpha.example"])


async def test_every_kind_of_answer() -> None:
    static = resolver()
    mx = await static.mx("ALPHA.example.")
    assert mx.hosts == (MxHost(10, "mx1.alpha.example"), MxHost(20, "mx2.alpha.example"))
    assert (mx.secure, (await static.mx("null.example")).null_mx) == (True, True)
    addresses = await static.addresses("mx2.alpha.example")
    assert [str(address) for address in addresses.addresses] == ["192.0.2.1", "2001:db8::1"]
    assert (addresses.canonical_name, addresses.secure) == ("mx1.alpha.example", False)
    assert (await static.ptr(ip_address("192.0.2.1"))).names == ("mx1.alpha.example",)
    assert (await static.srv("_x._tcp.alpha.example")).hosts[0] == SrvHost(1, 2, 3, "a.example")
    assert (await static.srv("_y._tcp.alpha.example")).unavailable
    assert (await static.txt("alpha.example")).texts == (b"v=spf1 -all",)
    assert len((await static.query("alpha.example", "TLSA")).records) == 1
    assert static.asked[0] == ("alpha.example", "MX")


async def test_absence() -> None:
    static = resolver()
    with pytest.raises(NoSuchDomain):
        await static.mx("missing.example")
    with pytest.raises(NoData):
        await static.mx("mx1.alpha.example")
    with pytest.raises(NoData):
        await static.addresses("alpha.example")
    static.set("alpha.example", "A", "192.0.2.7")
    assert (await static.addresses("alpha.example")).complete
    static.set("alpha.example", "A")
    with pytest.raises(NoData):
        await static.addresses("alpha.example")


async def test_failures_on_a_schedule_and_until_healed() -> None:
    static = resolver()
    static.schedule("alpha.example", DnsTemporary, None, NoSuchDomain)
    with pytest.raises(DnsTemporary):
        await static.mx("alpha.example")
    await static.mx("alpha.example")
    with pytest.raises(NoSuchDomain):
        await static.mx("alpha.example")
    static.fail("alpha.example", DnsTemporary, "MX")
    with pytest.raises(DnsTemporary):
        await static.mx("alpha.example")
    await static.txt("alpha.example")
    static.heal("alpha.example", "MX")
    await static.mx("alpha.example")


async def test_answers_wait_while_held() -> None:
    static = resolver()
    release = static.hold("alpha.example")
    question = asyncio.create_task(static.mx("alpha.example"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not question.done()
    release.set()
    assert (await question).hosts
    static.delay("alpha.example", 0.001)
    assert (await static.mx("alpha.example")).hosts


async def test_it_can_stand_for_the_real_one() -> None:
    checked_by_mypy: Resolver = resolver()
    assert (await checked_by_mypy.forward_confirmed(ip_address("192.0.2.1"))).name == "mx1.alpha.example"
