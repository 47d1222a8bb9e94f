"""Hashcash stamps, version 1: ``ver:bits:date:resource:ext:rand:counter``. Pure.

The stamp is worth as many bits as it claims, if its SHA-1 begins with at least so many zero bits. The format
says SHA-1, so SHA-1 it is: what counts here is work for one preimage with zeros in front, which the
collisions found for SHA-1 do not make cheaper.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MAX_STAMP: Final = 512
"""Characters."""
MAX_BITS: Final = 160
_STAMP = re.compile(
    r"1:([0-9]{1,3}):([0-9]{6}(?:[0-9]{4}(?:[0-9]{2})?)?):([^:\s]{1,320}):([^:\s]{0,128}):([!-9;-~]{0,64}):([!-9;-~]{0,64})"
)
"""Printable ASCII without colons, except in the resource, which may be an address in UTF-8."""
_FORMATS = {6: "%y%m%d", 10: "%y%m%d%H%M", 12: "%y%m%d%H%M%S"}


class StampError(ValueError):
    """No stamp of version 1; the text says why."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A stamp that is well formed, and worth nothing yet."""

    text: str
    bits: int
    """As claimed."""
    made_at: float
    """The beginning of the day, minute or second that it names (UTC); seconds since the epoch."""
    resource: str

    @property
    def is_paid(self) -> bool:
        """Whether the work was done that it claims."""
        return zero_bits(self.text) >= self.bits

    @property
    def key(self) -> str:
        """Stands for the stamp where it is remembered as spent."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def parse_stamp(text: str) -> Stamp:
    """Read a stamp. Raises StampError."""
    if len(text) > MAX_STAMP:
        raise StampError(f"a stamp has at most {MAX_STAMP} characters")
    found = _STAMP.fullmatch(text)
    if found is None:
        raise StampError("not of the form 1:bits:date:resource:ext:rand:counter")
    bits, date, resource = int(found[1]), found[2], found[3]
    if bits > MAX_BITS:
        raise StampError(f"SHA-1 has only {MAX_BITS} bits")
    try:
        made = datetime.strptime(date, _FORMATS[len(date)]).replace(tzinfo=UTC)
    except ValueError as error:
        raise StampError(f"{date} is no date") from error
    return Stamp(text, bits, made.timestamp(), resource)


def zero_bits(text: str) -> int:
    """Zero bits with which the SHA-1 of the stamp begins."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return len(digest) * 8 - int.from_bytes(digest, "big").bit_length()


def mint(resource: str, bits: int, now: float, rand: str) -> str:
    """A stamp worth `bits`, made by trying: 2 to the power of `bits` digests on average, about a second for
    20.

    `rand` sets this stamp apart from others for the same resource of the same day: at least 64 random bits as
    letters and digits. Raises StampError for a resource that no stamp can name.
    """
    date = datetime.fromtimestamp(now, UTC).strftime("%y%m%d%H%M%S")
    beginning = f"1:{bits}:{date}:{resource}::{rand}:"
    parse_stamp(f"{beginning}0")
    started = hashlib.sha1(beginning.encode(), usedforsecurity=False)
    above = 1 << (160 - bits)
    counter = 0
    while True:
        attempt = started.copy()
        attempt.update(b"%x" % counter)
        if int.from_bytes(attempt.digest(), "big") < above:
            return f"{beginning}{counter:x}"
        counter += 1
