"""The registered namespace of field entities (MT2-3): which element a field is, and how its value is read.

An entity is named ``REGISTRY.Field-Name``: the document that defines the field, and the field's name in its
usual spelling. Every other field is ``<field name="...">``. The registry belongs to the version of the
headers object: what is registered later gets an entity in the next one, and is a ``field`` until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Reading(Enum):
    """What is decoded in a field's value."""

    TEXT = "text"
    """Encoded words, wherever they stand."""
    ADDRESSES = "addresses"
    """Encoded words outside quoted strings and angle brackets; quoted where they would change the
    structure."""
    EXACT = "exact"
    """Nothing: for machines."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One entity of the registry."""

    entity: str
    """The element's name."""
    name: str
    """The field's name in its usual spelling."""
    reading: Reading


_TEXT: Final = {
    "RFC822": "Subject Comments Keywords",
    "RFC5536": "Organization",
    "RFC2919": "List-Id",
}
_ADDRESSES: Final = {
    "RFC822": "From Sender Reply-To To Cc Bcc Resent-From Resent-Sender Resent-To Resent-Cc Resent-Bcc "
    "Resent-Reply-To",
    "RFC8098": "Disposition-Notification-To",
    "RFC9228": "Delivered-To",
}
_EXACT: Final = {
    "RFC821": "Received Return-Path",
    "RFC822": "Date Message-ID In-Reply-To References Resent-Date Resent-Message-ID Encrypted",
    "RFC2076": "Precedence",
    "RFC2156": "Importance Priority Sensitivity Auto-Forwarded Expires Supersedes",
    "RFC2369": "List-Help List-Unsubscribe List-Subscribe List-Post List-Owner List-Archive",
    "RFC3834": "Auto-Submitted",
    "RFC5064": "Archived-At",
    "RFC5536": "Newsgroups Path Xref",
    "RFC6376": "DKIM-Signature",
    "RFC7208": "Received-SPF",
    "RFC8058": "List-Unsubscribe-Post",
    "RFC8098": "Disposition-Notification-Options Original-Message-ID",
    "RFC8601": "Authentication-Results",
    "RFC8617": "ARC-Seal ARC-Message-Signature ARC-Authentication-Results",
    "RFC8689": "TLS-Required",
    "AMTP": "MPC",
}


def _build() -> dict[str, Registered]:
    found: dict[str, Registered] = {}
    for reading, table in (
        (Reading.TEXT, _TEXT),
        (Reading.ADDRESSES, _ADDRESSES),
        (Reading.EXACT, _EXACT),
    ):
        for registry, names in table.items():
            for name in names.split():
                found[name.lower()] = Registered(f"{registry}.{name}", name, reading)
    return found


REGISTRY: Final = _build()
"""By the field's name in lower case."""


def belongs_to_body(lowered: bytes) -> bool:
    """Whether a field of that name (in lower case) stands in the body object (MT2-28a)."""
    return lowered.startswith(b"content-") or lowered == b"mime-version"


def reading_of(lowered: str) -> Reading:
    """How the value of a field of that name (in lower case) is read."""
    registered = REGISTRY.get(lowered)
    return Reading.TEXT if registered is None else registered.reading
