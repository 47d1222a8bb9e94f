"""An authoritative DNS server for the small Internet and for tests: UDP and TCP, zones that change live.

`python -m outrider.playground.dns_server --zones zones.json --address 127.0.0.1 --port 5353` runs it alone;
SIGHUP reads the file again, SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections import deque
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from outrider.playground.zones import Lookup, ZoneError, ZoneSet, zones_from_json

_PAYLOAD_OCTETS = 1232  # no UDP answer is longer, whatever the client says it can take
_LEAST_PAYLOAD_OCTETS = 512  # RFC 1035 section 4.2.1
_MAX_TCP_OCTETS = 65535
_TCP_IDLE_S = 10.0
_MAX_TCP_CONNECTIONS = 100
_MAX_REMEMBERED = 1000
_BIND_ATTEMPTS = 20


class Fault(Enum):
    """How the server may misbehave for a name."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENT = "silent"


class DnsServer:
    """The server. `zones` and the faults may be changed at any time.

    `authentic` sets the AD bit in answers to those who ask for it, as a validating resolver would.
    """

    def __init__(self, zones: ZoneSet, address: str, port: int = 0, *, authentic: bool = False) -> None:
        self.zones = zones
        self.address = address
        self.port = port
        self.authentic = authentic
        self.asked: deque[tuple[str, str]] = deque(maxlen=_MAX_REMEMBERED)
        """The last questions: name without final dot, and type."""
        self.questions = 0
        """How many there were in all."""
        self._faults: dict[tuple[dns.name.Name, dns.rdatatype.RdataType | None], Fault] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def endpoint(self) -> str:
        """Where it listens, in the form of `[dns] servers`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    async def start(self) -> None:
        """Listen; port 0 is replaced by one that is free for both UDP and TCP. Raises OSError."""
        for remaining in reversed(range(_BIND_ATTEMPTS if self.port == 0 else 1)):
            try:
                await self._listen()
            except OSError:
                if not remaining:
                    raise
            else:
                return

    async def _listen(self) -> None:
        tcp = await asyncio.start_server(self._serve_tcp, self.address, self.port)
        port = tcp.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        try:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _UdpProtocol(self), local_addr=(self.address, port)
            )
        except OSError:
            tcp.close()
            raise
        self._tcp = tcp
        self.port = port

    async def aclose(self) -> None:
        """Stop listening and drop all connections."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            for writer in list(self._connections):
                writer.transport.abort()
            await self._tcp.wait_closed()

    async def __aenter__(self) -> DnsServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- misbehaviour on request -----------------------------------------------------------------------

    def fail(self, name: str, fault: Fault, rdtype: str | None = None) -> None:
        """Misbehave for a name, for one type of records or all, until `heal`."""
        self._faults[_fault_key(name, rdtype)] = fault

    def heal(self, name: str, rdtype: str | None = None) -> None:
        """End what `fail` began."""
        self._faults.pop(_fault_key(name, rdtype), None)

    # -- one message in, one message out ---------------------------------------------------------------

    def respond(self, wire: bytes, max_octets: int) -> bytes | None:
        """Answer one message in at most `max_octets` (0 = what UDP allows); None = stay silent."""
        try:
            query = dns.message.from_wire(wire, ignore_trailing=True)
        except Exception:  # dnspython raises many kinds on hostile bytes; a server says nothing to them
            return None
        if query.flags & dns.flags.QR:
            return None  # an answer, forged or looping: answering it could go on for ever
        response = self._response_to(query)
        if response is None:
            return None
        limit = max_octets or min(max(query.payload, _LEAST_PAYLOAD_OCTETS), _PAYLOAD_OCTETS)
        return _rendered(response, limit)

    def _response_to(self, query: dns.message.Message) -> dns.message.Message | None:
        response = dns.message.make_response(query, our_payload=_PAYLOAD_OCTETS)
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
        elif len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
        elif query.edns > 0:
            response.set_rcode(dns.rcode.BADVERS)  # RFC 6891 section 6.1.3
        elif query.question[0].rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.REFUSED)
        else:
            return self._answer(query, response)
        return response

    def _answer(
        self, query: dns.message.Message, response: dns.message.Message
    ) -> dns.message.Message | None:
        name, rdtype = query.question[0].name, query.question[0].rdtype
        self.questions += 1
        self.asked.append((name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(rdtype)))
        fault = self._faults.get((name, rdtype)) or self._faults.get((name, None))
        if fault is Fault.SILENT:
            return None
        if fault is not None:
            response.set_rcode(dns.rcode.SERVFAIL if fault is Fault.SERVFAIL else dns.rcode.REFUSED)
            return response
        _fill(response, self.zones.lookup(name, rdtype))
        wants_ad = query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO
        if self.authentic and wants_ad and response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            response.flags |= dns.flags.AD
        return response

    # -- TCP ------------------------------------------------------------------------------------------

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one message after the other until the client closes, errs or falls asleep (RFC 7766)."""
        if len(self._connections) >= _MAX_TCP_CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                while True:
                    async with asyncio.timeout(_TCP_IDLE_S):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                        wire = await reader.readexactly(length)
                        response = self.respond(wire, _MAX_TCP_OCTETS)
                        if response is not None:
                            writer.write(len(response).to_bytes(2, "big") + response)
                            await writer.drain()
        finally:
            self._connections.discard(writer)
            writer.close()


class _UdpProtocol(asyncio.DatagramProtocol):
    """Hands datagrams to the server and sends what it answers."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport does not derive from the class that describes it.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        response = self._server.respond(data, 0)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)


def _fault_key(name: str, rdtype: str | None) -> tuple[dns.name.Name, dns.rdatatype.RdataType | None]:
    return dns.name.from_text(name), None if rdtype is None else dns.rdatatype.from_text(rdtype)


def _fill(response: dns.message.Message, found: Lookup) -> None:
    response.set_rcode(found.rcode)
    if found.authoritative:
        response.flags |= dns.flags.AA
    response.answer.extend(found.answer)
    response.authority.extend(found.authority)


def _rendered(response: dns.message.Message, limit: int) -> bytes:
    """Return the message on the wire; if it is too long an empty one with the TC bit (RFC 2181 section 9)."""
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=limit)


async def serve(path: Path, address: str, port: int) -> None:
    """Run the server on a file of zones until SIGTERM or SIGINT; prints `ready <endpoint>`."""
    server = DnsServer(_read_zones(path), address, port)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, server, path)
    async with server:
        print(f"ready {server.endpoint}", flush=True)
        await stop.wait()


def _read_zones(path: Path) -> ZoneSet:
    return zones_from_json(path.read_text(encoding="utf-8"))


def _reload(server: DnsServer, path: Path) -> None:
    """Exchange the zones for the file's; a faulty file leaves the old ones in place."""
    try:
        server.zones = _read_zones(path)
    except (OSError, ZoneError) as error:
        print(f"not reloaded: {error}", file=sys.stderr, flush=True)
    else:
        print("reloaded", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (0 done, 1 failed)."""
    parser = argparse.ArgumentParser(prog="python -m outrider.playground.dns_server", description=__doc__)
    parser.add_argument("--zones", type=Path, required=True, help="JSON file of zones")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5353)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(serve(options.zones, options.address, options.port))
    except (OSError, ZoneError) as error:
        print(f"dns_server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
