"""The hosts that a domain's SRV records name for AMTP, or the knowledge that there are none (AMTP-7).

No SRV record, or the target ".", says that the domain does not speak AMTP, and the AMTP port is not tried.
That DNS is silent says nothing: mail waits where AMTP is required or was spoken not long ago, and else goes
on by the next protocol, which is told as a fallback.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from outrider.delivery.amtp_memory import AmtpMemory
from outrider.delivery.host_addresses import Found, addresses_of_all
from outrider.delivery.interface import AmtpTerms, Hop
from outrider.delivery.lookup import LookupFailed, LookupTemporary, ServiceRecords
from outrider.delivery.plan import Plan, no_way, waits
from outrider.delivery.surroundings import Surroundings
from outrider.routing.channels import Channel, wants_proof
from outrider.routing.mail_exchangers import NoWay, reachable
from outrider.routing.services import Service, candidates, loops_back
from outrider.routing.ways import MxWay


@dataclass(frozen=True, slots=True)
class AmtpSending:
    """What sending by AMTP needs; without a certificate of our own there is none (AMTP-1)."""

    port: int
    """[amtp] port."""
    memory: AmtpMemory


@dataclass(frozen=True, slots=True)
class NotSpoken:
    """The domain does not speak AMTP, as far as can be known."""

    why: Literal["absent", "dns"]
    text: str


class AmtpPlanner:
    """Asks for SRV and addresses."""

    def __init__(self, around: Surroundings, sending: AmtpSending) -> None:
        self._around = around
        self._sending = sending

    async def plan(self, way: MxWay, domain: str) -> Plan | NotSpoken:
        """The hops. Never raises for reasons of DNS."""
        try:
            records = await self._around.lookup.services(domain)
        except LookupTemporary as error:
            return await self._in_silence(way.channel, domain, error.reason)
        except LookupFailed:
            records = ServiceRecords(())
        if not records.services:
            return _absent(way.channel, domain)
        self._sending.memory.saw(domain)
        around = self._around
        chosen = candidates(
            domain, records.services, around.ourselves, around.chance, own_port=self._sending.port
        )
        if isinstance(chosen, NoWay):
            return _unusable(chosen)
        return await self._addressed(way, domain, records, chosen)

    async def _in_silence(self, channel: Channel, domain: str, reason: str) -> Plan | NotSpoken:
        text = f"DNS does not say now whether {domain} speaks amtp: {reason}"
        if channel.amtp_only:
            return waits("4.4.3", f"{text}; {channel.demanded_by} demands it", unreachable=True)
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
            return _unaddressed(domain, known, found.refused)
        best = min(one.priority for one in records.services)
        hops = []
        for place, addresses in found.places:
            service = chosen[place]
            terms = AmtpTerms(
                domain,
                srv_secure=records.secure,
                named=way.channel.hosts.covers(service.target),
                must_prove=way.channel.amtp_only or wants_proof(way.tls),
                backup=service.priority > best,
            )
            hops.append(Hop("amtp", service.target, addresses, service.port, way.tls, amtp=terms))
        return Plan(tuple(hops))


def _absent(channel: Channel, domain: str) -> Plan | NotSpoken:
    text = f"{domain} publishes no SRV record for amtp"
    if channel.amtp_only:
        return waits("4.4.4", f"{text}, and {channel.demanded_by} demands it")
    return NotSpoken("absent", text)


def _unusable(answer: NoWay) -> Plan:
    """A loop is for good; anything else may be mended by whoever runs the domain's DNS."""
    return no_way(answer) if answer.status[0] == "5" else waits(answer.status, answer.text, unreachable=True)


def _unaddressed(domain: str, known: dict[str, Found], refused: str) -> Plan:
    silent = next((one.silent for one in known.values() if one.silent), "")
    if silent:
        text = f"no amtp server of {domain} can be looked up now: {silent}"
        return waits("4.4.3", text, unreachable=True)
    text = refused or f"no amtp server of {domain} has a usable address"
    return waits("4.4.4", text, unreachable=True)
