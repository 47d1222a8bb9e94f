"""What the incoming gateway has to record; `maillog` implements it. No id, number or token of a message is
ever told: whoever has them has the mail."""

from __future__ import annotations

from typing import Protocol

from outrider.model.message import MessageId


class IncomingObserver(Protocol):
    """Told what happened; must not raise and must not wait."""

    def holder_asked(self, holder: str, asked: int, known: int) -> None:
        """A holder was asked about so many envelopes in one call, and knew so many."""
        ...

    def holder_away(self, message: MessageId, holder: str, words: str) -> None:
        """An envelope, fetch or receipt waits: its holder, or what would tell whether it is genuine, cannot
        be asked now."""
        ...

    def envelope_confirmed(
        self, message: MessageId, made: MessageId, domain: str, holder: str, how: str, fate: str
    ) -> None:
        """The call-back is done: the holder is genuine, the envelope its own. `made`: the message that goes
        on; `fate`: fetch or hand over."""
        ...

    def envelope_dropped(self, message: MessageId, why: str, domain: str, holder: str, words: str) -> None:
        """AMDP-10. `why` is a word of `arrival_store.Why`."""
        ...

    def message_fetched(self, message: MessageId, fetched: MessageId, holder: str, size: int) -> None:
        """Whole, verified, and in the spool under `fetched`."""
        ...

    def message_lost(self, message: MessageId, holder: str, why: str, words: str) -> None:
        """It cannot be had; its reader is told."""
        ...

    def announcement_untrue(self, message: MessageId, domain: str, words: str) -> None:
        """What came is not what AMDP-Attachments told (AMDP-4b)."""
        ...

    def receipt_given(self, message: MessageId, holder: str, taken: bool) -> None:
        """The holder was told that we have the message; False: it knew nothing of it any more."""
        ...

    def abuse_reported(self, message: MessageId, domain: str, to: str, why: str) -> None:
        """A report (ARF) is on its way."""
        ...

    def incoming_failed(self, doing: str, error: BaseException, message: MessageId) -> None:
        """A fault of ours, or a store that cannot be used."""
        ...
