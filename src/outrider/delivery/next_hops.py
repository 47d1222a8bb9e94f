"""From a way to the hosts to try, in order (SMTP-7, ITP-7): the one place where delivery asks DNS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from outrider.config.schema import Net
from outrider.delivery.interface import Hop
from outrider.delivery.lookup import (
    LookupFailed,
    LookupTemporary,
    MailLookup,
    MxRecords,
    NoRecords,
    NoSuchName,
)
from outrider.delivery.results import deferred, failed
from outrider.model.result import DeliveryResult
from outrider.routing.mail_exchangers import (
    MAX_ADDRESSES,
    Chance,
    Exchanger,
    NoWay,
    Ourselves,
    Target,
    interleave,
    null_mx,
    rank,
    targets,
)
from outrider.routing.private_addresses import AddressGuard
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import HostWay, MxWay

IPAddress = IPv4Address | IPv6Address
_Addresses = tuple[tuple[IPAddress, ...], bool, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The hops to try in order, or, when there are none, what is to be recorded."""

    hops: tuple[Hop, ...]
    result: DeliveryResult | None = None
    unreachable: bool = False
    """The look-up failed for now: counts against the way as a whole, like a host that does not answer."""


class HopPlanner:
    """Makes plans; holds what they depend on, exchanged as a whole by a reload."""

    def __init__(
        self, lookup: MailLookup, net: Net, guard: AddressGuard, ourselves: Ourselves, chance: Chance
    ) -> None:
        self._lookup = lookup
        self._net = net
        self._guard = guard
        self._ourselves = ourselves
        self._chance = chance

    async def plan(self, way: HostWay | MxWay, domain: str) -> Plan:
        """The hops for mail to `domain` by that way. Never raises for reasons of DNS."""
        try:
            if isinstance(way, HostWay):
                return await self._host(way)
            return await self._exchangers(domain, way.tls)
        except LookupTemporary as error:
            text = f"DNS does not answer for {domain} now: {error.reason}"
            return Plan((), deferred("4.4.3", text), unreachable=True)
        except LookupFailed as error:
            return Plan((), failed("5.4.4", f"no way to {domain}: {error.reason}"))

    async def _host(self, way: HostWay) -> Plan:
        if way.protocol == "qmtp" and way.tls.required:
            return Plan((), deferred("4.7.4", f"qmtp cannot meet tls = {way.tls.level!r}, which is demanded"))
        if way.socket_path:
            return Plan((_host_hop(way, (way.socket_path,)),))
        if way.address is not None:
            return self._literal(way, way.address)
        try:
            found = await self._lookup.addresses(way.host)
        except LookupTemporary:
            raise
        except LookupFailed as error:
            # A host of ours that does not exist is the operator's mistake: no mail is lost over it (SMTP-6).
            return Plan((), deferred("4.3.5", f"the configured host {way.host}: {error.reason}"))
        # The operator named this host, so it may be private; an address that is no host's never is one.
        usable = [one for one in found.addresses if not one.is_unspecified and not one.is_multicast]
        addresses = interleave(usable, self._chance, ipv6=self._net.ipv6)[:MAX_ADDRESSES]
        if not addresses:
            return Plan((), deferred("4.3.5", f"the configured host {way.host} has no usable address"))
        return Plan((_host_hop(way, addresses, secure=found.secure),))

    def _literal(self, way: HostWay, address: IPAddress) -> Plan:
        if not way.chosen_by_operator:
            refusal = self._guard.refusal(address)
            if refusal:
                return Plan((), failed("5.4.4", f"[{address}] {refusal}"))
            if address in self._ourselves.addresses:
                return Plan((), failed("5.4.6", f"mail for [{address}] loops back to this host"))
        return Plan((_host_hop(way, (address,)),))

    async def _exchangers(self, domain: str, tls: TlsRequirement) -> Plan:
        try:
            records = await self._lookup.mx(domain)
        except NoRecords:
            records = MxRecords((Exchanger(0, domain),))  # RFC 5321 5.1: the implicit MX
        except NoSuchName:
            return Plan((), failed("5.1.2", f"the domain {domain} does not exist"))
        if records.null_mx:
            return _no_way(null_mx(domain))
        ranked = rank(domain, records.exchangers, self._ourselves, self._chance)
        if isinstance(ranked, NoWay):
            return _no_way(ranked)
        return await self._addressed(domain, tls, records, ranked)

    async def _addressed(
        self, domain: str, tls: TlsRequirement, records: MxRecords, ranked: tuple[Exchanger, ...]
    ) -> Plan:
        hosts = tuple(dict.fromkeys(one.host for one in ranked))
        answers = await self._addresses_of_all(hosts)
        known = dict(zip(hosts, answers, strict=True))
        found = targets(
            domain,
            ranked,
            {host: answer for host, (answer, _, _) in known.items()},
            self._ourselves,
            self._guard,
            self._chance,
            ipv6=self._net.ipv6,
        )
        if isinstance(found, NoWay):
            silent = next((why for _, _, why in answers if why), "")
            if silent and found.status != "5.4.6":
                text = f"no mail exchanger of {domain} can be looked up now: {silent}"
                return Plan((), deferred("4.4.3", text), unreachable=True)
            return _no_way(found)
        secure = {host: records.secure and answer[1] for host, answer in known.items()}
        hops = (self._hop(target, tls, secure=secure[target.host]) for target in found)
        return Plan(tuple(hop for hop in hops if not (tls.required and hop.protocol == "qmtp")))

    async def _addresses_of_all(self, hosts: tuple[str, ...]) -> list[_Addresses]:
        if len(hosts) == 1:  # the usual case needs no tasks
            return [await self._addresses_of(hosts[0])]
        return list(await asyncio.gather(*(self._addresses_of(host) for host in hosts)))

    async def _addresses_of(self, host: str) -> _Addresses:
        """Addresses, whether DNSSEC vouches for them, and why there is no knowing (a temporary failure)."""
        try:
            answer = await self._lookup.addresses(host)
        except LookupTemporary as error:
            return (), False, f"{host}: {error.reason}"
        except LookupFailed:
            return (), False, ""
        return tuple(answer.addresses), answer.secure, ""

    def _hop(self, target: Target, tls: TlsRequirement, *, secure: bool) -> Hop:
        port = self._net.qmtp_port if target.protocol == "qmtp" else self._net.smtp_port
        return Hop(target.protocol, target.host, target.addresses, port, tls, secure=secure)


def _host_hop(way: HostWay, addresses: tuple[IPAddress | str, ...], *, secure: bool = False) -> Hop:
    host = way.host or "localhost"
    return Hop(way.protocol, host, addresses, way.port, way.tls, way.username, way.password_file, secure)


def _no_way(no_way: NoWay) -> Plan:
    return Plan((), failed(no_way.status, no_way.text))
