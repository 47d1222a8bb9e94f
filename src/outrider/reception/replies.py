"""Replies of reception: fixed, plain, and the same words that log and explain use (ITP-5)."""

from __future__ import annotations

from outrider.model.reply import Reply
from outrider.protocols.amtp.replies import POLICY_VIOLATION

CONNECTION_TAKEN = Reply(220, "", "")
"""The driver puts its greeting in."""
HELLO_TAKEN = Reply(250, "", "")
"""The driver puts its capabilities in."""
SENDER_TAKEN = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_TAKEN = Reply(250, "2.1.5", "Recipient ok")
CONTENT_AWAITED = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
HEADERS_TAKEN = Reply(250, "2.0.0", "Ok")

MUST_STARTTLS = Reply(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 section 4
MUST_LOG_IN = Reply(530, "5.7.0", "Authentication required")  # RFC 4954 section 6
NO_RELAY = "We do not accept mail for domain {domain}"
RELAY_REFUSED_ROUTING = Reply(550, "5.7.1", "We do not relay to addresses that route through others")
NO_POSTMASTER = Reply(550, "5.1.1", "No postmaster mailbox is configured here")
ALIAS_LOOP = Reply(451, "4.2.4", "The alias of this recipient leads in a circle; the postmaster must mend it")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients for one message; send the rest in another")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
NO_ROOM = Reply(452, "4.3.1", "Not enough storage now; try again later")
NO_MEMORY = Reply(452, "4.3.1", "Short of memory now; try again later")
LOCAL_ERROR = Reply(451, "4.3.0", "Local error in processing; try again later")
STORE_UNAVAILABLE = Reply(451, "4.3.0", "The message could not be stored; try again later")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Too many hops: this message goes round in a loop")
FUTURE_RELEASE_REFUSED = Reply(550, "5.7.1", "Delayed release is for clients that log in")
FROM_NOT_YOURS = Reply(553, "5.7.1", "Neither From nor Sender is an address of your login")

# AMTP, beside those of protocols.amtp
NOT_OVER_PUBLIC_AMTP = Reply(550, "5.7.1", "Mail from a public AMTP connection is not passed on over another")
LOGIN_NOT_OF_CERTIFICATE = Reply(535, "5.7.8", "The certificate does not name this login")


def not_our_domain(domain: str) -> Reply:
    """The answer of the TLS-2 table to a recipient elsewhere."""
    return Reply(550, "5.7.1", NO_RELAY.format(domain=domain))


def unknown_user(address: str) -> Reply:
    """SMTP-8: refused in the session, never bounced later (SEC-166)."""
    return Reply(550, "5.1.1", f"No such user here: <{address[:320]}>")


def sender_not_yours(login: str, sender: str) -> Reply:
    """SEC-110."""
    return Reply(553, "5.7.1", f"The login {login} may not send as <{sender[:320]}>")


def message_too_big(limit: int) -> Reply:
    """RFC 1870 section 6.1."""
    return Reply(552, "5.3.4", f"Message size exceeds the limit of {limit} octets")


def header_too_big(limit: int) -> Reply:
    """SMTP-9."""
    return Reply(552, "5.3.4", f"Header section exceeds the limit of {limit} octets")


def queued(message_id: str) -> Reply:
    """SMTP-5: said only of what is durable."""
    return Reply(250, "2.0.0", f"Ok: queued as {message_id}")


def mpc_not_yours(why: str) -> Reply:
    """AMTP-15: the account is bound to another code."""
    return Reply(550, POLICY_VIOLATION.status, f"{POLICY_VIOLATION.text}: {why}")


def partner_terms_broken(reason: str) -> Reply:
    """ITP-8."""
    return Reply(550, "5.7.1", f"Refused by the terms agreed with a partner: {reason}")
