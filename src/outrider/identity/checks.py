"""Why an identity was not proven: one named check, and a sentence for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Check(Enum):
    """The checks of an identity, in the order in which they are made (docs/protocols/amtp.md lists them)."""

    NO_CERTIFICATE = "no-certificate"
    CHAIN_TOO_LONG = "chain-too-long"
    MALFORMED = "malformed"
    WEAK_KEY = "weak-key"
    """Too weak, too large (it would only cost time), or of a kind not in use."""
    NAME = "name"
    """The certificate has no name of a form that proves a host, or not the one that is wanted."""
    SELF_SIGNED = "self-signed"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    PURPOSE = "purpose"
    """Extended key usage."""
    UNKNOWN_CA = "unknown-ca"
    NAME_CONSTRAINTS = "name-constraints"
    """The CA may not issue for this name."""
    PATH = "path"
    """Anything else that the verifier objects to."""
    REVOKED = "revoked"
    CRL_STALE = "crl-stale"
    """Whether it is revoked cannot be told now."""
    EHLO_MISMATCH = "ehlo-mismatch"
    PTR_TIMEOUT = "ptr-timeout"
    PTR_NONE = "ptr-none"
    PTR_MISMATCH = "ptr-mismatch"
    PTR_NOT_FORWARD = "ptr-not-forward"


TEMPORARY = frozenset({Check.CRL_STALE, Check.PTR_TIMEOUT})
"""What may be otherwise in an hour, without anybody's doing: answered 451 and not 504 (AMTP-3)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A check that failed, before it is known what that means for the peer."""

    check: Check
    reason: str
    """One sentence for the operator, with the verifier's own words where it has any; nothing to send to a
    peer."""
