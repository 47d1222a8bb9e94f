r"""xtext (RFC 3461 section 4) and the forms of a UTF-8 address in ORCPT (RFC 6533 section 3).

Decoding checks twice, the form and then what came out: an encoded line end must not reach a header, a
report or a log (SEC-67).
"""

from __future__ import annotations

import re
from typing import Final

_XTEXT: Final = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*")
_HEXCHAR: Final = re.compile(rb"\+([0-9A-F]{2})")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_PLAIN: Final = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")
_NOT_UTF8_PLAIN: Final = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class XtextError(ValueError):
    """Not xtext, or xtext of something that may not be sent; the text fits a 501 reply."""


def decode_xtext(octets: bytes) -> str:
    """The decoded value: printable ASCII and blanks. Raises XtextError."""
    decoded = _octets(octets)
    if not decoded.isascii():
        raise XtextError("xtext of octets above 127")
    return _printable(decoded.decode("ascii"))


def decode_utf8_xtext(octets: bytes) -> str:
    """The decoded value, which may be UTF-8: what Postfix before 3.8 sends as an ORCPT of type rfc822 for an
    internationalized address, though RFC 6533 has the type utf-8 for it. Raises XtextError."""
    try:
        return _printable(_octets(octets).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise XtextError("xtext of octets that are not UTF-8") from error


def _octets(octets: bytes) -> bytes:
    if not _XTEXT.fullmatch(octets):
        raise XtextError("malformed xtext")
    return _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), octets) if b"+" in octets else octets


def decode_utf8_address(octets: bytes) -> str:
    r"""An address of type ``utf-8`` in ORCPT: as it is (SMTPUTF8), with ``\x{...}``, or in xtext on top.

    Raises XtextError.
    """
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise XtextError("address is not valid UTF-8") from error
    if text.isascii():
        text = decode_xtext(octets)
    return _printable(_EMBEDDED.sub(_character, text))


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise XtextError("not a Unicode character")
    return chr(number)


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise XtextError("control character in xtext")
    return text


def encode_xtext(text: str) -> str:
    """xtext of printable ASCII, as in ENVID, AUTH= and ORCPT with type rfc822. Raises XtextError."""
    if not text.isascii():
        raise XtextError("only ASCII has an xtext form")
    return _NOT_PLAIN.sub(lambda found: f"+{ord(found[0]):02X}", _printable(text))


def encode_utf8_address(text: str) -> str:
    r"""An address of type ``utf-8`` for a peer without SMTPUTF8: utf-8-addr-xtext, with ``\x{...}``.

    Raises XtextError.
    """
    return _NOT_UTF8_PLAIN.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", _printable(text))
