"""The cache's times and bounds."""

from __future__ import annotations

import pytest

from outrider.dns.cache import TtlCache
from tests.dns.resolvers import Clock


def cache_of(clock: Clock, entries: int = 10, octets: int = 1_000_000) -> TtlCache[str, int]:
    return TtlCache(clock, entries, octets)


def test_a_value_lives_until_its_time_is_up() -> None:
    clock = Clock()
    cache = cache_of(clock)
    cache.put("a", 1, ttl_s=60)
    clock.now += 59.9
    assert cache.get("a") == 1
    clock.now += 0.1
    assert cache.get("a") is None
    assert (len(cache), cache.octets) == (0, 0)


def test_a_value_without_time_is_not_kept() -> None:
    cache = cache_of(Clock())
    cache.put("a", 1, ttl_s=60)
    cache.put("a", 2, ttl_s=0)
    assert cache.get("a") is None


@pytest.mark.covers("SEC-164")
def test_the_least_recently_used_goes_first() -> None:
    cache = cache_of(Clock(), entries=2)
    cache.put("a", 1, 60)
    cache.put("b", 2, 60)
    assert cache.get("a") == 1
    cache.put("c", 3, 60)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


@pytest.mark.covers("SEC-164")
def test_large_answers_push_others_out_and_never_exceed_the_bound() -> None:
    cache = cache_of(Clock(), entries=1000, octets=10_000)
    for number in range(100):
        cache.put(str(number), number, 60, octets=3000)
        assert cache.octets <= 10_000
    assert len(cache) == 2
    assert cache.get("99") == 99


@pytest.mark.covers("SEC-164")
def test_an_answer_larger_than_the_cache_evicts_nothing() -> None:
    cache = cache_of(Clock(), octets=10_000)
    cache.put("a", 1, 60)
    cache.put("b", 2, 60, octets=20_000)
    assert (cache.get("a"), cache.get("b")) == (1, None)


def test_replacing_counts_once() -> None:
    cache = cache_of(Clock())
    cache.put("a", 1, 60, octets=100)
    before = cache.octets
    cache.put("a", 2, 60, octets=100)
    assert (cache.octets, cache.get("a")) == (before, 2)
    cache.clear()
    assert (len(cache), cache.octets, cache.get("a")) == (0, 0, None)
