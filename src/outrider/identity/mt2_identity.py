"""What an MT2 certificate amounts to: somebody who may use a name, or a named failure (MT2-22, MT2-25)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.config.schema import Mt2Validation
from outrider.identity.certificates import Fingerprints, fingerprints_of, normal_host
from outrider.identity.checks import TEMPORARY, Check
from outrider.identity.host_identity import HostSettings
from outrider.identity.user_certificates import PROCESS, Description, domain_of
from outrider.model.facts import Provenance

MT2_SERVICE = "_mt2"
"""Of SRV records, and of SRVNames in certificates (AMTP-5, for MT2)."""

Kind = Literal["host", "user"]


class Mt2Check(Enum):
    """Why an identity is not proven, beside the checks of every certificate (`checks.Check`)."""

    PROOF = "proof"
    """What HELO brought does not show that the peer has the key: of another connection, of another key."""
    HOST_NAME = "host-name"
    """The certificate is not for the host that the peer says it is."""
    ADDRESS = "address"
    """The certificate is not for the mail address that the peer says it is."""
    ISSUER_UNNAMED = "issuer-unnamed"
    """Issuer unknown, and no issuerAltName that names a domain."""
    ISSUER_NOT_PARENT = "issuer-not-parent"
    """The domain that it names is neither the name to be proven nor above it."""
    ISSUER_PUBLIC_SUFFIX = "issuer-public-suffix"
    LOOKUPS_OFF = "lookups-off"
    """Issuer unknown, and this server asks nobody."""
    LOOKUPS_EXHAUSTED = "lookups-exhausted"
    LOOKUP_FAILED = "lookup-failed"
    NO_AUTHORITY = "no-authority"
    """The domain publishes no CA."""
    UNSIGNED = "unsigned"
    """It publishes one, DNSSEC does not vouch for it, and this server demands that."""
    ISSUER_KNOWN = "issuer-known"
    """The CA that the domain publishes stands under one of ours, which then decides."""
    GATEWAY_UNKNOWN = "gateway-unknown"
    """Not a host whose word is taken."""
    GATEWAY_UNPROVEN = "gateway-unproven"
    """It is not proven by our own CA sets."""
    GATEWAY_WORD = "gateway-word"
    """Its word is about a name that is none."""


_TEMPORARY = frozenset({*TEMPORARY, Mt2Check.LOOKUPS_EXHAUSTED, Mt2Check.LOOKUP_FAILED})
AnyCheck = Check | Mt2Check


class Way(Enum):
    """By what an identity is warranted."""

    PUBLIC = "public CA"
    PRIVATE = "private CA"
    DELEGATED = "delegated CA"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Mt2Identity:
    """Somebody who may use a name. Whether to believe what they say is another matter (MT2-25)."""

    kind: Kind
    name: str
    """The host name (lower-case A-labels) or mail address (domain in lower-case A-labels)."""
    names: tuple[str, ...]
    """All names of this kind that are proven with it; `name` first."""
    way: Way
    how: str
    """For facts, log, trace and explain: ``public CA``, ``delegated CA of ehsco.com (DNS CERT,
    DNSSEC-secure)``, ``word of gateway gw.bank.example: ...``."""
    provenance: Provenance
    """PROVEN; VOUCHED for a gateway's word; CLAIMED for a delegated CA that DNSSEC does not vouch for, where
    the operator has it so."""
    authority: str = ""
    """The CA at the path's end (RFC 4514)."""
    issuer_domains: tuple[str, ...] = ()
    """For block and vouch lists (MT2-25). Of a delegated CA, its domain alone."""
    fingerprints: Fingerprints | None = None
    """None for a gateway's word."""
    not_after: float = 0.0
    """When the first certificate of the path ends, seconds since the epoch; 0 for a gateway's word."""
    is_private: bool = False
    """By the private CA set, or by a pinned fingerprint."""
    descriptions: tuple[Description, ...] = ()
    """What else the certificate says of its holder; never proven."""

    @property
    def domain(self) -> str:
        """The host name, or the domain of the address."""
        return self.name if self.kind == "host" else domain_of(self.name)

    @property
    def is_process(self) -> bool:
        """Whether this is a host's own user, ``process@domain``, that signs control messages (MT2-22)."""
        return self.kind == "user" and self.name.partition("@")[0] == PROCESS

    def __str__(self) -> str:
        return f"{self.provenance.name.lower()} {self.kind} {self.name} ({self.how})"


_PEER_WORDS: dict[AnyCheck, str] = {
    Check.NO_CERTIFICATE: "No certificate was presented",
    Check.CHAIN_TOO_LONG: "The certificate chain is too long",
    Check.MALFORMED: "The certificate is malformed",
    Check.WEAK_KEY: "A key of the certificate chain is not acceptable",
    Check.EXPIRED: "The certificate has expired",
    Check.NOT_YET_VALID: "The certificate is not yet valid",
    Check.PURPOSE: "The certificate is for another purpose",
    Check.REVOKED: "The certificate was revoked",
    Check.CRL_STALE: "The certificate cannot be checked now",
    Mt2Check.PROOF: "The proof of the key is not valid",
    Mt2Check.HOST_NAME: "The certificate is for another host",
    Mt2Check.ADDRESS: "The certificate is for another address",
    Mt2Check.LOOKUPS_EXHAUSTED: "The certificate cannot be checked now",
    Mt2Check.LOOKUP_FAILED: "The certificate cannot be checked now",
    Mt2Check.NO_AUTHORITY: "The issuer's domain publishes no authority",
    Mt2Check.ISSUER_NOT_PARENT: "The issuer may not certify this name",
    Mt2Check.ISSUER_PUBLIC_SUFFIX: "The issuer may not certify this name",
    Mt2Check.UNSIGNED: "The issuer is not known",
    Mt2Check.ISSUER_UNNAMED: "The issuer is not known",
    Mt2Check.LOOKUPS_OFF: "The issuer is not known",
    Check.UNKNOWN_CA: "The issuer is not known",
    Check.SELF_SIGNED: "The issuer is not known",
}


@dataclass(frozen=True, slots=True)
class Mt2IdentityFailure:
    """Not proven, for one reason."""

    check: AnyCheck
    reason: str
    """For the operator: log, event and explain; with the verifier's own words where it has any."""
    issuer_domains: tuple[str, ...] = ()
    """What the certificate *claims*: good for block lists, never for vouch lists (MT2-25)."""
    fingerprints: Fingerprints | None = None
    """True all the same, if there was a certificate."""

    @property
    def temporary(self) -> bool:
        """Whether it may be otherwise soon, without anybody's doing: TMP rather than ERR."""
        return self.check in _TEMPORARY

    @property
    def peer_text(self) -> str:
        """What the peer may hear: short, and nothing of what we know."""
        return _PEER_WORDS.get(self.check, "The certificate is not valid")

    def __str__(self) -> str:
        return f"{self.check.value}: {self.reason}"


Found = Mt2Identity | Mt2IdentityFailure


@dataclass(frozen=True, slots=True)
class GatewayWord:
    """What a gateway says that it has verified, from its entry in a trace."""

    kind: Kind
    name: str
    how: str
    """In the gateway's words."""


@dataclass(frozen=True, slots=True)
class Mt2IdentitySettings:
    """What the operator has decided about identities."""

    hosts: HostSettings = field(default_factory=HostSettings)
    """Pins and habits of private CAs: those of AMTP."""
    gateways: frozenset[str] = frozenset()
    """Hosts whose word is taken (MT2-24c), in lower-case A-labels."""
    trusted: frozenset[str] = frozenset()
    """The trusted set (MT2-22): SHA-256 of the certificates of CAs whose word on persons counts."""
    unsigned: Literal["proven", "claimed", "refuse"] = "proven"
    """What a delegated CA is worth that DNSSEC does not vouch for."""

    @classmethod
    def of(
        cls, hosts: HostSettings, validation: Mt2Validation, trusted: Iterable[x509.Certificate] = ()
    ) -> Mt2IdentitySettings:
        """From `[mt2.validation]`, whose `trusted_ca` files hold the certificates `trusted`.

        Raises ValueError, naming the key.
        """
        names = [normal_host(text) for text in validation.interior_gateways]
        if "" in names:
            bad = names.index("")
            text = f"{validation.interior_gateways[bad]!r} is not a host name"
            raise ValueError(f"mt2.validation.interior_gateways[{bad}]: {text}")
        pins = frozenset(fingerprints_of(one.public_bytes(Encoding.DER)).certificate for one in trusted)
        return cls(hosts, frozenset(names), pins, validation.unsigned)
