"""The resolver against the small Internet's own name server: answers, cache, sharing, servers that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from outrider.dns.answers import (
    BadName,
    DnsDisabled,
    DnsError,
    DnsPermanent,
    DnsTemporary,
    MxHost,
    NoData,
    NoSuchDomain,
    Resolver,
    SrvHost,
    UnusableAnswer,
)
from outrider.dns.resolver import DnsResolver, ResolverSettings
from outrider.playground.dns_server import DnsServer, Fault
from outrider.playground.zones import ZoneSet
from tests.dns.resolvers import Clock, resolver_for
from tests.peers.addresses import loopback_address

ZONES = {
    "alpha.example": {
        "@": {
            "MX": ["20 mx2", "10 MX1", "10 mx0"],
            "TXT": ["v=spf1 -all", "x" * 300],
            "A": ["192.0.2.80"],
        },
        "mx0": {"A": ["192.0.2.10"], "AAAA": ["2001:db8::10"]},
        "mx1": {"A": ["192.0.2.11", "192.0.2.12"]},
        "mx2": {"AAAA": ["2001:db8::12"]},
        "www": {"CNAME": ["mx0"]},
        "mail": {"CNAME": ["www"]},
        "txt": {"TXT": ["only this"]},
        "mapped": {"AAAA": ["::ffff:127.0.0.1"]},
        "_amtp._tcp": {"SRV": ["10 5 2526 mx1", "0 1 2525 mx0"]},
        "_mt2._tcp": {"SRV": ["0 0 0 ."]},
        "_zero._tcp": {"SRV": ["0 0 0 mx0"]},
        "null": {"MX": ["0 ."]},
        "mixed": {"MX": ["0 .", "10 mx0"]},
        "odd": {"MX": [r"10 a\032b.alpha.example."]},
        "secure": {"TLSA": ["3 1 1 " + "ab" * 32]},
    },
    "2.0.192.in-addr.arpa": {
        "10": {"PTR": ["mx0.alpha.example."]},
        "11": {"CNAME": ["11.8-15"]},  # RFC 2317
        "11.8-15": {"PTR": ["mx1.alpha.example."]},
        "66": {"PTR": ["bank.example."]},
        "67": {"PTR": [r"bank\000.evil.example."]},
    },
}


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer(ZoneSet(ZONES), loopback_address()) as running:
        yield running


@pytest.fixture
async def resolver(server: DnsServer) -> AsyncIterator[DnsResolver]:
    async with resolver_for(server.endpoint) as running:
        yield running


@pytest.fixture
async def impatient(server: DnsServer) -> AsyncIterator[DnsResolver]:
    """For what the server is silent about."""
    async with resolver_for(server.endpoint, try_timeout_s=0.05) as running:
        yield running


# -- the kinds of answers ---------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-7")
async def test_mail_exchangers_come_sorted_and_in_lower_case(resolver: DnsResolver) -> None:
    answer = await resolver.mx("Alpha.Example.")
    assert answer.hosts == (
        MxHost(10, "mx0.alpha.example"),
        MxHost(10, "mx1.alpha.example"),
        MxHost(20, "mx2.alpha.example"),
    )
    assert (answer.null_mx, answer.secure, answer.ttl_s) == (False, False, 60)


@pytest.mark.covers("SMTP-7", "SEC-158")
async def test_the_null_mx_is_told_apart(resolver: DnsResolver) -> None:
    answer = await resolver.mx("null.alpha.example")
    assert (answer.null_mx, answer.hosts) == (True, ())


@pytest.mark.covers("SEC-158")
async def test_a_null_mx_beside_others_is_dropped(resolver: DnsResolver) -> None:
    answer = await resolver.mx("mixed.alpha.example")
    assert (answer.null_mx, answer.hosts) == (False, (MxHost(10, "mx0.alpha.example"),))


@pytest.mark.covers("SMTP-7", "SEC-158")
async def test_an_mx_that_names_no_host_is_no_reason_to_try_the_domain_itself(resolver: DnsResolver) -> None:
    with pytest.raises(UnusableAnswer):
        await resolver.mx("odd.alpha.example")


@pytest.mark.covers("SMTP-7")
async def test_no_mx_and_no_domain_are_different_errors(resolver: DnsResolver) -> None:
    with pytest.raises(NoData):
        await resolver.mx("mx0.alpha.example")
    with pytest.raises(NoSuchDomain):
        await resolver.mx("missing.alpha.example")
    with pytest.raises(BadName):
        await resolver.mx("not a domain")
    # An empty non-terminal exists (RFC 8020).
    with pytest.raises(NoData):
        await resolver.mx("_tcp.alpha.example")


@pytest.mark.covers("SMTP-7")
async def test_both_families_of_addresses_are_looked_up(resolver: DnsResolver) -> None:
    answer = await resolver.addresses("mx0.alpha.example")
    assert [str(address) for address in answer.addresses] == ["192.0.2.10", "2001:db8::10"]
    assert (answer.canonical_name, answer.complete) == ("mx0.alpha.example", True)
    assert len((await resolver.addresses("mx1.alpha.example")).addresses) == 2
    assert [str(address) for address in (await resolver.addresses("mx2.alpha.example")).addresses] == [
        "2001:db8::12"
    ]


async def test_aliases_are_followed_to_the_canonical_name(resolver: DnsResolver) -> None:
    answer = await resolver.addresses("mail.alpha.example")
    assert (answer.canonical_name, len(answer.addresses)) == ("mx0.alpha.example", 2)


async def test_a_host_without_addresses_or_without_existence(resolver: DnsResolver) -> None:
    with pytest.raises(NoData):
        await resolver.addresses("txt.alpha.example")
    with pytest.raises(NoSuchDomain):
        await resolver.addresses("missing.alpha.example")


@pytest.mark.covers("SEC-158")
async def test_a_loopback_address_in_ipv6_disguise_is_shown_for_what_it_is(resolver: DnsResolver) -> None:
    answer = await resolver.addresses("mapped.alpha.example")
    assert answer.addresses == (ip_address("127.0.0.1"),)


@pytest.mark.covers("SEC-154")
async def test_names_of_addresses(resolver: DnsResolver) -> None:
    assert (await resolver.ptr(ip_address("192.0.2.10"))).names == ("mx0.alpha.example",)
    assert (await resolver.ptr(ip_address("::ffff:192.0.2.10"))).names == ("mx0.alpha.example",)
    assert (await resolver.ptr(ip_address("192.0.2.11"))).names == ("mx1.alpha.example",)
    with pytest.raises(NoSuchDomain):
        await resolver.ptr(ip_address("192.0.2.99"))
    with pytest.raises(UnusableAnswer):
        await resolver.ptr(ip_address("192.0.2.67"))


@pytest.mark.covers("SEC-162", "SEC-158")
async def test_services(resolver: DnsResolver) -> None:
    answer = await resolver.srv("_amtp._tcp.alpha.example")
    assert answer.hosts == (
        SrvHost(0, 1, 2525, "mx0.alpha.example"),
        SrvHost(10, 5, 2526, "mx1.alpha.example"),
    )
    refused = await resolver.srv("_mt2._tcp.alpha.example")
    assert (refused.unavailable, refused.hosts) == (True, ())
    with pytest.raises(UnusableAnswer):  # port 0 leads nowhere
        await resolver.srv("_zero._tcp.alpha.example")


async def test_texts_are_joined_from_their_strings(resolver: DnsResolver) -> None:
    assert set((await resolver.txt("alpha.example")).texts) == {b"v=spf1 -all", b"x" * 300}


async def test_any_other_type_comes_as_typed_records(resolver: DnsResolver) -> None:
    (record,) = (await resolver.query("secure.alpha.example", "TLSA")).records
    assert record.to_text() == "3 1 1 " + "ab" * 32
    assert len((await resolver.query("alpha.example", "MX")).records) == 3
    for nonsense in ("NONSENSE", "ANY", "AXFR", "OPT"):
        with pytest.raises(ValueError, match=nonsense):
            await resolver.query("alpha.example", nonsense)


# -- failure is not absence -------------------------------------------------------------------------------


@pytest.mark.covers("SEC-163", "SMTP-7")
@pytest.mark.parametrize("fault", list(Fault))
async def test_a_failing_mx_look_up_is_temporary_though_an_address_exists(
    server: DnsServer, resolver: DnsResolver, impatient: DnsResolver, fault: Fault
) -> None:
    server.fail("alpha.example", fault, "MX")
    with pytest.raises(DnsTemporary):
        await impatient.mx("alpha.example")
    assert (await resolver.addresses("alpha.example")).addresses


@pytest.mark.covers("SEC-163")
async def test_one_family_failing_leaves_the_other_but_not_the_whole_truth(
    server: DnsServer, resolver: DnsResolver
) -> None:
    server.fail("mx0.alpha.example", Fault.SERVFAIL, "AAAA")
    answer = await resolver.addresses("mx0.alpha.example")
    assert (answer.addresses, answer.complete) == ((ip_address("192.0.2.10"),), False)


@pytest.mark.covers("SEC-163")
async def test_no_address_of_one_family_and_no_answer_for_the_other_is_temporary(
    server: DnsServer, impatient: DnsResolver
) -> None:
    server.fail("mx2.alpha.example", Fault.SILENT, "AAAA")  # and it has no A
    with pytest.raises(DnsTemporary):
        await impatient.addresses("mx2.alpha.example")


async def test_a_domain_outside_the_server_s_zones_is_unknown_not_absent(resolver: DnsResolver) -> None:
    with pytest.raises(DnsTemporary, match="REFUSED"):
        await resolver.mx("elsewhere.test")


async def test_without_servers_there_is_no_dns_at_all() -> None:
    async with resolver_for() as resolver:
        for question in (
            resolver.mx("alpha.example"),
            resolver.addresses("alpha.example"),
            resolver.ptr(ip_address("192.0.2.1")),
            resolver.srv("_amtp._tcp.alpha.example"),
            resolver.txt("alpha.example"),
            resolver.query("alpha.example", "TLSA"),
            resolver.forward_confirmed(ip_address("192.0.2.1")),
        ):
            with pytest.raises(DnsDisabled) as caught:
                await question
            assert isinstance(caught.value, DnsPermanent)
            assert not isinstance(caught.value, DnsTemporary | NoData)


# -- several servers --------------------------------------------------------------------------------------


async def test_the_next_server_is_asked_when_one_fails(server: DnsServer) -> None:
    async with DnsServer(ZoneSet(ZONES), loopback_address()) as broken:
        broken.fail("alpha.example", Fault.SERVFAIL)
        async with resolver_for(broken.endpoint, server.endpoint) as resolver:
            assert (await resolver.mx("alpha.example")).hosts
            assert broken.asked


async def test_what_the_first_server_knows_to_be_absent_is_not_asked_again(server: DnsServer) -> None:
    async with (
        DnsServer(ZoneSet(ZONES), loopback_address()) as second,
        resolver_for(server.endpoint, second.endpoint) as resolver,
    ):
        with pytest.raises(NoSuchDomain):
            await resolver.mx("missing.alpha.example")
        assert not second.asked


async def test_a_silent_server_is_asked_last_for_a_while(server: DnsServer) -> None:
    clock = Clock()
    async with DnsServer(ZoneSet(ZONES), loopback_address()) as silent:
        for name in ("alpha.example", "mx0.alpha.example", "txt.alpha.example"):
            silent.fail(name, Fault.SILENT)
        servers = (silent.endpoint, server.endpoint)
        async with resolver_for(*servers, clock=clock, try_timeout_s=0.5) as resolver:
            await resolver.mx("alpha.example")
            await resolver.addresses("mx0.alpha.example")
            assert list(silent.asked) == [("alpha.example", "MX")]
            clock.now += resolver.settings.rest_after_silence_s
            await resolver.txt("txt.alpha.example")
            assert list(silent.asked)[1:] == [("txt.alpha.example", "TXT")]


async def test_a_silent_server_is_asked_again_if_it_is_the_only_one(
    server: DnsServer, impatient: DnsResolver
) -> None:
    server.fail("alpha.example", Fault.SILENT)
    with pytest.raises(DnsTemporary, match="time-out"):
        await impatient.mx("alpha.example")
    assert list(server.asked) == [("alpha.example", "MX")] * 2


@pytest.mark.covers("SEC-163")
async def test_a_server_that_is_not_there(address: str) -> None:
    async with resolver_for(f"{address}:9") as resolver:
        with pytest.raises(DnsTemporary, match="refused"):
            await resolver.mx("alpha.example")


async def test_the_total_time_limit_bounds_all_tries(server: DnsServer) -> None:
    server.fail("alpha.example", Fault.SILENT)
    async with resolver_for(server.endpoint, try_timeout_s=60.0, total_timeout_s=0.1) as resolver:
        with pytest.raises(DnsTemporary, match=r"no answer within 0\.1 s"):
            await resolver.mx("alpha.example")


async def test_ipv6_servers(server: DnsServer) -> None:
    async with (
        DnsServer(server.zones, "::1") as on_ipv6,
        resolver_for(on_ipv6.endpoint) as resolver,
    ):
        assert (await resolver.mx("alpha.example")).hosts
        assert len((await resolver.txt("alpha.example")).texts) == 2


@pytest.mark.covers("ITP-2c")
@pytest.mark.parametrize(
    ("server", "validating", "believed"),
    [
        ("127.0.0.1", True, True),
        ("127.0.0.53:5353", True, True),
        ("[::1]:53", True, True),
        ("127.0.0.1", False, False),
        ("9.9.9.9", True, False),
        ("192.168.0.1", True, False),
        ("[2620:fe::fe]:53", True, False),
    ],
)
def test_whose_word_on_dnssec_counts(server: str, validating: bool, believed: bool) -> None:
    settings = ResolverSettings.from_config([server], validating)
    assert settings.believes(settings.servers[0]) is believed


# -- the cache --------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-164")
@pytest.mark.parametrize(
    ("ttl_s", "kept_s"), [(0, 5), (1, 5), (60, 60), (86_400, 86_400), (2**31 - 1, 86_400), (604_800, 86_400)]
)
async def test_times_to_live_are_kept_within_bounds(server: DnsServer, ttl_s: int, kept_s: int) -> None:
    clock = Clock()
    server.zones.put("ttl.alpha.example", "MX", "10 mx0.alpha.example.", ttl_s=ttl_s)
    async with resolver_for(server.endpoint, clock=clock) as resolver:
        assert (await resolver.mx("ttl.alpha.example")).ttl_s == kept_s
        clock.now += kept_s - 0.001
        await resolver.mx("ttl.alpha.example")
        assert len(server.asked) == 1
        clock.now += 0.001
        await resolver.mx("ttl.alpha.example")
        assert len(server.asked) == 2


@pytest.mark.covers("SEC-164")
async def test_absence_is_remembered_for_the_time_the_zone_states(server: DnsServer) -> None:
    clock = Clock()
    async with resolver_for(server.endpoint, clock=clock) as resolver:
        for now in (0.0, 59.9):
            clock.now = 1000.0 + now
            with pytest.raises(NoSuchDomain):
                await resolver.mx("new.alpha.example")
        server.zones.put("new.alpha.example", "MX", "10 mx0.alpha.example.")
        clock.now = 1060.0
        assert (await resolver.mx("new.alpha.example")).hosts


@pytest.mark.covers("SEC-164")
async def test_absence_is_not_remembered_for_longer_than_an_hour(server: DnsServer) -> None:
    clock = Clock()
    server.zones.put("alpha.example", "SOA", "ns.test. root.test. 1 3600 900 604800 604800", ttl_s=604_800)
    async with resolver_for(server.endpoint, clock=clock) as resolver:
        for later_s in (0, 3599, 1):
            clock.now += later_s
            with pytest.raises(NoData):
                await resolver.mx("mx0.alpha.example")
    assert len(server.asked) == 2


async def test_a_failure_is_remembered_for_seconds_only(server: DnsServer) -> None:
    clock = Clock()
    server.fail("alpha.example", Fault.SERVFAIL)
    async with resolver_for(server.endpoint, clock=clock) as resolver:
        for _ in range(3):
            with pytest.raises(DnsTemporary):
                await resolver.mx("alpha.example")
        assert len(server.asked) == 1
        server.heal("alpha.example")
        clock.now += resolver.settings.failure_ttl_s
        assert (await resolver.mx("alpha.example")).hosts


@pytest.mark.covers("SEC-164")
async def test_types_and_names_are_kept_apart(server: DnsServer, resolver: DnsResolver) -> None:
    with pytest.raises(NoData):
        await resolver.mx("mx0.alpha.example")
    assert (await resolver.addresses("mx0.alpha.example")).addresses
    assert (await resolver.query("alpha.example", "MX")).records
    assert (await resolver.mx("alpha.example")).hosts
    assert (await resolver.mx("ALPHA.example.")).hosts
    assert len(server.asked) == 5


async def test_a_flush_forgets(server: DnsServer, resolver: DnsResolver) -> None:
    await resolver.mx("alpha.example")
    resolver.flush()
    await resolver.mx("alpha.example")
    assert len(server.asked) == 2


async def test_a_remembered_answer_neither_waits_nor_starts_a_task(resolver: DnsResolver) -> None:
    await resolver.mx("alpha.example")
    await resolver.addresses("alpha.example")
    before = asyncio.all_tasks()
    for question in (resolver.mx("alpha.example"), resolver.addresses("alpha.example")):
        with pytest.raises(StopIteration):  # it ends at the first step: it never suspended
            question.send(None)
    assert asyncio.all_tasks() == before


# -- sharing ----------------------------------------------------------------------------------------------


async def waiting(resolver: DnsResolver, shared: int) -> None:
    """Let the loop run until so many questions have joined one under way."""
    while resolver.counters.shared < shared:
        await asyncio.sleep(0)


async def test_one_query_serves_all_who_ask_at_once(server: DnsServer, resolver: DnsResolver) -> None:
    answers = await asyncio.gather(*(resolver.mx("alpha.example") for _ in range(50)))
    assert len({answer.hosts for answer in answers}) == 1
    assert len(server.asked) == 1
    assert (resolver.counters.sent, resolver.counters.shared) == (1, 49)


async def test_each_waiter_gets_an_error_of_its_own(server: DnsServer, resolver: DnsResolver) -> None:
    errors = await asyncio.gather(
        *(resolver.mx("missing.alpha.example") for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(error, NoSuchDomain) for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert len(server.asked) == 1


async def test_a_waiter_that_leaves_does_not_disturb_the_others(
    server: DnsServer, resolver: DnsResolver
) -> None:
    first, second, third = (asyncio.create_task(resolver.mx("alpha.example")) for _ in range(3))
    await waiting(resolver, 2)
    first.cancel()
    second.cancel()
    assert (await third).hosts
    assert first.cancelled()
    assert second.cancelled()
    assert len(server.asked) == 1


async def test_a_query_that_nobody_waits_for_is_stopped_and_can_be_asked_anew(
    server: DnsServer, resolver: DnsResolver
) -> None:
    server.fail("alpha.example", Fault.SILENT)
    before = asyncio.all_tasks()
    waiters = [asyncio.create_task(resolver.mx("alpha.example")) for _ in range(2)]
    await waiting(resolver, 1)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    server.heal("alpha.example")
    assert (await resolver.mx("alpha.example")).hosts
    assert resolver.counters.shared == 1


async def test_closing_ends_the_wait(server: DnsServer, resolver: DnsResolver) -> None:
    server.fail("alpha.example", Fault.SILENT)
    waiters = [asyncio.create_task(resolver.mx("alpha.example")) for _ in range(2)]
    await waiting(resolver, 1)
    await resolver.aclose()
    for outcome in await asyncio.gather(*waiters, return_exceptions=True):
        assert isinstance(outcome, DnsTemporary)
    with pytest.raises(DnsTemporary):
        await resolver.mx("alpha.example")


async def test_no_more_queries_than_allowed_are_under_way_at_once(server: DnsServer) -> None:
    server.fail("alpha.example", Fault.SILENT)
    async with resolver_for(server.endpoint, max_in_flight=1) as resolver:
        first = asyncio.create_task(resolver.mx("alpha.example"))
        second = asyncio.create_task(resolver.mx("null.alpha.example"))
        while not server.asked:
            await asyncio.sleep(0.001)
        assert resolver.counters.sent == 1
        first.cancel()
        assert (await second).null_mx
        assert resolver.counters.sent == 2


# -- forward-confirmed reverse DNS ------------------------------------------------------------------------


@pytest.mark.covers("SEC-153")
async def test_a_name_counts_only_if_it_has_the_address(server: DnsServer, resolver: DnsResolver) -> None:
    server.zones.add_zone("bank.example", {"@": {"A": ["192.0.2.200"]}})
    assert (await resolver.forward_confirmed(ip_address("192.0.2.10"))).name == "mx0.alpha.example"
    assert (await resolver.forward_confirmed(ip_address("192.0.2.11"))).name == "mx1.alpha.example"
    forged = await resolver.forward_confirmed(ip_address("192.0.2.66"))
    assert (forged.name, forged.rejected) == (None, ("bank.example",))


@pytest.mark.covers("SEC-154")
async def test_a_reverse_zone_that_does_not_answer_is_temporary(
    server: DnsServer, impatient: DnsResolver
) -> None:
    server.fail("10.2.0.192.in-addr.arpa", Fault.SILENT)
    with pytest.raises(DnsTemporary):
        await impatient.forward_confirmed(ip_address("192.0.2.10"))


def test_errors_speak_plainly() -> None:
    error: DnsError = NoData("alpha.example", "MX", "no such record")
    assert str(error) == "MX alpha.example: no such record"


async def test_the_resolver_keeps_to_the_interface(resolver: DnsResolver) -> None:
    checked_by_mypy: Resolver = resolver
    assert checked_by_mypy is resolver
