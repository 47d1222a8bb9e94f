"""The hosts that a domain's SRV records name for AMTP or MT2, or the knowledge that there are none (AMTP-7,
MT2-27).

No SRV record, or the target ".", says that the domain does not speak the protocol, and its port is not tried.
That DNS is silent says nothing: mail waits where the protocol was spoken not long ago, and else goes on by
the next one, which is told as a fallback; where there is no next one, it waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from outrider.delivery.host_addresses import Found, addresses_of_all
from outrider.delivery.interface import Hop, ServerTerms
from outrider.delivery.lookup import LookupFailed, LookupTemporary, ServiceProtocol, ServiceRecords
from outrider.delivery.plan import Plan, no_way, waits
from outrider.delivery.service_memory import ServiceMemory
from outrider.delivery.surroundings import Surroundings
from outrider.routing.channels import wants_proof
from outrider.routing.mail_exchangers import IPAddress, NoWay, reachable
from outrider.routing.services import Service, candidates, loops_back
from outrider.routing.ways import MxWay


@dataclass(frozen=True, slots=True)
class ServiceSending:
    """What sending by AMTP or MT2 needs; without a certificate of our own there is none (AMTP-1, MT2-10a)."""

    protocol: ServiceProtocol
    port: int
    """[amtp] or [mt2] port."""
    memory: ServiceMemory


@dataclass(frozen=True, slots=True)
class NotSpoken:
    """The domain does not speak the protocol, as far as can be known."""

    why: Literal["absent", "dns"]
    text: str


class ServicePlanner:
    """Asks for SRV and addresses, for one protocol."""

    def __init__(self, around: Surroundings, sending: ServiceSending) -> None:
        self._around = around
        self._sending = sending

    async def plan(self, way: MxWay, domain: str) -> Plan | NotSpoken:
        """The hops. Never raises for reasons of DNS."""
        protocol = self._sending.protocol
        try:
            records = await self._around.lookup.services(protocol, domain)
        except LookupTemporary as error:
            return await self._in_silence(domain, error.reason)
        except LookupFailed:
            records = ServiceRecords(())
        if not records.services:
            return NotSpoken("absent", f"{domain} publishes no SRV record for {protocol}")
        self._sending.memory.saw(domain)
        around = self._around
        chosen = candidates(
            domain,
            records.services,
            around.ourselves,
            around.chance,
            protocol=protocol,
            own_port=self._sending.port,
        )
        if isinstance(chosen, NoWay):
            return _unusable(chosen)
        return await self._addressed(way, domain, records, chosen)

    async def _in_silence(self, domain: str, reason: str) -> Plan | NotSpoken:
        text = f"DNS does not say now whether {domain} speaks {self._sending.protocol}: {reason}"
        if await self._sending.memory.knows(domain):
            return waits("4.4.3", f"{text}; it did not long ago, so the mail waits", unreachable=True)
        return NotSpoken("dns", text)

    async def _addressed(
        self, way: MxWay, domain: str, records: ServiceRecords, chosen: tuple[Service, ...]
    ) -> Plan:
        around = self._around
        known = await addresses_of_all(around.lookup, tuple(dict.fromkeys(one.target for one in chosen)))
        found = reachable(
            [(one.priority, one.target) for one in chosen],
            {host: answer.addresses for host, answer in known.items()},
            around.ourselves,
            around.guard,
            around.chance,
            ipv6=around.net.ipv6,
        )
        if found.loops:
            return no_way(loops_back(domain))
        if not found.places:
            return self._unaddressed(domain, known, found.refused)
        best = min(one.priority for one in records.services)
        return Plan(
            tuple(
                self._hop(way, domain, records, chosen[place], addresses, best)
                for place, addresses in found.places
            )
        )

    def _hop(
        self,
        way: MxWay,
        domain: str,
        records: ServiceRecords,
        service: Service,
        addresses: tuple[IPAddress, ...],
        best: int,
    ) -> Hop:
        protocol = self._sending.protocol
        terms = ServerTerms(
            domain,
            srv_secure=records.secure,
            named=way.channel.hosts.covers(service.target),
            must_prove=way.channel.protocols == (protocol,) or wants_proof(way.tls),
            backup=protocol == "amtp" and service.priority > best,
        )
        return Hop(protocol, service.target, addresses, service.port, way.tls, terms=terms)

    def _unaddressed(self, domain: str, known: dict[str, Found], refused: str) -> Plan:
        protocol = self._sending.protocol
        silent = next((one.silent for one in known.values() if one.silent), "")
        if silent:
            text = f"no {protocol} server of {domain} can be looked up now: {silent}"
            return waits("4.4.3", text, unreachable=True)
        text = refused or f"no {protocol} server of {domain} has a usable address"
        return waits("4.4.4", text, unreachable=True)


def _unusable(answer: NoWay) -> Plan:
    """A loop is for good; anything else may be mended by whoever runs the domain's DNS."""
    return no_way(answer) if answer.status[0] == "5" else waits(answer.status, answer.text, unreachable=True)
