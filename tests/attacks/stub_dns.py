"""A DNS server in the hands of an attacker: any octets as the name of any address, and the name confirmed."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.PTR
import dns.rdtypes.IN.A
import dns.reversename
import dns.rrset

PORT = 5353


class StubDns:
    """Answers over UDP in a thread: PTR and A for the names it was given, nothing for all else."""

    def __init__(self, address: str) -> None:
        self.endpoint = f"{address}:{PORT}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, PORT))
        self._names: dict[dns.name.Name, dns.name.Name] = {}
        self._addresses: dict[dns.name.Name, str] = {}

    def name(self, address: str, *labels: bytes) -> None:
        """Let the address have a name of these labels, and the name that address."""
        name = dns.name.Name((*labels, b"example", b""))
        self._names[dns.reversename.from_address(address)] = name
        self._addresses[name] = address

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, client = self._socket.recvfrom(4096)
                if not wire:
                    return
                self._socket.sendto(self._answer(dns.message.from_wire(wire)).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        question = query.question[0]
        name = question.name
        internet = dns.rdataclass.IN
        if question.rdtype == dns.rdatatype.PTR and name in self._names:
            data = dns.rdtypes.ANY.PTR.PTR(internet, dns.rdatatype.PTR, self._names[name])
            response.answer.append(dns.rrset.from_rdata(name, 60, data))
        if question.rdtype == dns.rdatatype.A and name in self._addresses:
            address = dns.rdtypes.IN.A.A(internet, dns.rdatatype.A, self._addresses[name])
            response.answer.append(dns.rrset.from_rdata(name, 60, address))
        return response
