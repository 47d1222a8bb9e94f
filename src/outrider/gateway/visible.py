"""The header section that SMTP and mailboxes see of a message that has the form of MT2."""

from __future__ import annotations

import re
from typing import Final

from outrider.gateway.mapping import mt2_to_smtp
from outrider.message.dates import format_date
from outrider.message.objects.envelope import LayeredEnvelope
from outrider.message.objects.headers import HEADERS_TYPE, Field, HeadersObject, read_headers
from outrider.model.layered import MessageObjects

_MESSAGE_ID: Final = re.compile(r"[^<>@\s]+@[^<>@\s]+")
_NO_FIELDS: Final = b"\r\n"


def header_section(
    objects: MessageObjects, envelope: LayeredEnvelope, *, body_follows: bool = False
) -> bytes:
    """`Content.headers` of a message that came as objects; `envelope` is what its envelope says.

    A headers object that is encrypted or missing gives what the envelope says instead. `body_follows` as in
    `mt2_to_smtp`. Raises ObjectError for objects that have no such form.
    """
    readable = bool(objects.headers) and objects.headers_type.lower() == HEADERS_TYPE
    headers = read_headers(objects.headers) if readable else _from_envelope(envelope, objects.headers)
    prefix = objects.body_prefix if objects.has_body else _NO_FIELDS
    return mt2_to_smtp(headers, prefix, body_follows=body_follows)


def _from_envelope(envelope: LayeredEnvelope, hidden: bytes) -> HeadersObject:
    """The least that RFC 5322 section 3.6 asks for."""
    fields = [
        Field("Date", format_date(envelope.date)),
        Field("From", _author(envelope)),
        Field("To", "undisclosed-recipients:;"),
    ]
    if _MESSAGE_ID.fullmatch(envelope.id):
        fields.append(Field("Message-ID", f"<{envelope.id}>"))
    if hidden:
        fields.append(Field("Subject", "(encrypted)"))
    return HeadersObject(tuple(fields))


def _author(envelope: LayeredEnvelope) -> str:
    if envelope.sender is not None:
        return str(envelope.sender)
    return f"MAILER-DAEMON@{envelope.report.reporter}" if envelope.report else "undisclosed:;"
