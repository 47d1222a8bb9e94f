"""What trust lists say and how they behave, as log lines and counters (implements `trust.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class TrustLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def list_answered(self, name: str, result: str, seconds: float) -> None:
        """A question came to its end."""
        self._metrics.trust_answers.labels(name, result).inc()
        self._metrics.trust_seconds.labels(name).observe(seconds)

    def answer_remembered(self, name: str) -> None:
        """A question was answered from memory."""
        self._metrics.trust_answers.labels(name, "remembered").inc()

    def list_fell_silent(self, name: str, result: str, reason: str) -> None:
        """A list does not answer any more."""
        self._log.emit(Level.WARNING, "trust_list_silent", list=name, result=result, text=reason)

    def list_came_back(self, name: str) -> None:
        """It does again."""
        self._log.emit(Level.INFO, "trust_list_back", list=name)

    def list_file_read(self, name: str, entries: int) -> None:
        """A file was read again."""
        self._log.emit(Level.INFO, "trust_file_read", list=name, entries=entries)

    def list_file_unreadable(self, name: str, reason: str) -> None:
        """A file cannot be used."""
        self._log.emit(Level.ERROR, "trust_file_unreadable", list=name, text=reason)
