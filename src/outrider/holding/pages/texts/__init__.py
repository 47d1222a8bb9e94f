"""The words of the pages that people see, in the languages that there are."""

from __future__ import annotations

import re
from typing import Final

from outrider.holding.pages.texts.english import ENGLISH
from outrider.holding.pages.texts.form import Counted, Texts
from outrider.holding.pages.texts.french import FRENCH
from outrider.holding.pages.texts.german import GERMAN

LANGUAGES: Final = {texts.language: texts for texts in (ENGLISH, GERMAN, FRENCH)}

_RANGE: Final = re.compile(
    r"\s*([a-z]{1,8})(?:-[a-z0-9]{1,8}){0,8}\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?"
)
_MOST_RANGES: Final = 30


def texts_for(accept_language: str, otherwise: Texts = ENGLISH) -> Texts:
    """The texts for an `Accept-Language` (RFC 9110 section 12.5.4): of the languages that we have, the one
    with the highest weight, the first of equal ones; `otherwise` where there is none. A region makes no
    difference."""
    best, weight = otherwise, 0.0
    for part in accept_language[:1000].lower().split(",")[:_MOST_RANGES]:
        found = _RANGE.fullmatch(part)
        if found is None or found[1] not in LANGUAGES:
            continue
        wanted = float(found[2] or 1)
        if wanted > weight:
            best, weight = LANGUAGES[found[1]], wanted
    return best


def counted(forms: Counted, count: int) -> str:
    """The form for a number."""
    return forms[0 if count == 1 else 1].replace("{count}", str(count))


__all__ = ["LANGUAGES", "Counted", "Texts", "counted", "texts_for"]
