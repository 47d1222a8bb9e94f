"""Forward-confirmed reverse DNS: a PTR name counts only if it resolves to the address (SEC-153)."""

import asyncio

from outrider.dns.answers import (
    Confirmation,
    DnsDisabled,
    DnsPermanent,
    DnsTemporary,
    ForwardConfirmed,
    IPAddress,
    NoData,
    NoSuchDomain,
    Resolver,
    UnusableAnswer,
)
from outrider.dns.names import plain_address, reverse_name


async def forward_confirmed(resolver: Resolver, address: IPAddress) -> ForwardConfirmed:
    """Look up the PTR names and, all at once, each one's addresses; see `Resolver.forward_confirmed`."""
    address = plain_address(address)
    try:
        names = (await resolver.ptr(address)).names
    except (NoSuchDomain, NoData, UnusableAnswer):
        return ForwardConfirmed(Confirmation.NO_NAME)
    verdicts = await asyncio.gather(*(_resolves_to(resolver, name, address) for name in names))
    by_verdict = {
        wanted: tuple(name for name, verdict in zip(names, verdicts, strict=True) if verdict is wanted)
        for wanted in (True, False, None)
    }
    if not by_verdict[True] and by_verdict[None]:
        # A name that could not be asked about might be the one that fits (SEC-154: time-out = 4xx, not 5xx).
        raise DnsTemporary(reverse_name(address), "PTR", f"{by_verdict[None][0]} could not be looked up")
    how = Confirmation.CONFIRMED if by_verdict[True] else Confirmation.NO_MATCH
    return ForwardConfirmed(how, by_verdict[True], by_verdict[False], by_verdict[None])


async def _resolves_to(resolver: Resolver, name: str, address: IPAddress) -> bool | None:
    """Return whether `name` has `address`; None if that cannot be told now."""
    try:
        answer = await resolver.addresses(name)
    except DnsDisabled:
        raise
    except DnsPermanent:
        return False
    except DnsTemporary:
        return None
    if address in answer.addresses:
        return True
    return False if answer.complete else None
