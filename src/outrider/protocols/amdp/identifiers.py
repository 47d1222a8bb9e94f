"""Message ids, confirmation numbers and link tokens (AMDP-2): 26 characters of base 32, 130 random bits each.

Chance comes as an argument: whoever makes an identifier draws `OCTETS` octets from the system's generator for
each one, so that none follows from another, from an address or from a time.
"""

from __future__ import annotations

import base64
import re

OCTETS = 17
"""Random octets that `identifier` needs; 130 of their 136 bits are used."""
LENGTH = 26
"""Characters."""
_FORM = re.compile(r"[a-z2-7]{26}")


def identifier(octets: bytes) -> str:
    """An identifier of `OCTETS` octets of chance. Raises ValueError for any other number of octets."""
    if len(octets) != OCTETS:
        raise ValueError(f"an identifier is made of {OCTETS} octets")
    return base64.b32encode(octets).decode("ascii").lower()[:LENGTH]


def is_identifier(text: str) -> bool:
    """Whether the text has the form of one; whatever has not is unknown before any look-up (SEC-186)."""
    return _FORM.fullmatch(text) is not None
