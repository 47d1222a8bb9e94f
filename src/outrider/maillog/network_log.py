"""What listeners do, as log lines and counters (has the methods of `net.listener.ListenerObserver`)."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class Connected(Protocol):
    """What is needed of a connection."""

    listener: str


class NetworkLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def connection_opened(self, connection: Connected) -> None:
        """A connection was admitted."""
        counted, now_open = self._metrics.connections_at(connection.listener)
        counted.inc()
        now_open.inc()

    def connection_closed(self, connection: Connected) -> None:
        """Its socket is closed."""
        _, now_open = self._metrics.connections_at(connection.listener)
        now_open.dec()

    def connection_refused(self, listener: str, peer: str, refusal: Enum, detail: str) -> None:
        """One was turned away."""
        self._metrics.connections_refused.labels(listener, refusal.name.lower()).inc()
        self._log.emit(
            Level.INFO,
            "connection_refused",
            listener=listener,
            client=peer,
            why=refusal.name.lower(),
            text=detail,
        )

    def accept_failed(self, listener: str, error: OSError) -> None:
        """Descriptors or memory ran out."""
        self._metrics.accept_failures.labels(listener).inc()
        self._log.emit(Level.ERROR, "accept_failed", listener=listener, text=error.strerror or str(error))
