"""What MT2 extensions do, as log lines and counters (implements `extensions.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class ExtensionsLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def extension_spoke(self, name: str, message_id: str, code: str, text: str) -> None:
        """It refused something, or had something to say."""
        self._metrics.extensions.labels(name, "spoke").inc()
        self._log.emit(
            Level.INFO, "extension_spoke", extension=name, message_id=message_id, code=code, text=text
        )

    def extension_ignored(self, name: str, message_id: str, why: str) -> None:
        """Nothing was made of it."""
        self._log.emit(Level.INFO, "extension_ignored", extension=name, message_id=message_id, text=why)

    def consent_asked(self, name: str, user: str, sender: str, message_id: str) -> None:
        """It waits for a user's word."""
        self._metrics.extensions.labels(name, "asked").inc()
        self._log.emit(
            Level.INFO, "consent_asked", extension=name, user=user, sender=sender, message_id=message_id
        )

    def extension_acted(self, name: str, user: str, sender: str, message_id: str) -> None:
        """It did what its user had consented to."""
        self._metrics.extensions.labels(name, "acted").inc()
        self._log.emit(
            Level.INFO, "extension_acted", extension=name, user=user, sender=sender, message_id=message_id
        )

    def extension_failed(self, name: str, doing: str, error: BaseException, message_id: str) -> None:
        """A fault of the extension's, or a store that cannot be used."""
        self._metrics.own_failures.labels("extensions").inc()
        text = f"{type(error).__name__}: {error}"
        self._log.emit(
            Level.ERROR, "extension_failed", extension=name, message_id=message_id, where=doing, text=text
        )
