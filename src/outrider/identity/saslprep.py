"""SASLprep (RFC 4013): user names and passwords in one form before they are compared."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class PreparationError(ValueError):
    """The text holds characters that no name or password may hold; the message names no character of it."""


def saslprep(text: str) -> str:
    """The prepared form. Raises PreparationError, also when nothing is left."""
    if text.isascii():
        prepared = text
    else:
        mapped = "".join(_mapped(character) for character in text)
        prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared:
        raise PreparationError("empty after preparation")
    if any(prohibited(character) for character in prepared for prohibited in _PROHIBITED):
        raise PreparationError("prohibited character")
    _check_direction(prepared)
    return prepared


def _mapped(character: str) -> str:
    if stringprep.in_table_c12(character):
        return " "  # RFC 4013 2.1: non-ASCII space
    return "" if stringprep.in_table_b1(character) else character


def _check_direction(text: str) -> None:
    """RFC 3454 section 6: right-to-left text begins and ends so, and holds nothing left-to-right."""
    if text.isascii() or not any(stringprep.in_table_d1(character) for character in text):
        return
    if any(stringprep.in_table_d2(character) for character in text):
        raise PreparationError("both writing directions")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise PreparationError("right-to-left text must begin and end so")
