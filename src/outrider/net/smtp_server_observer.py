"""What the SMTP server's driver tells log and metrics. Called on the event loop; must neither wait nor raise.

Messages themselves are reported by reception. No argument holds a password or a command line of the client;
names and logins are hostile text, to be escaped like any other.
"""

from __future__ import annotations

from typing import Protocol

from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.net.tls_info import TlsFailure, TlsInfo
from outrider.reception.interface import Session


class SmtpServerObserver(Protocol):
    """One method for each fact worth recording."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """The connection is closed. `why` is one of a few fixed phrases; `messages` were taken in it."""

    def command_refused(self, session: Session, verb: str, reply: Reply) -> None:
        """A command was refused for its syntax, its place or a limit; `verb` is "" if it is not known."""

    def content_refused(self, session: Session, message: MessageId, reply: Reply) -> None:
        """A message was refused for its form or size, or because it could not be written down."""

    def tls_started(self, session: Session, info: TlsInfo) -> None:
        """TLS is established."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """A handshake failed (TLS-6). Nothing else follows from it (TLS-3)."""

    def login_succeeded(self, session: Session, how: str) -> None:
        """AUTH succeeded; login and mechanism are in the session."""

    def login_failed(self, session: Session, mechanism: str, login: str, reason: str) -> None:
        """AUTH failed."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """A fault of ours ended the session: the traceback is for the operator alone (SEC-215)."""

    def storing_failed(self, session: Session, message: MessageId, error: Exception) -> None:
        """A large body could not be written while it arrived; the message gets 452."""


class SilentSmtpServerObserver:
    """Keeps it all to itself."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """Nothing."""

    def command_refused(self, session: Session, verb: str, reply: Reply) -> None:
        """Nothing."""

    def content_refused(self, session: Session, message: MessageId, reply: Reply) -> None:
        """Nothing."""

    def tls_started(self, session: Session, info: TlsInfo) -> None:
        """Nothing."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """Nothing."""

    def login_succeeded(self, session: Session, how: str) -> None:
        """Nothing."""

    def login_failed(self, session: Session, mechanism: str, login: str, reason: str) -> None:
        """Nothing."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """Nothing."""

    def storing_failed(self, session: Session, message: MessageId, error: Exception) -> None:
        """Nothing."""
