"""From a way to the hosts to try, in order (SMTP-7, ITP-7): the one place where delivery asks DNS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from outrider.config.schema import SendingProtocol
from outrider.delivery.exchanger_hops import ExchangerPlanner
from outrider.delivery.interface import Hop, ServerTerms
from outrider.delivery.lookup import LookupFailed, LookupTemporary
from outrider.delivery.plan import PassedOver, Plan, hopeless, waits
from outrider.delivery.service_hops import NotSpoken, ServicePlanner, ServiceSending
from outrider.delivery.surroundings import Surroundings
from outrider.model.envelope import Arrival, Envelope
from outrider.routing.channels import Channel
from outrider.routing.mail_exchangers import MAX_ADDRESSES, IPAddress, interleave
from outrider.routing.ways import HostWay, MxWay, is_private

NO_CODE = (
    "it goes by amtp only ({why}), and the message has no Mail Policy Code: bind its account or sender "
    "to one in [mpc] accounts, or assign one in [mpc] assigned, and send it again"
)
"""The remedy is the operator's: what a message is was never written on it, and is not invented (AMTP-11)."""


class HopPlanner:
    """Makes plans; holds what they depend on, exchanged as a whole by a reload."""

    def __init__(self, around: Surroundings, services: Iterable[ServiceSending] = ()) -> None:
        """`services` are the protocols found by SRV that can be spoken: none without a certificate of our
        own."""
        self._around = around
        self._exchangers = ExchangerPlanner(around)
        self._services = {one.protocol: ServicePlanner(around, one) for one in services}

    async def plan(self, way: HostWay | MxWay, domain: str, envelope: Envelope, only_mt2: str = "") -> Plan:
        """The hops for a message to `domain` by that way. Never raises for reasons of DNS.

        `only_mt2` says why the message may go by no other protocol; "" where it may.
        """
        if envelope.arrival is Arrival.AMTP_PUBLIC and not is_private(way):
            # AMTP-18 once more: it was so at RCPT, and routes have changed since.
            text = "came over a public amtp connection and may not leave over another public one"
            return waits("4.7.1", f"mail for {domain} {text}; it needs a route to a named host")
        if isinstance(way, HostWay):
            if only_mt2 and way.protocol != "mt2":
                return hopeless("5.6.3", f"{only_mt2}; the way to {domain} is {way}")
            return await self._host(way, domain, envelope)
        if only_mt2:
            return await self._by_mt2(way, domain, only_mt2)
        return await self._by_domain(way, domain, envelope)

    async def follow(self, way: MxWay, domain: str, protocols: Sequence[SendingProtocol]) -> Plan:
        """What the first of these protocols that the domain publishes servers for leads to."""
        passed: tuple[PassedOver, ...] = ()
        for place, protocol in enumerate(protocols):
            rest = tuple(protocols[place + 1 :])
            found = await self._leg(protocol, way, domain)
            if not isinstance(found, NotSpoken):
                then = () if protocol in way.channel.stays else rest
                return replace(found, then=then, passed_over=passed, protocol=protocol)
            if not rest:
                return _demanded_in_vain(way.channel, found)
            if found.why == "dns":
                passed = (*passed, PassedOver(protocol, rest[0], "dns", found.text))
        return waits("4.4.4", f"no protocol that may be used leads to {domain}")

    async def _by_domain(self, way: MxWay, domain: str, envelope: Envelope) -> Plan:
        cannot = [one for one in way.channel.protocols if self._cannot_carry(one, envelope)]
        channel = way.channel.without(cannot)
        if envelope.link_token and "smtp" in channel.protocols and not channel.stays:
            # AMDP-4a: envelopes go by SMTP, which alone has a keyword for them; unless less than another
            # protocol is not wanted here at all, and the link has to do.
            channel = channel.without([one for one in channel.protocols if one != "smtp"])
        if not channel.protocols:
            return self._cannot_speak(f"mail for {domain}", cannot, way.channel.demanded_by, envelope)
        return await self.follow(way, domain, channel.protocols)

    async def _by_mt2(self, way: MxWay, domain: str, why: str) -> Plan:
        if "mt2" not in way.channel.protocols or "mt2" not in self._services:
            return hopeless("5.6.3", f"{why}; mail for {domain} does not go by it")
        found = await self._services["mt2"].plan(way, domain)
        if not isinstance(found, NotSpoken):
            return replace(found, protocol="mt2")
        if found.why == "absent":
            return hopeless("5.6.3", f"{why}; {found.text}")
        return waits("4.4.3", f"{found.text}; {why}", unreachable=True)

    def _cannot_carry(self, protocol: str, envelope: Envelope) -> bool:
        """Whether this message cannot go by the protocol, whoever is at the other end."""
        if protocol not in ("amtp", "mt2"):
            return False
        return protocol not in self._services or (protocol == "amtp" and envelope.mpc is None)

    def _cannot_speak(self, what: str, protocols: Sequence[str], why: str, envelope: Envelope) -> Plan:
        """A certificate may come yet; a code that nobody gave the message does not."""
        if list(protocols) == ["amtp"] and envelope.mpc is None:
            return hopeless("5.7.1", f"{what}: {NO_CODE.format(why=why)}")
        names = " or ".join(protocols)
        text = f"{what}: {names} is demanded ({why}), and there is no certificate to speak it with"
        return waits("4.3.5", f"{text} ([tls], [mt2])")

    async def _leg(self, protocol: SendingProtocol, way: MxWay, domain: str) -> Plan | NotSpoken:
        if protocol != "smtp" and protocol in self._services:
            return await self._services[protocol].plan(way, domain)
        try:
            return await self._exchangers.plan(way, domain)
        except LookupTemporary as error:
            return waits("4.4.3", f"DNS does not answer for {domain} now: {error.reason}", unreachable=True)
        except LookupFailed as error:
            return hopeless("5.4.4", f"no way to {domain}: {error.reason}")

    # --- named hosts --------------------------------------------------------------------------------

    async def _host(self, way: HostWay, domain: str, envelope: Envelope) -> Plan:
        if way.protocol == "qmtp" and way.tls.required:
            return waits("4.7.4", f"qmtp cannot meet tls = {way.tls.level!r}, which is demanded")
        if self._cannot_carry(way.protocol, envelope):
            return self._cannot_speak(f"mail for {domain}", (way.protocol,), f"the route {way}", envelope)
        if way.socket_path:
            return Plan((_host_hop(way, (way.socket_path,)),))
        if way.address is not None:
            return self._literal(way, way.address)
        return await self._named(way)

    async def _named(self, way: HostWay) -> Plan:
        try:
            found = await self._around.lookup.addresses(way.host)
        except LookupTemporary as error:
            return waits("4.4.3", f"DNS does not answer for {way.host} now: {error.reason}", unreachable=True)
        except LookupFailed as error:
            # A host of ours that does not exist is the operator's mistake: no mail is lost over it (SMTP-6).
            return waits("4.3.5", f"the configured host {way.host}: {error.reason}")
        # The operator named this host, so it may be private; an address that is no host's never is one.
        usable = [one for one in found.addresses if not one.is_unspecified and not one.is_multicast]
        addresses = interleave(usable, self._around.chance, ipv6=self._around.net.ipv6)[:MAX_ADDRESSES]
        if not addresses:
            return waits("4.3.5", f"the configured host {way.host} has no usable address")
        return Plan((_host_hop(way, addresses, secure=found.secure),))

    def _literal(self, way: HostWay, address: IPAddress) -> Plan:
        if not way.chosen_by_operator:
            refusal = self._around.guard.refusal(address)
            if refusal:
                return hopeless("5.4.4", f"[{address}] {refusal}")
            if address in self._around.ourselves.addresses:
                return hopeless("5.4.6", f"mail for [{address}] loops back to this host")
        return Plan((_host_hop(way, (address,)),))


def _host_hop(way: HostWay, addresses: tuple[IPAddress | str, ...], *, secure: bool = False) -> Hop:
    host = way.host or "localhost"
    proves = way.protocol in ("amtp", "mt2")
    terms = ServerTerms("", named=True, must_prove=True) if proves else None
    return Hop(
        way.protocol, host, addresses, way.port, way.tls, way.username, way.password_file, secure, terms
    )


def _demanded_in_vain(channel: Channel, found: NotSpoken) -> Plan:
    """The last protocol that may be used is not spoken there: the mail waits."""
    text = f"{found.text}; {channel.demanded_by} demands it"
    if found.why == "dns":
        return waits("4.4.3", text, unreachable=True)
    return waits("4.4.4", text)
