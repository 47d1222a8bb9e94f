"""The book of one mail transaction: who was accepted, who was refused in which words, who comes later.

It knows nothing of octets and sends nothing; the session's core enters each reply and asks what follows.
"""

from __future__ import annotations

from collections.abc import Iterable

from outrider.model.reply import Reply
from outrider.protocols.smtp.client_events import Mail, Outcome, TransactionEnded
from outrider.protocols.smtp.client_states import Ending, Stage

_TOO_MANY = ("4.5.3", "5.5.3")  # RFC 3463: too many recipients


class ClientTransaction:
    """Made for each MAIL; `ended` gives an outcome for everybody, whatever happened."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        self.accepted: list[int] = []
        """Recipients to whom RCPT was answered positively, in order."""
        self.sender_accepted = False
        self.content_taken = False
        """The server has accepted the message (for LMTP: for one recipient at least)."""
        self.content_refused = False
        """It has not, for anybody."""
        self._outcomes: dict[int, Outcome] = {}
        self._postponed: list[int] = []
        self._lmtp_answered = 0

    @property
    def unanswered(self) -> bool:
        """LMTP: whether a final reply is still due for an accepted recipient (RFC 2033 section 4.2)."""
        return not self.content_refused and self._lmtp_answered < len(self.accepted)

    def sender_answered(self, reply: Reply) -> None:
        """The reply to MAIL; a refusal is everybody's."""
        self.sender_accepted = reply.is_positive
        if not reply.is_positive:
            self._decide(self.mail.recipients, Outcome(Stage.MAIL, reply))

    def recipient_answered(self, position: int, reply: Reply) -> None:
        """The reply to one RCPT. After a refused MAIL it says nothing new (503)."""
        if position in self._outcomes:
            return
        if reply.is_positive:
            self.accepted.append(position)
        elif self.accepted and _too_many(reply):
            self._postponed.append(position)
        else:
            self._outcomes[position] = Outcome(Stage.RECIPIENT, reply)

    def content_answered(self, stage: Stage, reply: Reply) -> None:
        """A reply that holds for all who were accepted: a refused DATA or BDAT, or the final one of SMTP."""
        if not self.content_refused:
            self.content_taken = reply.is_positive
            self.content_refused = not reply.is_positive
            self._decide(self.accepted, Outcome(stage, reply))

    def accepted_answered(self, reply: Reply) -> None:
        """LMTP: the final reply for the next accepted recipient."""
        self.content_taken = self.content_taken or reply.is_positive
        self._decide([self.accepted[self._lmtp_answered]], Outcome(Stage.VERDICT, reply))
        self._lmtp_answered += 1

    def broken(self, ending: Ending) -> None:
        """The session ended: it is the outcome of all who have none."""
        self._decide([*self.mail.recipients], Outcome(ending.stage, ending=ending))
        self._postponed.clear()

    def _decide(self, positions: Iterable[int], outcome: Outcome) -> None:
        for position in positions:
            self._outcomes.setdefault(position, outcome)

    def ended(self) -> TransactionEnded:
        """The event for the driver."""
        return TransactionEnded(self._outcomes, tuple(self._postponed))


def _too_many(reply: Reply) -> bool:
    """RFC 5321 4.5.3.1.10: 452, or from old servers 552, for want of room in this transaction."""
    if reply.status:
        return reply.status in _TOO_MANY
    return reply.code in (452, 552)
