"""What sessions and reception do, as log lines and counters (implements `reception.observer`)."""

from __future__ import annotations

import traceback

from outrider.maillog.emitter import Emitter, Level, Value
from outrider.maillog.metrics import Metrics
from outrider.model.message import NewMessage
from outrider.model.reply import Reply
from outrider.reception.interface import Session, Transaction


class SessionLog:
    """One function for each fact."""

    def __init__(self, log: Emitter, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def session_opened(self, session: Session) -> None:
        """A client connected."""
        self._log.emit(Level.DEBUG, "connect", **who(session))

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
        """Reception said no."""
        self._metrics.refused.labels(stage, reply.status).inc()
        if rule:
            self._metrics.rules.labels(rule, "refuse" if reply.is_permanent else "defer").inc()
        self._log.emit(
            Level.INFO,
            "refused",
            **who(session),
            id=message_id,
            stage=stage,
            about=about,
            rule=rule,
            reply=str(reply),
        )

    def message_received(self, session: Session, message: NewMessage, reply: Reply) -> None:
        """Durable."""
        del reply
        protocol, envelope = session.with_protocol, message.envelope
        messages, octets = self._metrics.received_by(protocol)
        messages.inc()
        octets.inc(message.content.size)
        self._log.emit(
            Level.INFO,
            "received",
            id=message.id,
            **who(session),
            sender=str(envelope.sender) if envelope.sender else "<>",
            recipients=[str(recipient.address) for recipient in envelope.recipients[:20]],
            recipient_count=len(envelope.recipients),
            size=message.content.size,
            protocol=protocol,
            tls=str(session.tls) if session.tls else "",
            login=session.login,
        )

    def transaction_abandoned(self, transaction: Transaction, why: str) -> None:
        """It ended without a message."""
        self._log.emit(Level.DEBUG, "abandoned", id=transaction.id, **who(transaction.session), why=why)

    def relay_granted(self, session: Session, recipient: str, because: str) -> None:
        """A recipient elsewhere was taken."""
        self._log.emit(Level.DEBUG, "relay_granted", **who(session), recipient=recipient, because=because)

    def lookup_failed(self, session: Session, fact: str, reason: str) -> None:
        """A fact could not be had in time."""
        self._log.emit(Level.INFO, "lookup_failed", **who(session), fact=fact, text=reason)

    def transfer_repeated(self, session: Session, transfer: str, message_id: str) -> None:
        """An MT2 peer sent again what was taken before."""
        self._log.emit(Level.INFO, "transfer_repeated", **who(session), transfer=transfer, id=message_id)

    def transfer_kept(self, session: Session, transfer: str, octets: int) -> None:
        """What came of an MT2 transfer before its connection broke is kept."""
        self._log.emit(Level.INFO, "transfer_kept", **who(session), transfer=transfer, octets=octets)

    def transfer_resumed(self, session: Session, transfer: str, octets: int) -> None:
        """And the peer goes on with it."""
        self._log.emit(Level.INFO, "transfer_resumed", **who(session), transfer=transfer, octets=octets)

    def trace_broken(self, session: Session, transfer: str, problem: str, *, refused: bool) -> None:
        """The seals of an MT2 message are not in order."""
        self._log.emit(
            Level.WARNING, "trace_broken", **who(session), transfer=transfer, text=problem, refused=refused
        )

    def host_proven(self, session: Session, host: str, how: str) -> None:
        """An AMTP client is who it says it is."""
        self._log.emit(Level.DEBUG, "host_proven", **who(session), host=host, how=how)

    def host_refused(self, session: Session, check: str, reason: str, reply: Reply) -> None:
        """An AMTP client is not, by the check named."""
        self._metrics.amtp_refused.labels(check).inc()
        self._log.emit(
            Level.WARNING,
            "amtp_refused",
            **who(session),
            helo=session.hello_name,
            check=check,
            text=reason,
            reply=str(reply),
        )

    def partner_terms_broken(
        self, session: Session, partner: str, reason: str, outcome: str, message_id: str
    ) -> None:
        """Mail that breaks the terms agreed with a partner."""
        self._metrics.partner_breaches.labels(partner, outcome).inc()
        self._log.emit(
            Level.WARNING,
            "partner_terms_broken",
            **who(session),
            id=message_id,
            partner=partner,
            outcome=outcome,
            text=reason,
        )

    def reception_failed(self, session: Session, stage: str, error: BaseException) -> None:
        """A fault of ours."""
        self._metrics.own_failures.labels("reception").inc()
        trace = "".join(traceback.format_exception(error, limit=-8))
        self._log.emit(
            Level.ERROR, "internal_failure", where=stage, **who(session), text=repr(error), traceback=trace
        )


def who(session: Session) -> dict[str, Value]:
    """The fields that say whose session it is."""
    return {
        "session": session.id,
        "client": session.client_text or "unix",
        "listener": session.listener,
    }
