"""Where connections may not go because a stranger's DNS says so (SMTP-7, SEC-158).

A name server that anybody may run can answer 127.0.0.1 or 10.0.0.5; without this guard it could make us talk
to services that trust our network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that a translator will connect to."""
IPV4_COMPATIBLE = IPv6Network("::/96")
"""RFC 4291 2.5.5.1, deprecated; ::1 and :: lie in it and are told apart by name."""


def plain_address(address: IPAddress) -> IPAddress:
    """The IPv4 address inside a v4-mapped, NAT64 or 6to4 address; any other address as it is."""
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64 or address in IPV4_COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Says which addresses may be connected to."""

    allowed: tuple[IPNetwork, ...] = ()
    """[net] private_destinations."""

    def refusal(self, address: IPAddress) -> str:
        """Why the address is not connected to; "" when it may be."""
        plain = plain_address(address)
        if plain.is_unspecified:
            return "is no host's address"
        if plain.is_multicast or plain == IPv4Address("255.255.255.255"):
            return "is no single host's address"
        if _is_public(plain) or self._is_allowed(address, plain):
            return ""
        return "is a loopback or private address (see [net] private_destinations)"

    def _is_allowed(self, address: IPAddress, plain: IPAddress) -> bool:
        return any(one in network for network in self.allowed for one in (address, plain))


def _is_public(address: IPAddress) -> bool:
    return address.is_global and not (address.is_reserved or address.is_link_local or address.is_loopback)


def address_guard(private_destinations: Sequence[str]) -> AddressGuard:
    """The guard for the networks of [net] private_destinations. Raises ValueError naming the key."""
    networks: list[IPNetwork] = []
    for text in private_destinations:
        try:
            networks.append(ip_network(text))
        except ValueError as error:
            raise ValueError(f"net.private_destinations: {error}") from error
    return AddressGuard(tuple(networks))
