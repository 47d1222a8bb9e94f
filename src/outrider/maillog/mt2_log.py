"""What MT2 connections do, as log lines and counters (has the methods of `net.mt2_observer.Mt2Observer`)."""

from __future__ import annotations

from outrider.identity.mt2_identity import Found, Mt2Identity
from outrider.maillog.emitter import Level
from outrider.maillog.session_log import who
from outrider.maillog.smtp_server_log import SmtpServerLog
from outrider.reception.interface import Session


class Mt2Log(SmtpServerLog):
    """One function for each fact; what all sessions have in common is said as for SMTP."""

    def peer_identified(self, session: Session, claimed: str, found: Found) -> None:
        """A HELO was looked at (MT2-10b)."""
        if isinstance(found, Mt2Identity):
            self._metrics.mt2_hosts.labels(found.provenance.name.lower()).inc()
            self._log.emit(Level.INFO, "host_identified", **who(session), host=found.name, how=found.how)
        else:
            self._metrics.mt2_hosts.labels("unproven").inc()
            self._log.emit(
                Level.INFO,
                "host_not_identified",
                **who(session),
                claimed=claimed,
                check=found.check.value,
                text=found.reason,
            )

    def peer_misbehaved(self, session: Session, text: str) -> None:
        """The other side broke the protocol."""
        self._metrics.misbehaviour.labels("mt2").inc()
        self._log.emit(Level.WARNING, "peer_misbehaved", **who(session), text=text)

    def peer_noticed(self, session: Session, text: str) -> None:
        """The other side said something unasked."""
        self._log.emit(Level.DEBUG, "peer_notice", **who(session), text=text)

    def server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """A server may be sent to (MT2-27)."""
        self._metrics.mt2_servers.labels("proven" if proven else "claimed").inc()
        if not proven:
            self._log.emit(Level.INFO, "server_claimed", remote=remote, protocol="mt2", text=identity)

    def not_believed(self, remote: str, text: str) -> None:
        """Our own certificate or host name is wrong, or this host's view of them."""
        self._metrics.mt2_servers.labels("refused_us").inc()
        self._log.emit(
            Level.ERROR,
            "not_believed",
            remote=remote,
            text=text,
            remedy="`outrider cert check --own` says what is wrong; the mail waits",
        )
