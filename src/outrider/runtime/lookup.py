"""DNS as delivery and reception ask for it: the resolver's answers in their words."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NoReturn

from outrider.delivery.lookup import (
    HostAddresses,
    LookupTemporary,
    MxRecords,
    NoRecords,
    NoSuchName,
    Unusable,
)
from outrider.dns.answers import DnsDisabled, DnsError, DnsTemporary, NoData, NoSuchDomain, Resolver
from outrider.reception.lookups import ClientNames
from outrider.routing.mail_exchangers import Exchanger


class DnsLookup:
    """Implements `delivery.lookup.MailLookup` and `reception.lookups.ReceptionLookup` on a resolver."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def mx(self, domain: str) -> MxRecords:
        """See `MailLookup`."""
        try:
            answer = await self._resolver.mx(domain)
        except DnsError as error:
            _raise_as_lookup(error)
        exchangers = tuple(Exchanger(host.preference, host.host) for host in answer.hosts)
        return MxRecords(exchangers, answer.null_mx, answer.secure)

    async def addresses(self, host: str) -> HostAddresses:
        """See `MailLookup`."""
        try:
            answer = await self._resolver.addresses(host)
        except DnsError as error:
            _raise_as_lookup(error)
        return HostAddresses(answer.addresses, answer.secure)

    async def client_names(self, address: IPv4Address | IPv6Address) -> ClientNames:
        """See `ReceptionLookup`."""
        try:
            answer = await self._resolver.forward_confirmed(address)
        except DnsDisabled:
            return ClientNames()
        except DnsError as error:
            raise LookupTemporary(str(error)) from error
        return ClientNames(answer.names, answer.rejected + answer.undecided)


def _raise_as_lookup(error: DnsError) -> NoReturn:
    if isinstance(error, DnsTemporary):
        raise LookupTemporary(str(error)) from error
    if isinstance(error, NoSuchDomain):
        raise NoSuchName(str(error)) from error
    if isinstance(error, NoData):
        raise NoRecords(str(error)) from error
    raise Unusable(str(error)) from error
