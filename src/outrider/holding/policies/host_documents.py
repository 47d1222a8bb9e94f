"""JSON that a host has signed with the key of its certificate: requests between servers, and answers that
others can check later (identity/signed_document.py for the form).

What is signed says for whom it is meant, when it was made and, where it asks for something, a number used
once: a document made for one server or purpose is none for another, and none tomorrow (SEC-207).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

from outrider.identity.signed_document import DocumentError, read_document, sign_document

MOST_SKEW_S = 300.0
"""How far two servers' clocks may be apart."""
MAX_NAME = 253

P = TypeVar("P", bound="Signed")


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """Members that every signed document has; others beside those of its kind are ignored."""

    signer: str
    """The host name that its certificate is for."""
    audience: str
    """The host it is meant for; "" for everybody."""
    at: int
    """When it was made, seconds since the epoch."""
    nonce: str = ""
    """Drawn for this one."""


class HostCheck(Protocol):
    """Whether certificates are a host's, by the CAs of this site."""

    def belongs(self, chain: Sequence[bytes], host: str, now: float) -> bool:
        """`chain` in DER, leaf first: valid now, and for that name."""
        ...


@dataclass(frozen=True, slots=True)
class HostKey:
    """What this host signs with."""

    host: str
    """A name of its certificate."""
    read: Callable[[], tuple[bytes, bytes]] = field(repr=False)
    """Certificate (with its chain) and key, PEM: read each time, as files are renewed. Raises OSError."""

    def sign(self, payload: Signed, kind: str) -> bytes:
        """The signed document. Raises DocumentError for files that cannot be read or do not fit together."""
        try:
            certificate, key = self.read()
        except OSError as error:
            raise DocumentError(f"the certificate cannot be read: {error.strerror}") from error
        return sign_document(msgspec.json.encode(payload), kind, certificate, key)


def read_signed(
    octets: bytes, kind: str, form: type[P], check: HostCheck, *, audience: str, now: float, age_s: float
) -> P:
    """What the host that it names has signed for us, not longer than `age_s` ago. Raises DocumentError."""
    document = read_document(octets, kind)
    try:
        payload = msgspec.json.decode(document.payload, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("the document does not have the form of its kind") from error
    if payload.audience != audience:
        raise DocumentError("the document is meant for another")
    if not now - age_s - MOST_SKEW_S <= payload.at <= now + MOST_SKEW_S:
        raise DocumentError("the document is too old, or from the future")
    if not 0 < len(payload.signer) <= MAX_NAME or not check.belongs(document.chain, payload.signer, now):
        raise DocumentError("the certificate is not good for the host that the document names")
    return payload
