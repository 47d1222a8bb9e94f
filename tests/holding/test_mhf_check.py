"""When a holder is genuine for a domain (AMDP-8), by set DNS answers and once by a real name server."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from outrider.dns.answers import DnsTemporary, NoSuchDomain
from outrider.dns.resolver import DnsResolver, ResolverSettings
from outrider.holding.incoming.mhf_check import CannotTell, Claim, Finding, HolderCheck, is_facility_name
from outrider.holding.web import CallFailed
from outrider.model.address import Domain
from outrider.runtime.incoming_parts import FacilityDns
from outrider.testing.dns import StaticResolver
from tests.holding.incoming_support import HOLDER, START
from tests.holding.scripted_holder import ADDRESS, ScriptedHolder
from tests.peers.bind import BindServer

ALPHA = Domain("alpha.example")
ZONE = {
    HOLDER: {"A": [ADDRESS], "AAAA": ["2001:db8::1"]},
    "mhf-2.alpha.example": {"A": ["192.0.2.2"]},
    "mhf-9.alpha.example": {"A": ["192.0.2.9"]},
    "192.0.2.9": {"PTR": ["mhf-9.alpha.example"]},
    "192.0.2.66": {"PTR": ["mhf-1.alpha.example"]},
    "192.0.2.67": {"PTR": ["mhf-9.beta.example"]},
    "mhf-9.beta.example": {"A": ["192.0.2.67"]},
}


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


def check(resolver: object, holder: ScriptedHolder | None = None, clock: Clock | None = None) -> HolderCheck:
    return HolderCheck(FacilityDns(resolver), holder or ScriptedHolder(), clock or Clock())  # type: ignore[arg-type]


def claim(address: str = ADDRESS, name: str = HOLDER, holder_id: str = "") -> Claim:
    return Claim(ip_address(address), name, ALPHA, holder_id)


@pytest.mark.covers("AMDP-8")
@pytest.mark.parametrize(
    ("address", "name", "genuine"),
    [
        (ADDRESS, HOLDER, True),
        ("2001:db8::1", HOLDER, True),
        ("192.0.2.2", HOLDER, True),  # another facility of the domain, found by its number
        ("192.0.2.9", HOLDER, True),  # found by PTR, behind a number that does not exist
        ("192.0.2.66", HOLDER, False),  # its PTR lies
        ("192.0.2.67", HOLDER, False),  # a facility of another domain
        ("203.0.113.1", HOLDER, False),
        (ADDRESS, "mhf-3.alpha.example", False),  # the name is not listed
        (ADDRESS, "mhf-17.alpha.example", False),
        (ADDRESS, "mhf-01.alpha.example", False),
        (ADDRESS, "mhf-0.alpha.example", False),
        (ADDRESS, "mhf-1.beta.example", False),
        (ADDRESS, "mhf-1.alpha.example.evil.example", False),
        (ADDRESS, "www.mhf-1.alpha.example", False),
        (ADDRESS, "localhost", False),
    ],
)
async def test_by_dns(address: str, name: str, genuine: bool) -> None:
    finding = await check(StaticResolver(ZONE)).find(claim(address, name))
    assert finding.genuine is genuine
    assert finding.words


@pytest.mark.covers("AMDP-8")
@pytest.mark.parametrize(
    ("own", "genuine"),
    [((), False), (("192.0.2.80",), False), ((ADDRESS,), True), (("192.0.2.80", ADDRESS), True)],
)
async def test_a_wildcard_counts_as_none(own: tuple[str, ...], genuine: bool) -> None:
    """*.alpha.example leads to the domain's web host, which others may share."""
    zone = {f"mhf-{number}.alpha.example": {"A": ["192.0.2.80"]} for number in range(17)}
    if own:
        zone[HOLDER] = {"A": list(own)}
    resolver = StaticResolver(zone)
    found = await check(resolver).find(claim("192.0.2.80"))
    assert not found.genuine
    assert (await check(resolver).find(claim())).genuine is genuine


@pytest.mark.covers("AMDP-8")
@pytest.mark.parametrize("name", ["mhf-0.alpha.example", HOLDER])
async def test_what_cannot_be_asked_is_no_answer(name: str) -> None:
    resolver = StaticResolver(ZONE)
    resolver.fail(name, DnsTemporary)
    with pytest.raises(CannotTell):
        await check(resolver).find(claim())
    resolver.heal(name)
    assert (await check(resolver).find(claim())).genuine


async def test_one_family_that_is_silent_proves_nothing() -> None:
    resolver = StaticResolver(ZONE)
    resolver.fail(HOLDER, DnsTemporary, "AAAA")
    with pytest.raises(CannotTell):
        await check(resolver).find(claim("2001:db8::1"))
    resolver.fail(HOLDER, NoSuchDomain, "AAAA")
    assert not (await check(resolver).find(claim("2001:db8::1"))).genuine


@pytest.mark.covers("AMDP-8")
async def test_the_numbers_end_with_a_name_that_does_not_exist() -> None:
    resolver = StaticResolver(ZONE)
    await check(resolver).find(claim("203.0.113.1"))
    asked = [name for name, kind in resolver.asked if kind == "A"]
    assert "mhf-3.alpha.example" in asked
    assert "mhf-4.alpha.example" not in asked


async def test_findings_are_remembered_as_long_as_dns_says() -> None:
    resolver, clock = StaticResolver(ZONE), Clock()
    asked = check(resolver, clock=clock)
    await asked.find(claim())
    before = len(resolver.asked)
    clock.now += 59
    assert (await asked.find(claim())).genuine
    assert len(resolver.asked) == before
    resolver.set(HOLDER, "A", "192.0.2.5")
    clock.now += 2
    assert not (await asked.find(claim())).genuine


@pytest.mark.covers("AMDP-8")
@pytest.mark.parametrize(
    ("answer", "status", "genuine"),
    [
        (b'{"genuine":true}', 200, True),
        (b'{"genuine":false}', 200, False),
        (b'{"genuine":"yes"}', 200, False),
        (b"true", 200, False),
        (b"", 200, False),
        (b'{"genuine":true}', 404, False),
        (b'{"genuine":true}', 302, False),
    ],
)
async def test_by_the_information_service(answer: bytes, status: int, genuine: bool) -> None:
    holder = ScriptedHolder()
    holder.genuine, holder.genuine_status = answer, status
    dynamic = Claim(ip_address("203.0.113.5"), "hold.third.example", ALPHA, "H 1&x=2")
    finding = await check(StaticResolver(ZONE), holder).find(dynamic)
    assert finding.genuine is genuine
    assert holder.asked_paths == [
        "amdp-mis.alpha.example:443/.well-known/amdp-mhf?domain=alpha.example&id=H+1%26x%3D2"
        "&address=203.0.113.5&name=hold.third.example"
    ]


@pytest.mark.covers("AMDP-8")
async def test_a_service_that_is_away_makes_the_envelope_wait() -> None:
    holder = ScriptedHolder()
    dynamic = claim("203.0.113.5", holder_id="H1")
    holder.away = CallFailed("no route")
    with pytest.raises(CannotTell):
        await check(StaticResolver(ZONE), holder).find(dynamic)
    holder.away, holder.genuine_status = None, 503
    with pytest.raises(CannotTell):
        await check(StaticResolver(ZONE), holder).find(dynamic)
    holder.away = CallFailed("its address is private", temporary=False)
    assert not (await check(StaticResolver(ZONE), holder).find(dynamic)).genuine
    assert (await check(StaticResolver(ZONE), holder).find(claim(holder_id="H1"))).genuine


@pytest.mark.covers("AMDP-8")
async def test_in_real_dns() -> None:
    zones = {
        "alpha.example": "mhf-1 A 192.0.2.1\nmhf-2 A 192.0.2.2\n",
        "wild.example": "* A 192.0.2.80\nmhf-1 A 192.0.2.1\n",
        "2.0.192.in-addr.arpa": "2 PTR mhf-2.alpha.example.\n",
    }
    with BindServer(zones) as server:
        settings = ResolverSettings.from_config([f"{server.address}:{server.port}"])
        resolver = DnsResolver(settings)
        try:
            asked = check(resolver)

            async def find(address: str, domain: str, name: str = "mhf-1") -> Finding:
                return await asked.find(Claim(ip_address(address), f"{name}.{domain}", Domain(domain), ""))

            assert (await find("192.0.2.1", "alpha.example")).genuine
            assert (await find("192.0.2.2", "alpha.example")).genuine
            assert not (await find("192.0.2.3", "alpha.example")).genuine
            assert (await find("192.0.2.1", "wild.example")).genuine
            assert not (await find("192.0.2.80", "wild.example")).genuine
            assert not (await find("192.0.2.80", "wild.example", "mhf-2")).genuine
        finally:
            await resolver.aclose()


def test_names_of_facilities() -> None:
    assert is_facility_name("MHF-16.Alpha.Example.", "alpha.example")
    assert not is_facility_name("mhf-1alpha.example", "alpha.example")
