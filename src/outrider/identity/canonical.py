"""RFC 8785 JSON for the few structures that we sign: written in the one form, and read in no other.

The structures have member names of ASCII, texts and whole numbers, and no floating point; for these msgspec's
sorted output *is* the canonical form (the tests hold it against the `rfc8785` library), at a fortieth of the
price. As the reader writes again what it has read and compares, no member can stand twice, none can be left
out, and there is one text for one meaning.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from outrider.identity.jws import JwsError

T = TypeVar("T", bound=msgspec.Struct)


def canonical(value: msgspec.Struct) -> bytes:
    """The octets to sign. Raises JwsError for text that is not Unicode (a lone surrogate)."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError as error:
        raise JwsError("a text is not Unicode") from error


def read_canonical(octets: bytes, decoder: msgspec.json.Decoder[T], what: str) -> T:
    """The structure, if the octets are its canonical form. Raises JwsError, which calls it `what`."""
    try:
        value = decoder.decode(octets)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JwsError(f"it does not hold the members of {what}") from error
    if canonical(value) != octets:
        raise JwsError(f"{what} is not in the canonical form of RFC 8785")
    return value
