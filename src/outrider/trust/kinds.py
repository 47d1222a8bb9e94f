"""The kinds of lists: whom each is asked about, and whether it speaks for them or against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from outrider.trust.subjects import Role

_ALL_NAMES = frozenset({Role.HOST, Role.DOMAIN})
_FILE_ROLES = frozenset({Role.CLIENT, Role.HOST, Role.DOMAIN, Role.SENDER})

ROLES: Final[Mapping[str, frozenset[Role]]] = {
    "block-file": _FILE_ROLES,
    "vouch-file": _FILE_ROLES,
    "dnsbl": frozenset({Role.CLIENT}),
    "dnswl": frozenset({Role.CLIENT}),
    "rhsbl": _ALL_NAMES,
    "rhswl": _ALL_NAMES,
    "vbr": frozenset({Role.DOMAIN}),
    "issuer": frozenset({Role.ISSUER}),
    "block-broker": frozenset(Role),
    "vouch-broker": frozenset(Role),
}
"""By kind (`config.schema.TrustKind`), all of them."""
VOUCHING: Final = frozenset({"vouch-file", "dnswl", "rhswl", "vbr", "vouch-broker"})
BLOCKING: Final = frozenset(ROLES) - VOUCHING


def about(role: Role, kinds: frozenset[str]) -> frozenset[str]:
    """Those of the kinds that are asked about a subject in that role."""
    return frozenset(kind for kind in kinds if role in ROLES[kind])
