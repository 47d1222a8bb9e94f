"""What SMTP and QMTP sessions do, as log lines and counters (has the methods of their observers in `net`)."""

from __future__ import annotations

import traceback
from typing import Protocol

from outrider.maillog.emitter import Emitter, Level
from outrider.maillog.metrics import Metrics
from outrider.maillog.session_log import who
from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.reception.interface import Session


class Established(Protocol):
    """What is needed of a TLS session."""

    @property
    def version(self) -> str: ...
    @property
    def cipher(self) -> str: ...


class SmtpServerLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        """The connection is closed."""
        self._log.emit(Level.DEBUG, "disconnect", **who(session), why=why, messages=messages)

    def command_refused(self, session: Session, verb: str, reply: Reply) -> None:
        """A command was refused for its form, place or a limit."""
        self._metrics.refused.labels("command", reply.status).inc()
        self._log.emit(Level.INFO, "command_refused", **who(session), command=verb, reply=str(reply))

    def content_refused(self, session: Session, message: MessageId, reply: Reply) -> None:
        """A message was refused for its form or size."""
        self._metrics.refused.labels("content", reply.status).inc()
        self._log.emit(Level.INFO, "refused", **who(session), id=message, stage="content", reply=str(reply))

    def package_refused(self, session: Session, recipients: int, reply: Reply) -> None:
        """A QMTP package was refused as a whole."""
        self._metrics.refused.labels("package", reply.status).inc()
        self._log.emit(
            Level.INFO,
            "refused",
            **who(session),
            stage="package",
            recipient_count=recipients,
            reply=str(reply),
        )

    def tls_started(self, session: Session, info: Established) -> None:
        """TLS is established."""
        self._metrics.handshakes.labels("server", "ok", info.version).inc()
        self._log.emit(Level.DEBUG, "tls", **who(session), version=info.version, cipher=info.cipher)

    def tls_failed(self, session: Session, failure: object) -> None:
        """A handshake failed (TLS-6); nothing else follows from it (TLS-3)."""
        self._metrics.handshakes.labels("server", "failed", "").inc()
        self._log.emit(Level.WARNING, "tls_failed", **who(session), text=str(failure))

    def login_succeeded(self, session: Session, how: str) -> None:
        """Somebody logged in."""
        self._metrics.logins.labels(session.login_mechanism, "ok").inc()
        login, mechanism = session.login, session.login_mechanism
        self._log.emit(Level.INFO, "login", **who(session), login=login, mechanism=mechanism, how=how)

    def login_failed(self, session: Session, mechanism: str, login: str, reason: str) -> None:
        """An attempt failed."""
        self._metrics.logins.labels(mechanism, "failed").inc()
        self._log.emit(
            Level.WARNING, "login_failed", **who(session), login=login, mechanism=mechanism, text=reason
        )

    def session_broke(self, session: Session, error: BaseException) -> None:
        """A fault of ours ended the session."""
        self._metrics.own_failures.labels("session").inc()
        trace = "".join(traceback.format_exception(error, limit=-8))
        self._log.emit(
            Level.ERROR,
            "internal_failure",
            where="session",
            **who(session),
            text=repr(error),
            traceback=trace,
        )

    def storing_failed(self, session: Session, message: MessageId, error: Exception) -> None:
        """A large body could not be written while it arrived."""
        self._log.emit(Level.ERROR, "storing_failed", **who(session), id=message, text=str(error))
