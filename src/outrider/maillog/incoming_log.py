"""What the incoming gateway of AMDP does, as log lines and counters (implements
`holding.incoming.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics
from outrider.model.message import MessageId


class IncomingLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def holder_asked(self, holder: str, asked: int, known: int) -> None:
        """A call."""
        self._metrics.amdp_questions.labels("known").inc(known)
        self._metrics.amdp_questions.labels("unknown").inc(asked - known)
        self._log.emit(Level.DEBUG, "amdp_asked", holder=holder, asked=asked, known=known)

    def holder_away(self, message: MessageId, holder: str, words: str) -> None:
        """No answer now."""
        self._metrics.amdp_questions.labels("away").inc()
        self._log.emit(Level.INFO, "amdp_waits", id=message, holder=holder, text=words)

    def envelope_confirmed(
        self, message: MessageId, made: MessageId, domain: str, holder: str, how: str, fate: str
    ) -> None:
        """Called back."""
        self._metrics.amdp_envelopes.labels(fate).inc()
        self._log.emit(
            Level.INFO, "amdp_confirmed", id=message, made=made, domain=domain, holder=holder, text=how,
            fate=fate,
        )  # fmt: skip

    def envelope_dropped(self, message: MessageId, why: str, domain: str, holder: str, words: str) -> None:
        """Told to nobody else."""
        self._metrics.amdp_envelopes.labels(f"dropped-{why}").inc()
        self._log.emit(
            Level.INFO, "amdp_dropped", id=message, why=why, domain=domain, holder=holder, text=words
        )

    def message_fetched(self, message: MessageId, fetched: MessageId, holder: str, size: int) -> None:
        """Stored."""
        self._metrics.amdp_fetches.labels("fetched").inc()
        self._log.emit(Level.INFO, "amdp_fetched", id=message, fetched=fetched, holder=holder, size=size)

    def message_lost(self, message: MessageId, holder: str, why: str, words: str) -> None:
        """It cannot be had."""
        self._metrics.amdp_fetches.labels(why).inc()
        self._log.emit(Level.WARNING, "amdp_lost", id=message, holder=holder, why=why, text=words)

    def announcement_untrue(self, message: MessageId, domain: str, words: str) -> None:
        """AMDP-4b."""
        self._metrics.amdp_fetches.labels("untrue").inc()
        self._log.emit(Level.WARNING, "amdp_untrue", id=message, domain=domain, text=words)

    def receipt_given(self, message: MessageId, holder: str, taken: bool) -> None:
        """The holder may delete it."""
        self._metrics.amdp_receipts.labels("taken" if taken else "unknown").inc()
        self._log.emit(Level.INFO, "amdp_receipt", id=message, holder=holder, taken=taken)

    def abuse_reported(self, message: MessageId, domain: str, to: str, why: str) -> None:
        """A report is on its way."""
        self._metrics.amdp_reports.labels(why).inc()
        self._log.emit(Level.INFO, "amdp_abuse_reported", id=message, domain=domain, to=to, why=why)

    def incoming_failed(self, doing: str, error: BaseException, message: MessageId) -> None:
        """A fault of ours, or a store that cannot be used."""
        self._metrics.own_failures.labels("amdp").inc()
        text = f"{type(error).__name__}: {error}"
        self._log.emit(Level.ERROR, "amdp_incoming_failed", id=message, where=doing, text=text)
