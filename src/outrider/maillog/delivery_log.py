"""What delivery does, as log lines and counters (implements `delivery.observer.DeliveryObserver`)."""

from __future__ import annotations

import re
import traceback

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics
from outrider.model.message import ItemKey, MessageId
from outrider.model.result import DeliveryResult, Kind

_EVENTS = {
    Kind.DELIVERED: "delivered",
    Kind.RELAYED: "relayed",
    Kind.DEFERRED: "deferred",
    Kind.FAILED: "failed",
    Kind.DROPPED: "dropped",
}

_COUNTED = re.compile(r"[245]\.[0-7]\.[0-9]{1,2}")


def counted_status(status: str) -> str:
    """A status code as a label: other hosts choose it, so all that RFC 3463 does not know counts as one."""
    return status if _COUNTED.fullmatch(status) else "other"


class DeliveryLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def attempt_started(self, key: ItemKey, destination: str, way: str, recipients: int) -> None:
        """An item is being delivered."""
        self._metrics.attempts.inc()
        self._log.emit(
            Level.DEBUG,
            "attempt",
            id=key.message,
            item=key.number,
            destination=destination,
            way=way,
            recipients=recipients,
        )

    def attempt_finished(
        self, key: ItemKey, destination: str, recipients: int, pending: int, took_s: float
    ) -> None:
        """The attempt is over."""
        del key, destination, recipients, pending
        self._metrics.attempt_seconds.observe(took_s)

    def recipient_settled(
        self,
        message: MessageId,
        recipient: str,
        result: DeliveryResult,
        text: str,
        age_s: float,
        attempts: int,
    ) -> None:
        """A recipient's result."""
        kind = result.kind
        self._metrics.result_of(kind.value, result.protocol, counted_status(result.status)).inc()
        if kind in (Kind.DELIVERED, Kind.RELAYED):
            self._metrics.delivery_age.observe(max(age_s, 0.0))
        self._log.emit(
            Level.WARNING if kind is Kind.FAILED else Level.INFO,
            _EVENTS[kind],
            id=message,
            recipient=recipient,
            status=result.status,
            text=text,
            remote=result.remote,
            protocol=result.protocol,
            tls=result.tls,
            age_s=round(age_s, 3),
            attempts=attempts,
        )

    def connection_opened(self, remote: str, protocol: str) -> None:
        """A new connection was made."""
        self._metrics.outgoing.labels(protocol, "opened").inc()
        self._log.emit(Level.DEBUG, "connection_opened", remote=remote, protocol=protocol)

    def connection_reused(self, remote: str, protocol: str) -> None:
        """A message went over a connection that was open."""
        del remote
        self._metrics.outgoing.labels(protocol, "reused").inc()

    def connection_failed(self, host: str, address: str, protocol: str, result: DeliveryResult) -> None:
        """No session came about."""
        self._metrics.outgoing.labels(protocol, "failed").inc()
        self._log.emit(
            Level.INFO,
            "connection_failed",
            host=host,
            address=address,
            protocol=protocol,
            status=result.status,
            text=result.text,
        )

    def requirement_unmet(self, host: str, address: str, protocol: str, result: DeliveryResult) -> None:
        """The host answered, but not under our terms."""
        self._metrics.outgoing.labels(protocol, "requirement_unmet").inc()
        self._log.emit(
            Level.WARNING,
            "requirement_unmet",
            host=host,
            address=address,
            protocol=protocol,
            status=result.status,
            text=result.text,
        )

    def fell_back(self, message: MessageId, first: str, used: str, why: str, text: str) -> None:
        """Not the first way chosen."""
        self._metrics.fallbacks.labels(first, used, why).inc()
        # Another host of the same protocol is everyday life; another protocol is what an operator looks for.
        level = Level.INFO if first == used else Level.WARNING
        self._log.emit(level, "fallback", id=message, first=first, used=used, why=why, text=text)

    def destination_backed_off(self, lane: str, until: float, reason: str) -> None:
        """All mail for a way waits."""
        self._metrics.backoffs.inc()
        self._log.emit(
            Level.WARNING, "destination_backed_off", destination=lane, until=round(until), text=reason
        )

    def destination_recovered(self, lane: str) -> None:
        """First success after a back-off."""
        self._log.emit(Level.INFO, "destination_recovered", destination=lane)

    def destination_paused(self, destination: str, paused: bool) -> None:
        """By the operator."""
        event = "destination_paused" if paused else "destination_resumed"
        self._log.emit(Level.INFO, event, destination=destination)

    def report_made(self, message: MessageId, report: MessageId, recipient: str, actions: str) -> None:
        """A status report was stored."""
        self._metrics.reports.labels("made").inc()
        self._log.emit(Level.INFO, "report", id=message, report=report, recipient=recipient, text=actions)

    def report_withheld(self, message: MessageId, why: str) -> None:
        """No report where something failed."""
        self._metrics.reports.labels("withheld").inc()
        self._log.emit(Level.INFO, "report_withheld", id=message, text=why)

    def lease_lost(self, key: ItemKey) -> None:
        """Another queue manager has the item."""
        self._log.emit(Level.WARNING, "lease_lost", id=key.message, item=key.number)

    def spool_failed(self, doing: str, reason: str) -> None:
        """The spool could not do something now."""
        self._log.emit(Level.ERROR, "spool_failed", doing=doing, text=reason)

    def own_failure(self, doing: str, error: BaseException, message: MessageId | None) -> None:
        """A fault of this program."""
        self._metrics.own_failures.labels("delivery").inc()
        trace = "".join(traceback.format_exception(error, limit=-8))
        self._log.emit(
            Level.ERROR, "internal_failure", where=doing, id=message, text=repr(error), traceback=trace
        )

    def queue_counted(self, waiting: int, running: int, lanes: int) -> None:
        """What the manager holds in memory."""
        del lanes
        self._metrics.in_memory.labels("waiting").set(waiting)
        self._metrics.in_memory.labels("running").set(running)
