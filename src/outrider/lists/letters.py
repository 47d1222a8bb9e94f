"""Letters that a program writes: plain text, marked as automatic, so that no other program answers (RFC
3834)."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from outrider.message.dates import format_date
from outrider.message.encoded_words import encode_phrase
from outrider.message.summary import displayable
from outrider.model.address import Address
from outrider.model.content import Content, inline_content

MAX_SUBJECT = 200
WRAP_AT = 76
_MAX_LINE = 900
"""Octets; RFC 5322 2.1.1 allows 998."""
_NOT_IN_QUOTES = re.compile(r'["\\\x00-\x1f\x7f]+')


@dataclass(frozen=True, slots=True)
class Letter:
    """What is said to whom."""

    writer: Address
    to: Address
    subject: str
    text: str
    writer_name: str = ""
    reply_to: Address | None = None
    in_reply_to: str = ""
    """The Message-ID answered, with its angle brackets; "" for none."""
    references: str = ""
    """Earlier ones, checked by the caller."""
    detail: str = ""
    """Behind ``auto-replied`` (RFC 3834 section 5): ``vacation``."""


def letter_content(letter: Letter, message_id: str, now: float, utc_offset: int) -> Content:
    """The letter as a message. Every value from outside is one line by then."""
    fields = [
        f"From: {_phrase(letter.writer_name)}<{letter.writer}>",
        f"To: <{letter.to}>",
        f"Subject: {encode_phrase(displayable(letter.subject, MAX_SUBJECT))}",
        f"Date: {format_date(now, utc_offset)}",
        f"Message-ID: <{message_id}>",
        f"Auto-Submitted: auto-replied{f' ({letter.detail})' if letter.detail else ''}",
        "Precedence: bulk",  # not of any standard, and what old responders look at
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ]
    if letter.reply_to is not None:
        fields.append(f"Reply-To: <{letter.reply_to}>")
    if letter.in_reply_to:
        fields.append(f"In-Reply-To: {letter.in_reply_to}")
        fields.append(
            f"References: {f'{letter.references} ' if letter.references else ''}{letter.in_reply_to}"
        )
    text = _lines(letter.text)
    fields.append(f"Content-Transfer-Encoding: {'7bit' if text.isascii() else '8bit'}")
    return inline_content(("\r\n".join(fields) + "\r\n\r\n" + text).encode("utf-8", "replace"))


def _phrase(name: str) -> str:
    if not name:
        return ""
    if name.isascii():
        return f'"{_NOT_IN_QUOTES.sub(" ", name[:MAX_SUBJECT])}" '
    return encode_phrase(displayable(name, MAX_SUBJECT)) + " "


def _lines(text: str) -> str:
    """The text with CRLF, no control characters, and no line that is too long."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        printable = "".join(one for one in line if one == "\t" or one.isprintable())
        if len(printable.encode("utf-8", "replace")) <= _MAX_LINE:
            lines.append(printable)
        else:
            lines += textwrap.wrap(printable, WRAP_AT)
    while lines and not lines[-1]:
        lines.pop()
    return "".join(f"{line}\r\n" for line in lines)
