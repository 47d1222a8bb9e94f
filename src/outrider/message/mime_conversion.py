"""Content for a peer that cannot take it as it is: 8-bit, binary and long-lined parts encoded anew.

(RFC 6152, RFC 3030 section 3, RFC 2045.) The message is walked once, part by part, without recursion
and without building a tree: a stack of what is open around the current place, and what is written so far.
Only leaf parts that need it are changed, their header section says so, and every other octet stays as it was.
What is signed or encrypted is never touched, whatever it needs: a DKIM-signed message as a whole,
multipart/signed and multipart/encrypted with all that is in them, PKCS #7 parts.

Every octet is looked at a bounded number of times; depth and number of parts are limited. What exceeds the
limits or contradicts itself is not guessed at: it cannot be converted, and the mail is returned (SEC-112,
SEC-113). The ordinary library parser is not used: parts of it take more than linear time on hostile input.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from outrider.message.header_fields import HeaderField, header_fields, unfold
from outrider.model.content import split_content
from outrider.wire.line_ends import has_stray_octets

MAX_DEPTH: Final = 100
"""Of parts within parts; Postfix's mime_nesting_limit."""
MAX_PARTS: Final = 10_000
MAX_BOUNDARY: Final = 250
"""Octets. RFC 2046 section 5.1.1 allows 70."""
MAX_PART_HEADERS: Final = 131_072
"""Octets of one part's header section, below the message's own."""
MAX_LINE: Final = 998

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_DELIMITER: Final = re.compile(rb"\r\n--([^\r\n]*)(?=\r\n|\Z)")
_LONG_LINE: Final = re.compile(rb"(?:\A|\n)[^\n]{%d}" % (MAX_LINE + 2))
_LONG_LAST_LINE: Final = re.compile(rb"[^\r\n]{%d}\Z" % (MAX_LINE + 1))
_TYPE: Final = re.compile(rb"(%b/%b)[ \t]*(?=;|\(|\Z)" % (_TOKEN, _TOKEN))
_PARAMETER: Final = re.compile(
    rb';[ \t]*(%b)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t";(]+))[ \t]*' % _TOKEN
)
_SIGNATURES: Final = frozenset(
    {b"dkim-signature", b"domainkey-signature", b"arc-message-signature", b"arc-seal"}
)
_SEALED: Final = frozenset(
    {
        b"multipart/signed",
        b"multipart/encrypted",
        b"application/pkcs7-mime",
        b"application/x-pkcs7-mime",
    }
)
_IDENTITY: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})
_NOT_TO_ENCODE: Final = frozenset({b"message/partial", b"message/external-body"})  # RFC 2046 5.2.2.1, 5.2.3


@dataclass(frozen=True, slots=True)
class CannotConvert:
    """The message has no form that the peer could take; `reason` goes into the bounce."""

    reason: str


@dataclass(frozen=True, slots=True)
class Converted:
    """The message in its new form."""

    headers: bytes
    """Up to and with the empty line."""
    body: bytes


def encode_for_transport(
    headers: bytes, body: bytes, *, eight_bit: bool = False
) -> Converted | CannotConvert:
    """The same message with lines of at most 998 octets, nothing stray or binary, and in 7-bit form.

    `headers` runs up to and with the empty line. With `eight_bit` text above 127 may stay as it is. Decoded,
    every part is what it was before. Never raises.
    """
    try:
        octets = _Walk(headers + body, len(headers), eight_bit=eight_bit).convert()
    except _Impossible as error:
        return CannotConvert(str(error))
    return Converted(*split_content(octets))


class _Impossible(Exception):
    """Why the message cannot be converted."""


@dataclass(frozen=True, slots=True)
class _Entity:
    """One header section and what it says of the body behind it."""

    section: bytes
    fields: tuple[HeaderField, ...]
    is_message: bool
    """It heads a message, not just a part of one."""
    media_type: bytes
    encoding: bytes
    boundary: bytes

    @property
    def is_sealed(self) -> bool:
        """Signed or encrypted."""
        if self.media_type in _SEALED:
            return True
        return self.is_message and any(field.name.lower() in _SIGNATURES for field in self.fields)

    @property
    def is_container(self) -> bool:
        """Parts with header sections of their own follow."""
        plain = self.encoding in _IDENTITY
        return plain and (bool(self.boundary) or self.media_type == b"message/rfc822")


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A line that ends a part: its start (the CRLF before it included), its end (the CRLF behind it not), the
    frame that it belongs to, and whether it is the last of its multipart."""

    start: int
    end: int
    frame: int
    closes: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """A multipart, or a message in a message (then without boundary), that is open."""

    boundary: bytes
    media_type: bytes


class _Walk:
    """One pass over one message."""

    def __init__(self, octets: bytes, header_size: int, *, eight_bit: bool) -> None:
        self._octets = octets
        self._header_size = header_size
        self._eight_bit = eight_bit
        self._out: list[bytes] = []
        self._frames: list[_Frame] = []
        self._by_boundary: dict[bytes, int] = {}
        self._parts = 0

    def convert(self) -> bytes:
        """The whole message."""
        position: int | None = 0
        is_message = True
        while position is not None:
            position, is_message = self._entity(position, is_message)
        return b"".join(self._out)

    def _entity(self, position: int, is_message: bool) -> tuple[int | None, bool]:
        """Write the entity that begins here; where the next begins, and whether it is a message."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _Impossible("too many parts")
        end = self._section_end(position)
        entity = self._read(self._octets[position:end], is_message)
        if entity.is_sealed and self._parts == 1:
            raise _Impossible("the message is signed or encrypted")
        if entity.is_container and not entity.is_sealed:
            self._write_container(entity)
            if entity.media_type == b"message/rfc822":
                return end, True
            return self._to_next_part(end), False
        delimiter = self._delimiter(end)
        body = self._octets[end : max(end, delimiter.start) if delimiter else None]
        self._write_leaf(entity, body)
        return self._cross(delimiter, end), False

    # -- finding the way -----------------------------------------------------------------------------

    def _section_end(self, position: int) -> int:
        """Behind the empty line of the header section here, or where the part ends without one."""
        octets = self._octets
        if octets.startswith(b"\r\n", position):
            return position + 2
        window = self._header_size if position == 0 else position + MAX_PART_HEADERS
        blank = octets.find(b"\r\n\r\n", position, window)
        limit = blank if blank >= 0 else min(window, len(octets))
        delimiter = self._delimiter(position, before=limit)
        if delimiter is not None and delimiter.start < limit:
            return max(position, delimiter.start)
        if blank < 0 and limit < len(octets):
            raise _Impossible("the header section of a part is too long")
        return blank + 4 if blank >= 0 else limit

    def _delimiter(self, position: int, *, before: int | None = None) -> _Delimiter | None:
        """The next delimiter line of anything open, its line beginning at `position` or later. With `before`,
        nothing is looked for far behind that place."""
        if not self._by_boundary:
            return None
        octets, start = self._octets, max(0, position - 2)
        stop = len(octets) if before is None else min(len(octets), before + MAX_BOUNDARY + 8)
        while match := _DELIMITER.search(octets, start, stop):
            if match.end() < stop or stop == len(octets):
                found = self._recognize(match)
                if found is not None:
                    return found
            start = match.end()
        return None

    def _recognize(self, match: re.Match[bytes]) -> _Delimiter | None:
        line = match[1].rstrip(b" \t")
        frame = self._by_boundary.get(line)
        if frame is not None:
            return _Delimiter(match.start(), match.end(), frame, False)
        frame = self._by_boundary.get(line[:-2]) if line.endswith(b"--") else None
        return None if frame is None else _Delimiter(match.start(), match.end(), frame, True)

    def _to_next_part(self, position: int) -> int | None:
        """Over the text before or behind the parts of a multipart."""
        while True:
            delimiter = self._delimiter(position)
            text = self._octets[position : max(position, delimiter.start) if delimiter else None]
            if not self._fits(text):
                raise _Impossible("text outside of the parts would have to be encoded")
            self._out.append(text)
            if delimiter is None or not delimiter.closes:
                return self._cross(delimiter, position)
            position = self._close(delimiter, position)

    def _cross(self, delimiter: _Delimiter | None, position: int) -> int | None:
        """Write a delimiter and go on behind it; None at the end of the message."""
        if delimiter is None:
            return None
        if delimiter.closes:
            return self._to_next_part(self._close(delimiter, position))
        self._leave(delimiter.frame + 1)
        behind = min(delimiter.end + 2, len(self._octets))
        self._out.append(self._octets[max(position, delimiter.start) : behind])
        return behind

    def _close(self, delimiter: _Delimiter, position: int) -> int:
        self._leave(delimiter.frame)
        self._out.append(self._octets[max(position, delimiter.start) : delimiter.end])
        # The CRLF behind it may be the one that begins the next delimiter: it is left to the text there.
        return delimiter.end

    def _enter(self, frame: _Frame) -> None:
        if len(self._frames) == MAX_DEPTH:
            raise _Impossible("parts are nested too deeply")
        if frame.boundary in self._by_boundary:
            raise _Impossible("a part uses the boundary of the multipart that it is in")
        if frame.boundary:
            self._by_boundary[frame.boundary] = len(self._frames)
        self._frames.append(frame)

    def _leave(self, depth: int) -> None:
        while len(self._frames) > depth:
            self._by_boundary.pop(self._frames.pop().boundary, None)

    # -- reading and writing header sections ---------------------------------------------------------

    def _read(self, section: bytes, is_message: bool) -> _Entity:
        if not self._eight_bit and not section.isascii():
            raise _Impossible("header fields hold 8-bit text")
        if has_stray_octets(section):
            raise _Impossible("the header section holds stray octets")
        fields = tuple(header_fields(section))
        content_type = _single(fields, b"content-type")
        media_type, boundary = _media_type(content_type)
        if content_type is None and self._frames and self._frames[-1].media_type == b"multipart/digest":
            media_type = b"message/rfc822"  # RFC 2046 section 5.1.5
        encoding = unfold(_single(fields, b"content-transfer-encoding") or b"").lower()
        return _Entity(section, fields, is_message, media_type, encoding, boundary)

    def _write_container(self, entity: _Entity) -> None:
        self._enter(_Frame(entity.boundary, entity.media_type))
        label = b"8bit" if self._eight_bit else b"7bit"
        self._write_section(entity, label if entity.encoding in (b"8bit", b"binary") else b"")

    def _write_section(self, entity: _Entity, encoding: bytes) -> None:
        """The header section, with another transfer encoding if one is given, long lines folded."""
        written = False
        for field in entity.fields:
            if encoding and field.name.lower() == b"content-transfer-encoding":
                self._out.append(_encoding_field(encoding))
                written = True
            else:
                self._out.append(_folded(entity.section[field.start : field.end]))
        if entity.is_message and (encoding or self._parts == 1):
            self._write_mime_fields(entity)
        if encoding and not written:
            self._out.append(_encoding_field(encoding))
        rest = entity.fields[-1].end if entity.fields else 0
        self._out.append(entity.section[rest:])

    def _write_mime_fields(self, entity: _Entity) -> None:
        """What a message from before MIME lacks."""
        names = {field.name.lower() for field in entity.fields}
        if b"mime-version" not in names:
            self._out.append(b"MIME-Version: 1.0\r\n")
        if b"content-type" not in names:
            self._out.append(b"Content-Type: text/plain; charset=unknown-8bit\r\n")  # RFC 1428

    def _write_leaf(self, entity: _Entity, body: bytes) -> None:
        if entity.is_sealed:
            if not (self._fits(body) and self._fits(entity.section)):
                raise _Impossible("a signed or encrypted part would have to be changed")
            self._out += (entity.section, body)
        elif self._fits(body):
            self._write_section(entity, b"")
            self._out.append(body)
        else:
            encoding, encoded = _encode(entity, body)
            self._write_section(entity, encoding)
            self._out.append(encoded)

    def _fits(self, text: bytes) -> bool:
        if not (self._eight_bit or text.isascii()) or has_stray_octets(text):
            return False
        return not (_LONG_LINE.search(text) or _LONG_LAST_LINE.search(text, max(0, len(text) - MAX_LINE - 1)))


def _single(fields: tuple[HeaderField, ...], name: bytes) -> bytes | None:
    values = [field.value for field in fields if field.name.lower() == name]
    if len(values) > 1:
        raise _Impossible(f"a part has two {name.decode()} fields")
    return values[0] if values else None


def _media_type(value: bytes | None) -> tuple[bytes, bytes]:
    """Type in lower case, and the boundary if it is a multipart's (b"" when it has no usable one)."""
    text = b"" if value is None else unfold(value)
    match = _TYPE.match(text)
    if match is None:
        return b"text/plain", b""  # RFC 2045 section 5.2
    media_type = match[1].lower()
    if not media_type.startswith(b"multipart/"):
        return media_type, b""
    position = match.end()
    while parameter := _PARAMETER.match(text, position):
        if parameter[1].lower() == b"boundary":
            return media_type, _boundary(parameter)
        position = parameter.end()
    return media_type, b""


def _boundary(parameter: re.Match[bytes]) -> bytes:
    value: bytes = parameter[3] or re.sub(rb"\\(.)", rb"\1", parameter[2] or b"")
    value = value.rstrip(b" \t")
    return value if len(value) <= MAX_BOUNDARY else b""


def _encoding_field(encoding: bytes) -> bytes:
    return b"Content-Transfer-Encoding: " + encoding + b"\r\n"


def _folded(field: bytes) -> bytes:
    """The field with over-long lines folded at blanks (RFC 5322 section 2.2.3): unfolded, it is the same."""
    if len(field) <= MAX_LINE:
        return field
    return b"\r\n".join(piece for line in field.split(b"\r\n") for piece in _fold_line(line))


def _fold_line(line: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    while len(line) > MAX_LINE:
        # A piece of blanks only would look like the end of the header section to some.
        text = len(line) - len(line.lstrip(b" \t"))
        place = max(line.rfind(b" ", text, MAX_LINE + 1), line.rfind(b"\t", text, MAX_LINE + 1))
        if place <= 0 or not line[place:].strip(b" \t"):
            raise _Impossible(
                f"a header field has a line of more than {MAX_LINE} octets that cannot be folded"
            )
        pieces.append(line[:place])
        line = line[place:]
    return [*pieces, line]


def _encode(entity: _Entity, body: bytes) -> tuple[bytes, bytes]:
    """Name and result of the transfer encoding that suits a leaf part."""
    if entity.media_type.startswith(b"multipart/") or entity.media_type in _NOT_TO_ENCODE:
        raise _Impossible(f"a part of type {entity.media_type.decode()} may not be encoded as a whole")
    octets = _decode(entity.encoding, body)
    if _is_best_quoted(entity, octets):
        return b"quoted-printable", _quoted_printable(octets)
    return b"base64", base64.encodebytes(octets).replace(b"\n", b"\r\n").removesuffix(b"\r\n")


def _decode(encoding: bytes, body: bytes) -> bytes:
    if encoding in _IDENTITY:
        return body
    if not body.isascii() or has_stray_octets(body):
        raise _Impossible("a part is not in the encoding that it is said to be in")
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    if encoding == b"base64":
        try:
            return binascii.a2b_base64(body.translate(None, b"\r\n \t"), strict_mode=True)
        except binascii.Error:
            raise _Impossible("a part is not in the encoding that it is said to be in") from None
    raise _Impossible("a part has an unknown transfer encoding")


def _is_best_quoted(entity: _Entity, octets: bytes) -> bool:
    """Text with few octets to quote stays readable; its line ends must be CRLF, which base64 does not ask."""
    if entity.encoding in (b"quoted-printable", b"base64"):
        return entity.encoding == b"quoted-printable" and not has_stray_octets(octets)
    if not entity.media_type.startswith((b"text/", b"message/")) or has_stray_octets(octets):
        return False
    return 4 * len(octets.translate(None, _ASCII)) <= len(octets)


_ASCII: Final = bytes(range(128))


def _quoted_printable(octets: bytes) -> bytes:
    # The encoder learns the kind of line end from the first one, so it is given one in any case.
    return binascii.b2a_qp(octets + b"\r\n", istext=True).removesuffix(b"\r\n")
