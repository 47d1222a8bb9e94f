"""A body that a host on the way has encoded for 7 bits, as it was before (RFC 2045 section 6; MT2-28b).

Only for bodies of one part: their MIME fields ride along, so that nothing of the encoding remains.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final

from outrider.message.header_fields import field_values
from outrider.message.objects.errors import ObjectError

_IDENTITY: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})
_COMPOSITE: Final = (b"multipart/", b"message/")
_LONGEST_LINE: Final = 65_536
_BLANKS: Final = b" \t\r\n"


class Encoding(Enum):
    """What an arrived body has to be decoded from."""

    NONE = ""
    BASE64 = "base64"
    QUOTED_PRINTABLE = "quoted-printable"


def encoding_on_the_way(visible: bytes, prefix: bytes) -> Encoding:
    """Which encoding the visible section names that the body object's fields do not.

    Raises ObjectError where none was put on, or it cannot be taken off.
    """
    first = field_values(prefix, b"content-transfer-encoding", 2)
    now = field_values(visible, b"content-transfer-encoding", 2)
    kind = b"".join(field_values(prefix, b"content-type", 2)).lower()
    if len(first) > 1 or len(now) != 1 or b"".join(first).lower() not in _IDENTITY:
        raise ObjectError("the body was not encoded on the way")
    if kind.startswith(_COMPOSITE):
        raise ObjectError("parts of the body were encoded on the way")
    try:
        return Encoding(now[0].decode("ascii", "replace").lower())
    except ValueError:
        raise ObjectError("the body was encoded in an unknown way") from None


def decoded(body: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """The octets before the encoding, in pieces. Raises ObjectError for what is not so encoded."""
    if encoding is Encoding.BASE64:
        return _from_base64(body)
    if encoding is Encoding.QUOTED_PRINTABLE:
        return _from_quoted_printable(body)
    return iter(body)


def _from_base64(body: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for piece in body:
        left += piece.translate(None, _BLANKS)
        whole = len(left) - len(left) % 4
        yield _base64(left[:whole])
        left = left[whole:]
    if left:
        raise ObjectError("the encoded body is cut")


def _base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise ObjectError("the body is not the base64 that it is said to be") from None


def _from_quoted_printable(body: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for piece in body:
        left += piece
        behind = left.rfind(b"\n") + 1
        if behind:
            yield binascii.a2b_qp(left[:behind])
            left = left[behind:]
        elif len(left) > _LONGEST_LINE:
            raise ObjectError("the encoded body has lines without end")
    yield binascii.a2b_qp(left)
