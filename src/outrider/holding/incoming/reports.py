"""Reports of abuse (ARF, RFC 5965) to the service that the operator has named: envelopes that broke the
published policy, lies about a class, messages that are not what their envelope told (AMDP-10, AMDP-18).

A report holds what is needed to check it, and nothing that opens a message. It is about a domain that has
been authenticated, never about one that was only claimed, and never goes to a service that this domain
controls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from outrider.holding.web import IPAddress
from outrider.message.dates import format_date
from outrider.message.header_fields import HeaderField, field_values, header_fields
from outrider.model.address import Address
from outrider.model.content import Content, inline_content
from outrider.model.message import MessageId

MAX_EVIDENCE = 65_536
"""Octets of the reported header section."""
SHORTEST_SECRET = 16
_SECRET = (b"amdp-auth-keys", b"amdp-payment-rcpt")
_HASHED = (b"amdp-msg-id",)
_MAX_VALUE = 400


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is reported."""

    message: MessageId
    """Our queue id."""
    domain: str
    """The sender's, authenticated."""
    words: str
    """Which rule was broken, or what was not true."""
    how: str
    """By what the domain was authenticated."""
    headers: bytes
    """The envelope's."""
    source: IPAddress | None
    sender: str
    recipient: str
    received_at: float


def is_controlled_by(to: Address, domain: str) -> bool:
    """Whether a service is the reported party's own, or the reported party a part of it."""
    service, reported = to.domain.lower(), domain.lower()
    return service == reported or service.endswith(f".{reported}") or reported.endswith(f".{service}")


def abuse_report(
    evidence: Evidence, to: Address, *, hostname: str, message_id: str, now: float, utc_offset: int = 0
) -> Content:
    """The report as a message (RFC 5965 section 2). `message_id` without angle brackets."""
    boundary = f"=_{hashlib.sha256(message_id.encode() + evidence.headers).hexdigest()[:40]}"
    parts = (
        ("text/plain; charset=utf-8", _text(evidence).encode("utf-8", "replace")),
        ("message/feedback-report", _feedback(evidence, hostname).encode("utf-8", "replace")),
        ("text/rfc822-headers", reported_headers(evidence.headers)),
    )
    is_ascii = all(body.isascii() for _, body in parts)
    transfer = "7bit" if is_ascii else "8bit"
    head = (
        f"From: <mailer-daemon@{hostname}>\r\nTo: <{to}>\r\n"
        f"Subject: Report of abuse: {evidence.domain}\r\n"
        f"Date: {format_date(now, utc_offset)}\r\nMessage-ID: <{message_id}>\r\n"
        "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=feedback-report; boundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {transfer}\r\n\r\n"
    )
    octets = head.encode("utf-8", "replace")
    for kind, body in parts:
        fields = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {transfer}\r\n\r\n"
        octets += f"--{boundary}\r\n{fields}".encode() + body + b"\r\n"
    return inline_content(octets + f"--{boundary}--\r\n".encode())


def _text(evidence: Evidence) -> str:
    return (
        f"This is a report of abuse about the domain {evidence.domain}.\r\n\r\n"
        f"{_line(evidence.words)}\r\n\r\n"
        f"The domain was authenticated: {_line(evidence.how)}.\r\n"
        "The header section of the envelope is enclosed; what would open the message is withheld.\r\n"
    )


def _feedback(evidence: Evidence, hostname: str) -> str:
    fields = [
        ("Feedback-Type", "abuse"),
        ("User-Agent", "Outrider"),
        ("Version", "1"),
        ("Original-Envelope-Id", evidence.message),
        ("Original-Mail-From", f"<{evidence.sender}>"),
        ("Original-Rcpt-To", f"<{evidence.recipient}>"),
        ("Arrival-Date", format_date(evidence.received_at, 0)),
        ("Reporting-MTA", f"dns; {hostname}"),
        *([] if evidence.source is None else [("Source-IP", str(evidence.source))]),
        ("Authentication-Results", f"{hostname}; x-amdp=pass ({_comment(evidence.how)})"),
        ("Reported-Domain", evidence.domain),
    ]
    return "".join(f"{name}: {_line(value)}\r\n" for name, value in fields)


def reported_headers(headers: bytes) -> bytes:
    """The header section without what opens the message or is money: of the id its SHA-256, by which whoever
    has it recognises it."""
    kept = b"".join(_reported_fields(headers))
    for secret in field_values(headers, _HASHED[0]):
        if len(secret) >= SHORTEST_SECRET:  # it may stand in other fields, the Message-ID for one
            kept = kept.replace(secret, b"(withheld)")
    return kept[:MAX_EVIDENCE].rpartition(b"\r\n")[0] + b"\r\n" if len(kept) > MAX_EVIDENCE else kept


def _reported_fields(headers: bytes) -> Iterator[bytes]:
    for field in header_fields(headers):
        name = field.name.lower()
        if name in _SECRET:
            yield field.name + b": (withheld)\r\n"
        elif name in _HASHED:
            digest = hashlib.sha256(field.unfolded).hexdigest()
            yield field.name + b": (withheld; sha-256 " + digest.encode() + b")\r\n"
        elif name:
            yield _as_written(field)


def _as_written(field: HeaderField) -> bytes:
    value = field.value.rstrip(b"\r\n")
    return field.name + b":" + (value if value[:1] in b" \t" else b" " + value) + b"\r\n"


def _line(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))[:_MAX_VALUE]


def _comment(text: str) -> str:
    return _line(text).translate(str.maketrans("()\\", "   "))
