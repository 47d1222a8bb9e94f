"""A memory of what certificate chains have proven: a peer's next connection costs no signature check."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_KNOWN = 4096
"""Answers kept; about a kilobyte each."""
LEAST_S = 60.0
"""For an answer that holds for no longer by itself, a refusal above all: a peer that comes back at once with
the same bad chain costs nothing, and one whose CA is mended is not kept waiting."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    value: T
    since: float
    until: float
    basis: object


class KnownChains(Generic[T]):
    """Answers by key, the least recently used forgotten first. Times in seconds since the epoch."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._entries: OrderedDict[bytes, _Entry[T]] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: bytes, now: float, basis: object) -> T | None:
        """The answer, if it still holds at `now` (a clock set back ends it too) and was found on this very
        `basis`: the object that it depends on, such as a set of revocations."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.basis is not basis or not entry.since <= now < entry.until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.value

    def keep(self, key: bytes, value: T, now: float, until: float, basis: object) -> None:
        """Remember an answer; `until` not after now means: for a short while."""
        self._entries[key] = _Entry(value, now, until if until > now else now + LEAST_S, basis)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)
