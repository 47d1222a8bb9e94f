"""AMDP's web services and the policies of others, as log lines and counters (has the methods of
`net.amdp_web_server.AmdpWebObserver` and `holding.policies.directory.PolicyObserver`).

Never a path, a query or a field: they hold secrets.
"""

from __future__ import annotations

import traceback
from functools import cache

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class AmdpWebLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._answers = cache(metrics.web_answers.labels)  # a look-up costs as much as counting

    def request_answered(self, method: str, status: int) -> None:
        """One more answer. Nothing is logged: what it meant is logged by the service."""
        self._answers(method, str(status)).inc()

    def web_tls_failed(self, client: object, failure: object) -> None:
        """A handshake failed."""
        self._metrics.handshakes.labels("server", "failed", "").inc()
        self._log.emit(Level.INFO, "tls_failed", client=str(client), protocol="amdp", text=str(failure))

    def service_broke(self, error: BaseException) -> None:
        """A fault of ours, with its traceback (SEC-215)."""
        self._metrics.own_failures.labels("web").inc()
        trace = "".join(traceback.format_exception(error, limit=-8))
        self._log.emit(Level.ERROR, "internal_failure", where="web", text=repr(error), traceback=trace)

    def policy_fetched(self, domain: str, result: str, text: str) -> None:
        """The policy of a domain was asked for."""
        self._metrics.policies.labels(result).inc()
        level = Level.WARNING if result in ("failed", "stale") else Level.INFO
        self._log.emit(level, "policy_fetched", domain=domain, result=result, text=text)
