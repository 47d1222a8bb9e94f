"""What reception has to record; `maillog` implements it. Drivers have observers of their own.

One past-tense method for each fact; none may raise or wait. Texts from peers are passed as they came: the
log escapes and bounds them (SEC-210).
"""

from __future__ import annotations

from typing import Protocol

from outrider.model.message import NewMessage
from outrider.model.reply import Reply
from outrider.reception.interface import Session, Transaction


class ReceptionObserver(Protocol):
    """Told what happened."""

    def session_opened(self, session: Session) -> None:
        """A client connected."""
        ...

    def refused(
        self,
        session: Session,
        stage: str,
        reply: Reply,
        *,
        rule: str = "",
        about: str = "",
        message_id: str = "",
    ) -> None:
        """A 4yz or 5yz by reception: `stage` is connect, hello, sender, recipient, headers, body or commit;
        `about` the address concerned, `rule` the policy rule that said so ("" = not policy)."""
        ...

    def message_received(self, session: Session, message: NewMessage, reply: Reply) -> None:
        """Durable, and about to be acknowledged with this reply (SMTP-5)."""
        ...

    def transaction_abandoned(self, transaction: Transaction, why: str) -> None:
        """RSET, QUIT, a lost connection or a refusal ended a transaction."""
        ...

    def relay_granted(self, session: Session, recipient: str, because: str) -> None:
        """A recipient elsewhere was taken: `because` names login, network or certificate (TLS-2b)."""
        ...

    def lookup_failed(self, session: Session, fact: str, reason: str) -> None:
        """A fact could not be had in time."""
        ...

    def host_proven(self, session: Session, host: str, how: str) -> None:
        """An AMTP client has proven which host it is."""
        ...

    def host_refused(self, session: Session, check: str, reason: str, reply: Reply) -> None:
        """An AMTP client has not: the check that failed, and why; it hears only the reply (AMTP-3)."""
        ...

    def partner_terms_broken(
        self, session: Session, partner: str, reason: str, outcome: str, message_id: str
    ) -> None:
        """Mail came by less than agreed, or from a partner's host for somebody else (ITP-8); `outcome` is
        report, hold or refuse."""
        ...

    def transfer_repeated(self, session: Session, transfer: str, message_id: str) -> None:
        """An MT2 peer sent again what was taken before as this message; it was told so (MT2-18a)."""
        ...

    def transfer_kept(self, session: Session, transfer: str, octets: int) -> None:
        """The connection broke; so many octets of an MT2 transfer are kept to be resumed (MT2-18b)."""
        ...

    def transfer_resumed(self, session: Session, transfer: str, octets: int) -> None:
        """An MT2 peer goes on with a transfer of which so many octets were here."""
        ...

    def trace_broken(self, session: Session, transfer: str, problem: str, *, refused: bool) -> None:
        """The seals of an MT2 message are not in order: the place and what is wrong there (MT2-23a)."""
        ...

    def reception_failed(self, session: Session, stage: str, error: BaseException) -> None:
        """An unforeseen fault of ours; the client was told 451."""
        ...


class NullReceptionObserver:
    """Records nothing."""

    def session_opened(self, session: Session) -> None:
        """Nothing."""

    def refused(
        self,
        session: Session,
        stage: str,
        reply: Reply,
        *,
        rule: str = "",
        about: str = "",
        message_id: str = "",
    ) -> None:
        """Nothing."""

    def message_received(self, session: Session, message: NewMessage, reply: Reply) -> None:
        """Nothing."""

    def transaction_abandoned(self, transaction: Transaction, why: str) -> None:
        """Nothing."""

    def relay_granted(self, session: Session, recipient: str, because: str) -> None:
        """Nothing."""

    def lookup_failed(self, session: Session, fact: str, reason: str) -> None:
        """Nothing."""

    def host_proven(self, session: Session, host: str, how: str) -> None:
        """Nothing."""

    def host_refused(self, session: Session, check: str, reason: str, reply: Reply) -> None:
        """Nothing."""

    def partner_terms_broken(
        self, session: Session, partner: str, reason: str, outcome: str, message_id: str
    ) -> None:
        """Nothing."""

    def transfer_repeated(self, session: Session, transfer: str, message_id: str) -> None:
        """Nothing."""

    def transfer_kept(self, session: Session, transfer: str, octets: int) -> None:
        """Nothing."""

    def transfer_resumed(self, session: Session, transfer: str, octets: int) -> None:
        """Nothing."""

    def trace_broken(self, session: Session, transfer: str, problem: str, *, refused: bool) -> None:
        """Nothing."""

    def reception_failed(self, session: Session, stage: str, error: BaseException) -> None:
        """Nothing."""
