"""What the driver of MT2 tells log and metrics, for connections of either kind. Must neither wait nor raise.

Messages themselves are reported by reception and delivery. Names that a peer gives itself are hostile text.
"""

from __future__ import annotations

from typing import Protocol

from outrider.identity.mt2_identity import Found
from outrider.net.tls_info import TlsFailure, TlsInfo
from outrider.reception.interface import Session


class Mt2Observer(Protocol):
    """One method for each fact worth recording."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """The connection is closed; `messages` were taken in it."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """A fault of ours ended the session: the traceback is for the operator alone (SEC-215)."""

    def tls_started(self, session: Session, info: TlsInfo) -> None:
        """TLS is established."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """A handshake failed (TLS-6)."""

    def peer_identified(self, session: Session, claimed: str, found: Found) -> None:
        """A HELO was looked at: who it is, or why that is not known (MT2-10b)."""

    def peer_misbehaved(self, session: Session, text: str) -> None:
        """The other side broke the protocol; the session was ended."""

    def peer_noticed(self, session: Session, text: str) -> None:
        """The other side said something unasked."""

    def server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """A server's certificate is good enough to go on; `proven` is false where it proves only a name to
        which an unsigned SRV record led."""

    def not_believed(self, remote: str, text: str) -> None:
        """A server refused our own identity: something that only a person can mend."""


class SilentMt2Observer:
    """Keeps it all to itself."""

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """Nothing."""

    def session_broke(self, session: Session, error: BaseException) -> None:
        """Nothing."""

    def tls_started(self, session: Session, info: TlsInfo) -> None:
        """Nothing."""

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        """Nothing."""

    def peer_identified(self, session: Session, claimed: str, found: Found) -> None:
        """Nothing."""

    def peer_misbehaved(self, session: Session, text: str) -> None:
        """Nothing."""

    def peer_noticed(self, session: Session, text: str) -> None:
        """Nothing."""

    def server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """Nothing."""

    def not_believed(self, remote: str, text: str) -> None:
        """Nothing."""
