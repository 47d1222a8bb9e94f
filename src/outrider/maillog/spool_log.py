"""What the spool does, as log lines and counters (implements `spool.observer.SpoolObserver`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class SpoolLog:
    """One function for each fact; called from the spool's threads too."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def spool_opened(self, where: str, found: str) -> None:
        """The spool is ready."""
        self._metrics.spool_available.set(1)
        self._log.emit(Level.INFO, "spool_opened", where=where, text=found)

    def spool_warned(self, what: str) -> None:
        """What an operator should know."""
        self._log.emit(Level.WARNING, "spool_warning", text=what)

    def batch_committed(self, requests: int, seconds: float) -> None:
        """One group commit became durable."""
        self._metrics.commits.labels("ok").inc()
        self._metrics.commit_requests.inc(requests)
        self._metrics.commit_seconds.observe(seconds)

    def commit_failed(self, requests: int, why: str) -> None:
        """A group commit failed."""
        self._metrics.commits.labels("failed").inc()
        self._log.emit(Level.ERROR, "commit_failed", requests=requests, text=why)

    def became_unavailable(self, why: str) -> None:
        """The database cannot be used."""
        self._metrics.spool_available.set(0)
        self._log.emit(Level.ERROR, "spool_unavailable", text=why)

    def became_available(self) -> None:
        """It can be used again."""
        self._metrics.spool_available.set(1)
        self._log.emit(Level.INFO, "spool_available")

    def row_quarantined(self, table: str, name: str, why: str) -> None:
        """A malformed row has been set aside."""
        self._metrics.quarantined.labels("row").inc()
        self._log.emit(Level.ERROR, "row_quarantined", table=table, name=name, text=why)

    def content_damaged(self, message: str, why: str) -> None:
        """Content without its checksum."""
        self._metrics.quarantined.labels("content").inc()
        self._log.emit(Level.ERROR, "content_damaged", id=message, text=why)

    def lease_expired(self, message: str, item: int) -> None:
        """An owner was silent for too long."""
        self._log.emit(Level.WARNING, "lease_expired", id=message, item=item)
