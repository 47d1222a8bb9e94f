"""What the lists and the vacation responder have to record; `maillog` implements it."""

from __future__ import annotations

from typing import Protocol

from outrider.model.message import MessageId


class ListsObserver(Protocol):
    """Told what happened; must not raise and must not wait."""

    def post_expanded(self, name: str, message: MessageId, copies: int, *, complete: bool) -> None:
        """Copies for so many members were made; `complete` when none is left."""
        ...

    def post_held(self, name: str, message: MessageId, held: MessageId, sender: str) -> None:
        """A post waits for a moderator, as message `held`."""
        ...

    def mail_ignored(self, name: str, message: MessageId, sender: str, why: str) -> None:
        """A list's address got something that is answered with nothing."""
        ...

    def confirmation_asked(self, name: str, message: MessageId, address: str, wish: str) -> None:
        """An address was asked whether it means what was sent in its name."""
        ...

    def member_joined(self, name: str, address: str, how: str) -> None:
        """A subscription begins (again)."""
        ...

    def member_left(self, name: str, address: str, how: str) -> None:
        """A subscription ended."""
        ...

    def member_bounced(self, name: str, address: str, days: int, *, suspended: bool) -> None:
        """A report says that a copy could not be delivered; `days` with one so far."""
        ...

    def vacation_answered(self, user: str, message: MessageId, answer: MessageId, to: str) -> None:
        """A user's answer was made."""
        ...

    def vacation_withheld(self, user: str, message: MessageId, why: str) -> None:
        """A user is away, and this message gets no answer."""
        ...

    def lists_failed(self, doing: str, error: BaseException, message: MessageId | None) -> None:
        """A fault of ours, or a store that cannot be used."""
        ...
