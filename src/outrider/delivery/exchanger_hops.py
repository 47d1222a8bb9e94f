"""The hosts that a domain's MX records name, for SMTP and, by MXPS, QMTP (SMTP-7, QMTP-2)."""

from __future__ import annotations

from outrider.delivery.host_addresses import addresses_of_all
from outrider.delivery.interface import Hop
from outrider.delivery.lookup import MxRecords, NoRecords, NoSuchName
from outrider.delivery.plan import Plan, hopeless, no_way, waits
from outrider.delivery.surroundings import Surroundings
from outrider.routing.channels import Channel, wants_proof
from outrider.routing.mail_exchangers import Exchanger, NoWay, Target, null_mx, rank, targets
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import MxWay


class ExchangerPlanner:
    """Asks for MX and addresses."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def plan(self, way: MxWay, domain: str) -> Plan:
        """The hops. Raises LookupFailed's kinds, except where the absence of MX has a meaning."""
        try:
            records = await self._around.lookup.mx(domain)
        except NoRecords:
            records = MxRecords((Exchanger(0, domain),))  # RFC 5321 5.1: the implicit MX
        except NoSuchName:
            return hopeless("5.1.2", f"the domain {domain} does not exist")
        if records.null_mx:
            return no_way(null_mx(domain))
        ranked = rank(domain, records.exchangers, self._around.ourselves, self._around.chance)
        if isinstance(ranked, NoWay):
            return no_way(ranked)
        return await self._addressed(way, domain, records, ranked)

    async def _addressed(
        self, way: MxWay, domain: str, records: MxRecords, ranked: tuple[Exchanger, ...]
    ) -> Plan:
        around = self._around
        hosts = tuple(dict.fromkeys(one.host for one in ranked))
        known = await addresses_of_all(around.lookup, hosts)
        found = targets(
            domain,
            ranked,
            {host: answer.addresses for host, answer in known.items()},
            around.ourselves,
            around.guard,
            around.chance,
            ipv6=around.net.ipv6,
        )
        if isinstance(found, NoWay):
            silent = next((one.silent for one in known.values() if one.silent), "")
            if silent and found.status != "5.4.6":
                text = f"no mail exchanger of {domain} can be looked up now: {silent}"
                return waits("4.4.3", text, unreachable=True)
            return no_way(found)
        secure = {host: records.secure and answer.secure for host, answer in known.items()}
        hops = [self._hop(target, way.tls, secure=secure[target.host]) for target in found]
        return _fitting(domain, way, hops)

    def _hop(self, target: Target, tls: TlsRequirement, *, secure: bool) -> Hop:
        net = self._around.net
        port = net.qmtp_port if target.protocol == "qmtp" else net.smtp_port
        return Hop(target.protocol, target.host, target.addresses, port, tls, secure=secure)


def _fitting(domain: str, way: MxWay, hops: list[Hop]) -> Plan:
    """Those that can meet what is demanded; a partner's proof counts only for a partner's host, since who
    forges the MX has a good certificate for his own."""
    if not way.tls.required:
        return Plan(tuple(hops))
    fitting = [hop for hop in hops if hop.protocol != "qmtp"]
    if _hosts_are_named(way.channel) and wants_proof(way.tls):
        fitting = [hop for hop in fitting if way.channel.hosts.covers(hop.host.lower())]
        if not fitting:
            text = f"no mail exchanger of {domain} is a host of partner {way.channel.partner} (its `hosts`)"
            return waits("4.7.5", text)
    return Plan(tuple(fitting))


def _hosts_are_named(channel: Channel) -> bool:
    return bool(channel.partner and channel.hosts)
