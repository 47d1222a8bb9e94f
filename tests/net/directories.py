"""What the directory client needs around it: DNS by table, and servers that lie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from outrider.delivery.lookup import HostAddresses, LookupFailed, NoRecords, ServiceRecords
from outrider.identity.authorities import CaStores
from outrider.identity.host_identity import ServerJudge
from outrider.net.ldap_directory import DirectoryParts, LdapDirectory
from outrider.routing.private_addresses import AddressGuard
from outrider.routing.services import Service

LOOPBACK = AddressGuard((ip_network("127.0.0.0/8"),))
"""The exception that tests need: directories are asked at public addresses only."""


@dataclass
class Names:
    """`servers`: domain -> (port, host) in order of priority; `hosts`: host -> addresses."""

    servers: Mapping[str, Sequence[tuple[int, str]] | LookupFailed]
    hosts: Mapping[str, Sequence[str] | LookupFailed]
    secure: bool = False
    asked: list[str] = field(default_factory=list)

    async def directory_servers(self, domain: str) -> ServiceRecords:
        found = self.servers.get(domain, NoRecords("no such record"))
        if isinstance(found, LookupFailed):
            raise found
        services = (Service(number, 0, port, host) for number, (port, host) in enumerate(found))
        return ServiceRecords(tuple(services), self.secure)

    async def addresses(self, host: str) -> HostAddresses:
        self.asked.append(host)
        found = self.hosts.get(host, NoRecords("no such record"))
        if isinstance(found, LookupFailed):
            raise found
        return HostAddresses([ip_address(one) for one in found], self.secure)


@asynccontextmanager
async def directory(
    names: Names, *, guard: AddressGuard = LOOPBACK, stores: CaStores | None = None, timeout_s: float = 20.0
) -> AsyncIterator[LdapDirectory]:
    """A client, patient unless told otherwise."""
    parts = DirectoryParts(
        names, guard, ServerJudge(stores or CaStores()), lambda: 0.5, time.time, timeout_s=timeout_s
    )
    client = LdapDirectory(parts)
    try:
        yield client
    finally:
        client.close()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def liar(address: str, talk: Talk, port: int = 389) -> AsyncIterator[list[int]]:
    """A server that says what it likes; yields a list that grows with each connection."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, address, port)
    try:
        yield connections
    finally:
        server.close()
        await server.wait_closed()
