"""Which domains are known to speak AMTP or MT2: DNS that fails is not taken for "no longer" (AMTP-7)."""

from __future__ import annotations

from typing import Protocol


class ServiceMemory(Protocol):
    """Remembers for one protocol, over restarts, for the time of its `seen_for`, and not without bounds."""

    def saw(self, domain: str) -> None:
        """The domain's SRV records name servers. Never raises, never waits."""
        ...

    async def knows(self, domain: str) -> bool:
        """Whether that was so within the time set. Never raises."""
        ...


class NoMemory:
    """Knows of nobody."""

    def saw(self, domain: str) -> None:
        """Nothing."""

    async def knows(self, domain: str) -> bool:
        """No."""
        return False
