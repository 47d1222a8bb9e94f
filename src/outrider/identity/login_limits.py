"""How often one may guess (SEC-106): by address, and by user, without locking the owner out.

Failures are remembered for a window, for each address (an IPv4 address, an IPv6 /64) and for each user
name. An address that has once logged in as a user is that user's *known* address: guesses of strangers do
not count against it. Times are handed in; memory is bounded, the longest untouched is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, TypeVar

MAX_KEYS = 50_000
MAX_KNOWN_PER_USER = 20
_MAX_DELAY = 8.0
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Failures(Generic[K]):
    """Moments of failure by key, the last `limit` of each."""

    limit: int
    window_s: float
    _moments: OrderedDict[K, deque[float]] = field(default_factory=OrderedDict)

    def add(self, key: K, now: float) -> int:
        moments = self._moments.get(key)
        if moments is None:
            if len(self._moments) >= MAX_KEYS:
                self._moments.popitem(last=False)
            moments = self._moments[key] = deque(maxlen=max(self.limit, 1))
        self._moments.move_to_end(key)
        moments.append(now)
        return self._recent(moments, now)

    def wait_s(self, key: K, now: float) -> float:
        moments = self._moments.get(key)
        if not self.limit or moments is None or self._recent(moments, now) < self.limit:
            return 0.0
        return moments[0] + self.window_s - now

    def _recent(self, moments: deque[float], now: float) -> int:
        while moments and moments[0] <= now - self.window_s:
            moments.popleft()
        return len(moments)


class LoginLimits:
    """A limit of 0 means none. One object for all sessions; survives a reload."""

    def __init__(self, per_address: int, per_user: int, window_s: float) -> None:
        self._addresses: _Failures[str] = _Failures(per_address, window_s)
        self._users: _Failures[str] = _Failures(per_user, window_s)
        self._known: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def wait_s(self, address: IPv4Address | IPv6Address | None, user: str, now: float) -> float:
        """Seconds until another try is looked at; 0 = now. Ask with user "" before the name is known."""
        origin = _origin(address)
        wait = self._addresses.wait_s(origin, now)
        if user and not self._is_known(origin, user.casefold()):
            wait = max(wait, self._users.wait_s(user.casefold(), now))
        return wait

    def failed(self, address: IPv4Address | IPv6Address | None, user: str, now: float) -> float:
        """Count a failure; the answer is how long to wait before telling: 1 s, doubling, at most 8 s."""
        origin, name = _origin(address), user.casefold()
        failures = self._addresses.add(origin, now)
        if name and not self._is_known(origin, name):
            self._users.add(name, now)
        return float(min(_MAX_DELAY, 2.0 ** min(failures - 1, 10)))

    def succeeded(self, address: IPv4Address | IPv6Address | None, user: str) -> None:
        """The address becomes a known one of that user. Its failures stay: a guesser with one account of his
        own must not wash them off by logging in between two guesses."""
        origin, name = _origin(address), user.casefold()
        if name not in self._known and len(self._known) >= MAX_KEYS:
            self._known.popitem(last=False)
        origins = self._known.setdefault(name, OrderedDict())
        origins[origin] = None
        origins.move_to_end(origin)
        self._known.move_to_end(name)
        if len(origins) > MAX_KNOWN_PER_USER:
            origins.popitem(last=False)

    def _is_known(self, origin: str, name: str) -> bool:
        return origin in self._known.get(name, ())


def _origin(address: IPv4Address | IPv6Address | None) -> str:
    if address is None:
        return "local"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> 64:x}::/64"
    return str(address)
