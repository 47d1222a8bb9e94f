"""The objects of a message that leaves by SMTP, carried in fields on top of it (MT2-28b).

Nothing of the body is carried or changed, so that signatures, streaming and ordinary readers are left
alone: the reader puts the carried `body_prefix` before the body that arrived and compares the whole with
the digest in the envelope. What was carried is used only when the visible header section, which is all that
people and filters saw, says the same: nothing can be smuggled past them in it. In all other cases the mail
is plain SMTP mail.

    MT2-Object: 1; base64 ...
    MT2-Object: 2; base64 ...
    MT2-Recipe: v=1; envelope=3279; headers=512; prefix=88; body=1;
     type=message/headers;
     sha256=...

The octets are envelope, headers object and prefix, one behind the other. The recipe stands last because its
end is plain to see: a section that begins with a blank continues it, and is still told from it. Such fields
below it are part of the message: somebody has wrapped it twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from outrider.gateway.undoing import Encoding, decoded, encoding_on_the_way
from outrider.gateway.visible import header_section
from outrider.message.header_fields import HeaderField, header_fields
from outrider.message.objects.envelope import LayeredEnvelope, ObjectEntry, Part, read_envelope
from outrider.message.objects.errors import ObjectError
from outrider.model.layered import MessageObjects

MAX_RIDE_ALONG: Final = 49_152
"""Octets of the objects that ride along, before base64; larger ones stay behind, and the mail is plain."""
_IN_ONE_FIELD: Final = 3_078
_IN_ONE_LINE: Final = 54
_MAX_FIELDS: Final = MAX_RIDE_ALONG // _IN_ONE_FIELD + 1

_RECIPE: Final = b"mt2-recipe"
_OBJECT: Final = b"mt2-object"
_ENCODING: Final = b"content-transfer-encoding"
_RECIPE_VALUE: Final = re.compile(
    rb"\s*v=1;\s*envelope=([1-9][0-9]{0,5});\s*headers=(0|[1-9][0-9]{0,5});\s*prefix=(0|[1-9][0-9]{0,5});\s*"
    rb"body=([01]);\s*type=([!-:<-~]{3,127});\s*sha256=([A-Za-z0-9+/]{43}=)[ \t]*(?=\r\n|\Z)"
)
_OBJECT_VALUE: Final = re.compile(rb"([1-9][0-9]?);([A-Za-z0-9+/=]+)")
_BLANKS: Final = re.compile(rb"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class RideAlong:
    """What a header section carries, not yet compared with the body."""

    objects: MessageObjects
    envelope: LayeredEnvelope
    header_section: bytes
    """The visible section below the carried fields: what the message is to SMTP."""
    on_top: bytes
    """The fields that hops put above them (Received and the like)."""
    encoding: Encoding = Encoding.NONE
    """What a host on the way did to the body."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The three objects as they were before SMTP.

    Seals are still to be verified: if one is broken, the mail is plain SMTP mail.
    """

    objects: MessageObjects
    envelope: LayeredEnvelope
    body_length: int
    """Octets of the body object behind its prefix; `restore` gives them."""
    header_section: bytes
    """What the message is to SMTP, as it arrived."""
    on_top: bytes
    encoding: Encoding = Encoding.NONE
    """What a host on the way did to the body, and `restore` undoes."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Ordinary SMTP mail."""

    header_section: bytes
    """Without whatever rode along: for readers. Mail that is passed on keeps all its fields."""
    reason: str = ""
    """Why what rode along is not believed; "" where nothing did."""


def ride_along(objects: MessageObjects) -> bytes:
    """The fields to put on top of the header section of a message that leaves by SMTP, below our own
    Received.

    Empty where the objects are larger than `MAX_RIDE_ALONG`.
    """
    prefix = objects.body_prefix if objects.has_body else b""
    octets = objects.envelope + objects.headers + prefix
    if len(octets) > MAX_RIDE_ALONG:
        return b""
    digest = base64.b64encode(hashlib.sha256(octets).digest()).decode("ascii")
    recipe = (
        f"MT2-Recipe: v=1; envelope={len(objects.envelope)}; headers={len(objects.headers)};"
        f" prefix={len(prefix)}; body={int(objects.has_body)};\r\n"
        f" type={objects.headers_type};\r\n sha256={digest}\r\n"
    )
    return b"".join((*_object_fields(octets), recipe.encode("ascii")))


def open_ride_along(section: bytes) -> RideAlong | Plain:
    """What rides along in a header section that arrived, as far as the section alone can prove it."""
    if _RECIPE not in section.lower():
        return Plain(section)
    try:
        return _open(section)
    except ObjectError as error:
        return Plain(_without_carried(section), str(error))


def recover(section: bytes, body: Iterable[bytes]) -> Recovered | Plain:
    """The objects, if the body meets the digest in the envelope; reads the body once, in pieces."""
    carried = open_ride_along(section)
    if isinstance(carried, Plain):
        return carried
    entry = carried.envelope.object(Part.BODY)
    length = 0 if entry is None else entry.length - len(carried.objects.body_prefix)
    try:
        if entry is not None:
            _check_body(entry, carried.objects.body_prefix, decoded(body, carried.encoding))
    except ObjectError as error:
        return Plain(_without_carried(section), str(error))
    return Recovered(
        carried.objects,
        carried.envelope,
        length,
        carried.header_section,
        carried.on_top,
        carried.encoding,
    )


def restore(found: Recovered, body: Iterable[bytes]) -> Iterator[bytes]:
    """The body object's octets behind its prefix, of the arrived body that `recover` has read before."""
    wanted = found.body_length
    for piece in decoded(body, found.encoding):
        if piece and wanted:
            yield piece[:wanted]
        wanted -= min(wanted, len(piece))


def _object_fields(octets: bytes) -> Iterator[bytes]:
    for number, start in enumerate(range(0, len(octets), _IN_ONE_FIELD), 1):
        field = octets[start : start + _IN_ONE_FIELD]
        lines = (base64.b64encode(field[at : at + _IN_ONE_LINE]) for at in range(0, len(field), _IN_ONE_LINE))
        yield b"MT2-Object: %d;\r\n %b\r\n" % (number, b"\r\n ".join(lines))


def _open(section: bytes) -> RideAlong | Plain:
    carried = _carried(section)
    if not carried:
        return Plain(section)
    *parts, last = carried
    recipe = _recipe_behind(parts, last)
    octets = _joined(parts)
    if base64.b64encode(hashlib.sha256(octets).digest()) != recipe[6]:
        raise ObjectError("the objects were damaged on the way")
    objects = _cut(octets, recipe)
    envelope = read_envelope(objects.envelope)
    _check_listed(objects, envelope)
    visible = section[_end_of(last, recipe) :]
    body = envelope.object(Part.BODY)
    follows = body is not None and body.length > len(objects.body_prefix)
    encoding = _compare(visible, header_section(objects, envelope, body_follows=follows), objects.body_prefix)
    return RideAlong(objects, envelope, visible, section[: carried[0].start], encoding)


def _carried(section: bytes) -> list[HeaderField]:
    """The fields down to the first recipe. Further ones belong to the message: a gateway that could not take
    them back has passed them on as they were."""
    found: list[HeaderField] = []
    for field in header_fields(section):
        name = field.name.lower()
        if name in (_RECIPE, _OBJECT):
            found.append(field)
        if name == _RECIPE:
            break
    return found


def _recipe_behind(parts: list[HeaderField], last: HeaderField) -> re.Match[bytes]:
    if last.name.lower() != _RECIPE or any(field.name.lower() != _OBJECT for field in parts):
        raise ObjectError("not some objects and one recipe behind them")
    if len(parts) > _MAX_FIELDS:
        raise ObjectError("too many fields ride along")
    if any(field.end != behind.start for field, behind in pairwise([*parts, last])):
        raise ObjectError("the fields that ride along do not stand together")
    recipe = _RECIPE_VALUE.match(last.value)
    if recipe is None:
        raise ObjectError("the recipe is malformed")
    return recipe


def _end_of(field: HeaderField, recipe: re.Match[bytes]) -> int:
    """Where the visible section begins: behind the recipe, even where a blank makes it a continuation."""
    return field.end - (len(field.value) - recipe.end())


def _joined(parts: list[HeaderField]) -> bytes:
    pieces: list[bytes] = []
    for number, part in enumerate(parts, 1):
        value = _OBJECT_VALUE.fullmatch(_BLANKS.sub(b"", part.value))
        if value is None or int(value[1]) != number:
            raise ObjectError("the fields that ride along are malformed or out of order")
        try:
            pieces.append(binascii.a2b_base64(value[2], strict_mode=True))
        except binascii.Error:
            raise ObjectError("the objects were damaged on the way") from None
    return b"".join(pieces)


def _cut(octets: bytes, recipe: re.Match[bytes]) -> MessageObjects:
    first, second, third = (int(recipe[group]) for group in (1, 2, 3))
    has_body = recipe[4] == b"1"
    if first + second + third != len(octets) or (third and not has_body):
        raise ObjectError("the recipe does not fit the objects")
    return MessageObjects(
        envelope=octets[:first],
        headers=octets[first : first + second],
        body_prefix=octets[first + second :],
        headers_type=recipe[5].decode("ascii"),
        has_body=has_body,
    )


def _check_listed(objects: MessageObjects, envelope: LayeredEnvelope) -> None:
    """The envelope lists what came with it, the headers object to the octet."""
    headers, body = envelope.object(Part.HEADERS), envelope.object(Part.BODY)
    if (headers is not None) != bool(objects.headers) or (body is not None) != objects.has_body:
        raise ObjectError("the envelope lists other objects")
    if headers is not None and (
        headers.length != len(objects.headers)
        or headers.sha256 != hashlib.sha256(objects.headers).digest()
        or headers.media_type != objects.headers_type
    ):
        raise ObjectError("the headers object is not the one that was sealed")
    if body is not None and body.length < len(objects.body_prefix):
        raise ObjectError("the body is not the one that was sealed")


def _compare(visible: bytes, rendered: bytes, prefix: bytes) -> Encoding:
    """Every field of `rendered` must still be there, in order; hops may have folded anew or added some.

    One of them may have encoded the body: filters, which decode it, have seen the octets that were sealed.
    """
    arrived, wanted = list(_relaxed(visible)), list(_relaxed(rendered))
    left = (field for field in arrived if field[0] != _ENCODING)
    if not all(field in left for field in wanted if field[0] != _ENCODING):
        raise ObjectError("the visible header section says something else")
    if _wrapped_in(arrived) != _wrapped_in(wanted):
        raise ObjectError("more rides along than was sealed")
    if [field for field in arrived if field[0] == _ENCODING] == [
        field for field in wanted if field[0] == _ENCODING
    ]:
        return Encoding.NONE
    return encoding_on_the_way(visible, prefix)


def _wrapped_in(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [field for field in fields if field[0] in (_RECIPE, _OBJECT)]


def _relaxed(section: bytes) -> Iterator[tuple[bytes, bytes]]:
    for field in header_fields(section):
        yield field.name.lower(), _BLANKS.sub(b" ", field.value).strip(b" ")


def _without_carried(section: bytes) -> bytes:
    kept: list[bytes] = []
    position = 0
    for field in header_fields(section):
        if field.name.lower() in (_RECIPE, _OBJECT):
            kept.append(section[position : field.start])
            position = field.end
    return b"".join(kept) + section[position:]


def _check_body(entry: ObjectEntry, prefix: bytes, body: Iterable[bytes]) -> None:
    """Prefix and body must be the object, but for a CRLF that SMTP had to put at the end."""
    digest = hashlib.sha256(prefix)
    wanted = entry.length - len(prefix)
    behind = b""
    for piece in body:
        digest.update(piece[:wanted])
        behind += piece[wanted : wanted + 3]
        wanted -= min(wanted, len(piece))
        if len(behind) > 2:
            break
    if wanted or behind not in (b"", b"\r\n") or digest.digest() != entry.sha256:
        raise ObjectError("the body is not the one that was sealed")
