"""Where the servers are that were sent an envelope: for a facility that answers nobody else (AMDP-12)."""

from __future__ import annotations

from typing import Protocol

from outrider.delivery.host_addresses import addresses_of_all
from outrider.delivery.lookup import LookupFailed, LookupTemporary, MailLookup
from outrider.holding.web import IPAddress

MOST_HOSTS = 20
"""Exchangers of a domain that are looked up."""


class ExchangersUnknown(Exception):
    """It cannot be found out now."""


class Exchangers(Protocol):
    """Knows where the servers of a domain are."""

    async def addresses(self, domain: str) -> frozenset[IPAddress]:
        """Of all hosts that its mail goes to. Raises ExchangersUnknown."""
        ...


class DnsExchangers:
    """The hosts that a domain's MX records name, else the domain itself (RFC 5321 section 5.1)."""

    def __init__(self, lookup: MailLookup) -> None:
        self._lookup = lookup

    async def addresses(self, domain: str) -> frozenset[IPAddress]:
        """See `Exchangers`."""
        try:
            records = (await self._lookup.mx(domain)).exchangers
        except LookupTemporary as error:
            raise ExchangersUnknown(error.reason) from error
        except LookupFailed:
            records = ()
        hosts = tuple(dict.fromkeys(one.host for one in records))[:MOST_HOSTS] or (domain,)
        found = await addresses_of_all(self._lookup, hosts)
        if any(one.silent for one in found.values()):
            raise ExchangersUnknown(next(one.silent for one in found.values() if one.silent))
        return frozenset(address for one in found.values() for address in one.addresses)
