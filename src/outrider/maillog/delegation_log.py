"""Domains asked for their CAs, as log lines and counters (implements `reception.delegation_lookups`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class DelegationLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def authority_asked_for(self, domain: str, result: str, text: str, seconds: float) -> None:
        """A domain was asked for its CA certificate."""
        self._metrics.ca_lookups.labels(result).inc()
        self._metrics.ca_lookup_seconds.observe(seconds)
        level = Level.WARNING if result == "failed" else Level.INFO
        self._log.emit(level, "ca_lookup", domain=domain, result=result, text=text)

    def lookup_refused(self, domain: str, address: str, reason: str) -> None:
        """A limit was met; nothing was asked."""
        self._metrics.ca_lookups.labels("limited").inc()
        self._log.emit(Level.WARNING, "ca_lookup_limited", domain=domain, client=address, text=reason)
