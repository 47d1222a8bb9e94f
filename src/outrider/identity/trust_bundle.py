"""A trust bundle: CA sets that somebody keeps for a group of sites, signed, numbered and dated.

Whoever follows a bundle has believed its signer's key once, by words over the telephone; from then on each
newer bundle of that key may replace the CA sets, an older one never: the serial number only grows, so that an
authority that was thrown out cannot be brought back by sending last year's file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from cryptography import x509

from outrider.identity.authority_sets import (
    authorities_pem,
    authority_findings,
    authority_name,
    parse_authorities,
)
from outrider.identity.findings import Finding, Level, day
from outrider.identity.invitation import CLOCK_SKEW_S, is_partner_name
from outrider.identity.signed_document import DocumentError, SignedDocument, read_document, sign_document

KIND = "mail-trust-bundle"
MAX_SETS = 50
MAX_TEXT = 500
MAX_SERIAL = 1 << 53
"""What every JSON reader can hold."""


@dataclass(frozen=True, slots=True)
class AuthoritySet:
    """A set of CAs under a name that is fit for a file's."""

    name: str
    authorities: tuple[x509.Certificate, ...] = field(repr=False)
    note: str = ""
    """What it is for, in a line."""

    @property
    def pem(self) -> bytes:
        """The set as a PEM file."""
        return authorities_pem(self.authorities)


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """One edition. Times in seconds since the epoch."""

    name: str
    serial: int
    issued: int
    expires: int
    url: str
    """Where newer ones are published; "" = nowhere."""
    sets: tuple[AuthoritySet, ...]


@dataclass(frozen=True, slots=True)
class ReceivedBundle:
    """A bundle whose signature is good, with its document."""

    bundle: TrustBundle
    document: SignedDocument


class _Set(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: str
    note: str
    ca: tuple[str, ...]


class _Payload(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    version: Literal[1]
    name: str
    serial: int
    issued: int
    expires: int
    url: str
    sets: tuple[_Set, ...]


_PAYLOAD = msgspec.json.Decoder(_Payload)


def write_bundle(bundle: TrustBundle, certificate_pem: bytes, key_pem: bytes) -> bytes:
    """The signed file. Raises DocumentError for what nobody would accept, or files that do not fit."""
    payload = {
        "version": 1,
        "name": bundle.name,
        "serial": bundle.serial,
        "issued": bundle.issued,
        "expires": bundle.expires,
        "url": bundle.url,
        "sets": [{"name": one.name, "note": one.note, "ca": [one.pem.decode()]} for one in bundle.sets],
    }
    octets = json.dumps(payload, ensure_ascii=False).encode()
    _parse(octets)  # what we would not read we do not write
    return sign_document(octets, KIND, certificate_pem, key_pem)


def read_bundle(octets: bytes) -> ReceivedBundle:
    """A bundle with a good signature and well-formed sets. Raises DocumentError."""
    document = read_document(octets, KIND)
    return ReceivedBundle(_parse(document.payload), document)


def _parse(payload: bytes) -> TrustBundle:
    try:
        raw = _PAYLOAD.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("the bundle has unknown or missing parts") from error
    names = [raw.name, *(one.name for one in raw.sets)]
    if not all(map(is_partner_name, names)) or len(set(names)) != len(names):
        raise DocumentError(
            "a name in the bundle is not one of small letters, digits, - and ., or comes twice"
        )
    if not all(
        text.isprintable() and len(text) <= MAX_TEXT for text in (raw.url, *(s.note for s in raw.sets))
    ):
        raise DocumentError("a text in the bundle is not one printable line")
    if raw.url and not raw.url.startswith("https://"):
        raise DocumentError("the bundle's address is not https")
    if not 1 <= raw.serial <= MAX_SERIAL or not 0 < raw.issued < raw.expires < 1 << 40:
        raise DocumentError("a number in the bundle is out of range")
    if not 1 <= len(raw.sets) <= MAX_SETS:
        raise DocumentError("the bundle holds no CA set, or too many")
    sets = tuple(AuthoritySet(one.name, parse_authorities(one.ca), one.note) for one in raw.sets)
    if not all(one.authorities for one in sets):
        raise DocumentError("a CA set in the bundle is empty")
    return TrustBundle(raw.name, raw.serial, raw.issued, raw.expires, raw.url, sets)


def examine_bundle(received: ReceivedBundle, known: ReceivedBundle | None, now: float) -> tuple[Finding, ...]:
    """All that is to be said before it replaces `known`, the edition accepted last. Never raises."""
    bundle = received.bundle
    return (
        *_signer(received, known),
        *_dates(bundle, now),
        *_sequence(received, known),
        *(
            finding
            for one in bundle.sets
            for finding in authority_findings(one.authorities, now, f" ({one.name})")
        ),
    )


def _signer(received: ReceivedBundle, known: ReceivedBundle | None) -> Iterator[Finding]:
    if known is None:
        yield Finding(Level.ASK, "signature", "of a key not known here: compare the words with its keeper")
    elif known.bundle.name != received.bundle.name:
        yield Finding(Level.REFUSE, "signature", "this is another bundle than the one accepted last")
    elif known.document.key_fingerprint != received.document.key_fingerprint:
        text = "signed by another key than the edition accepted last; remove the bundle and accept it anew"
        yield Finding(Level.REFUSE, "signature", text)
    else:
        yield Finding(Level.OK, "signature", "by the same key as the edition accepted last")


def _dates(bundle: TrustBundle, now: float) -> Iterator[Finding]:
    if bundle.issued > now + CLOCK_SKEW_S:
        yield Finding(Level.REFUSE, "dates", f"issued in the future ({day(bundle.issued)})")
    elif bundle.expires <= now:
        yield Finding(Level.REFUSE, "dates", f"expired on {day(bundle.expires)}")
    else:
        yield Finding(Level.OK, "dates", f"issued {day(bundle.issued)}, valid until {day(bundle.expires)}")


def _sequence(received: ReceivedBundle, known: ReceivedBundle | None) -> Iterator[Finding]:
    serial = received.bundle.serial
    if known is None:
        yield Finding(Level.OK, "sequence", f"the first edition here, serial {serial}")
    elif known.document.digest == received.document.digest:
        yield Finding(Level.OK, "sequence", f"the edition that is in use, serial {serial}")
    elif serial == known.bundle.serial:
        yield Finding(Level.REFUSE, "sequence", f"another edition of the same serial {serial} is in use")
    elif serial < known.bundle.serial:
        text = f"serial {serial} is older than {known.bundle.serial}, which is in use"
        yield Finding(Level.REFUSE, "sequence", text)
    else:
        yield Finding(Level.OK, "sequence", f"serial {serial} follows {known.bundle.serial}")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two editions."""

    what: Literal["set added", "set removed", "CA added", "CA removed"]
    set_name: str
    authority: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.set_name}" + (f": {self.authority}" if self.authority else "")


def changes(old: TrustBundle | None, new: TrustBundle) -> tuple[Change, ...]:
    """What the new edition alters, set by set, in the order of names."""
    before = {one.name: _by_identity(one) for one in old.sets} if old is not None else {}
    after = {one.name: _by_identity(one) for one in new.sets}
    return tuple(
        change
        for name in sorted(before.keys() | after.keys())
        for change in _set_changes(name, before.get(name), after.get(name))
    )


def _by_identity(one: AuthoritySet) -> dict[bytes, str]:
    return {authorities_pem([ca]): authority_name(ca) for ca in one.authorities}


def _set_changes(
    name: str, before: Mapping[bytes, str] | None, after: Mapping[bytes, str] | None
) -> Iterator[Change]:
    if before is None:
        yield Change("set added", name)
    if after is None:
        yield Change("set removed", name)
    old, new = before or {}, after or {}
    yield from (Change("CA added", name, label) for ca, label in new.items() if ca not in old)
    yield from (Change("CA removed", name, label) for ca, label in old.items() if ca not in new)
