"""What the holding facility does, as log lines and counters (implements `holding.facility.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics
from outrider.model.message import MessageId


class HoldingLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def copies_held(self, message: MessageId, sender: str, mail_class: str, size: int, copies: int) -> None:
        """A message is held."""
        self._metrics.held_copies.labels("held").inc(copies)
        self._log.emit(
            Level.INFO,
            "amdp_held",
            id=message,
            sender=sender,
            mail_class=mail_class,
            size=size,
            copies=copies,
        )

    def holding_refused(self, message: MessageId, domain: str, rule: str, text: str) -> None:
        """A policy does not take it."""
        self._metrics.held_copies.labels("not_taken").inc()
        self._log.emit(Level.INFO, "amdp_not_taken", id=message, domain=domain, rule=rule, text=text)

    def copy_changed(self, message: str, number: int, recipient: str, state: str, how: str) -> None:
        """A copy has another state."""
        self._metrics.held_copies.labels(state).inc()
        self._log.emit(
            Level.INFO, "amdp_copy", id=message, copy=number, recipient=recipient, state=state, text=how
        )

    def questions_answered(self, what: str, client: str, known: int, unknown: int) -> None:
        """A batch was answered."""
        self._metrics.held_questions.labels(what, "known").inc(known)
        self._metrics.held_questions.labels(what, "unknown").inc(unknown)
        self._log.emit(Level.INFO, "amdp_answered", what=what, client=client, known=known, unknown=unknown)

    def guessing_stopped(self, client: str) -> None:
        """An address asks too much."""
        self._metrics.held_guessers.inc()
        self._log.emit(Level.WARNING, "amdp_guessing", client=client)

    def errand_done(self, kind: str, message: str, number: int) -> None:
        """A receipt, hook or refund."""
        self._metrics.held_errands.labels(kind, "done").inc()
        self._log.emit(Level.INFO, "amdp_errand_done", kind=kind, id=message, copy=number)

    def errand_failed(self, kind: str, message: str, number: int, why: str, *, given_up: bool) -> None:
        """It waits, or has ended."""
        self._metrics.held_errands.labels(kind, "given_up" if given_up else "failed").inc()
        level = Level.ERROR if given_up else Level.WARNING
        self._log.emit(
            level, "amdp_errand_failed", kind=kind, id=message, copy=number, text=why, given_up=given_up
        )

    def facility_swept(self, expired: int, bodies: int, forgotten: int) -> None:
        """Something was cleared away."""
        self._log.emit(Level.INFO, "amdp_swept", expired=expired, bodies=bodies, forgotten=forgotten)

    def facility_failed(self, doing: str, error: BaseException) -> None:
        """A fault of ours, or a store that cannot be used."""
        self._metrics.own_failures.labels("holding").inc()
        self._log.emit(Level.ERROR, "amdp_holding_failed", where=doing, text=str(error))
