"""A host as others see it: its addresses and records from DNS, for `outrider cert check`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from outrider.dns.answers import (
    Confirmation,
    DnsError,
    DnsPermanent,
    DnsTemporary,
    IPAddress,
    Resolver,
)
from outrider.identity.acceptance import HostView, ServiceView
from outrider.identity.host_identity import ReverseNames


async def see_host(
    resolver: Resolver,
    name: str,
    chain: tuple[bytes, ...],
    domains: Sequence[str],
    addresses: Sequence[IPAddress] = (),
) -> HostView:
    """Look up all that peers would; `addresses` instead of those that DNS has for the name. Never raises for
    what DNS answers: a look-up that failed is in the view."""
    sources = tuple(addresses) or await _addresses(resolver, name)
    reverse = await asyncio.gather(*(_reverse(resolver, address) for address in sources))
    services = await asyncio.gather(*(_service(resolver, domain) for domain in domains))
    by_address = zip(map(str, sources), reverse, strict=True)
    return HostView(name, chain, tuple(by_address), tuple(services))


async def _addresses(resolver: Resolver, name: str) -> tuple[IPAddress, ...]:
    try:
        return (await resolver.addresses(name)).addresses
    except DnsError:
        return ()


async def _reverse(resolver: Resolver, address: IPAddress) -> ReverseNames:
    try:
        found = await resolver.forward_confirmed(address)
    except DnsError as error:
        return ReverseNames(failure=str(error))
    if found.how is Confirmation.NO_NAME:
        return ReverseNames()
    return ReverseNames(found.names, found.rejected, found.undecided)


async def _service(resolver: Resolver, domain: str) -> ServiceView:
    try:
        answer = await resolver.srv(f"_amtp._tcp.{domain}")
    except DnsTemporary as error:
        return ServiceView(domain, failure=str(error))
    except DnsPermanent:
        return ServiceView(domain)
    targets = tuple((host.target, host.port) for host in answer.hosts)
    return ServiceView(domain, targets, answer.secure)
