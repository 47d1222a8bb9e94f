"""Values of AMDP's header fields, written and read: texts, addresses, moments, tokens.

On both sides a value is one line without control characters; whatever else is refused and not repaired, so
that no value can end its field and begin another (header injection). Errors name the field.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from outrider.message.dates import format_date
from outrider.message.encoded_words import decode_text, encode_phrase
from outrider.model.address import Address, AddressError, Domain, parse_domain, parse_path

MAX_TEXT = 998
"""Characters of a name or subject."""
MAX_MOMENT = 253_402_300_799
"""The end of the year 9999."""
_RAW_OCTETS = 200
"""A text up to here stands in one line as it is; longer ones are folded as encoded words."""
_BROKEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]")
_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, )?([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) "
    r"(?:\+0000|GMT|UTC)",
    re.ASCII,
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_QUOTED = rb'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"'
IN_BRACKETS = rb'<((?:%b)?[^<>"\x00-\x20\x7f]+)>' % _QUOTED
"""An address in angle brackets; a quoted local part may hold brackets and blanks."""
_ONE_MAILBOX = re.compile(
    rb'(?:%b[ \t]*|[^<>",;:@\\()\[\]\x00-\x08\x0a-\x1f\x7f]*)%b|([^<>",;:()\\\x00-\x20\x7f]+)'
    % (_QUOTED, IN_BRACKETS)
)


class EnvelopeError(ValueError):
    """It is no envelope; the argument says why, in one line fit for a 5yz reply."""


def write_text(name: str, text: str, *, utf8: bool) -> str:
    """A text as it stands in a header: itself where every server can carry it, raw UTF-8 only with `utf8`
    (SMTPUTF8), else encoded words (RFC 2047). Raises EnvelopeError."""
    check_text(name, text)
    plain = text.isascii() or utf8
    if plain and "=?" not in text and text == text.strip() and len(text.encode()) <= _RAW_OCTETS:
        return text
    return encode_phrase(text, always=True)


def read_text(name: str, value: bytes) -> str:
    """The text of an unfolded value. Raises EnvelopeError, for what encoded words hide too."""
    text = decode_text(value)
    check_text(name, text)
    return text


def check_text(name: str, text: str) -> None:
    """Raises EnvelopeError unless the text is one line of characters."""
    if len(text) > MAX_TEXT:
        raise EnvelopeError(f"{name} is longer than {MAX_TEXT} characters")
    if _BROKEN.search(text):
        raise EnvelopeError(f"{name} holds a control character or no valid text")


def write_address(name: str, address: Address, *, utf8: bool) -> str:
    """``<ann@a.example>``, the domain in A-labels. Raises EnvelopeError."""
    check_text(name, address.local)
    if not address.domain:
        raise EnvelopeError(f"{name} has no domain")
    if not address.is_ascii and not utf8:
        raise EnvelopeError(f"{name} can only be said to servers with SMTPUTF8")
    return f"<{address}>"


def read_address(name: str, value: bytes) -> Address:
    """The one address of an unfolded value, in angle brackets. Raises EnvelopeError."""
    if not (value.startswith(b"<") and value.endswith(b">")):
        raise EnvelopeError(f"{name} is not one address in angle brackets")
    return _parsed(name, value[1:-1])


def read_mailbox(name: str, value: bytes) -> Address:
    """The address of a field like From that names one mailbox and nothing else: no group, no comment, no
    list, nothing that one program reads otherwise than another. Raises EnvelopeError."""
    form = _ONE_MAILBOX.fullmatch(value)
    if form is None:
        raise EnvelopeError(f"{name} is not one plain mailbox")
    return _parsed(name, form[1] or form[2])


def _parsed(name: str, octets: bytes) -> Address:
    try:
        address = parse_path(octets, smtputf8=True)
    except AddressError as error:
        raise EnvelopeError(f"{name}: {error}") from error
    if address is None or not address.domain:
        raise EnvelopeError(f"{name} has no domain")
    return address


def write_moment(name: str, moment: int) -> str:
    """A date in UTC. Raises EnvelopeError."""
    return format_date(check_number(name, moment, 0, MAX_MOMENT))


def read_moment(name: str, value: str) -> int:
    """Seconds since the epoch of a date in UTC. Raises EnvelopeError."""
    form = _DATE.fullmatch(value)
    month = _MONTHS.find(form[2]) if form else -1
    if form is None or month < 0 or month % 3:
        raise EnvelopeError(f"{name} is not a date in UTC")
    day, year, hour, minute, second = (int(form[at]) for at in (1, 3, 4, 5, 6))
    try:
        moment = datetime(year, month // 3 + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise EnvelopeError(f"{name} is not a date in UTC") from error
    return check_number(name, int(moment.timestamp()), 0, MAX_MOMENT)


def read_number(name: str, value: str, least: int, most: int) -> int:
    """A number of ASCII digits within bounds. Raises EnvelopeError."""
    if not re.fullmatch(r"[0-9]{1,15}", value, re.ASCII):
        raise EnvelopeError(f"{name} is not a number")
    return check_number(name, int(value), least, most)


def check_number(name: str, number: int, least: int, most: int) -> int:
    """The number, where it is within bounds. Raises EnvelopeError."""
    if not least <= number <= most:
        raise EnvelopeError(f"{name} is not between {least} and {most}")
    return number


def check_token(name: str, form: re.Pattern[str], value: str) -> str:
    """The value, where it has the form. Raises EnvelopeError."""
    if form.fullmatch(value) is None:
        raise EnvelopeError(f"{name} is malformed")
    return value


def read_ascii(name: str, value: bytes) -> str:
    """A value that is never anything but printable ASCII. Raises EnvelopeError."""
    text = value.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise EnvelopeError(f"{name} is not plain ASCII")
    return text


def read_host(name: str, value: str) -> Domain:
    """The name of a host: A-labels, two or more, no address literal. Raises EnvelopeError."""
    try:
        domain = parse_domain(value)
    except AddressError as error:
        raise EnvelopeError(f"{name}: {error}") from error
    if domain.startswith("[") or "." not in domain:
        raise EnvelopeError(f"{name} is not the name of a host")
    return domain


def quoted_phrase(name: str, text: str, *, utf8: bool) -> str:
    """A display name as it stands before an address, with a blank behind it; "" for none. Raises
    EnvelopeError."""
    if not text:
        return ""
    written = write_text(name, text, utf8=utf8)
    if written.startswith("=?"):
        return f"{written} "
    escaped = written.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" '


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """A text of a message made fit for an envelope: one line, control characters and what is none replaced by
    blanks, cut at `limit` characters. For whoever builds an envelope out of the message's own fields."""
    return _BROKEN.sub(" ", text[:limit]).strip()
