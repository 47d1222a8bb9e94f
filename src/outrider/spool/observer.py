"""What the spool has to record: facts in the past tense, for log and metrics."""

from __future__ import annotations

from typing import Protocol


class SpoolObserver(Protocol):
    """Called from the event loop and from the spool's threads: must be quick, thread-safe, and not raise."""

    def spool_opened(self, where: str, found: str) -> None:
        """The spool is ready; `found` says which settings it runs under (FAULT-F5, FAULT-F6)."""
        ...

    def spool_warned(self, what: str) -> None:
        """What an operator should know and need not act on at once: an older copy, a volatile device."""
        ...

    def batch_committed(self, requests: int, seconds: float) -> None:
        """One group commit became durable."""
        ...

    def commit_failed(self, requests: int, why: str) -> None:
        """A group commit failed; none of its requests was acknowledged."""
        ...

    def became_unavailable(self, why: str) -> None:
        """The database cannot be used until it has been opened anew."""
        ...

    def became_available(self) -> None:
        """It can be used again."""
        ...

    def row_quarantined(self, table: str, name: str, why: str) -> None:
        """A row was malformed and has been set aside (SEC-212)."""
        ...

    def content_damaged(self, message: str, why: str) -> None:
        """Content does not have the checksum it was stored with; the message is held (FAULT-F9)."""
        ...

    def lease_expired(self, message: str, item: int) -> None:
        """An owner was silent for longer than its lease."""
        ...


class NullObserver:
    """Records nothing."""

    def spool_opened(self, where: str, found: str) -> None:
        """Ignored."""

    def spool_warned(self, what: str) -> None:
        """Ignored."""

    def batch_committed(self, requests: int, seconds: float) -> None:
        """Ignored."""

    def commit_failed(self, requests: int, why: str) -> None:
        """Ignored."""

    def became_unavailable(self, why: str) -> None:
        """Ignored."""

    def became_available(self) -> None:
        """Ignored."""

    def row_quarantined(self, table: str, name: str, why: str) -> None:
        """Ignored."""

    def content_damaged(self, message: str, why: str) -> None:
        """Ignored."""

    def lease_expired(self, message: str, item: int) -> None:
        """Ignored."""
