"""Is a message from a person? What answers or distributes must know, or programs write to each other for
ever."""

from __future__ import annotations

import re

from outrider.message.header_fields import field_names, field_values
from outrider.model.message import StoredMessage

_LIST_FIELDS = frozenset(
    {
        b"list-id",
        b"list-help",
        b"list-subscribe",
        b"list-unsubscribe",
        b"list-post",
        b"list-owner",
        b"list-archive",
    }
)
_NO_PERSONS = re.compile(
    r"(?:mailer-daemon|listserv|majordomo|no-?reply|do-?not-?reply|owner-.*|.*-(?:request|owner|bounces?)(?:\+.*)?)",
    re.IGNORECASE,
)
"""Local parts of programs (RFC 3834 section 2 names the first ones)."""
_FAILED = re.compile(rb"(?:\A|\n)action:[ \t]*([a-z]+)", re.IGNORECASE)
MAX_REPORT = 262_144
"""Octets of a body in which a report's fields are looked for."""


def why_automatic(message: StoredMessage) -> str:
    """Why the message is taken for a program's; "" when nothing says so."""
    if message.envelope.sender is None:
        return "it has the null sender"
    if automatic_mark(message):
        return "it is marked Auto-Submitted"
    headers = message.content.headers if message.content else b""
    for value in field_values(headers, b"precedence", 5):
        if value.strip().lower() in (b"bulk", b"list", b"junk", b"auto_reply"):
            return f"it is marked Precedence: {value.strip().lower().decode('ascii')}"
    return ""


def automatic_mark(message: StoredMessage) -> str:
    """What Auto-Submitted says (RFC 3834 section 5): ``auto-replied``, ``auto-generated``, ...; "" for a
    person's."""
    headers = message.content.headers if message.content else b""
    for value in field_values(headers, b"auto-submitted", 5):
        # The keyword may be followed by parameters or a comment.
        keyword = re.split(rb"[;( \t]", value.strip().lower(), maxsplit=1)[0].decode("ascii", "replace")
        if keyword != "no":
            return keyword or "empty"
    return ""


def came_by_list(headers: bytes) -> bool:
    """Whether a mailing list has sent it."""
    return not _LIST_FIELDS.isdisjoint(field_names(headers))


def is_no_person(local: str) -> bool:
    """Whether the local part is one of a program's."""
    return _NO_PERSONS.fullmatch(local) is not None


def reports_failure(message: StoredMessage) -> bool:
    """Whether the message says that a copy could not be delivered: a report (RFC 3464) of a failed recipient,
    or what an old system sends with the null sender instead of one."""
    content = message.content
    if message.envelope.sender is not None or content is None:
        return False
    kinds = field_values(content.headers, b"content-type", 1)
    if kinds and kinds[0].lower().startswith(b"multipart/report"):
        octets = b""
        for chunk in content.body.chunks(MAX_REPORT):
            octets += chunk
            if len(octets) >= MAX_REPORT:
                break
        actions = [match[1].lower() for match in _FAILED.finditer(octets[:MAX_REPORT])]
        return b"failed" in actions
    return automatic_mark(message) != "auto-replied"
