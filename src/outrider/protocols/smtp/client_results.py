"""From what a server said, or failed to say, to a delivery result (SMTP-6).

4yz waits, 5yz is final, and everything that is not a clear answer waits: a broken connection, a time-out, a
server that breaks the protocol, a fault of our own. After the end of the data an unanswered message may have
been delivered; it is sent again all the same, since a duplicate can be borne and a loss cannot (SEC-31).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outrider.model.reply import Reply, status_for
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.smtp.client_content import Unsendable
from outrider.protocols.smtp.client_events import Outcome
from outrider.protocols.smtp.client_states import End, Ending, Stage
from outrider.protocols.smtp.reply_reader import one_line

_STATUS: Final = {
    End.QUIT: "4.4.2",
    End.REFUSED: "4.3.2",
    End.NOT_BELIEVED: "4.7.8",
    End.CLOSING: "4.3.2",
    End.LOST: "4.4.2",
    End.TIMED_OUT: "4.4.2",
    End.MALFORMED: "4.5.0",
    End.ABANDONED: "4.3.0",
}
_UNCLEAR: Final = (End.LOST, End.TIMED_OUT, End.MALFORMED, End.ABANDONED)
_WANTS_TLS: Final = (530, 538)


@dataclass(frozen=True, slots=True)
class ServerView:
    """The server as results name it."""

    remote: str = ""
    """``mx.example [192.0.2.1]:25``."""
    protocol: str = "smtp"
    tls: str = ""
    promises_reports: bool = False
    """It offers DSN, or it is an LMTP server, whose word is final."""
    tls_failed: bool = False
    """The session is in the clear because TLS was tried and failed (TLS-3)."""


def outcome_result(outcome: Outcome, server: ServerView) -> DeliveryResult:
    """One recipient's result."""
    if outcome.ending is not None:
        return ending_result(outcome.ending, server)
    if outcome.reply is None:
        raise AssertionError("an outcome has a reply or an ending")
    return reply_result(outcome.reply, server)


def reply_result(reply: Reply, server: ServerView) -> DeliveryResult:
    """By the class of the reply; the text is the server's own words."""
    if reply.is_positive:
        kind = Kind.DELIVERED if server.promises_reports else Kind.RELAYED
    elif reply.is_permanent and not _asks_for_failed_tls(reply, server):
        kind = Kind.FAILED
    else:
        kind = Kind.DEFERRED
    status = status_for(reply.code, reply.status)
    if kind is Kind.DEFERRED:
        status = "4" + status[1:]
    text = one_line(reply) or f"the server answered {reply.code} without a word"
    return DeliveryResult(kind, status, text, reply.code, server.remote, server.protocol, server.tls)


def _asks_for_failed_tls(reply: Reply, server: ServerView) -> bool:
    # The server demands TLS and the handshake with it failed: that may be mended, so the mail waits.
    return server.tls_failed and reply.code in _WANTS_TLS


def ending_result(ending: Ending, server: ServerView) -> DeliveryResult:
    """For whom the session ended without an answer; before any mail, of the session as a whole."""
    if ending.reply is not None and ending.how not in (End.QUIT, End.NOT_BELIEVED):
        return reply_result(ending.reply, server)
    text = ending.text
    code = ending.reply.code if ending.reply is not None and ending.how is End.NOT_BELIEVED else 0
    if ending.stage is Stage.VERDICT and ending.how in _UNCLEAR:
        text += "; the message may have been delivered"
    return DeliveryResult(
        Kind.DEFERRED, _STATUS[ending.how], text, code, server.remote, server.protocol, server.tls
    )


def unsendable_result(reason: Unsendable, server: ServerView) -> DeliveryResult:
    """What our own checks ruled out: final, and said by us."""
    return DeliveryResult(Kind.FAILED, reason.status, reason.text, 0, "", server.protocol, server.tls)
