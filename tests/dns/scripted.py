"""A name server that does what a test says, byte by byte: for answers no honest server would give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Script = Callable[[bytes], Sequence[bytes]]
"""From a query on the wire to the datagrams, or the TCP messages, to send back."""


class ScriptedServer:
    """Listens on UDP, and on TCP of the same port if there is a script for it (else TCP is refused)."""

    def __init__(self, address: str, udp: Script, tcp: Script | None = None) -> None:
        self.address = address
        self.port = 0
        self.asked = 0
        """How many queries have come in, UDP and TCP together."""
        self.clients: list[tuple[str | object, int]] = []
        """Where the UDP queries came from."""
        self._udp = udp
        self._tcp = tcp

    @property
    def endpoint(self) -> str:
        """Where it listens, in the form of `[dns] servers`."""
        return f"{self.address}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.address, 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        # The address belongs to this test alone, so the same port is free for TCP.
        self._server = await asyncio.start_server(self._serve, self.address, self.port) if self._tcp else None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def answer_datagram(self, query: bytes, client: tuple[str | object, int]) -> None:
        """Follow the script for UDP."""
        self.asked += 1
        self.clients.append(client)
        for datagram in self._udp(query):
            self.send(datagram, client)

    def send(self, datagram: bytes, client: tuple[str | object, int]) -> None:
        """Send a datagram to anybody."""
        self._transport.sendto(datagram, client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        self.asked += 1
        assert self._tcp is not None
        for message in self._tcp(query):
            writer.write(len(message).to_bytes(2, "big") + message)
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self._server.answer_datagram(data, addr)


def reply(
    query: bytes,
    *answer: str,
    authority: Sequence[str] = (),
    additional: Sequence[str] = (),
    rcode: int = 0,
    flags: int = 0,
) -> dns.message.Message:
    """Return a response with the records given as `owner TTL IN TYPE value` lines."""
    response = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    response.flags |= flags
    response.set_rcode(dns.rcode.Rcode(rcode))
    sections = ((response.answer, answer), (response.authority, authority), (response.additional, additional))
    for section, lines in sections:
        for line in lines:
            owner, ttl, _, rdtype, value = line.split(None, 4)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", rdtype, value))
    return response


def answering(*answer: str, **more: object) -> Script:
    """Return a script that gives every query the same answer; arguments as for `reply`."""
    return lambda query: [reply(query, *answer, **more).to_wire()]  # type: ignore[arg-type]


def truncated(query: bytes) -> Sequence[bytes]:
    """A script for UDP: "too long, ask by TCP"."""
    return [reply(query, flags=dns.flags.TC).to_wire()]
