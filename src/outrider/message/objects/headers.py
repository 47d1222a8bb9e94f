"""The headers object: the fields of a message as named entities, and recipient extensions (MT2-3).

An entity is a field as it was written and what it says: `value` is for people and programs; the octets of the
field are ``name ": " value CRLF`` in UTF-8, or `wire` where that would not give them. A reader recomputes the
value from the octets and refuses an object in which they differ, so that nobody sees another text than the
one that signatures of the field cover.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from outrider.message.header_fields import HeaderField, header_fields
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.field_registry import REGISTRY, Reading, belongs_to_body, reading_of
from outrider.message.objects.field_values import exact_base64, field_value, line_text
from outrider.message.objects.writing import attribute, character_data
from outrider.message.objects.xml import Element, Schema, parse
from outrider.model.address import Address, AddressError, parse_address

HEADERS_TYPE: Final = "message/headers"
HEADERS_NAMESPACE: Final = "urn:oid:2.25.142621449478723633738367890471353828951.2"
MAX_HEADERS: Final = 4_194_304
"""Octets of a headers object that is read: enough for whatever a section of 262,144 octets can become."""
MAX_ENTITIES: Final = 100_000
MAX_EXTENSIONS: Final = 64


class Ending(Enum):
    """How the header section ended that the object was made of (MT2-28a)."""

    SEPARATOR = "separator"
    """With an empty line, as it should."""
    FIELD = "field"
    """With the CRLF of its last line, or it was empty: there is no empty line and no body."""
    OPEN = "open"
    """In the middle of a line: neither CRLF nor empty line nor body."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field, known to the registry or not."""

    name: str
    """As written, without the colon: visible ASCII."""
    value: str
    """Unfolded, encoded words decoded."""
    wire: bytes = b""
    """The exact octets with the final CRLF, where ``name ": " value CRLF`` would not give them."""

    @property
    def octets(self) -> bytes:
        """The field as it stands in a header section, with its CRLF."""
        return self.wire or f"{self.name}: {self.value}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Line:
    """Octets between fields that are none."""

    text: str
    """What can be shown of them."""
    wire: bytes = b""
    """As for a field, where ``text CRLF`` would not give them."""

    @property
    def octets(self) -> bytes:
        """As it stands in a header section, with its CRLF."""
        return self.wire or f"{self.text}\r\n".encode()


@dataclass(frozen=True, slots=True)
class BodyFields:
    """The place of fields that stand in the body object: Content-* and MIME-Version."""

    count: int
    """How many of them, at least 1."""


Entity = Field | Line | BodyFields


@dataclass(frozen=True, slots=True)
class RecipientExtension:
    """Processed for one user, as far as that user consents (MT2-19)."""

    oid: str
    data: str = ""
    recipient: Address | None = None
    """For whom; None = for every recipient."""
    errors: bool = False
    """The sender wants to hear of errors; else they are silent."""


@dataclass(frozen=True, slots=True)
class HeadersObject:
    """The headers object as a value."""

    entities: tuple[Entity, ...] = ()
    extensions: tuple[RecipientExtension, ...] = ()
    ending: Ending = Ending.SEPARATOR

    def values(self, name: str) -> tuple[str, ...]:
        """What the fields of that name say, in order; the name in any case."""
        wanted = name.lower()
        return tuple(
            entity.value
            for entity in self.entities
            if isinstance(entity, Field) and entity.name.lower() == wanted
        )


def read_headers(octets: bytes) -> HeadersObject:
    """The value of a headers object. Raises ObjectError, also where a value is not what its octets say."""
    try:
        headers = _read(octets)
        _check(headers)
    except ObjectError as error:
        raise ObjectError(f"headers: {error}") from None
    return headers


def write_headers(headers: HeadersObject) -> bytes:
    """The octets of a headers object. Raises ObjectError where they could not be read back."""
    _check(headers)
    ending = "" if headers.ending is Ending.SEPARATOR else f' ending="{headers.ending.value}"'
    lines = [f'<headers xmlns="{HEADERS_NAMESPACE}"{ending}>']
    lines.extend(map(_entity_line, headers.entities))
    lines.extend(map(_extension_line, headers.extensions))
    lines.append("</headers>\n")
    return "\n".join(lines).encode("utf-8")


def compose_field(name: str, text: str) -> Field:
    """A field of our own that says `text`, in ASCII wherever the field may hold encoded words; fields of
    addresses and for machines take `text` as it stands. Raises ObjectError for what no field can say."""
    reading = reading_of(name.lower())
    field = Field(name, text)
    if reading is Reading.TEXT and not (text.isascii() and "=?" not in text and len(text) < _LONG):
        field = Field(name, text, _encoded(name, text))
    _check_entity(field, first=True)
    return field


def field_of(entry: HeaderField, octets: bytes) -> Field | Line:
    """The entity that is one entry of a header section; `octets` are the entry's, with a CRLF at the end."""
    if not entry.name:
        text = line_text(entry.value)
        return Line(text) if octets == f"{text}\r\n".encode() else Line(text, octets)
    name = entry.name.decode("ascii")
    text = field_value(entry.value, reading_of(name.lower()))
    return Field(name, text) if octets == f"{name}: {text}\r\n".encode() else Field(name, text, octets)


# Reading


def _read(octets: bytes) -> HeadersObject:
    root = parse(octets, _SCHEMA, largest=MAX_HEADERS, elements=MAX_ENTITIES + MAX_EXTENSIONS + 1)
    entities: list[Entity] = []
    extensions: list[RecipientExtension] = []
    for child in root:
        local = child.tag[_PREFIX:]
        if local == "extension":
            extensions.append(_extension(child))
        else:
            entities.append(_entity(local, child))
    ending = root.get("ending")
    return HeadersObject(
        tuple(entities), tuple(extensions), Ending.SEPARATOR if ending is None else Ending(ending)
    )


def _entity(local: str, element: Element) -> Entity:
    if local == "body-fields":
        return BodyFields(int(element.get("count") or "1"))
    encoded = element.get("wire")
    wire = b"" if encoded is None else _wire(encoded)
    text = element.text or ""
    if local == "line":
        return Line(text, wire)
    name = element.get("name")
    if local != "field":
        usual = _USUAL_NAMES[local]
        if name is not None and (name.lower() != usual.lower() or name == usual):
            raise ObjectError("an entity's name as written is another field's, or the usual one")
        name = usual if name is None else name
    assert name is not None, "the schema wants it"
    return Field(name, text, wire)


def _wire(encoded: str) -> bytes:
    try:
        octets = exact_base64(encoded.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        raise ObjectError("wire is not base64 without blanks") from None
    if not octets:
        raise ObjectError("wire is empty")
    return octets


def _extension(element: Element) -> RecipientExtension:
    oid, recipient = element.get("oid"), element.get("for")
    assert oid is not None, "the schema wants it"
    try:
        address = None if recipient is None else parse_address(recipient)
    except AddressError as error:
        raise ObjectError(f"the recipient of an extension is no address: {error}") from None
    return RecipientExtension(oid, element.text or "", address, errors=element.get("errors") is not None)


# Checking: the same for what is read and for what is written


def _check(headers: HeadersObject) -> None:
    if len(headers.entities) > MAX_ENTITIES:
        raise ObjectError(f"more than {MAX_ENTITIES} entities")
    if len(headers.extensions) > MAX_EXTENSIONS:
        raise ObjectError(f"more than {MAX_EXTENSIONS} extensions")
    first = True
    for entity in headers.entities:
        _check_entity(entity, first=first)
        first = False


def _check_entity(entity: Entity, *, first: bool) -> None:
    """Its octets, read by the gateway, must give the entity again.

    The first in a section is the only one that may begin with a blank: elsewhere that continues the field
    above.
    """
    if isinstance(entity, BodyFields):
        if entity.count < 1:
            raise ObjectError("a place for no field")
        return
    if isinstance(entity, Field) and not entity.wire and _is_plain(entity):
        return
    octets = entity.octets
    entry = next(header_fields(octets), None)
    if entry is None or entry.end != len(octets) or not octets.endswith(b"\r\n"):
        raise ObjectError("an entity's octets are not one field or line")
    if not first and octets.startswith(_BLANKS):
        raise ObjectError("a line that would continue the field above it")
    if isinstance(entity, Field) and belongs_to_body(entry.name.lower()):
        raise ObjectError("Content-* and MIME-Version belong to the body object")
    if not _same(entity, field_of(entry, octets)):
        raise ObjectError("an entity does not say what its octets say")


def _same(entity: Field | Line, said: Field | Line) -> bool:
    if isinstance(entity, Field):
        return isinstance(said, Field) and entity.name == said.name and entity.value == said.value
    return isinstance(said, Line) and entity.text == said.text


def _is_plain(field: Field) -> bool:
    """Whether it is right at first sight: a possible name, and printable ASCII that is its own text."""
    value = field.value
    return (
        value.isascii()
        and value.isprintable()
        and "=?" not in value
        and value == value.strip(" ")
        and (field.name.lower() in REGISTRY or _is_other_name(field.name))
    )


def _is_other_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not belongs_to_body(name.lower().encode("ascii"))


# Writing


def _entity_line(entity: Entity) -> str:
    if isinstance(entity, BodyFields):
        return "<body-fields/>" if entity.count == 1 else f'<body-fields count="{entity.count}"/>'
    wire = f' wire="{binascii.b2a_base64(entity.wire, newline=False).decode("ascii")}"' if entity.wire else ""
    if isinstance(entity, Line):
        return f"<line{wire}>{character_data(entity.text)}</line>"
    registered = REGISTRY.get(entity.name.lower())
    if registered is None:
        return f"<field{attribute('name', entity.name)}{wire}>{character_data(entity.value)}</field>"
    name = "" if entity.name == registered.name else attribute("name", entity.name)
    return f"<{registered.entity}{name}{wire}>{character_data(entity.value)}</{registered.entity}>"


def _extension_line(extension: RecipientExtension) -> str:
    recipient = "" if extension.recipient is None else attribute("for", str(extension.recipient))
    errors = ' errors="true"' if extension.errors else ""
    return (
        f"<extension{attribute('oid', extension.oid)}{recipient}{errors}>"
        f"{character_data(extension.data)}</extension>"
    )


def _encoded(name: str, text: str) -> bytes:
    """The field in encoded words, each on a line of its own and below 75 octets."""
    words = [text[at : at + 10].encode() for at in range(0, len(text), 10)]
    lines = "\r\n ".join(
        f"=?utf-8?B?{binascii.b2a_base64(word, newline=False).decode('ascii')}?=" for word in words
    )
    return f"{name}: {lines}\r\n".encode()


_SCHEMA: Final = Schema("headers.rng")
_PREFIX: Final = len(HEADERS_NAMESPACE) + 2
_NAME: Final = re.compile(r"[!-9;-~]+")
_USUAL_NAMES: Final = {registered.entity: registered.name for registered in REGISTRY.values()}
_BLANKS: Final = (b" ", b"\t")
_LONG: Final = 900
