"""A header section as a headers object and the first octets of a body object, and back (MT2-28a).

The fields Content-* and MIME-Version go to the body object, which is a MIME entity of its own; the headers
object keeps their places. Everything else becomes an entity, in order, and the octets of all entities are
exactly the octets that came. Every function is linear in its input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from outrider.message.header_fields import header_fields
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.field_registry import belongs_to_body
from outrider.message.objects.headers import BodyFields, Ending, Entity, HeadersObject, field_of

MAX_BODY_PREFIX: Final = 65_536
"""Octets in which the empty line of a body object must have come."""
_CRLF: Final = b"\r\n"


@dataclass(frozen=True, slots=True)
class GatewayForm:
    """A header section in the form that MT2 has for it."""

    headers: HeadersObject
    body_prefix: bytes
    """The MIME fields and the empty line behind them: the body object begins with these octets, and the
    body of the mail follows."""


def smtp_to_mt2(header_section: bytes) -> GatewayForm:
    """What `Content.headers` is in MT2. Total: any octets have a form, and `mt2_to_smtp` gives them back."""
    ending, section = _closed(header_section)
    entities: list[Entity] = []
    prefix: list[bytes] = []
    places = 0
    position = 0
    for entry in header_fields(section):
        octets = section[entry.start : entry.end]
        if belongs_to_body(entry.name.lower()):
            prefix.append(octets)
            places += 1
        else:
            if places:
                entities.append(BodyFields(places))
                places = 0
            entities.append(field_of(entry, octets))
        position = entry.end
    if places:
        entities.append(BodyFields(places))
    prefix.append(section[position:] if ending is Ending.SEPARATOR else _CRLF)
    return GatewayForm(HeadersObject(tuple(entities), (), ending), b"".join(prefix))


def mt2_to_smtp(headers: HeadersObject, body_prefix: bytes, *, body_follows: bool = False) -> bytes:
    """The header section, with its closing empty line, of a message that came as objects.

    `body_follows` says that the body object is longer than its prefix. Raises ObjectError where `body_prefix`
    is not the beginning of a MIME entity (see `split_body`), or where the object says that the section has no
    end and there is a body nonetheless: it would become fields.
    """
    return rendered(headers).section(body_prefix, body_follows=body_follows)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The octets of a headers object, made once: the fields of the body are put in their places when they
    have come."""

    pieces: tuple[bytes | int, ...]
    """What stands between places, and for each place how many fields it has."""
    ending: Ending

    def section(self, body_prefix: bytes, *, body_follows: bool = False) -> bytes:
        """See `mt2_to_smtp`."""
        own, rest = _body_fields(body_prefix)
        whole = self.ending is Ending.SEPARATOR
        if not whole and (body_follows or rest != _CRLF):
            raise ObjectError("headers: no empty line, and yet a body")
        octets = b"".join(self._in_places(own))
        if whole:
            return octets + rest
        return octets.removesuffix(_CRLF) if self.ending is Ending.OPEN else octets

    def _in_places(self, own: list[bytes]) -> Iterator[bytes]:
        """All fields in order. A message that was never SMTP mail has no places: its MIME fields come last,
        with the MIME-Version that SMTP mail needs (RFC 2045 section 4)."""
        position = 0
        placed = False
        for piece in self.pieces:
            if isinstance(piece, int):
                placed = True
                yield from own[position : position + piece]
                position += piece
            else:
                yield piece
        if own and not placed and not any(field[:12].lower() == b"mime-version" for field in own):
            yield b"MIME-Version: 1.0\r\n"
        yield from own[position:]


def rendered(headers: HeadersObject) -> Rendered:
    """The object's octets."""
    pieces: list[bytes | int] = []
    between: list[bytes] = []
    for entity in headers.entities:
        if isinstance(entity, BodyFields):
            pieces += (b"".join(between), entity.count)
            between = []
        else:
            between.append(entity.octets)
    pieces.append(b"".join(between))
    return Rendered(tuple(pieces), headers.ending)


def split_body(octets: bytes) -> tuple[bytes, bytes]:
    """The body object's first octets as (body_prefix, rest): the prefix ends with the first empty line.

    Raises ObjectError where there is no empty line in them (give it `MAX_BODY_PREFIX` octets, or all), or a
    field among them that a body object has not: such a body is no MIME entity (MT2-15).
    """
    end = 2 if octets.startswith(_CRLF) else octets.find(b"\r\n\r\n") + 4
    if end < 4 and not octets.startswith(_CRLF):
        raise ObjectError("body: no empty line ends its fields")
    if end > MAX_BODY_PREFIX:
        raise ObjectError("body: its fields are too large")
    _body_fields(octets[:end])
    return octets[:end], octets[end:]


def _closed(section: bytes) -> tuple[Ending, bytes]:
    """How a section ends, and the section with its last line ended."""
    if section.startswith(_CRLF) or b"\r\n\r\n" in section:
        return Ending.SEPARATOR, section
    if not section or section.endswith(_CRLF):
        return Ending.FIELD, section
    return Ending.OPEN, section + _CRLF


def _body_fields(prefix: bytes) -> tuple[list[bytes], bytes]:
    """The MIME fields, each with its CRLF, and what follows: the empty line, rarely more."""
    fields: list[bytes] = []
    position = 0
    for entry in header_fields(prefix):
        if not belongs_to_body(entry.name.lower()):
            raise ObjectError("body: a field that is neither Content-* nor MIME-Version")
        fields.append(prefix[entry.start : entry.end])
        position = entry.end
    if not prefix.startswith(_CRLF, position):
        raise ObjectError("body: no empty line ends its fields")
    return fields, prefix[position:]
