"""What is told of asking classification services (AMDP-18)."""

from __future__ import annotations

from typing import Protocol


class DirectoryObserver(Protocol):
    """Must neither wait nor raise. `SubscriptionObserver` is one."""

    def class_looked_up(self, domain: str, service: str, patterns: int, *, answered: bool) -> None:
        """A classification service was asked; "" where none knew the domain."""
        ...

    def subscriptions_failed(self, doing: str, error: BaseException) -> None:
        """A service did not answer, or not as it should."""
        ...
