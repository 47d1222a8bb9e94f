"""What lists and the vacation responder do, as log lines and counters (implements `lists.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics
from outrider.model.message import MessageId


class ListsLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def post_expanded(self, name: str, message: MessageId, copies: int, *, complete: bool) -> None:
        """Copies were made."""
        self._metrics.list_copies.labels(name).inc(copies)
        self._log.emit(Level.INFO, "list_expanded", list=name, id=message, copies=copies, complete=complete)

    def post_held(self, name: str, message: MessageId, held: MessageId, sender: str) -> None:
        """A post waits for a moderator."""
        self._log.emit(Level.INFO, "list_held", list=name, id=message, held=held, sender=sender)

    def mail_ignored(self, name: str, message: MessageId, sender: str, why: str) -> None:
        """Nothing is answered."""
        self._log.emit(Level.INFO, "list_ignored", list=name, id=message, sender=sender, text=why)

    def confirmation_asked(self, name: str, message: MessageId, address: str, wish: str) -> None:
        """An address was asked."""
        self._log.emit(Level.INFO, "list_asked", list=name, id=message, address=address, wish=wish)

    def member_joined(self, name: str, address: str, how: str) -> None:
        """A subscription begins."""
        self._metrics.list_members.labels(name, "joined").inc()
        self._log.emit(Level.INFO, "list_joined", list=name, address=address, how=how)

    def member_left(self, name: str, address: str, how: str) -> None:
        """A subscription ended."""
        self._metrics.list_members.labels(name, "left").inc()
        self._log.emit(Level.INFO, "list_left", list=name, address=address, how=how)

    def member_bounced(self, name: str, address: str, days: int, *, suspended: bool) -> None:
        """A copy came back."""
        if suspended:
            self._metrics.list_members.labels(name, "suspended").inc()
        self._log.emit(Level.INFO, "list_bounced", list=name, address=address, days=days, suspended=suspended)

    def vacation_answered(self, user: str, message: MessageId, answer: MessageId, to: str) -> None:
        """An answer was made."""
        self._metrics.vacation.labels("answered").inc()
        self._log.emit(Level.INFO, "vacation_answered", user=user, id=message, answer=answer, recipient=to)

    def vacation_withheld(self, user: str, message: MessageId, why: str) -> None:
        """This message gets none."""
        self._metrics.vacation.labels("withheld").inc()
        self._log.emit(Level.INFO, "vacation_withheld", user=user, id=message, text=why)

    def lists_failed(self, doing: str, error: BaseException, message: MessageId | None) -> None:
        """A fault of ours, or a store that cannot be used."""
        self._metrics.own_failures.labels("lists").inc()
        self._log.emit(Level.ERROR, "lists_failed", id=message, where=doing, text=str(error))
