"""What subscriptions and classification do, as log lines and counters (implements
`holding.subscriptions.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class SubscriptionsLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def subscription_asked(self, address: str, about: str, wish: str, *, letter: bool) -> None:
        """Somebody applied."""
        self._metrics.subscriptions.labels("asked").inc()
        self._log.emit(
            Level.INFO, "subscription_asked", address=address, about=about, wish=wish, letter=letter
        )

    def subscription_changed(self, address: str, about: str, standing: str, how: str) -> None:
        """A rule is a new one."""
        self._metrics.subscriptions.labels("changed").inc()
        self._log.emit(
            Level.INFO, "subscription_changed", address=address, about=about, wish=standing, how=how
        )

    def subscription_refused(self, client: str, doing: str, why: str) -> None:
        """A request was refused."""
        self._metrics.subscriptions.labels("refused").inc()
        self._log.emit(Level.INFO, "subscription_refused", client=client, where=doing, text=why)

    def addresses_synchronised(
        self, sender: str, about: str, submitted: int, accepted: int, *, told: bool
    ) -> None:
        """A sender submitted its addresses."""
        self._metrics.subscriptions.labels("synchronised" if told else "synchronised in vain").inc()
        self._log.emit(
            Level.INFO,
            "subscriptions_synchronised",
            sender=sender,
            about=about,
            submitted=submitted,
            accepted=accepted,
            told=told,
        )

    def peer_synchronised(self, peer: str, changes: int, lists: int) -> None:
        """Another server's changes were taken over."""
        self._log.emit(Level.INFO, "subscriptions_taken_over", peer=peer, changes=changes, lists=lists)

    def class_looked_up(self, domain: str, service: str, patterns: int, *, answered: bool) -> None:
        """A service was asked."""
        result = "vouched" if patterns else "unknown" if answered else "unanswered"
        self._metrics.classes.labels(result).inc()
        self._log.emit(Level.DEBUG, "class_looked_up", domain=domain, service=service, result=result)

    def class_reported(
        self, domain: str, mail_class: str, by: str, *, counted: bool, withdrawn: bool
    ) -> None:
        """The reference service got a report."""
        self._metrics.classes.labels("withdrawn" if withdrawn else "reported").inc()
        level = Level.WARNING if withdrawn else Level.INFO
        self._log.emit(
            level,
            "class_reported",
            domain=domain,
            about=mail_class,
            by=by,
            counted=counted,
            withdrawn=withdrawn,
        )

    def subscriptions_failed(self, doing: str, error: BaseException) -> None:
        """A fault of ours, a store that cannot be used, a peer that does not answer."""
        self._metrics.own_failures.labels("subscriptions").inc()
        self._log.emit(Level.ERROR, "subscriptions_failed", where=doing, text=str(error))
