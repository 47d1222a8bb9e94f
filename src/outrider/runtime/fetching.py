"""A caller of its own for `outrider fetch`: no server, no configuration."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from outrider.delivery.lookup import HostAddresses, LookupTemporary, NoSuchName
from outrider.identity.authorities import CaStores, read_authorities
from outrider.net.amdp_web_caller import AmdpWebCaller, CallerParts, CallerSettings
from outrider.routing.private_addresses import AddressGuard
from outrider.runtime.ca_files import system_ca_files

IPNetwork = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address


class HostLookup:
    """The machine's own name service, and addresses that somebody has given by hand."""

    def __init__(self, given: Mapping[str, IPAddress]) -> None:
        self._given = given

    async def addresses(self, host: str) -> HostAddresses:
        """See `AddressLookup`."""
        if host in self._given:
            return HostAddresses((self._given[host],))
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise LookupTemporary(f"{host}: {error.strerror}") from error
            raise NoSuchName(f"{host}: {error.strerror}") from error
        return HostAddresses(tuple(ip_address(one) for one in dict.fromkeys(str(one[4][0]) for one in found)))


def caller_for(
    ca_files: Sequence[Path], private: Sequence[IPNetwork], given: Mapping[str, IPAddress]
) -> AmdpWebCaller:
    """A caller that believes these CAs (none: those of the system), and may go to these private networks: an
    envelope is a stranger's and may name any host (SEC-185). Raises OSError, ValueError for a bad file."""
    files = list(ca_files) or [Path(one) for one in system_ca_files()]
    stores = CaStores.of([one for path in files for one in read_authorities(path.read_bytes())])
    return AmdpWebCaller(
        CallerParts(HostLookup(given), AddressGuard(tuple(private)), stores), CallerSettings()
    )
