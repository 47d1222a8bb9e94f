"""JSON of AMDP (docs/protocols/amdp.md sections 4 to 10): bounded, typed, unknown members ignored."""

from __future__ import annotations

from typing import TypeVar

import msgspec

MAX_OCTETS = 1_048_576
Form = TypeVar("Form")


class FormError(ValueError):
    """A body that is not the JSON it should be; the text is fit for a 400 and tells nothing of our
    insides."""


def decode(octets: bytes, form: type[Form], limit: int = MAX_OCTETS) -> Form:
    """The body of a request or an answer. Raises FormError, and nothing else, whatever came (SEC-204)."""
    if len(octets) > limit:
        raise FormError("body is too large")
    try:
        return msgspec.json.decode(octets, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormError("body is not the JSON that is expected here") from error


def encode(form: msgspec.Struct) -> bytes:
    """A body; a deterministic order of members."""
    return msgspec.json.encode(form)
