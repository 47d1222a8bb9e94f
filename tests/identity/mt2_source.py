"""Domains that publish CAs, without a network: an `AuthoritySource` that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509

from outrider.identity.delegated_authorities import (
    AuthorityLookupFailed,
    DelegatedAuthorities,
    PublishedAnchor,
)


def published(
    domain: str,
    certificates: Sequence[x509.Certificate] = (),
    *,
    secure: bool = True,
    anchors: Sequence[PublishedAnchor] = (),
    at: float = 0.0,
) -> DelegatedAuthorities:
    """What a domain says."""
    how = "DNS CERT, DNSSEC-secure" if secure else "LDAP at ldap.example, unsigned LDAP over unsigned DNS"
    via = "dns" if secure else "ldap"
    return DelegatedAuthorities(
        domain,
        via,
        secure,
        how,
        tuple(certificates),
        tuple(anchors),
        at=at,  # type: ignore[arg-type]
    )


@dataclass
class Source:
    """`now` is what each domain says, `later` what it says when it is asked anew."""

    now: dict[str, DelegatedAuthorities | AuthorityLookupFailed] = field(default_factory=dict)
    later: dict[str, DelegatedAuthorities | AuthorityLookupFailed] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def authorities(
        self, domain: str, address: str, *, newer_than: float | None = None
    ) -> DelegatedAuthorities:
        self.asked.append((domain, address))
        found = self.now.get(domain)
        if newer_than is not None:
            found = self.later.get(domain, found)
        if found is None:
            raise AuthorityLookupFailed(f"{domain} has no CA", temporary=False)
        if isinstance(found, AuthorityLookupFailed):
            raise found
        return found
