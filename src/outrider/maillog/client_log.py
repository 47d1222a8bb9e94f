"""What conversations with other servers show (has the methods of `net.client_observer.ClientObserver`)."""

from __future__ import annotations

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics


class ClientLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def session_opened(self, remote: str, protocol: str, tls: str) -> None:
        """A server is ready for mail."""
        if tls:
            self._metrics.handshakes.labels("client", "ok", tls.partition(" ")[0]).inc()
        self._log.emit(Level.DEBUG, "client_session", remote=remote, protocol=protocol, tls=tls)

    def handshake_failed(self, remote: str, failure: object, goes_on_in_clear: bool) -> None:
        """TLS could not be established (TLS-6)."""
        self._metrics.handshakes.labels("client", "failed", "").inc()
        then = "in the clear" if goes_on_in_clear else "not at all"
        self._log.emit(Level.WARNING, "tls_failed", remote=remote, text=str(failure), goes_on=then)

    def starttls_refused(self, remote: str, code: int, text: str) -> None:
        """The server offered STARTTLS and then refused the command."""
        self._metrics.tls_oddities.labels("starttls_refused").inc()
        self._log.emit(Level.INFO, "starttls_refused", remote=remote, code=code, text=text)

    def starttls_vanished(self, remote: str) -> None:
        """No STARTTLS where it was offered before (TLS-5)."""
        self._metrics.tls_oddities.labels("starttls_vanished").inc()
        self._log.emit(Level.WARNING, "starttls_vanished", remote=remote)

    def login_failed(self, remote: str, mechanism: str, text: str) -> None:
        """AUTH at a smart host failed."""
        self._metrics.logins.labels(mechanism, "failed as client").inc()
        self._log.emit(Level.WARNING, "client_login_failed", remote=remote, mechanism=mechanism, text=text)

    def amtp_server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """An AMTP server may be sent to (AMTP-5)."""
        self._metrics.amtp_servers.labels("proven" if proven else "claimed").inc()
        if not proven:
            self._log.emit(Level.INFO, "amtp_server_claimed", remote=remote, text=identity)

    def not_believed(self, remote: str, text: str) -> None:
        """504: our own certificate, PTR record or host name is wrong, or this host's view of them
        (AMTP-8)."""
        self._metrics.amtp_servers.labels("refused_us").inc()
        self._log.emit(
            Level.ERROR,
            "amtp_not_believed",
            remote=remote,
            text=text,
            remedy="`outrider cert check --own` says what is wrong; the mail waits",
        )

    def server_misbehaved(self, remote: str, stage: str, text: str) -> None:
        """The server broke the protocol."""
        self._metrics.misbehaviour.labels(stage).inc()
        self._log.emit(Level.WARNING, "server_misbehaved", remote=remote, stage=stage, text=text)
