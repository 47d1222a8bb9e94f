"""Attachments: as the envelope tells of them (AMDP-Attachments), and compared with what came (AMDP-4b). The
value is ASCII: names that are not plain are RFC 2231's ``name*=utf-8''...``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from outrider.message.summary import displayable
from outrider.protocols.amdp.values import EnvelopeError

MOST = 50
"""Attachments that an envelope tells of; a message with more is told of by its first 50."""
MAX_NAME = 240
"""Octets of a name in UTF-8; 255 is what file systems take."""
MAX_SIZE = 10**15 - 1

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9 ._()-]*[A-Za-z0-9._()-])?", re.ASCII)
_ENTRY = re.compile(
    r"[ \t]*([a-z0-9!#$&^_.+/-]{3,255}); size=([0-9]{1,15}); "
    r"name(?:=\"([A-Za-z0-9 ._()-]{0,240})\"|\*=utf-8''((?:[A-Za-z0-9._-]|%[0-9A-F]{2}){1,720}))[ \t]*",
    re.ASCII,
)
_BROKEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class HeldAttachment:
    """One attachment as the envelope tells of it. What arrives is compared with it (AMDP-4b)."""

    name: str
    """As the sender wrote it: never a path for anybody."""
    media_type: str
    """``image/png``, lower case."""
    size: int
    """Octets, decoded."""


def write_attachments(name: str, attachments: tuple[HeldAttachment, ...]) -> str:
    """The field's value, ASCII, one attachment in a line. Raises EnvelopeError."""
    if len(attachments) > MOST:
        raise EnvelopeError(f"{name} tells of more than {MOST} attachments")
    return ",\r\n ".join(_write(name, attachment) for attachment in attachments)


def _write(field: str, attachment: HeldAttachment) -> str:
    if not _TYPE.fullmatch(attachment.media_type):
        raise EnvelopeError(f"{field}: malformed media type")
    if not 0 <= attachment.size <= MAX_SIZE:
        raise EnvelopeError(f"{field}: impossible size")
    if _BROKEN.search(attachment.name) or len(attachment.name.encode()) > MAX_NAME:
        raise EnvelopeError(f"{field}: a name is too long or holds a control character")
    return f"{attachment.media_type}; size={attachment.size}; {_write_name(attachment.name)}"


def _write_name(name: str) -> str:
    if not name or _PLAIN.fullmatch(name):
        return f'name="{name}"'
    coded = "".join(
        chr(octet) if chr(octet).isalnum() and octet < 128 else f"%{octet:02X}" for octet in name.encode()
    )
    return f"name*=utf-8''{coded}"


def read_attachments(name: str, value: str) -> tuple[HeldAttachment, ...]:
    """The attachments of an unfolded value. Raises EnvelopeError."""
    if not value:
        return ()
    entries = value.split(",")
    if len(entries) > MOST:
        raise EnvelopeError(f"{name} tells of more than {MOST} attachments")
    return tuple(_read(name, entry) for entry in entries)


def _read(field: str, entry: str) -> HeldAttachment:
    form = _ENTRY.fullmatch(entry)
    if form is None or not _TYPE.fullmatch(form[1]):
        raise EnvelopeError(f"{field} is malformed")
    name = form[3] if form[4] is None else _read_coded(field, form[4])
    if _BROKEN.search(name) or len(name.encode()) > MAX_NAME:
        raise EnvelopeError(f"{field}: a name is too long or holds a control character")
    return HeldAttachment(name, form[1], int(form[2]))


def _read_coded(field: str, coded: str) -> str:
    octets = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes((int(found[1], 16),)), coded.encode("ascii"))
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EnvelopeError(f"{field}: a name is not UTF-8") from error


def differences(told: tuple[HeldAttachment, ...], came: tuple[HeldAttachment, ...]) -> tuple[str, ...]:
    """What the envelope told otherwise than the message has it, one line each; empty when all agree
    (AMDP-4b)."""
    found = [
        f"attachment {at}: told of {_described(one)}, came {_described(other)}"
        for at, (one, other) in enumerate(zip(told, came[:MOST], strict=False), 1)
        if one != other
    ]
    if len(told) != min(len(came), MOST):
        found.append(f"told of {len(told)} attachments, came {len(came)}")
    return tuple(found)


def _described(attachment: HeldAttachment) -> str:
    return f"{displayable(attachment.name, MAX_NAME)} ({attachment.media_type}, {attachment.size} octets)"
