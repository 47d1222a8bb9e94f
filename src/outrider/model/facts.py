"""Facts with provenance (ITP-1): what is known, and how far it may be believed.

Sessions collect facts, policy reads them, explain prints them. A fact never loses the mark of how it
came to be known; a later, better proof is a further fact beside the first, not a change of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

FactValue = str | int | bool | tuple[str, ...]


class Provenance(IntEnum):
    """Ordered so that a rule can demand *at least* one of them."""

    CLAIMED = 1
    """The peer said so."""
    VOUCHED = 2
    """A third party that we chose says so; `Fact.how` names it."""
    PROVEN = 3
    """We checked; `Fact.how` says by what means."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing known: a dotted name such as ``client.address``, its value, and its warrant."""

    name: str
    value: FactValue
    provenance: Provenance
    how: str = ""
    at: float = 0.0
    """Seconds since the epoch, 0 where the moment says nothing."""

    def __str__(self) -> str:
        how = f", {self.how}" if self.how else ""
        return f"{self.name} = {self.value!r} ({self.provenance.name.lower()}{how})"


class Facts:
    """An append-only collection, which may stand on another (a message's facts on its session's)."""

    __slots__ = ("_by_name", "_parent")

    def __init__(self, facts: Iterable[Fact] = (), *, parent: Facts | None = None) -> None:
        self._parent = parent
        self._by_name: dict[str, list[Fact]] = {}
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> None:
        """Record one more fact."""
        self._by_name.setdefault(fact.name, []).append(fact)

    def claim(self, name: str, value: FactValue) -> None:
        """Record what the peer said."""
        self.add(Fact(name, value, Provenance.CLAIMED))

    def prove(self, name: str, value: FactValue, how: str, at: float = 0.0) -> None:
        """Record what was checked, and how."""
        self.add(Fact(name, value, Provenance.PROVEN, how, at))

    def get(self, name: str, at_least: Provenance = Provenance.CLAIMED) -> Fact | None:
        """The best-warranted, then latest, fact of that name; None when none reaches `at_least`."""
        best: Fact | None = self._parent.get(name, at_least) if self._parent else None
        for fact in self._by_name.get(name, ()):
            if fact.provenance >= at_least and (best is None or fact.provenance >= best.provenance):
                best = fact
        return best

    def value(self, name: str, at_least: Provenance = Provenance.CLAIMED) -> FactValue | None:
        """The value of :meth:`get`, or None."""
        fact = self.get(name, at_least)
        return None if fact is None else fact.value

    def __iter__(self) -> Iterator[Fact]:
        if self._parent is not None:
            yield from self._parent
        for facts in self._by_name.values():
            yield from facts
