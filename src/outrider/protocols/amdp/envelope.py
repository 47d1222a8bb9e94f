"""The envelope of a held message (AMDP-4a): an ordinary RFC 5322 message with AMDP's fields and a text for
people; and what becomes of it on its way: with a link token for SMTP-only receivers, verified for the
mailbox."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from outrider.message.dates import format_date
from outrider.message.header_fields import header_fields
from outrider.model.address import Address
from outrider.model.content import Content, InlineBody, inline_content
from outrider.protocols.amdp import values
from outrider.protocols.amdp.attachments import HeldAttachment as HeldAttachment
from outrider.protocols.amdp.envelope_fields import FIELDS
from outrider.protocols.amdp.envelope_fields import VERSION as VERSION
from outrider.protocols.amdp.envelope_fields import HeldEnvelope as HeldEnvelope
from outrider.protocols.amdp.envelope_lines import LONGEST_LINE, Line, lines
from outrider.protocols.amdp.envelope_lines import VERIFIED as VERIFIED
from outrider.protocols.amdp.people import HeldText, text_for_people
from outrider.protocols.amdp.retrieval import page_path
from outrider.protocols.amdp.values import EnvelopeError as EnvelopeError

MAX_HEADERS = 131_072
"""Octets of an envelope's header section; the largest that `write_envelope` writes is below."""
REMEMBERED = 512
"""Envelopes that have just been read: each is read in the session, at its call-back and for its reader."""
REMEMBERED_SIZE = 8192
"""Octets of the largest header section that is remembered."""
REMEMBERED_LINES = 64
"""Lines of the longest whose fields are remembered."""

_MESSAGE_ID = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~@\[\]:-]{3,250}", re.ASCII)
_REFERENCE = re.compile(r"[!-;=?-~]{1,250}", re.ASCII)
MOST_REFERENCES: Final = 20
"""Message-IDs of a thread that a mailbox's envelope names."""
_READERS = tuple(
    (b"amdp-" + name.lower().encode(), f"AMDP-{name}", optional) for name, (_, _, optional) in FIELDS.items()
)
MOST_VALUES = 2048
"""Values of each kind that have just been read: holders say the same again and again."""

T = TypeVar("T")


def _remembering(read: Callable[[str, bytes], T]) -> Callable[[str, bytes], T]:
    """The same for what is not long, without reading again what was just read."""
    remembered = lru_cache(maxsize=MOST_VALUES)(read)
    return lambda name, value: (remembered if len(value) <= LONGEST_LINE else read)(name, value)


# -- writing -------------------------------------------------------------------------------------------------


def write_envelope(envelope: HeldEnvelope, *, message_id: str, utf8: bool = False) -> bytes:
    """The whole message: fields, From, To, Subject, Date, Message-ID (`message_id`, without angle brackets),
    and a text for people with the link on a line of its own. `utf8`: it goes only to servers with SMTPUTF8;
    else names are RFC 2047. Raises EnvelopeError for a value that cannot stand in a header, or an address
    that needs SMTPUTF8 without `utf8`."""
    values.check_token("Message-ID", _MESSAGE_ID, message_id)
    if envelope.expires < envelope.timestamp:
        raise EnvelopeError("AMDP-Expire-On is before AMDP-Timestamp")
    lines = [
        f"From: {_mailbox('From', envelope.sender_name, envelope.sender, utf8)}",
        f"To: {_mailbox('To', envelope.recipient_name, envelope.recipient, utf8)}",
        f"Subject: {values.write_text('Subject', envelope.subject, utf8=utf8)}",
        f"Date: {format_date(envelope.timestamp)}",
        f"Message-ID: <{message_id}>",
    ]
    for name, (write, _, optional) in FIELDS.items():
        value = write(f"AMDP-{name}", envelope, utf8)
        if value or not optional:
            lines.append(f"AMDP-{name}: {value}")
    return _with_text(("\r\n".join(lines) + "\r\n").encode(), envelope, retrieval_link(envelope))


def _mailbox(field: str, name: str, address: Address, utf8: bool) -> str:
    phrase = values.quoted_phrase(field, name, utf8=utf8)
    return phrase + values.write_address(field, address, utf8=utf8)


def _with_text(fields: bytes, envelope: HeldEnvelope, link: str, proven: bool = False) -> bytes:
    """A header section without its empty line, with the text for people behind it."""
    text = text_for_people(
        HeldText(
            sender=str(envelope.sender),
            sender_name=envelope.sender_name,
            recipient=str(envelope.recipient),
            subject=envelope.subject,
            attachments=envelope.attachments,
            mail_class=str(envelope.mail_class),
            size=envelope.size,
            date=envelope.date,
            expires=envelope.expires,
            holder=envelope.holder,
            proven_domain=envelope.domain if proven else "",
        ),
        link,
    ).encode()
    encoding = b"7bit" if text.isascii() else b"8bit"
    return (
        fields + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + text
    )


# -- reading -------------------------------------------------------------------------------------------------


def read_envelope(headers: bytes) -> HeldEnvelope:
    """The envelope of a header section. Raises EnvelopeError: a field is missing, doubled, malformed; From is
    not the one address of AMDP-From's domain; what it says contradicts itself."""
    return _read_remembered(headers) if len(headers) <= REMEMBERED_SIZE else _read(headers)


def _read(headers: bytes) -> HeldEnvelope:
    if len(headers) > MAX_HEADERS:
        raise EnvelopeError("the header section is too long for an envelope")
    found = _once(headers)
    given: dict[str, object] = {}
    for key, name, optional in _READERS:
        value = found.get(key)
        if value is not None:
            given |= _said(name, value)
        elif not optional:
            raise EnvelopeError(f"{name} is missing")
    size = given.pop("size")
    envelope = HeldEnvelope(**given)  # type: ignore[arg-type]  # the readers of FIELDS give these types
    if envelope.size != size:
        raise EnvelopeError("AMDP-Size is not the length in AMDP-Digest")
    if envelope.expires < envelope.timestamp:
        raise EnvelopeError("AMDP-Expire-On is before AMDP-Timestamp")
    _check_visible(found, envelope)
    return envelope


_read_remembered = lru_cache(maxsize=REMEMBERED)(_read)


def _read_value(name: str, value: bytes) -> Mapping[str, object]:
    """What one field of AMDP's says. Raises EnvelopeError."""
    _, read, _ = FIELDS[name.removeprefix("AMDP-")]
    return read(name, value)


_said = _remembering(_read_value)
_mailbox_said = _remembering(values.read_mailbox)
_text_said = _remembering(values.read_text)


def _lines(headers: bytes) -> tuple[Line, ...]:
    """Remembered where that is little: a section of thousands of short fields would weigh a hundred times as
    much."""
    is_small = len(headers) <= REMEMBERED_SIZE and headers.count(b"\n") <= REMEMBERED_LINES
    return _lines_remembered(headers) if is_small else lines(headers)


_lines_remembered = lru_cache(maxsize=REMEMBERED)(lines)


def _once(headers: bytes) -> dict[bytes, bytes]:
    """The values that count, by name in lower case. Raises EnvelopeError where a field stands twice."""
    found: dict[bytes, bytes] = {}
    for line in _lines(headers):
        if line.canonical:
            if line.name in found:
                raise EnvelopeError(f"{line.written_name.decode('ascii')} stands twice")
            found[line.name] = line.value
    return found


def _check_visible(found: dict[bytes, bytes], envelope: HeldEnvelope) -> None:
    """What mail programs show is what AMDP says (AMDP-8). Raises EnvelopeError."""
    author, to, subject = (found.get(name) for name in (b"from", b"to", b"subject"))
    if author is None:
        raise EnvelopeError("From is missing")
    if _mailbox_said("From", author).domain != envelope.domain:
        raise EnvelopeError("From and AMDP-From are not of one domain")
    if to is not None and _mailbox_said("To", to).key != envelope.recipient.key:
        raise EnvelopeError("To and AMDP-To are not one address")
    shown = _text_said("Subject", subject) if subject is not None else ""
    if shown != envelope.subject:
        raise EnvelopeError("Subject and AMDP-Subject differ")


def fields_digest(headers: bytes) -> str:
    """SHA-256, 64 hexadecimal digits, over the canonical form of all AMDP-*, From, To and Subject fields
    (docs/protocols/amdp.md section 3)."""
    counted = [line.canonical for line in _lines(headers) if line.canonical]
    return hashlib.sha256(b"".join(sorted(counted))).hexdigest()


# -- links, and the envelope after the call-back -------------------------------------------------------------


def retrieval_link(envelope: HeldEnvelope, secret: str = "") -> str:
    """``https://NAME:PORT/m/ID/SECRET`` (port left out when 443)."""
    port = "" if envelope.port == 443 else f":{envelope.port}"
    return f"https://{envelope.holder}{port}{page_path(envelope.id, secret)}"


def with_link_token(content: Content, token: str) -> Content:
    """For a receiver without AMDP: the envelope with the token in its link (AMDP-5a). A pure function: the
    same octets at every attempt. Whatever `write_envelope` did not write is given back as it is."""
    try:
        link = b"\r\n" + retrieval_link(read_envelope(content.headers)).encode() + b"\r\n"
    except EnvelopeError:
        return content
    body = b"".join(content.body.chunks())
    if body.count(link) != 1:
        return content
    opened = link[:-2] + b"/" + token.encode("ascii") + b"\r\n"
    return Content(
        content.headers, InlineBody(body.replace(link, opened)), content.is_ascii, content.is_binary
    )


def verified(content: Content, confirmation: str, link: str, thread: Sequence[str] = ()) -> Content:
    """For the mailbox, after the call-back (AMDP-10, AMDP-14): AMDP-* are AMDP-Verified-*, what came under
    that name is taken out, confirmation number and link are added. The text is written anew out of the
    fields that were verified: nothing that the sender wrote around the link is believed. `thread`: the
    holder's Message-IDs of the thread, oldest first (AMDP-21); as References they let a mail program show the
    envelope where its message belongs. Raises EnvelopeError."""
    envelope = read_envelope(without_verified(content.headers))
    references = _references(thread)
    kept = [
        line.verified
        for line in _lines(content.headers)
        if not (references and line.name.startswith(b"references"))
    ]
    added = f"AMDP-Verified-Confirmation: {confirmation}\r\nAMDP-Verified-Link: <{link}>\r\n"
    fields = b"".join(kept) + references + added.encode("ascii")
    return inline_content(_with_text(fields, envelope, link, proven=True))


def _references(thread: Sequence[str]) -> bytes:
    """A field of those that have the form of a Message-ID: the root and the latest say most."""
    keys = [key for key in dict.fromkeys(thread) if _REFERENCE.fullmatch(key)]
    if not keys:
        return b""
    shown = keys if len(keys) <= MOST_REFERENCES else [keys[0], *keys[1 - MOST_REFERENCES :]]
    return b"References: " + b"\r\n ".join(b"<%b>" % key.encode("ascii") for key in shown) + b"\r\n"


def without_verified(headers: bytes) -> bytes:
    """A header section without AMDP-Verified-* fields: what a stranger may not say."""
    return without_fields(headers, VERIFIED)


def without_fields(headers: bytes, prefix: bytes) -> bytes:
    """A header section without the fields whose name begins so (lower case)."""
    if prefix not in headers.lower():
        return headers
    kept: list[bytes] = []
    position = 0
    for field in header_fields(headers):
        if field.name.lower().startswith(prefix):
            kept.append(headers[position : field.start])
            position = field.end
    kept.append(headers[position:])
    return b"".join(kept)
