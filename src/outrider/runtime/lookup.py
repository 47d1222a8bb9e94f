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
    ServiceProtocol,
    ServiceRecords,
    Unusable,
)
from outrider.dns.answers import DnsDisabled, DnsError, DnsTemporary, NoData, NoSuchDomain, Resolver
from outrider.reception.lookups import ClientNames
from outrider.reception.trust_lookups import ListRecords
from outrider.routing.mail_exchangers import Exchanger
from outrider.routing.services import Service


class DnsLookup:
    """Implements the look-ups of delivery, of reception and of its trust lists on a resolver."""

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

    async def services(self, protocol: ServiceProtocol, domain: str) -> ServiceRecords:
        """See `MailLookup`."""
        try:
            answer = await self._resolver.srv(f"_{protocol}._tcp.{domain}")
        except DnsError as error:
            _raise_as_lookup(error)
        services = tuple(Service(one.priority, one.weight, one.port, one.target) for one in answer.hosts)
        return ServiceRecords(services, answer.secure)

    async def directory_servers(self, domain: str) -> ServiceRecords:
        """See `net.ldap_directory.DirectoryLookup`."""
        try:
            answer = await self._resolver.srv(f"_ldap._tcp.{domain}")
        except DnsError as error:
            _raise_as_lookup(error)
        services = tuple(Service(one.priority, one.weight, one.port, one.target) for one in answer.hosts)
        return ServiceRecords(services, answer.secure)

    async def client_names(self, address: IPv4Address | IPv6Address) -> ClientNames:
        """See `ReceptionLookup`."""
        try:
            answer = await self._resolver.forward_confirmed(address)
        except DnsDisabled:
            return ClientNames()
        except DnsError as error:
            raise LookupTemporary(str(error)) from error
        return ClientNames(answer.names, answer.rejected + answer.undecided, answer.undecided)

    async def pointer_names(self, address: IPv4Address | IPv6Address) -> tuple[str, ...]:
        """See `ReceptionLookup`."""
        try:
            return (await self._resolver.ptr(address)).names
        except DnsTemporary as error:
            raise LookupTemporary(str(error)) from error
        except DnsError:
            return ()

    async def list_addresses(self, name: str) -> ListRecords:
        """See `reception.trust_lookups.ListLookup`."""
        try:
            answer = await self._resolver.query(name, "A")
        except DnsError as error:
            _raise_as_lookup(error)
        return ListRecords(addresses=tuple(map(str, answer.records)), ttl_s=answer.ttl_s)

    async def list_texts(self, name: str) -> ListRecords:
        """See `reception.trust_lookups.ListLookup`."""
        try:
            answer = await self._resolver.txt(name)
        except DnsError as error:
            _raise_as_lookup(error)
        return ListRecords(texts=answer.texts, ttl_s=answer.ttl_s)


def _raise_as_lookup(error: DnsError) -> NoReturn:
    if isinstance(error, DnsTemporary):
        raise LookupTemporary(str(error)) from error
    if isinstance(error, NoSuchDomain):
        raise NoSuchName(str(error)) from error
    if isinstance(error, NoData):
        raise NoRecords(str(error)) from error
    raise Unusable(str(error)) from error
