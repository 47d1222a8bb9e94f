"""AMDP-Digest (AMDP-22): what exactly will be served, said before it is asked for and checked while it
comes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_LENGTH = 10**15 - 1
_FORM = re.compile(
    r"sha-256=([A-Za-z0-9+/]{43}=)[ \t]*;[ \t]*length=(0|[1-9][0-9]{0,14})", re.ASCII | re.IGNORECASE
)


class DigestError(ValueError):
    """A digest that is none, or octets that are not those it tells; the text is fit for a log and a reply."""


@dataclass(frozen=True, slots=True)
class Digest:
    """SHA-256 and number of the octets of a message."""

    sha256: bytes
    length: int

    def __str__(self) -> str:
        """As the field says it: ``sha-256=<base64>; length=n``."""
        return f"sha-256={base64.b64encode(self.sha256).decode('ascii')}; length={self.length}"


def parse_digest(text: str) -> Digest:
    """The digest of a field's value. Raises DigestError, also for base 64 that is not canonical (SEC-192)."""
    form = _FORM.fullmatch(text.strip(" \t"))
    if form is None:
        raise DigestError("AMDP-Digest is not sha-256=<base64>; length=<octets>")
    try:
        octets = base64.b64decode(form[1], validate=True)
    except binascii.Error as error:
        raise DigestError("AMDP-Digest is not base 64") from error
    digest = Digest(octets, int(form[2]))
    if len(octets) != hashlib.sha256().digest_size or str(digest).partition(";")[0][8:] != form[1]:
        raise DigestError("AMDP-Digest is not canonical base 64")
    return digest


class Digesting:
    """The digest of octets that pass by, in pieces of any size."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._length = 0

    def feed(self, octets: bytes) -> None:
        """The next octets."""
        self._sha256.update(octets)
        self._length += len(octets)

    @property
    def length(self) -> int:
        """Octets so far."""
        return self._length

    def digest(self) -> Digest:
        """Of all octets so far."""
        return Digest(self._sha256.digest(), self._length)


class DigestCheck(Digesting):
    """Compares a message with what its envelope told, while it is fetched (SEC-183, SEC-184)."""

    def __init__(self, expected: Digest) -> None:
        super().__init__()
        self._expected = expected

    def feed(self, octets: bytes) -> None:
        """The next octets. Raises DigestError at the first that is too many: nothing behind it is taken."""
        super().feed(octets)
        if self._length > self._expected.length:
            raise DigestError(f"the message is longer than the {self._expected.length} octets that were told")

    def finish(self) -> None:
        """The message has ended. Raises DigestError unless it is the one that was told, octet for octet."""
        if self._length < self._expected.length:
            raise DigestError(
                f"the message ended after {self._length} of {self._expected.length} octets that were told"
            )
        if self.digest() != self._expected:
            raise DigestError("the message is not the one that the envelope told of: its SHA-256 differs")


def digest_of(chunks: Iterable[bytes]) -> Digest:
    """Of octets in pieces."""
    digesting = Digesting()
    for chunk in chunks:
        digesting.feed(chunk)
    return digesting.digest()
