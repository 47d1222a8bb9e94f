"""The text of an envelope, for people whose server or program knows nothing of AMDP (AMDP-4a)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from outrider.message.dates import format_date
from outrider.message.summary import displayable
from outrider.protocols.amdp.attachments import HeldAttachment

_SHOWN = 200
"""Characters of one value: at most 800 octets, so that a line stays below 998 (RFC 5322 2.1.1)."""
_ATTACHMENTS_SHOWN = 20
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True, slots=True)
class HeldText:
    """What is told."""

    sender: str
    sender_name: str
    recipient: str
    subject: str
    attachments: tuple[HeldAttachment, ...]
    mail_class: str
    size: int
    date: int
    expires: int
    holder: str
    proven_domain: str
    """The domain that the call-back proved; "" = nothing is proven."""


def text_for_people(held: HeldText, link: str) -> str:
    """Lines with CRLF, no control or invisible characters; the link stands on a line of its own, alone."""
    lines = [
        "A message is held for you by its sender's server.",
        "",
        _line("Subject", held.subject or "(none)"),
        _line("From", f"{held.sender_name} <{held.sender}>" if held.sender_name else held.sender),
        _line("Proven", _proof(held.proven_domain)),
        _line("To", held.recipient),
        _line("Date", format_date(held.date)),
        _line("Size", shown_size(held.size)),
        _line("Class", f"{held.mail_class} (so says the sender)"),
        _line("Held by", held.holder),
        _line("Held until", format_date(held.expires)),
        *_attachments(held.attachments),
        "",
        "To see what it is, and to read or download it:",
        "",
        link,
        "",
        "Opening the page tells the sender nothing; only the button on it fetches the",
        "message. If you do not want it, do nothing: it is deleted when its time is up.",
    ]
    return "".join(f"{line}\r\n" for line in lines)


def shown_size(octets: int) -> str:
    """``1.4 MB``, counted in 1024s, for people."""
    size, unit = float(octets), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{octets} bytes" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _proof(domain: str) -> str:
    if not domain:
        return "nothing yet: anybody can write the name above"
    return f"{domain} holds this message; whether you trust it is for you to say"


def _attachments(attachments: tuple[HeldAttachment, ...]) -> list[str]:
    shown = [
        _line("Attachment", f"{one.name or '(no name)'} ({one.media_type}, {shown_size(one.size)})")
        for one in attachments[:_ATTACHMENTS_SHOWN]
    ]
    more = len(attachments) - len(shown)
    return [*shown, *([_line("Attachments", f"and {more} more")] if more else [])]


@lru_cache(maxsize=1024)
def _line(label: str, value: str) -> str:
    return f"  {label + ':':<12} {displayable(value, _SHOWN)[: _SHOWN + 1]}"
