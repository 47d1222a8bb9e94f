"""`[mt2.validation]` as the service that tells MT2 peers: for reception, client and traces (MT2-24b)."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from outrider.dns.answers import Resolver
from outrider.dns.authority_records import AuthorityRecords
from outrider.identity.delegated_authorities import AuthorityLookup
from outrider.identity.host_identity import ServerJudge
from outrider.identity.mt2_peers import Mt2Peers, PartnerCas
from outrider.net.dialling import Dialling
from outrider.net.ldap_directory import DirectoryParts, LdapDirectory
from outrider.reception.delegation_lookups import DelegationLimits, DelegationLookups, DelegationObserver
from outrider.routing.private_addresses import address_guard
from outrider.runtime.assembly import Assembly
from outrider.runtime.lookup import DnsLookup


@dataclass(slots=True)
class Mt2Identities:
    """The service and what it asks by; to be closed when replaced."""

    peers: Mt2Peers
    _lookups: DelegationLookups | None = None
    _directory: LdapDirectory | None = None

    async def aclose(self) -> None:
        """Give up look-ups under way."""
        if self._lookups is not None:
            await self._lookups.aclose()
        if self._directory is not None:
            self._directory.close()


def make_mt2_identities(
    assembly: Assembly, resolver: Resolver, lookup: DnsLookup, observer: DelegationObserver
) -> Mt2Identities:
    """The service for these settings."""
    validation = assembly.config.mt2.validation
    partners = partner_cas(assembly)
    if not validation.delegation:
        return Mt2Identities(Mt2Peers(assembly.ca_stores, assembly.mt2_identities, None, partners))
    directory = _directory(assembly, lookup) if "ldap" in validation.delegation else None
    ways: list[AuthorityLookup] = [
        directory if name == "ldap" and directory is not None else AuthorityRecords(resolver)
        for name in validation.delegation
    ]
    limits = DelegationLimits(
        timeout_s=validation.timeout,
        cache_s=validation.cache,
        negative_s=validation.negative_cache,
        per_minute=validation.lookups_per_minute,
    )
    lookups = DelegationLookups(ways, limits, time.time, observer)
    peers = Mt2Peers(assembly.ca_stores, assembly.mt2_identities, lookups, partners)
    return Mt2Identities(peers, lookups, directory)


def partner_cas(assembly: Assembly) -> list[PartnerCas]:
    """The CAs that vouch for the hosts of one partner each."""
    return [
        PartnerCas(one.hosts.covers, one.sender_domains.covers, assembly.amtp.partner_stores[one.name])
        for one in assembly.amtp.partners.entries
        if one.name in assembly.amtp.partner_stores
    ]


def _directory(assembly: Assembly, lookup: DnsLookup) -> LdapDirectory:
    net, timeout_s = assembly.config.net, assembly.config.mt2.validation.timeout
    return LdapDirectory(
        DirectoryParts(
            lookup=lookup,
            guard=address_guard(net.private_destinations),
            judge=ServerJudge(assembly.ca_stores),
            chance=random.SystemRandom().random,
            clock=time.time,
            dialling=Dialling(timeout_s, net.source_address, net.source_address6),
            timeout_s=timeout_s,
        )
    )
