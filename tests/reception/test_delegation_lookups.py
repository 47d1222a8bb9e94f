"""Domains asked for their CAs: one at a time, few in all, in bounded time, remembered (MT2-24b, MT2-25)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from outrider.identity.delegated_authorities import (
    AuthorityLookup,
    AuthorityLookupFailed,
    DelegatedAuthorities,
    LookupsExhausted,
)
from outrider.reception.delegation_lookups import (
    LEAST_AGE_S,
    MAX_AT_ONCE,
    MAX_REMEMBERED,
    TEMPORARY_KEPT_S,
    DelegationLimits,
    DelegationLookups,
)

NONE = AuthorityLookupFailed("there is none", temporary=False)
SILENT = AuthorityLookupFailed("SERVFAIL", temporary=True)
CLIENT = "192.0.2.1"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Way:
    """Says what it is told to say, once it may."""

    answer: DelegatedAuthorities | Exception | None = None
    asked: list[str] = field(default_factory=list)
    may_answer: asyncio.Event | None = None

    async def find(self, domain: str) -> DelegatedAuthorities:
        self.asked.append(domain)
        if self.may_answer is not None:
            await self.may_answer.wait()
        if isinstance(self.answer, AuthorityLookupFailed):
            raise AuthorityLookupFailed(self.answer.reason, temporary=self.answer.temporary)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or DelegatedAuthorities(domain, "dns", True, "DNS")


@dataclass
class Told:
    """What the observer hears."""

    asked: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def authority_asked_for(self, domain: str, result: str, text: str, seconds: float) -> None:
        assert seconds >= 0
        self.asked.append((domain, result, text))

    def lookup_refused(self, domain: str, address: str, reason: str) -> None:
        self.refused.append((domain, address))


def lookups(
    *ways: AuthorityLookup, clock: Clock | None = None, told: Told | None = None, **limits: float
) -> DelegationLookups:
    settings = DelegationLimits(**limits)  # type: ignore[arg-type]
    return DelegationLookups(ways, settings, clock or Clock(), told)


async def failure(
    source: DelegationLookups, domain: str = "bank.example", address: str = ""
) -> AuthorityLookupFailed:
    with pytest.raises(AuthorityLookupFailed) as caught:
        await source.authorities(domain, address)
    return caught.value


def known(source: DelegationLookups) -> DelegatedAuthorities | None:
    """The CAs that are remembered of the bank."""
    entry = source._entry("bank.example")
    return entry.outcome if entry and isinstance(entry.outcome, DelegatedAuthorities) else None


@pytest.mark.covers("MT2-24b")
async def test_what_was_found_is_remembered() -> None:
    way, clock, told = Way(), Clock(), Told()
    source = lookups(way, clock=clock, told=told, cache_s=100.0)
    assert known(source) is None
    first = await source.authorities("bank.example", CLIENT)
    assert first.at == clock.now
    clock.now += 99
    assert await source.authorities("bank.example", CLIENT) is first
    assert known(source) is first
    clock.now += 1
    assert known(source) is None
    assert await source.authorities("bank.example", CLIENT) is not first
    assert way.asked == ["bank.example"] * 2
    assert told.asked == [("bank.example", "found", "DNS")] * 2


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0.0, 100), (50.0, 50), (1.0, 5), (10_000.0, 100)])
async def test_the_publishers_time_counts_within_bounds(ttl_s: float, kept_s: int) -> None:
    way, clock = Way(DelegatedAuthorities("bank.example", "dns", True, "DNS", ttl_s=ttl_s)), Clock()
    source = lookups(way, clock=clock, cache_s=100.0)
    await source.authorities("bank.example", "")
    clock.now += kept_s - 1
    assert known(source) is not None
    clock.now += 1
    assert known(source) is None


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(("answer", "kept_s"), [(NONE, 300.0), (SILENT, TEMPORARY_KEPT_S)])
async def test_that_there_is_none_is_remembered_too(answer: AuthorityLookupFailed, kept_s: float) -> None:
    way, clock, told = Way(answer), Clock(), Told()
    source = lookups(way, clock=clock, told=told, negative_s=300.0)
    assert (await failure(source)).temporary is answer.temporary
    clock.now += kept_s - 1
    assert (await failure(source)).reason == answer.reason
    assert len(way.asked) == 1
    clock.now += 1
    await failure(source)
    assert len(way.asked) == 2
    assert told.asked[0][:2] == ("bank.example", "failed" if answer.temporary else "none")
    assert known(source) is None


async def test_a_clock_that_is_set_back_ends_what_is_remembered() -> None:
    way, clock = Way(), Clock()
    source = lookups(way, clock=clock)
    await source.authorities("bank.example", "")
    clock.now -= 10
    assert known(source) is None
    clock.now -= 1000
    await source.authorities("bank.example", CLIENT)
    assert len(way.asked) == 2


@pytest.mark.covers("MT2-24b")
async def test_one_look_up_for_a_domain_at_a_time() -> None:
    way = Way(may_answer=asyncio.Event())
    source = lookups(way)
    tasks = [asyncio.create_task(source.authorities("bank.example", CLIENT)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()  # a waiter's end is not the others'
    assert way.may_answer is not None
    way.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert len({id(one) for one in found[1:]}) == 1
    assert way.asked == ["bank.example"]


@pytest.mark.covers("MT2-24b")
async def test_each_waiter_has_a_failure_of_its_own() -> None:
    source = lookups(Way(NONE))
    first, second = await asyncio.gather(failure(source), failure(source))
    assert first is not second


@pytest.mark.covers("MT2-24b")
async def test_few_domains_are_asked_at_once() -> None:
    way, told = Way(may_answer=asyncio.Event()), Told()
    source = lookups(way, told=told)
    tasks = [
        asyncio.create_task(source.authorities(f"d{number}.example", "")) for number in range(MAX_AT_ONCE)
    ]
    await asyncio.sleep(0)
    with pytest.raises(LookupsExhausted, match="8 other domains"):
        await source.authorities("more.example", CLIENT)
    assert told.refused == [("more.example", CLIENT)]
    joined = asyncio.create_task(source.authorities("d0.example", CLIENT))  # that one is under way
    assert way.may_answer is not None
    way.may_answer.set()
    await asyncio.gather(*tasks, joined)
    assert "more.example" not in way.asked
    assert (await source.authorities("more.example", CLIENT)).domain == "more.example"


@pytest.mark.covers("MT2-24b")
async def test_a_client_may_cause_few_look_ups_a_minute() -> None:
    way, clock, told = Way(), Clock(), Told()
    source = lookups(way, clock=clock, told=told, per_minute=3)
    for number in range(3):
        await source.authorities(f"d{number}.example", CLIENT)
    with pytest.raises(LookupsExhausted, match=r"192\.0\.2\.1 has caused 3 look-ups"):
        await source.authorities("d3.example", CLIENT)
    assert len(way.asked) == 3
    assert isinstance(await source.authorities("d0.example", CLIENT), DelegatedAuthorities)  # remembered
    await source.authorities("d3.example", "192.0.2.2")
    await source.authorities("d4.example", "")  # our own are not counted
    clock.now += 60
    await source.authorities("d5.example", CLIENT)


@pytest.mark.covers("MT2-24b")
async def test_a_customer_with_many_ipv6_addresses_is_one_client() -> None:
    source = lookups(Way(), per_minute=2)
    await source.authorities("a.example", "2001:db8:1:2::1")
    await source.authorities("b.example", "2001:db8:1:2:ffff::9")
    with pytest.raises(LookupsExhausted):
        await source.authorities("c.example", "2001:db8:1:2:5::")
    await source.authorities("c.example", "2001:db8:1:3::1")


@pytest.mark.covers("MT2-24b")
async def test_a_way_that_does_not_answer_is_given_up() -> None:
    slow, told = Way(may_answer=asyncio.Event()), Told()
    source = lookups(slow, told=told, timeout_s=0.01)
    error = await failure(source)
    assert error.temporary
    assert error.reason == "bank.example has not answered within 0.01 s"


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    ("answers", "asked", "temporary"),
    [
        ((None, None), (1, 0), None),
        ((NONE, None), (1, 1), None),
        ((SILENT, None), (1, 1), None),
        ((RuntimeError("a surprise"), None), (1, 1), None),
        ((NONE, NONE), (1, 1), False),
        ((SILENT, NONE), (1, 1), True),
        ((NONE, SILENT), (1, 1), True),
        ((NONE, RuntimeError("a surprise")), (1, 1), True),
    ],
)
async def test_the_ways_are_tried_in_order(
    answers: Sequence[Exception | None], asked: tuple[int, int], temporary: bool | None
) -> None:
    ways = [Way(answer) for answer in answers]
    source = lookups(*ways)
    if temporary is None:
        assert isinstance(await source.authorities("bank.example", ""), DelegatedAuthorities)
    else:
        error = await failure(source)
        assert error.temporary is temporary
        assert "surprise" not in error.reason
    assert tuple(len(one.asked) for one in ways) == asked


@pytest.mark.covers("MT2-25")
async def test_what_does_not_fit_is_asked_for_anew_once_it_is_a_minute_old() -> None:
    way, clock = Way(), Clock()
    source = lookups(way, clock=clock)
    old = await source.authorities("bank.example", "")
    clock.now += LEAST_AGE_S - 1
    assert await source.authorities("bank.example", "", newer_than=old.at) is old
    clock.now += 1
    new = await source.authorities("bank.example", "", newer_than=old.at)
    assert new is not old
    assert await source.authorities("bank.example", "", newer_than=old.at) is new
    assert len(way.asked) == 2


@pytest.mark.covers("MT2-25")
async def test_a_failure_to_ask_anew_leaves_what_was_known_unless_it_is_gone() -> None:
    way, clock = Way(), Clock()
    source = lookups(way, clock=clock, per_minute=1)
    old = await source.authorities("bank.example", CLIENT)
    clock.now += LEAST_AGE_S
    await source.authorities("other.example", CLIENT)
    assert await source.authorities("bank.example", CLIENT, newer_than=old.at) is old  # the client's limit
    way.answer = NONE
    with pytest.raises(AuthorityLookupFailed, match="there is none"):
        await source.authorities("bank.example", "", newer_than=old.at)
    assert known(source) is None


@pytest.mark.covers("MT2-24b")
async def test_memory_is_bounded() -> None:
    way = Way(NONE)
    source = lookups(way)
    for number in range(MAX_REMEMBERED + 10):
        await failure(source, f"d{number}.example")
    assert len(source._entries) == MAX_REMEMBERED


async def test_closing_ends_what_is_under_way() -> None:
    way = Way(may_answer=asyncio.Event())
    source = lookups(way)
    task = asyncio.create_task(failure(source))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await source.aclose()
    assert (await task).temporary
