"""What is found while settings are checked: faults, each with its line, and what the operator should know.

Checking goes on after a fault, so that all are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeVar

from outrider.config.loader import Loaded
from outrider.config.problems import Problem
from outrider.config.schema import Config
from outrider.config.source_map import Path as KeyPath
from outrider.policy.rules import PolicyError
from outrider.routing.routes import RouteError
from outrider.runtime.amtp_checks import Fault

T = TypeVar("T")
IPNetwork = IPv4Network | IPv6Network


@dataclass(slots=True)
class Findings:
    """Of one reading of the settings."""

    loaded: Loaded
    config: Config
    """What one worker may use of them."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, key: KeyPath, fault: str, remedy: str = "") -> None:
        """Something that cannot stand, at a key."""
        self.problems.append(self.loaded.problem(key, fault, remedy))

    def faults(self, found: Iterable[Fault]) -> None:
        """Several."""
        for one in found:
            self.fault(one.key, one.fault, one.remedy)

    def part(self, key: KeyPath, build: Callable[[], T]) -> T | None:
        """What `build` gives; its complaint becomes a problem at the key it names, else at `key`."""
        try:
            return build()
        except (RouteError, PolicyError, ValueError) as error:
            problem = self.loaded.problem_from(str(error))
            self.problems.append(problem if problem.key else self.loaded.problem(key, str(error)))
        return None

    def networks(self, key: KeyPath, texts: tuple[str, ...]) -> tuple[IPNetwork, ...]:
        """The networks written there, without those that are none."""
        return tuple(self._networks(key, texts))

    def _networks(self, key: KeyPath, texts: tuple[str, ...]) -> Iterator[IPNetwork]:
        for number, text in enumerate(texts):
            try:
                yield ip_network(text)
            except ValueError as error:
                self.fault((*key, number), str(error), "write an address or a network such as 192.0.2.0/24")
