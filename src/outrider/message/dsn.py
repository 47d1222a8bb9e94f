"""Delivery status notifications as messages: RFC 3464 in the frame of RFC 6522, with RFC 6533 for UTF-8.

A report is multipart/report of three parts: words for a person, fields for a program, and the message or its
header section. It is CRLF throughout, has no line over 998 octets, and is 7-bit unless what it encloses
is 8-bit text - then it says so, part by part. What a remote host said, and every name that
came from outside, is cut and cleaned first (SEC-171): a report must not carry somebody else's fields.
"""

from __future__ import annotations

import binascii
import re

from outrider.message.dates import format_date
from outrider.message.header_fields import header_fields
from outrider.model.address import Address
from outrider.model.report import DsnRequest, ReportAction, ReportedRecipient

MAX_DIAGNOSTIC = 1000
"""Characters of a remote's reply that a report repeats (two full reply lines of RFC 5321 4.5.3.1.5)."""
MAX_RETURNED_HEADERS = 65_536
"""Octets of the original's header section that a report returns."""
_MAX_LINE = 998
_CRLF = "\r\n"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_BAD_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")
_LONG_LINE = re.compile(rb"[^\r\n]{999}")

_SUBJECTS = {
    ReportAction.FAILED: "Undelivered mail: your message could not be delivered",
    ReportAction.DELAYED: "Delayed mail: your message has not been delivered yet",
    ReportAction.DELIVERED: "Delivered: your message has arrived",
    ReportAction.RELAYED: "Relayed: your message has been passed on",
    ReportAction.EXPANDED: "Relayed: your message has been passed on to a group of recipients",
}
_GRAVEST_FIRST = (
    ReportAction.FAILED,
    ReportAction.DELAYED,
    ReportAction.DELIVERED,
    ReportAction.RELAYED,
    ReportAction.EXPANDED,
)
_OPENINGS = {
    ReportAction.FAILED: "Your message could not be delivered to:",
    ReportAction.DELAYED: "Your message has not been delivered yet. We go on trying; do not send it again:",
    ReportAction.DELIVERED: "Your message was delivered to:",
    ReportAction.RELAYED: (
        "Your message was passed on to a mail system that does not promise reports. Unless you hear "
        "otherwise, it was delivered to:"
    ),
    ReportAction.EXPANDED: "Your message was passed on to the members of:",
}


def build_report(request: DsnRequest) -> bytes:
    """The whole message, header section and body, ready to be stored.

    Deterministic: the same request gives the same octets (the boundary is made from the report's id).
    """
    boundary = f"outrider-{request.report_id}-report"
    parts = (_human_part(request), _status_part(request), _original_part(request))
    while any(
        boundary.encode() in part for part in parts
    ):  # a report on a report of the same id, or a forger
        boundary += "-"
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part for part in parts)
    return _headers(request, boundary) + body + f"--{boundary}--\r\n".encode()


def _headers(request: DsnRequest, boundary: str) -> bytes:
    subject = _SUBJECTS[_gravest(request)]
    lines = (
        f"From: Mail Delivery System <{request.postmaster}>",
        f"To: <{request.sender}>",
        f"Subject: {subject}",
        f"Date: {format_date(request.now, request.utc_offset)}",
        f"Message-ID: <{request.report_id}@{request.reporting_mta}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;{_CRLF}\tboundary="{boundary}"',
    )
    return (_CRLF.join(lines) + _CRLF + _CRLF).encode("utf-8")


def _gravest(request: DsnRequest) -> ReportAction:
    actions = {recipient.action for recipient in request.recipients}
    return next(action for action in _GRAVEST_FIRST if action in actions)


# --- words for a person -------------------------------------------------------------------------------------


def _human_part(request: DsnRequest) -> bytes:
    lines = [
        f"This is the mail system at {request.reporting_mta}.",
        "",
        f"About your message of {format_date(request.arrived_at, request.utc_offset)}:",
    ]
    for action in _GRAVEST_FIRST:
        concerned = [recipient for recipient in request.recipients if recipient.action is action]
        if concerned:
            lines += ["", _OPENINGS[action]]
            for recipient in concerned:
                lines += ["", *_told(recipient, request)]
    lines += [
        "",
        f"If you need help, write to {request.postmaster} and quote the number {request.message_id}.",
        "A technical report and your message, or its header, follow.",
    ]
    return _text_part(_CRLF.join(lines) + _CRLF)


def _told(recipient: ReportedRecipient, request: DsnRequest) -> list[str]:
    lines = [f"  <{recipient.address}>"]
    named = _plain(recipient.original.partition(";")[2], 256)
    if named and named.casefold() != str(recipient.address).casefold():
        lines.append(f"    (you wrote to {named})")
    said = _plain(recipient.text, MAX_DIAGNOSTIC)
    if said and recipient.action in (ReportAction.FAILED, ReportAction.DELAYED):
        who = f"The host {_plain(recipient.remote, 300)} said: " if recipient.remote else ""
        code = f"{recipient.code} " if recipient.code else ""
        lines += _wrapped(f"{who}{code}{said}", "    ")
    lines += _wrapped(next_step(recipient, request.utc_offset), "    ")
    return lines


_STEPS = (
    # The longest prefix of a status that is listed says what a person can do (RFC 3463).
    ("5.1.1", "The address is not known there. Check its spelling, or ask the recipient by other means."),
    ("5.1.2", "The domain of the address does not exist or takes no mail. Check its spelling."),
    (
        "5.1.10",
        "The domain of the address says that it takes no mail. Ask the recipient for another address.",
    ),
    ("5.1", "Something is wrong with the address. Check its spelling."),
    ("5.2.2", "The mailbox is full. Try again later, or reach the recipient by other means."),
    ("5.2", "The mailbox cannot take the message. Reach the recipient by other means."),
    ("5.3.4", "The message is too large for that system. Send it smaller, or share the file by other means."),
    ("5.4.6", "The mail went round in a loop, which the postmasters of the systems involved must mend."),
    ("5.4.7", "It was tried for as long as mail is tried. Send it again later, or use another address."),
    ("5.4", "The way to that system does not work. Send it again later, or use another address."),
    ("5.6", "That system cannot take content of this kind. Send it in another form."),
    ("5.7", "That system refuses the message by its rules. The words above may say what to change."),
    ("5", "Sending the same message again will not help unless the cause is removed."),
)


def next_step(recipient: ReportedRecipient, utc_offset: int = 0) -> str:
    """One sentence on what the reader can do now; "" where there is nothing to do."""
    if recipient.action is ReportAction.DELAYED:
        until = recipient.will_retry_until
        when = f" until {format_date(until, utc_offset)}" if until else ""
        return f"It will be tried again{when}; you will be told if that fails."
    if recipient.action is not ReportAction.FAILED:
        return ""
    status = recipient.status
    return next(
        text
        for prefix, text in _STEPS
        if status == prefix or f"{status}.".startswith(f"{prefix}.") or prefix == "5"
    )


def _wrapped(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    line = indent
    for word in text.split():
        for piece in (word[at : at + 200] for at in range(0, len(word), 200)):
            if len(line) + len(piece) > 76 and line.strip():
                lines.append(line.rstrip())
                line = indent
            line += piece + " "
    return [*lines, line.rstrip()] if line.strip() else lines


def _text_part(text: str) -> bytes:
    encoding = "7bit" if text.isascii() else "8bit"
    charset = "us-ascii" if text.isascii() else "utf-8"
    return (
        f"Content-Type: text/plain; charset={charset}{_CRLF}Content-Transfer-Encoding: {encoding}{_CRLF}"
        f"Content-Language: en{_CRLF}{_CRLF}{text}"
    ).encode()


# --- fields for a program -----------------------------------------------------------------------------------


def _status_part(request: DsnRequest) -> bytes:
    groups = [_message_fields(request), *(_recipient_fields(entry, request) for entry in request.recipients)]
    text = (_CRLF + _CRLF).join(_CRLF.join(group) for group in groups) + _CRLF + _CRLF
    kind, encoding = ("delivery-status", "7bit") if text.isascii() else ("global-delivery-status", "8bit")
    head = f"Content-Type: message/{kind}{_CRLF}Content-Transfer-Encoding: {encoding}{_CRLF}{_CRLF}"
    return (head + text).encode()


def _message_fields(request: DsnRequest) -> list[str]:
    fields = [f"Reporting-MTA: dns; {request.reporting_mta}"]
    envelope_id = _plain(request.envelope_id, 100)  # RFC 3461 section 5.4
    if envelope_id:
        fields.insert(0, f"Original-Envelope-Id: {envelope_id}")
    fields.append(f"Arrival-Date: {format_date(request.arrived_at, request.utc_offset)}")
    fields.append(f"X-Outrider-Queue-Id: {request.message_id}")
    return fields


def _recipient_fields(recipient: ReportedRecipient, request: DsnRequest) -> list[str]:
    fields = []
    kind, semicolon, address = recipient.original.partition(";")
    if semicolon and re.fullmatch(r"[A-Za-z0-9-]{1,40}", kind):
        fields.append(f"Original-Recipient: {kind}; {_plain(address, 500)}")
    fields.append(f"Final-Recipient: {_typed(recipient.address)}")
    fields.append(f"Action: {recipient.action.value}")
    fields.append(f"Status: {recipient.status}")
    fields += _remote_fields(recipient)
    if recipient.last_attempt_at:
        fields.append(f"Last-Attempt-Date: {format_date(recipient.last_attempt_at, request.utc_offset)}")
    if recipient.action is ReportAction.DELAYED and recipient.will_retry_until:
        fields.append(f"Will-Retry-Until: {format_date(recipient.will_retry_until, request.utc_offset)}")
    fields.append(f"Final-Log-Id: {request.message_id}")
    return fields


def _remote_fields(recipient: ReportedRecipient) -> list[str]:
    said = _plain(recipient.text, MAX_DIAGNOSTIC)
    if recipient.remote:
        fields = [f"Remote-MTA: dns; {_plain(recipient.remote.partition(' ')[0], 255)}"]
        kind = "smtp" if recipient.code else "x-outrider"
    else:
        fields, kind = [], "x-outrider"  # our own words: never passed off as somebody's SMTP reply
    if said:
        code = f"{recipient.code} {recipient.status} " if recipient.code else ""
        text = said[len(recipient.status) :].lstrip() if code and said.startswith(recipient.status) else said
        fields.append(_CRLF.join(_folded(f"Diagnostic-Code: {kind}; {code}{text}")))
    return fields


def _typed(address: Address) -> str:
    return f"rfc822; {address}" if address.is_ascii else f"utf-8; {address}"  # RFC 6533 section 3


def _folded(field: str) -> list[str]:
    first, *rest = _wrapped(field, "")
    return [first, *(f"\t{line}" for line in rest)]


# --- the message, or its header section ---------------------------------------------------------------------


def _original_part(request: DsnRequest) -> bytes:
    headers = request.trace + _ended(request.original.headers)
    if request.return_full and not request.original.is_binary:
        whole = headers + b"".join(request.original.body.chunks())
        if _travels_unharmed(whole):
            return _enclosed_message(whole)
    return _enclosed_headers(_cut(headers))


def _ended(headers: bytes) -> bytes:
    """With the empty line that closes a header section, whatever was sent."""
    if headers.endswith(b"\r\n\r\n") or headers == b"\r\n":
        return headers
    return headers + (b"\r\n" if headers.endswith(b"\r\n") or not headers else b"\r\n\r\n")


def _travels_unharmed(octets: bytes) -> bool:
    return _BAD_LINE_END.search(octets) is None and _LONG_LINE.search(octets) is None


def _cut(headers: bytes) -> bytes:
    if len(headers) <= MAX_RETURNED_HEADERS:
        return headers
    end = 0
    for field in header_fields(headers):
        if field.end > MAX_RETURNED_HEADERS:
            break
        end = field.end
    return headers[:end] + b"\r\n"


def _enclosed_message(octets: bytes) -> bytes:
    if octets.isascii():
        return _part("message/rfc822", "7bit", octets)
    headers_end = octets.find(b"\r\n\r\n")
    kind = "message/rfc822" if octets[:headers_end].isascii() else "message/global"  # RFC 6532 section 3.7
    return _part(kind, "8bit", octets)


def _enclosed_headers(headers: bytes) -> bytes:
    if headers.isascii() and _travels_unharmed(headers):
        return _part("text/rfc822-headers", "7bit", headers)
    if _travels_unharmed(headers) and _is_utf8(headers):
        return _part("message/global-headers", "8bit", headers)
    encoded = binascii.b2a_base64(headers, newline=False)
    lines = b"\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76)) + b"\r\n"
    return _part("text/rfc822-headers", "base64", lines)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _part(kind: str, encoding: str, octets: bytes) -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    return head + octets + b"\r\n"  # belongs to the boundary that follows (RFC 2046 section 5.1.1)


def _plain(text: str, limit: int) -> str:
    """Text of others in one line: control characters and line ends become one blank, cut at `limit`."""
    cut = text[: limit * 2]
    return _CONTROL.sub(" ", cut).strip()[:limit]
