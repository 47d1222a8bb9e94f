"""The addresses of the hosts that a domain's records name, and what they may not be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from outrider.delivery.lookup import LookupFailed, LookupTemporary, MailLookup

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Found:
    """What DNS says of one host."""

    addresses: tuple[IPAddress, ...] = ()
    secure: bool = False
    silent: str = ""
    """Why there is no knowing (a temporary failure); "" when it answered."""


async def addresses_of_all(lookup: MailLookup, hosts: tuple[str, ...]) -> dict[str, Found]:
    """What is found for each of the hosts, asked for together."""
    if len(hosts) == 1:  # the usual case needs no tasks
        return {hosts[0]: await _addresses_of(lookup, hosts[0])}
    answers = await asyncio.gather(*(_addresses_of(lookup, host) for host in hosts))
    return dict(zip(hosts, answers, strict=True))


async def _addresses_of(lookup: MailLookup, host: str) -> Found:
    try:
        answer = await lookup.addresses(host)
    except LookupTemporary as error:
        return Found(silent=f"{host}: {error.reason}")
    except LookupFailed:
        return Found()
    return Found(tuple(answer.addresses), answer.secure)
