"""What the drivers of AMTP, SMTP, LMTP and QMTP clients tell log and metrics. Must neither wait nor raise.

Failed connections and unmet requirements are reported by delivery, with what follows from them; here is what
only the conversation shows. `remote` is ``mx.example [192.0.2.1]:25``. Texts of servers have been cleaned.
"""

from __future__ import annotations

from typing import Protocol

from outrider.net.tls_info import TlsFailure


class ClientObserver(Protocol):
    """One method for each fact worth recording."""

    def session_opened(self, remote: str, protocol: str, tls: str) -> None:
        """A server is ready for mail; `tls` as in `DeliveryResult.tls`, "" in the clear."""

    def handshake_failed(self, remote: str, failure: TlsFailure, goes_on_in_clear: bool) -> None:
        """TLS could not be established, or broke before the first reply under it (TLS-6)."""

    def starttls_refused(self, remote: str, code: int, text: str) -> None:
        """The server offered STARTTLS and then refused the command."""

    def starttls_vanished(self, remote: str) -> None:
        """No STARTTLS is offered where it was before (TLS-5): to be counted, nothing follows from it."""

    def login_failed(self, remote: str, mechanism: str, text: str) -> None:
        """AUTH failed."""

    def amtp_server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """An AMTP server's certificate is good enough to go on; `proven` is false where it proves only a name
        to which an unsigned SRV record led (AMTP-5)."""

    def not_believed(self, remote: str, text: str) -> None:
        """An AMTP server refused our own identity (504, AMTP-8): something that only a person can mend."""

    def server_misbehaved(self, remote: str, stage: str, text: str) -> None:
        """The server broke the protocol; the session was given up."""


class SilentClientObserver:
    """Keeps it all to itself."""

    def session_opened(self, remote: str, protocol: str, tls: str) -> None:
        """Nothing."""

    def handshake_failed(self, remote: str, failure: TlsFailure, goes_on_in_clear: bool) -> None:
        """Nothing."""

    def starttls_refused(self, remote: str, code: int, text: str) -> None:
        """Nothing."""

    def starttls_vanished(self, remote: str) -> None:
        """Nothing."""

    def login_failed(self, remote: str, mechanism: str, text: str) -> None:
        """Nothing."""

    def amtp_server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """Nothing."""

    def not_believed(self, remote: str, text: str) -> None:
        """Nothing."""

    def server_misbehaved(self, remote: str, stage: str, text: str) -> None:
        """Nothing."""
