"""From a way to the hosts to try, in order (SMTP-7, ITP-7): the one place where delivery asks DNS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from outrider.config.schema import SendingProtocol
from outrider.delivery.amtp_hops import AmtpPlanner, AmtpSending, NotSpoken
from outrider.delivery.exchanger_hops import ExchangerPlanner
from outrider.delivery.interface import AmtpTerms, Hop
from outrider.delivery.lookup import LookupFailed, LookupTemporary
from outrider.delivery.plan import PassedOver, Plan, hopeless, waits
from outrider.delivery.surroundings import Surroundings
from outrider.model.envelope import Arrival, Envelope
from outrider.routing.mail_exchangers import MAX_ADDRESSES, IPAddress, interleave
from outrider.routing.ways import HostWay, MxWay, is_private

NO_CODE = (
    "it goes by amtp only ({why}), and the message has no Mail Policy Code: bind its account or sender "
    "to one in [mpc] accounts, or assign one in [mpc] assigned, and send it again"
)
"""The remedy is the operator's: what a message is was never written on it, and is not invented (AMTP-11)."""


class HopPlanner:
    """Makes plans; holds what they depend on, exchanged as a whole by a reload."""

    def __init__(self, around: Surroundings, amtp: AmtpSending | None = None) -> None:
        """`amtp` is None where nothing can be sent by AMTP, for want of a certificate of our own."""
        self._around = around
        self._exchangers = ExchangerPlanner(around)
        self._amtp = AmtpPlanner(around, amtp) if amtp is not None else None

    async def plan(self, way: HostWay | MxWay, domain: str, envelope: Envelope) -> Plan:
        """The hops for a message to `domain` by that way. Never raises for reasons of DNS."""
        if envelope.arrival is Arrival.AMTP_PUBLIC and not is_private(way):
            # AMTP-18 once more: it was so at RCPT, and routes have changed since.
            text = "came over a public amtp connection and may not leave over another public one"
            return waits("4.7.1", f"mail for {domain} {text}; it needs a route to a named host")
        if isinstance(way, HostWay):
            return await self._host(way, domain, envelope)
        return await self._by_domain(way, domain, envelope)

    async def follow(self, way: MxWay, domain: str, protocols: Sequence[SendingProtocol]) -> Plan:
        """What the first of these protocols that the domain publishes servers for leads to."""
        passed: tuple[PassedOver, ...] = ()
        for place, protocol in enumerate(protocols):
            rest = tuple(protocols[place + 1 :])
            found = await self._leg(protocol, way, domain)
            if not isinstance(found, NotSpoken):
                then = rest if way.channel.falls_back else ()
                return replace(found, then=then, passed_over=passed, protocol=protocol)
            if found.why == "dns" and rest:
                passed = (*passed, PassedOver(protocol, rest[0], "dns", found.text))
        return waits("4.4.4", f"no protocol that may be used leads to {domain}")

    async def _by_domain(self, way: MxWay, domain: str, envelope: Envelope) -> Plan:
        protocols = way.channel.protocols
        if "amtp" in protocols and (self._amtp is None or envelope.mpc is None):
            if way.channel.amtp_only:
                return self._cannot_speak(f"mail for {domain}", way.channel.demanded_by, envelope)
            protocols = tuple(one for one in protocols if one != "amtp")
        return await self.follow(way, domain, protocols)

    def _cannot_speak(self, what: str, why: str, envelope: Envelope) -> Plan:
        if envelope.mpc is None:
            return hopeless("5.7.1", f"{what}: {NO_CODE.format(why=why)}")
        text = f"{what}: amtp is demanded ({why}), and [tls] has no certificate to speak it with"
        return waits("4.3.5", text)

    async def _leg(self, protocol: SendingProtocol, way: MxWay, domain: str) -> Plan | NotSpoken:
        if protocol == "amtp" and self._amtp is not None:
            return await self._amtp.plan(way, domain)
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
        if way.protocol == "amtp" and (self._amtp is None or envelope.mpc is None):
            return self._cannot_speak(f"mail for {domain}", f"the route {way}", envelope)
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
    terms = AmtpTerms("", named=True, must_prove=True) if way.protocol == "amtp" else None
    return Hop(
        way.protocol, host, addresses, way.port, way.tls, way.username, way.password_file, secure, terms
    )
