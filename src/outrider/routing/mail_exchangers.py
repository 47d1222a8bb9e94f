"""From a domain's MX records and their addresses to the hosts to try, in order (RFC 5321 5.1, SMTP-7).

Two steps, because between them somebody has to look addresses up: `rank` orders the exchangers, `targets`
takes their addresses. Random numbers come from the caller as a function giving [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import zip_longest

from outrider.routing.private_addresses import AddressGuard, plain_address

IPAddress = IPv4Address | IPv6Address
Chance = Callable[[], float]

MAX_EXCHANGERS = 5
"""Hosts looked at for one attempt: large providers publish one to five, more only help an attacker who
answers with a thousand (SEC-159)."""
MAX_ADDRESSES = 5
"""Addresses tried in one attempt (Postfix's `smtp_mx_address_limit`): with 30 s for each, a dead domain holds
one delivery for minutes, not hours."""
MAX_ADDRESSES_PER_HOST = 3
"""Where there are several hosts: so that the first one's dead addresses cannot use up the whole attempt."""

MXPS_QMTP = range(12801, 13042, 16)
"""QMTP-2: preferences that say "QMTP first, then SMTP". 12800, 12816, ... and all others say SMTP."""


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One MX record."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Ourselves:
    """By what this server would recognise itself in somebody's MX records."""

    names: frozenset[str] = frozenset()
    """Lower-case host names: the server's and its listeners'."""
    addresses: frozenset[IPAddress] = frozenset()
    """Addresses at which we listen for mail from the Internet."""


@dataclass(frozen=True, slots=True)
class Target:
    """One host in one protocol, with its addresses in the order in which to try them."""

    protocol: str
    """smtp or qmtp."""
    host: str
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class NoWay:
    """The domain cannot be reached, for a reason that waiting does not mend."""

    status: str
    text: str


def null_mx(domain: str) -> NoWay:
    """RFC 7505: the domain states that it takes no mail."""
    return NoWay("5.1.10", f"{domain} does not accept mail (null MX)")


def protocols_for(preference: int) -> tuple[str, ...]:
    """What the preference says is spoken at that host, in order (MXPS)."""
    return ("qmtp", "smtp") if preference in MXPS_QMTP else ("smtp",)


def rank(
    domain: str, records: Iterable[Exchanger], ourselves: Ourselves, chance: Chance
) -> tuple[Exchanger, ...] | NoWay:
    """The exchangers by preference, equals in random order, cut to `MAX_EXCHANGERS`.

    If one of them is ourselves by name, it and all that are not better than it fall away (RFC 5321 5.1); when
    nothing is left, the mail would come back to us: 5.4.6.
    """
    ordered = sorted(records, key=lambda one: (one.preference, chance()))
    own = [one.preference for one in ordered if one.host.lower() in ourselves.names]
    better = [one for one in ordered if one.preference < own[0]] if own else ordered
    if not better:
        return _loop(domain)
    return tuple(better[:MAX_EXCHANGERS])


def _loop(domain: str) -> NoWay:
    return NoWay(
        "5.4.6",
        f"mail for {domain} loops back to this host: it is the best mail exchanger "
        "for the domain, but is not configured to take its mail",
    )


def targets(
    domain: str,
    exchangers: Sequence[Exchanger],
    addresses: Mapping[str, Sequence[IPAddress]],
    ourselves: Ourselves,
    guard: AddressGuard,
    chance: Chance,
    *,
    ipv6: bool = True,
) -> tuple[Target, ...] | NoWay:
    """The hosts to try. `addresses` has what was found for each host; hosts without any are passed over.

    Exchangers not better than one that has an address of ours fall away too. Addresses that `guard` refuses
    are dropped; when only such are left the answer says so.
    """
    ranked = [(one.preference, one.host) for one in exchangers]
    found = reachable(ranked, addresses, ourselves, guard, chance, ipv6=ipv6)
    if found.loops:
        return _loop(domain)
    if not found.places:
        return NoWay("5.4.4", found.refused or f"no mail exchanger of {domain} has a usable address")
    return tuple(
        Target(protocol, exchangers[place].host, chosen)
        for place, chosen in found.places
        for protocol in protocols_for(exchangers[place].preference)
    )


@dataclass(frozen=True, slots=True)
class Reachable:
    """What is left of ranked hosts when their addresses are known."""

    places: tuple[tuple[int, tuple[IPAddress, ...]], ...] = ()
    """(place in the list, addresses in the order in which to try them); at most `MAX_ADDRESSES` in all."""
    loops: bool = False
    """We are the best of them."""
    refused: str = ""
    """An address that may not be connected to, and why."""


def reachable(
    ranked: Sequence[tuple[int, str]],
    addresses: Mapping[str, Sequence[IPAddress]],
    ourselves: Ourselves,
    guard: AddressGuard,
    chance: Chance,
    *,
    ipv6: bool = True,
) -> Reachable:
    """Of hosts (rank, name) in order: those with addresses that may be connected to, better than
    ourselves."""
    mine = [rank for rank, host in ranked if _is_ours(addresses.get(host, ()), ourselves)]
    usable: list[tuple[int, tuple[IPAddress, ...]]] = []
    refused = ""
    for place, (rank, host) in enumerate(ranked):
        if mine and rank >= min(mine):
            continue
        allowed, why = _allowed(host, addresses.get(host, ()), guard)
        refused = refused or why
        ordered = interleave(allowed, chance, ipv6=ipv6)
        if ordered:
            usable.append((place, ordered))
    loops = bool(mine) and all(rank >= min(mine) for rank, _ in ranked)
    return Reachable(_cut(usable), loops, refused)


def _is_ours(addresses: Iterable[IPAddress], ourselves: Ourselves) -> bool:
    return any(plain_address(one) in ourselves.addresses for one in addresses)


def _allowed(host: str, addresses: Iterable[IPAddress], guard: AddressGuard) -> tuple[list[IPAddress], str]:
    kept: list[IPAddress] = []
    why = ""
    for address in addresses:
        refusal = guard.refusal(address)
        if refusal:
            why = why or f"{host} [{address}] {refusal}"
        else:
            kept.append(address)
    return kept, why


def _cut(
    usable: Sequence[tuple[int, tuple[IPAddress, ...]]],
) -> tuple[tuple[int, tuple[IPAddress, ...]], ...]:
    each = MAX_ADDRESSES if len(usable) == 1 else MAX_ADDRESSES_PER_HOST
    room = MAX_ADDRESSES
    found: list[tuple[int, tuple[IPAddress, ...]]] = []
    for place, addresses in usable:
        chosen = addresses[: min(each, room)]
        if not chosen:
            break
        room -= len(chosen)
        found.append((place, chosen))
    return tuple(found)


def interleave(addresses: Iterable[IPAddress], chance: Chance, *, ipv6: bool = True) -> tuple[IPAddress, ...]:
    """Each family in random order (hosts spread their load that way), the families in turn, IPv6 first
    (RFC 6724), so that a family that does not work here costs one try and not the whole attempt."""
    shuffled = sorted(addresses, key=lambda _: chance())
    six = [one for one in shuffled if one.version == 6] if ipv6 else []
    four = [one for one in shuffled if one.version == 4]
    pairs = zip_longest(six, four)
    return tuple(one for pair in pairs for one in pair if one is not None)
