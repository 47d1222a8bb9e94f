"""What postage does, as log lines and counters (implements `holding.postage.observer`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class PostageLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def postage_sold(self, account: str, payer: str, domain: str, amount: int) -> None:
        """A receipt was bought here."""
        self._metrics.postage.labels("sold").inc()
        self._log.emit(Level.INFO, "postage_sold", account=account, payer=payer, domain=domain, amount=amount)

    def postage_redeemed(self, serial: str, payer: str, amount: int, cause: str) -> None:
        """A receipt was spent or reserved."""
        self._metrics.postage.labels("redeemed").inc()
        self._log.emit(Level.INFO, "postage_redeemed", serial=serial, payer=payer, amount=amount, cause=cause)

    def postage_refused(self, why: str, text: str, payer: str, cause: str) -> None:
        """A receipt was not taken, or not sold."""
        self._metrics.postage.labels("refused").inc()
        self._log.emit(Level.INFO, "postage_refused", why=why, text=text, payer=payer, cause=cause)

    def postage_returned(self, serial: str, account: str, amount: int, why: str) -> None:
        """An amount went back."""
        self._metrics.postage.labels("returned").inc()
        self._log.emit(Level.INFO, "postage_returned", serial=serial, account=account, amount=amount, why=why)

    def postage_asked_in_vain(self, client: str, account: str, text: str) -> None:
        """Somebody proved nothing."""
        self._metrics.postage.labels("not_proven").inc()
        self._log.emit(Level.WARNING, "postage_asked_in_vain", client=client, account=account, text=text)

    def postage_bought(self, domain: str, amount: int) -> None:
        """We paid."""
        self._metrics.postage.labels("bought").inc()
        self._log.emit(Level.INFO, "postage_bought", domain=domain, amount=amount)

    def postage_failed(self, doing: str, error: BaseException) -> None:
        """The ledger, or another's, cannot be used now."""
        self._metrics.own_failures.labels("postage").inc()
        self._log.emit(Level.ERROR, "postage_failed", where=doing, text=f"{type(error).__name__}: {error}")
