"""How often an address may ask about what is not to be had (AMDP-12)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from outrider.holding.web import IPAddress

MOST_ADDRESSES = 100_000
"""Remembered at once; the oldest are forgotten first, which an attacker with so many addresses gains little
by."""
MINUTE_S = 60.0


@dataclass(slots=True)
class _Count:
    since: float
    misses: int


class Guesses:
    """Counts misses of each address (IPv6: /64) within a minute. One process's view: with n workers an
    address has n times as many, of 2**130."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._counts: dict[str, _Count] = {}

    def wait_s(self, client: IPAddress, now: float) -> int:
        """Seconds for which nothing is answered to the address; 0 = it may ask."""
        found = self._counts.get(_key(client))
        if found is None or not self._limit or found.misses < self._limit:
            return 0
        return max(int(found.since + MINUTE_S - now) + 1, 1) if now < found.since + MINUTE_S else 0

    def missed(self, client: IPAddress, count: int, now: float) -> bool:
        """So many were not to be had; True when with these the limit is reached."""
        if not count or not self._limit:
            return False
        key = _key(client)
        found = self._counts.get(key)
        if found is None or now >= found.since + MINUTE_S:
            self._make_room()
            self._counts.pop(key, None)
            found = self._counts[key] = _Count(now, 0)
        before = found.misses
        found.misses += count
        return before < self._limit <= found.misses

    def _make_room(self) -> None:
        while len(self._counts) >= MOST_ADDRESSES:
            del self._counts[next(iter(self._counts))]


def _key(client: IPAddress) -> str:
    if isinstance(client, IPv6Address):
        if client.ipv4_mapped is not None:
            return str(client.ipv4_mapped)
        return f"{IPv6Address(int(client) >> 64 << 64)}/64"
    return str(client)
