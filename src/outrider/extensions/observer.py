"""What extensions give occasion to record; `maillog` implements it."""

from __future__ import annotations

from typing import Protocol


class ExtensionObserver(Protocol):
    """Told what happened; must not raise and must not wait."""

    def extension_spoke(self, name: str, message_id: str, code: str, text: str) -> None:
        """An extension refused a message or a recipient, or had something to say of it."""
        ...

    def extension_ignored(self, name: str, message_id: str, why: str) -> None:
        """A message carried something that nothing was made of; its sender is not told."""
        ...

    def consent_asked(self, name: str, user: str, sender: str, message_id: str) -> None:
        """A request waits for a user's word."""
        ...

    def extension_acted(self, name: str, user: str, sender: str, message_id: str) -> None:
        """A recipient extension did what its user had consented to."""
        ...

    def extension_failed(self, name: str, doing: str, error: BaseException, message_id: str) -> None:
        """A fault of the extension's, or its memory could not be used."""
        ...
