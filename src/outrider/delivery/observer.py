"""What delivery has to record: one past-tense method for each fact. `maillog` implements it."""

from __future__ import annotations

from typing import Protocol

from outrider.model.message import ItemKey, MessageId
from outrider.model.result import DeliveryResult


class DeliveryObserver(Protocol):
    """Told what happened; must not raise and must not wait."""

    def attempt_started(self, key: ItemKey, destination: str, way: str, recipients: int) -> None:
        """An item is being delivered."""
        ...

    def attempt_finished(
        self, key: ItemKey, destination: str, recipients: int, pending: int, took_s: float
    ) -> None:
        """The attempt is over, `pending` of its recipients wait for another."""
        ...

    def recipient_settled(
        self,
        message: MessageId,
        recipient: str,
        result: DeliveryResult,
        text: str,
        age_s: float,
        attempts: int,
    ) -> None:
        """A recipient's result, with the sentence that the trail has; `age_s` since reception."""
        ...

    def connection_opened(self, remote: str, protocol: str) -> None:
        """A new connection was made."""
        ...

    def connection_reused(self, remote: str, protocol: str) -> None:
        """A message went over a connection that was open."""
        ...

    def connection_failed(self, host: str, address: str, protocol: str, result: DeliveryResult) -> None:
        """No session came about at one address."""
        ...

    def requirement_unmet(self, host: str, address: str, protocol: str, result: DeliveryResult) -> None:
        """The host answered, but not under the terms that the operator demands (TLS-4a)."""
        ...

    def fell_back(self, message: MessageId, first: str, used: str, why: str, text: str) -> None:
        """Another host, address or protocol than the first choice is used (ITP-7). `first` and `used` are
        protocols; `why` is one word: unreachable, terms, dns."""
        ...

    def destination_backed_off(self, lane: str, until: float, reason: str) -> None:
        """All mail for a way waits: the last tries reached nobody (SEC-174)."""
        ...

    def destination_recovered(self, lane: str) -> None:
        """The first success after a back-off."""
        ...

    def destination_paused(self, destination: str, paused: bool) -> None:
        """The operator stopped or restarted mail for a destination."""
        ...

    def report_made(self, message: MessageId, report: MessageId, recipient: str, actions: str) -> None:
        """A status report about a message was stored for its sender."""
        ...

    def report_withheld(self, message: MessageId, why: str) -> None:
        """No report was made where something failed: null sender, NOTIFY, third generation."""
        ...

    def lease_lost(self, key: ItemKey) -> None:
        """Another queue manager has the item; our result is not recorded (SEC-213)."""
        ...

    def spool_failed(self, doing: str, reason: str) -> None:
        """The spool could not do something now; it is tried again."""
        ...

    def own_failure(self, doing: str, error: BaseException, message: MessageId | None) -> None:
        """A fault of this program: the operator should see it with its traceback."""
        ...

    def queue_counted(self, waiting: int, running: int, lanes: int) -> None:
        """What the manager holds in memory, from time to time."""
        ...


class NullDeliveryObserver:
    """Records nothing."""

    def attempt_started(self, key: ItemKey, destination: str, way: str, recipients: int) -> None: ...
    def attempt_finished(
        self, key: ItemKey, destination: str, recipients: int, pending: int, took_s: float
    ) -> None: ...
    def recipient_settled(
        self,
        message: MessageId,
        recipient: str,
        result: DeliveryResult,
        text: str,
        age_s: float,
        attempts: int,
    ) -> None: ...
    def connection_opened(self, remote: str, protocol: str) -> None: ...
    def connection_reused(self, remote: str, protocol: str) -> None: ...
    def connection_failed(self, host: str, address: str, protocol: str, result: DeliveryResult) -> None: ...
    def requirement_unmet(self, host: str, address: str, protocol: str, result: DeliveryResult) -> None: ...
    def fell_back(self, message: MessageId, first: str, used: str, why: str, text: str) -> None: ...
    def destination_backed_off(self, lane: str, until: float, reason: str) -> None: ...
    def destination_recovered(self, lane: str) -> None: ...
    def destination_paused(self, destination: str, paused: bool) -> None: ...
    def report_made(self, message: MessageId, report: MessageId, recipient: str, actions: str) -> None: ...
    def report_withheld(self, message: MessageId, why: str) -> None: ...
    def lease_lost(self, key: ItemKey) -> None: ...
    def spool_failed(self, doing: str, reason: str) -> None: ...
    def own_failure(self, doing: str, error: BaseException, message: MessageId | None) -> None: ...
    def queue_counted(self, waiting: int, running: int, lanes: int) -> None: ...
