"""A bounded cache with times to live. It takes the time from a clock handed in, so that tests can own it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ENTRY_OVERHEAD_OCTETS = 500  # key, entry and value objects around the payload, measured roughly


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    expires_at: float
    octets: int


class TtlCache(Generic[K, V]):
    """Values by key until they expire; the least recently used go first when a bound is reached.

    Both bounds hold at every moment: a flood of distinct names, or of large answers, costs old entries
    and never memory (SEC-164).
    """

    def __init__(self, clock: Callable[[], float], max_entries: int, max_octets: int) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_octets = max_octets
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """About how much memory the entries take."""
        return self._octets

    def get(self, key: K) -> V | None:
        """Return the value, or None if there is none or its time is up."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: K, value: V, ttl_s: float, octets: int = 0) -> None:
        """Keep the value for `ttl_s` seconds; not at all if that is 0 or it alone would exceed a bound."""
        self._remove(key)
        octets += _ENTRY_OVERHEAD_OCTETS
        if ttl_s <= 0 or octets > self._max_octets or self._max_entries < 1:
            return
        self._entries[key] = _Entry(value, self._clock() + ttl_s, octets)
        self._octets += octets
        while len(self._entries) > self._max_entries or self._octets > self._max_octets:
            self._remove(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._octets = 0

    def _remove(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._octets -= entry.octets
