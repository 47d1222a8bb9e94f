"""How often an address may ask about what is not to be had (AMDP-12), over all workers of this server.

Misses are counted by the minute of the clock. What counts of the minute before is the part of it that lies
within the last sixty seconds: no moment comes at which a guesser begins anew.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final, Protocol

from outrider.holding.web import IPAddress

MOST_ADDRESSES: Final = 100_000
"""Remembered at once by a worker; the oldest are forgotten first, which an attacker with so many addresses
gains little by."""
MINUTE_S: Final = 60.0


class MissRow(Protocol):
    """A worker's row of counts that all workers add up; `net.shared_counts.CountRow` is one."""

    def add(self, key: bytes) -> None:
        """Count one more."""
        ...

    def remove(self, key: bytes) -> None:
        """Count one less, that was added here."""
        ...

    def total(self, key: bytes) -> int:
        """How many all workers have counted; at least."""
        ...


class MissCounts:
    """Misses by address (IPv6: /64) and minute. Lives as long as the server: a reload forgives nothing."""

    def __init__(self, shared: MissRow | None = None) -> None:
        """`shared` None: this process is alone."""
        self._shared = shared
        self._own: OrderedDict[tuple[int, str], int] = OrderedDict()

    def add(self, address: str, minute: int, count: int) -> None:
        """So many more in that minute."""
        self._forget(minute)
        key = (minute, address)
        self._own[key] = self._own.get(key, 0) + count
        if self._shared is not None:
            for _ in range(count):
                self._shared.add(_octets(key))

    def of(self, address: str, minute: int) -> tuple[int, int]:
        """All workers' in that minute, and in the one before.

        Addresses share cells of the shared counts: one that has missed nothing here is believed to have
        missed nothing at all, lest a crowd of guessers silences everybody.
        """
        keys = (minute, address), (minute - 1, address)
        present, earlier = (self._own.get(key, 0) for key in keys)
        if self._shared is None or not (present or earlier):
            return present, earlier
        present, earlier = (self._shared.total(_octets(key)) for key in keys)
        return present, earlier

    def _forget(self, minute: int) -> None:
        while self._own:
            oldest = next(iter(self._own))
            if minute - 1 <= oldest[0] <= minute and len(self._own) < MOST_ADDRESSES:
                return
            count = self._own.pop(oldest)
            if self._shared is not None:
                for _ in range(count):
                    self._shared.remove(_octets(oldest))


class Guesses:
    """Who may ask, by a limit. Each worker hears an address once before it counts what others saw of it: with
    n workers the limit may be passed by n - 1 requests."""

    def __init__(self, per_minute: int, counts: MissCounts | None = None) -> None:
        """`per_minute` 0: there is no limit."""
        self._limit = per_minute
        self._counts = MissCounts() if counts is None else counts

    def wait_s(self, client: IPAddress, now: float) -> int:
        """Seconds for which nothing is answered to the address; 0 = it may ask."""
        address, minute = _network(client), int(now // MINUTE_S)
        present, earlier = self._counts.of(address, minute)
        passed_s = now % MINUTE_S
        if not self._limit or self._recent(present, earlier, passed_s) < self._limit:
            return 0
        if present < self._limit:
            free_s = MINUTE_S * (1 - (self._limit - present) / earlier)
        else:
            free_s = MINUTE_S + MINUTE_S * (1 - self._limit / present)
        return max(math.floor(free_s - passed_s) + 1, 1)

    def missed(self, client: IPAddress, count: int, now: float) -> bool:
        """So many were not to be had; True when with these the limit is reached."""
        if not count or not self._limit:
            return False
        address, minute = _network(client), int(now // MINUTE_S)
        self._counts.add(address, minute, count)
        present, earlier = self._counts.of(address, minute)
        with_these = self._recent(present, earlier, now % MINUTE_S)
        return with_these - count < self._limit <= with_these

    @staticmethod
    def _recent(present: int, earlier: int, passed_s: float) -> float:
        """Misses of the last minute, as if those of the minute before had come evenly."""
        return present + earlier * (1 - passed_s / MINUTE_S)


def _octets(key: tuple[int, str]) -> bytes:
    return f"{key[0]} {key[1]}".encode()


def _network(client: IPAddress) -> str:
    if isinstance(client, IPv6Address):
        if client.ipv4_mapped is not None:
            return str(client.ipv4_mapped)
        return f"{IPv6Address(int(client) >> 64 << 64)}/64"
    return str(client)
