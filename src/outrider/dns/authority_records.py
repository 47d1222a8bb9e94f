"""CA certificates that a domain publishes in DNS: CERT and TLSA records, DNSSEC-secure only (MT2-24b).

- CERT (RFC 4398) of type PKIX at the domain itself: the certificate.
- TLSA (RFC 6698) of usage 2 (DANE-TA) at ``_mt2._tcp.`` and the domain: the certificate, or a digest of it or
  of its key; then the certificate must come with the peer's chain.

Without DNSSEC such records say nothing: whoever can forge them has no need of a CA.
"""

from __future__ import annotations

import asyncio

from dns.rdata import Rdata
from dns.rdtypes.ANY.CERT import CERT
from dns.rdtypes.ANY.TLSA import TLSA

from outrider.dns.answers import DnsError, DnsTemporary, RecordsAnswer, Resolver
from outrider.identity.delegated_authorities import (
    MAX_AUTHORITIES,
    AuthorityLookupFailed,
    DelegatedAuthorities,
    PublishedAnchor,
    read_published,
)

_PKIX = 1
_TRUST_ANCHOR = 2
_SELECTORS = (0, 1)
_MATCHING = (0, 1, 2)
_SERVICE = "_mt2._tcp"


class AuthorityRecords:
    """Asks DNS for a domain's CA."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def find(self, domain: str) -> DelegatedAuthorities:
        """See `AuthorityLookup`. Both kinds of record are asked for at once; CERT goes first."""
        cert, tlsa = await asyncio.gather(
            self._ask(domain, "CERT"), self._ask(f"{_SERVICE}.{domain}", "TLSA")
        )
        answers = [one for one in (cert, tlsa) if isinstance(one, RecordsAnswer)]
        secure = [one for one in answers if one.secure]
        for answer in secure:
            found = _read(domain, answer)
            if found is not None:
                return found
        failures = [one for one in (cert, tlsa) if isinstance(one, DnsError)]
        raise _failure(domain, failures, insecure=len(answers) > len(secure), unusable=bool(secure))

    async def _ask(self, name: str, rdtype: str) -> RecordsAnswer | DnsError:
        try:
            return await self._resolver.query(name, rdtype)
        except DnsError as error:
            return error


def _read(domain: str, answer: RecordsAnswer) -> DelegatedAuthorities | None:
    """The authorities in an answer; None if there are none that can be used."""
    ders = [one.certificate for one in answer.records if isinstance(one, CERT) and _is_pkix(one)]
    kind = "CERT" if ders else "TLSA"
    anchors = _anchors(answer.records)
    ders += [one.data for one in anchors if (one.selector, one.matching) == (0, 0)]
    certificates, _ = read_published(ders)
    named = tuple(one for one in anchors if (one.selector, one.matching) != (0, 0))[:MAX_AUTHORITIES]
    if not certificates and not named:
        return None
    how = f"DNS {kind}, DNSSEC-secure"
    return DelegatedAuthorities(domain, "dns", True, how, certificates, named, float(answer.ttl_s))


def _is_pkix(record: CERT) -> bool:
    return int(record.certificate_type) == _PKIX


def _anchors(records: tuple[Rdata, ...]) -> list[PublishedAnchor]:
    """TLSA records of usage 2 that make sense; others are about end entities, or about public CAs."""
    found = [
        PublishedAnchor(int(one.selector), int(one.mtype), bytes(one.cert))
        for one in records
        if isinstance(one, TLSA) and int(one.usage) == _TRUST_ANCHOR
    ]
    return [one for one in found if one.selector in _SELECTORS and one.matching in _MATCHING]


def _failure(
    domain: str, failures: list[DnsError], *, insecure: bool, unusable: bool
) -> AuthorityLookupFailed:
    silent = [one for one in failures if isinstance(one, DnsTemporary)]
    if silent:
        return AuthorityLookupFailed(f"DNS did not answer: {silent[0]}", temporary=True)
    if insecure:
        text = f"the CERT or TLSA records of {domain} are not DNSSEC-secure, and prove nothing"
        return AuthorityLookupFailed(text, temporary=False)
    what = "no usable CA in CERT or TLSA records" if unusable else "no CERT or TLSA records"
    return AuthorityLookupFailed(f"{domain} has {what}", temporary=False)
