"""The fields of an envelope (AMDP-4a): as values, and how each is written and read.

`FIELDS` is the one table for both directions: a field that is not in it is neither written nor read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from outrider.model.address import Address, Domain
from outrider.protocols.amdp import values
from outrider.protocols.amdp.attachments import HeldAttachment, read_attachments, write_attachments
from outrider.protocols.amdp.digest import Digest, DigestError, parse_digest
from outrider.protocols.amdp.mail_class import ClassError, MailClass, parse_class
from outrider.protocols.amdp.values import EnvelopeError

VERSION = "1.0"

_ID = re.compile(r"[a-z2-7]{26}", re.ASCII)
_LANGUAGE = re.compile(r"(?:[a-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,4})?", re.ASCII)
_ENCODING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,39}", re.ASCII)
HOLDER_ID = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?", re.ASCII)
_KEYS = re.compile(r"[\x21-\x7e]{0,500}", re.ASCII)
_POSTAGE = re.compile(r"[A-Za-z0-9._=-]{0,8192}", re.ASCII)
_VERSION = re.compile(r"1\.[0-9]{1,3}", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15}) (?:bytes|octets)", re.ASCII)
_BLANKS = re.compile(rb"[ \t]+")


@dataclass(frozen=True, slots=True)
class HeldEnvelope:
    """Every field of an envelope (AMDP-4a), as values. All of it is claimed by the sender until the
    call-back."""

    sender: Address
    """AMDP-From, and the single From: one domain."""
    recipient: Address
    """AMDP-To."""
    id: str
    """AMDP-Msg-Id: of this message and recipient."""
    digest: Digest
    """AMDP-Digest; its length is AMDP-Size."""
    mail_class: MailClass
    date: int
    """AMDP-Date: of the message, seconds since the epoch."""
    timestamp: int
    """AMDP-Timestamp: when it was held, seconds since the epoch."""
    expires: int
    """AMDP-Expire-On: until when it is held, seconds since the epoch; not before `timestamp`."""
    holder: Domain
    """AMDP-MHF-Name."""
    port: int = 443
    """AMDP-Auth-Port: 443, or 1024 and up."""
    subject: str = ""
    sender_name: str = ""
    recipient_name: str = ""
    attachments: tuple[HeldAttachment, ...] = ()
    language: str = ""
    """AMDP-Language: ISO 639 (``en``, ``pt-BR``); "" = not said."""
    encoding: str = "UTF-8"
    """AMDP-Encoding: the character set of the message's text."""
    holder_id: str = ""
    """AMDP-MHF-Id: by which the domain's information service knows the holder; "" = listed in DNS."""
    keys: str = ""
    """AMDP-Auth-Keys: further keys of the call-back; printable ASCII without blanks."""
    postage: str = ""
    """AMDP-Payment-Rcpt: a signed receipt; "" = nothing was paid."""
    about: str = "A message is held for you by its sender. This is its envelope."
    """AMDP-About."""
    version: str = VERSION
    """AMDP-Version."""

    @property
    def size(self) -> int:
        """AMDP-Size: octets of the message."""
        return self.digest.length

    @property
    def domain(self) -> Domain:
        """The one domain that is to be authenticated."""
        return self.sender.domain

    @property
    def needs_utf8(self) -> bool:
        """Whether only servers with SMTPUTF8 can carry it, because of an address."""
        return not (self.sender.is_ascii and self.recipient.is_ascii)


Write = Callable[[str, HeldEnvelope, bool], str]
Read = Callable[[str, bytes], dict[str, object]]
Entry = tuple[Write, Read, bool]


def _text(attribute: str) -> Entry:
    return (
        lambda name, envelope, utf8: values.write_text(name, getattr(envelope, attribute), utf8=utf8),
        lambda name, value: {attribute: values.read_text(name, value)},
        True,
    )


def _address(attribute: str) -> Entry:
    return (
        lambda name, envelope, utf8: values.write_address(name, getattr(envelope, attribute), utf8=utf8),
        lambda name, value: {attribute: values.read_address(name, value)},
        False,
    )


def _token(attribute: str, form: re.Pattern[str], *, optional: bool) -> Entry:
    def read(name: str, value: bytes) -> dict[str, object]:
        return {attribute: values.check_token(name, form, values.read_ascii(name, value))}

    return (
        lambda name, envelope, _: values.check_token(name, form, getattr(envelope, attribute)),
        read,
        optional,
    )


def _moment(attribute: str) -> Entry:
    return (
        lambda name, envelope, _: values.write_moment(name, getattr(envelope, attribute)),
        lambda name, value: {attribute: values.read_moment(name, values.read_ascii(name, value))},
        False,
    )


def _write_seconds(name: str, envelope: HeldEnvelope, _: bool) -> str:
    return str(values.check_number(name, envelope.timestamp, 0, values.MAX_MOMENT))


def _read_seconds(name: str, value: bytes) -> dict[str, object]:
    text = values.read_ascii(name, value)
    return {"timestamp": values.read_number(name, text, 0, values.MAX_MOMENT)}


def _check_port(name: str, port: int) -> int:
    if port != 443 and not 1024 <= port <= 65_535:
        raise EnvelopeError(f"{name} is neither 443 nor from 1024 to 65535")
    return port


def _read_port(name: str, value: bytes) -> dict[str, object]:
    number = values.read_number(name, values.read_ascii(name, value), 0, 65_535)
    return {"port": _check_port(name, number)}


def _read_host(name: str, value: bytes) -> dict[str, object]:
    return {"holder": values.read_host(name, values.read_ascii(name, value))}


def _read_size(name: str, value: bytes) -> dict[str, object]:
    form = _SIZE.fullmatch(values.read_ascii(name, value))
    if form is None:
        raise EnvelopeError(f"{name} is not a number of bytes")
    return {"size": int(form[1])}


def _read_digest(name: str, value: bytes) -> dict[str, object]:
    try:
        return {"digest": parse_digest(values.read_ascii(name, value))}
    except DigestError as error:
        raise EnvelopeError(str(error)) from error


def _write_class(name: str, envelope: HeldEnvelope, _: bool) -> str:
    return str(_class_of(name, str(envelope.mail_class)))


def _class_of(name: str, text: str) -> MailClass:
    try:
        return parse_class(text)
    except ClassError as error:
        raise EnvelopeError(f"{name}: {error}") from error


def _write_postage(name: str, envelope: HeldEnvelope, _: bool) -> str:
    receipt = values.check_token(name, _POSTAGE, envelope.postage)
    return "\r\n ".join(receipt[at : at + 70] for at in range(0, len(receipt), 70))


def _read_postage(name: str, value: bytes) -> dict[str, object]:
    joined = values.read_ascii(name, _BLANKS.sub(b"", value))
    return {"postage": values.check_token(name, _POSTAGE, joined)}


FIELDS: dict[str, Entry] = {
    "About": _text("about"),
    "From": _address("sender"),
    "From-Name": _text("sender_name"),
    "To": _address("recipient"),
    "To-Name": _text("recipient_name"),
    "Subject": _text("subject"),
    "Attachments": (
        lambda name, envelope, _: write_attachments(name, envelope.attachments),
        lambda name, value: {"attachments": read_attachments(name, values.read_ascii(name, value))},
        True,
    ),
    "Mail-Class": (
        _write_class,
        lambda name, value: {"mail_class": _class_of(name, values.read_ascii(name, value))},
        False,
    ),
    "Language": _token("language", _LANGUAGE, optional=True),
    "Encoding": _token("encoding", _ENCODING, optional=True),
    "Date": _moment("date"),
    "Msg-Id": _token("id", _ID, optional=False),
    "Size": (lambda name, envelope, _: f"{envelope.size} bytes", _read_size, False),
    "Digest": (lambda name, envelope, _: str(envelope.digest), _read_digest, False),
    "MHF-Name": (lambda name, envelope, _: values.read_host(name, envelope.holder), _read_host, False),
    "MHF-Id": _token("holder_id", HOLDER_ID, optional=True),
    "Auth-Port": (lambda name, envelope, _: str(_check_port(name, envelope.port)), _read_port, False),
    "Timestamp": (_write_seconds, _read_seconds, False),
    "Expire-On": _moment("expires"),
    "Auth-Keys": _token("keys", _KEYS, optional=True),
    "Version": _token("version", _VERSION, optional=False),
    "Payment-Rcpt": (_write_postage, _read_postage, True),
}
"""Name behind ``AMDP-``: how it is written, how it is read, whether it may be missing."""
