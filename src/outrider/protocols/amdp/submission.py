"""What an outgoing gateway hands to a holding facility (AMDP-2): the message with AMDP's fields on top, in
the form for several recipients: ``AMDP-To: <a><b>``, ``AMDP-To-Name: <n1><>``.

The gateway takes out every AMDP field that its user wrote (`without_amdp`) before it puts its own on top; the
facility takes the message's own octets out from under them unchanged, so that no signature breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from outrider.message.encoded_words import encode_phrase
from outrider.message.header_fields import header_fields
from outrider.model.address import Address
from outrider.protocols.amdp import values
from outrider.protocols.amdp.envelope import without_fields
from outrider.protocols.amdp.mail_class import ClassError, MailClass, parse_class
from outrider.protocols.amdp.values import EnvelopeError

MOST_RECIPIENTS = 10_000
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,4}", re.ASCII)
_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_ADDRESS = re.compile(rb"[ \t]*%b[ \t]*" % values.IN_BRACKETS)
_NAME = re.compile(rb"[ \t]*<([^<>]*)>[ \t]*")
_AMDP = b"amdp-"


@dataclass(frozen=True, slots=True)
class HeldRecipient:
    """One recipient with the name that the sender gave it."""

    address: Address
    name: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """What the outgoing gateway says of a message."""

    sender: Address
    """AMDP-From: of the authenticated account."""
    recipients: tuple[HeldRecipient, ...]
    mail_class: MailClass
    sender_name: str = ""
    language: str = ""
    expires: int = 0
    """AMDP-Expire-On, seconds since the epoch; 0 = as the facility keeps."""
    gateway: str = ""
    """AMDP-OMG-Id: stays inside the domain."""
    receipt: bool = False
    """AMDP-Receipt: the sender wants an envelope when the message was retrieved (AMDP-6)."""


def write_submission(submission: Submission, *, utf8: bool = False) -> bytes:
    """The fields, to stand before the message's own header section. Raises EnvelopeError."""
    addresses = [
        values.write_address("AMDP-To", one.address, utf8=utf8) for one in _some(submission.recipients)
    ]
    fields = [
        f"AMDP-From: {values.write_address('AMDP-From', submission.sender, utf8=utf8)}",
        "AMDP-To: " + "\r\n ".join(addresses),
        f"AMDP-Mail-Class: {_class_of(str(submission.mail_class))}",
    ]
    if submission.sender_name:
        written = values.write_text("AMDP-From-Name", submission.sender_name, utf8=utf8)
        fields.append(f"AMDP-From-Name: {written}")
    if any(one.name for one in submission.recipients):
        names = [f"<{_write_name(one.name, utf8)}>" for one in submission.recipients]
        fields.append("AMDP-To-Name: " + "\r\n ".join(names))
    if submission.language:
        fields.append(f"AMDP-Language: {values.check_token('AMDP-Language', _LANGUAGE, submission.language)}")
    if submission.expires:
        fields.append(f"AMDP-Expire-On: {values.write_moment('AMDP-Expire-On', submission.expires)}")
    if submission.gateway:
        fields.append(f"AMDP-OMG-Id: {values.check_token('AMDP-OMG-Id', _GATEWAY, submission.gateway)}")
    if submission.receipt:
        fields.append("AMDP-Receipt: yes")
    return "".join(f"{field}\r\n" for field in fields).encode()


def _some(recipients: tuple[HeldRecipient, ...]) -> tuple[HeldRecipient, ...]:
    if not 1 <= len(recipients) <= MOST_RECIPIENTS:
        raise EnvelopeError(f"AMDP-To names none or more than {MOST_RECIPIENTS} recipients")
    return recipients


def _write_name(name: str, utf8: bool) -> str:
    if "<" in name or ">" in name:
        values.check_text("AMDP-To-Name", name)
        return encode_phrase(name, always=True)
    return values.write_text("AMDP-To-Name", name, utf8=utf8)


def read_submission(headers: bytes) -> tuple[Submission, bytes]:
    """What the gateway said, and the header section without any AMDP field. Raises EnvelopeError."""
    found = _once(headers)
    for name in ("from", "to", "mail-class"):
        if name not in found:
            raise EnvelopeError(f"AMDP-{name.title()} is missing")
    submission = Submission(
        sender=values.read_address("AMDP-From", found["from"]),
        recipients=_recipients(found["to"], found.get("to-name", b"")),
        mail_class=_class_of(values.read_ascii("AMDP-Mail-Class", found["mail-class"])),
        sender_name=values.read_text("AMDP-From-Name", found.get("from-name", b"")),
        language=_token(found, "language", "AMDP-Language", _LANGUAGE),
        expires=_optional(found, "expire-on", _read_expiry),
        gateway=_token(found, "omg-id", "AMDP-OMG-Id", _GATEWAY),
        receipt=found.get("receipt", b"").lower() == b"yes",
    )
    return submission, without_amdp(headers)


def _once(headers: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for field in header_fields(headers):
        lowered = field.name.lower()
        if lowered.startswith(_AMDP):
            name = lowered[len(_AMDP) :].decode("ascii")
            if name in found:
                raise EnvelopeError(f"{field.name.decode('ascii')} stands twice")
            found[name] = field.unfolded
    return found


def _recipients(addresses: bytes, names: bytes) -> tuple[HeldRecipient, ...]:
    mailboxes = _bracketed("AMDP-To", _ADDRESS, addresses)
    if not 1 <= len(mailboxes) <= MOST_RECIPIENTS:
        raise EnvelopeError(f"AMDP-To names none or more than {MOST_RECIPIENTS} recipients")
    called = _bracketed("AMDP-To-Name", _NAME, names) if names else [b""] * len(mailboxes)
    if len(called) != len(mailboxes):
        raise EnvelopeError("AMDP-To-Name has not as many names as AMDP-To addresses")
    return tuple(
        HeldRecipient(
            values.read_address("AMDP-To", b"<" + mailbox + b">"), values.read_text("AMDP-To-Name", name)
        )
        for mailbox, name in zip(mailboxes, called, strict=True)
    )


def _bracketed(name: str, form: re.Pattern[bytes], value: bytes) -> list[bytes]:
    found: list[bytes] = []
    position = 0
    while position < len(value):
        item = form.match(value, position)
        if item is None:
            raise EnvelopeError(f"{name} is not a row of <...>")
        found.append(item[1])
        position = item.end()
    return found


def _token(found: dict[str, bytes], key: str, name: str, form: re.Pattern[str]) -> str:
    if key not in found:
        return ""
    return values.check_token(name, form, values.read_ascii(name, found[key]))


def _optional(found: dict[str, bytes], key: str, read: Callable[[bytes], int]) -> int:
    return read(found[key]) if key in found else 0


def _read_expiry(value: bytes) -> int:
    return values.read_moment("AMDP-Expire-On", values.read_ascii("AMDP-Expire-On", value))


def _class_of(text: str) -> MailClass:
    try:
        return parse_class(text)
    except ClassError as error:
        raise EnvelopeError(f"AMDP-Mail-Class: {error}") from error


def without_amdp(headers: bytes) -> bytes:
    """A header section without any AMDP field, verified or not."""
    return without_fields(headers, _AMDP)
