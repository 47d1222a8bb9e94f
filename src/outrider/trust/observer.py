"""What asking lists has to record; `maillog` implements it. None may raise or wait."""

from __future__ import annotations

from typing import Protocol


class TrustObserver(Protocol):
    """Told what happened. `name` is always a list's, as the configuration has it."""

    def list_answered(self, name: str, result: str, seconds: float) -> None:
        """A question came to its end: hit, miss, silent, refused or lists-all."""
        ...

    def answer_remembered(self, name: str) -> None:
        """A question was answered from memory."""
        ...

    def list_fell_silent(self, name: str, result: str, reason: str) -> None:
        """A list that answered before does not: silent, refused or lists-all. It costs no mail."""
        ...

    def list_came_back(self, name: str) -> None:
        """It answers again."""
        ...

    def list_file_read(self, name: str, entries: int) -> None:
        """A list's file had changed and was read again."""
        ...

    def list_file_unreadable(self, name: str, reason: str) -> None:
        """A list's file had changed and cannot be used; what was read before goes on being used."""
        ...


class NullTrustObserver:
    """Records nothing."""

    def list_answered(self, name: str, result: str, seconds: float) -> None:
        """Nothing."""

    def answer_remembered(self, name: str) -> None:
        """Nothing."""

    def list_fell_silent(self, name: str, result: str, reason: str) -> None:
        """Nothing."""

    def list_came_back(self, name: str) -> None:
        """Nothing."""

    def list_file_read(self, name: str, entries: int) -> None:
        """Nothing."""

    def list_file_unreadable(self, name: str, reason: str) -> None:
        """Nothing."""
