"""Text as it is written into an object, so that a reader gets the same text back.

(XML 1.0, sections 2.4, 2.11 and 3.3.3.)
"""

from __future__ import annotations

import re
from typing import Final

from outrider.message.objects.errors import ObjectError

_NO_CHARACTER: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_IN_TEXT: Final = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_IN_ATTRIBUTE: Final = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
_REFERENCES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\t": "&#9;",
    "\n": "&#10;",
    "\r": "&#13;",
}


def character_data(text: str) -> str:
    """Text between tags. Raises ObjectError for characters that XML cannot hold."""
    return text if _IN_TEXT.search(text) is None else _IN_TEXT.sub(_reference, text)


def attribute(name: str, text: str) -> str:
    """`` name="text"``, with the blank in front. Raises ObjectError for characters that XML cannot hold."""
    if _IN_ATTRIBUTE.search(text) is not None:
        text = _IN_ATTRIBUTE.sub(_reference, text)
    return f' {name}="{text}"'


def optional(name: str, text: str) -> str:
    """As `attribute`; nothing for no text."""
    return attribute(name, text) if text else ""


def _reference(match: re.Match[str]) -> str:
    try:
        return _REFERENCES[match[0]]
    except KeyError:
        raise ObjectError(f"U+{ord(match[0]):04X} cannot stand in an object") from None
