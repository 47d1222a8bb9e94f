"""What the holding facility has to record; `maillog` implements it."""

from __future__ import annotations

from typing import Protocol

from outrider.model.message import MessageId


class FacilityObserver(Protocol):
    """Told what happened; must not raise and must not wait. Message ids, numbers and tokens are never told:
    whoever has them has the mail."""

    def copies_held(self, message: MessageId, sender: str, mail_class: str, size: int, copies: int) -> None:
        """A message is held for so many recipients."""
        ...

    def holding_refused(self, message: MessageId, domain: str, rule: str, text: str) -> None:
        """The published policy of a recipient's domain does not take it."""
        ...

    def copy_changed(self, message: str, number: int, recipient: str, state: str, how: str) -> None:
        """One recipient's copy went into another state (AMDP-6)."""
        ...

    def questions_answered(self, what: str, client: str, known: int, unknown: int) -> None:
        """A batch of one kind (query, acknowledge, message, receipt, page) was answered."""
        ...

    def guessing_stopped(self, client: str) -> None:
        """An address has asked about too many ids that are not to be had (AMDP-12)."""
        ...

    def errand_done(self, kind: str, message: str, number: int) -> None:
        """A receipt is on its way to the sender, or the hook has run."""
        ...

    def errand_failed(self, kind: str, message: str, number: int, why: str, *, given_up: bool) -> None:
        """It could not be done now."""
        ...

    def facility_swept(self, expired: int, bodies: int, forgotten: int) -> None:
        """Copies whose time was over, contents deleted, records forgotten."""
        ...

    def facility_failed(self, doing: str, error: BaseException) -> None:
        """A fault of ours, or a store that cannot be used."""
        ...
