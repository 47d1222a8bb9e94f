"""How many connections at once: in all, and from one address."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from outrider.net.shared_counts import CountRow

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


class Refusal(Enum):
    """Why a connection was turned away before its protocol saw it."""

    SERVER_FULL = "server_full"
    LISTENER_FULL = "listener_full"
    ADDRESS_FULL = "address_full"
    NO_DESCRIPTORS = "no_descriptors"
    STOPPING = "stopping"
    PROXY_HEADER = "proxy_header"
    """A trusted proxy sent no, a malformed or a late PROXY header."""


class ConnectionLimits:
    """The count of connections over all listeners of a server (SMTP-9, SEC-90).

    `total` bounds them all. `per_address` bounds those of one IPv4 address or one IPv6 /64, which is what a
    single customer has; networks in `exempt` are not held to it. A limit of 0 is none. The three may be
    changed while running; connections already open stay.

    With `shared` the limits hold over all worker processes: each counts itself in first and then looks at the
    total, so that two at the same moment may both turn back, and never both go through.
    """

    def __init__(
        self,
        *,
        total: int,
        per_address: int,
        exempt: Iterable[IPNetwork] = (),
        shared: CountRow | None = None,
    ) -> None:
        self.total = total
        self.per_address = per_address
        self.exempt = tuple(exempt)
        self._shared = shared
        self._open = 0
        self._by_network: dict[bytes, int] = {}

    @property
    def open(self) -> int:
        """Connections of this process now."""
        return self._open

    @property
    def open_in_all(self) -> int:
        """Connections of all workers now."""
        return self._open if self._shared is None else self._shared.total_all()

    def open_from(self, address: IPAddress) -> int:
        """Connections of this process now from this address's network."""
        return self._by_network.get(network_key(address), 0)

    def enter_at(self, listener: bytes, here: int, most: int) -> bool:
        """Count a connection at a listener that may have `most` in all workers and has `here` in this one;
        False if it has too many. To be undone by `leave_at`."""
        if most and here >= most:
            return False
        if self._shared is not None:
            self._shared.add(listener)
            if most and self._shared.total(listener) > most:
                self._shared.remove(listener)
                return False
        return True

    def leave_at(self, listener: bytes) -> None:
        """A connection at the listener has ended."""
        if self._shared is not None:
            self._shared.remove(listener)

    def enter(self) -> bool:
        """Take one of the `total` places; False if there is none. To be given back by `leave`."""
        if self.total and self._open >= self.total:
            return False
        if self._shared is not None:
            self._shared.add_all()
            if self.total and self._shared.total_all() > self.total:
                self._shared.remove_all()
                return False
        self._open += 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        self._open -= 1
        if self._shared is not None:
            self._shared.remove_all()

    def enter_from(self, address: IPAddress) -> bool:
        """Count a connection from `address`; False if it has too many. To be undone by `leave_from`."""
        key = network_key(address)
        count = self._by_network.get(key, 0)
        limit = self.per_address
        if limit and count >= limit and not self._is_exempt(address):
            return False
        if self._shared is not None:
            self._shared.add(key)
            if limit and self._shared.total(key) > limit and not self._is_exempt(address):
                self._shared.remove(key)
                return False
        self._by_network[key] = count + 1
        return True

    def leave_from(self, address: IPAddress) -> None:
        """The connection from `address` has ended."""
        key = network_key(address)
        count = self._by_network[key] - 1
        if count:
            self._by_network[key] = count
        else:
            del self._by_network[key]
        if self._shared is not None:
            self._shared.remove(key)

    def _is_exempt(self, address: IPAddress) -> bool:
        return is_within(address, self.exempt)


def network_key(address: IPAddress) -> bytes:
    """What one customer holds: an IPv4 address, whatever its notation, or the /64 of an IPv6 address."""
    address = unmapped(address)
    return address.packed if address.version == 4 else address.packed[:8]


def unmapped(address: IPAddress) -> IPAddress:
    """An IPv4-mapped IPv6 address as the IPv4 address that it is (RFC 4291 section 2.5.5.2)."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    """Whether `address` lies in one of `networks`."""
    address = unmapped(address)
    return any(address.version == network.version and address in network for network in networks)
