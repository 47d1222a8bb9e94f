"""Whether the link with a partner works: `outrider partner test` (ITP-8).

The parts are those that carry the mail: the configured routes, the planner, the dialler. What they find is
told step by step, each with a remedy. Nothing is queued: the test message is one transaction of our own.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from outrider.delivery.interface import ConnectFailed, Connection, Dialler, Hop, Job, RequirementUnmet
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.plan import Plan
from outrider.delivery.service_hops import ServiceSending
from outrider.delivery.service_memory import NoMemory
from outrider.delivery.surroundings import Surroundings
from outrider.dns.resolver import DnsResolver
from outrider.identity.acceptance import AcceptanceLine, HostView, acceptance
from outrider.identity.host_identity import HostSettings
from outrider.message.dates import format_date
from outrider.model.address import Address
from outrider.model.content import inline_content
from outrider.model.envelope import Envelope, Recipient
from outrider.model.message import MessageId, StoredMessage
from outrider.model.mpc import ABOUT_POLICY, Mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.net.amtp_client import AmtpConnection, AmtpDialler
from outrider.net.client_observer import SilentClientObserver
from outrider.net.client_settings import SmtpClientSettings
from outrider.net.mt2_client import Mt2Dialler
from outrider.net.mt2_observer import SilentMt2Observer
from outrider.net.mt2_opening import Mt2ClientParts
from outrider.net.smtp_client import SmtpDialler
from outrider.routing.partners import PartnerEntry
from outrider.routing.private_addresses import address_guard
from outrider.routing.ways import HostWay, MxWay
from outrider.runtime.assembly import Assembly
from outrider.runtime.ca_files import read_pem_chain
from outrider.runtime.host_view import see_host
from outrider.runtime.joining import ourselves
from outrider.runtime.lookup import DnsLookup
from outrider.runtime.mt2_parts import trial_parts

_OUTBOUND = {
    "any": "nothing is demanded of mail to it",
    "encrypt": "mail to it needs TLS",
    "verify": "mail to it needs TLS and a proven server",
    "mutual": "mail to it needs TLS and proof on both sides",
    "amtp": "mail to it goes by AMTP alone",
    "mt2": "mail to it goes by MT2 alone",
}


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """What to try."""

    entry: PartnerEntry
    recipient: Address
    """Who gets the test message."""
    sender: Address
    codes: tuple[Mpc, ...] = ()
    """The Mail Policy Codes that we send."""
    send: bool = True
    """Whether to send the message, or to stop before it."""
    mt2_at: tuple[str, int] | None = None
    """Host and port at which the partner's invitation says that it takes MT2."""


@dataclass(slots=True)
class _Ear(SilentClientObserver):
    """Hears what the dialler learns."""

    tls: str = ""
    identity: str = ""
    proven: bool = True

    def session_opened(self, remote: str, protocol: str, tls: str) -> None:
        """A server is ready."""
        self.tls = tls

    def amtp_server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """Who it is."""
        self.identity, self.proven = identity, proven


class _Mt2Ear(SilentMt2Observer):
    """The same of MT2's sessions."""

    def __init__(self, ear: _Ear) -> None:
        self._ear = ear

    def server_judged(self, remote: str, identity: str, proven: bool) -> None:
        """Who it is."""
        self._ear.identity, self._ear.proven = identity, proven


@dataclass(slots=True)
class PartnerTrial:
    """One run."""

    assembly: Assembly
    settings: TrialSettings
    resolver: DnsResolver
    _ear: _Ear = field(default_factory=_Ear)
    _smtp: SmtpDialler = field(init=False)
    _mt2: Mt2ClientParts | None = field(init=False)
    """None: we have no certificate to seal mail with."""

    def __post_init__(self) -> None:
        assembly = self.assembly
        self._smtp = SmtpDialler(SmtpClientSettings.of(assembly.config), assembly.client_tls, self._ear)
        self._mt2 = trial_parts(assembly, self._smtp.parts, _Mt2Ear(self._ear))

    async def lines(self) -> AsyncIterator[AcceptanceLine]:
        """What is found, in order; ends at the first thing without which nothing further can be tried."""
        entry = self.settings.entry
        terms = f"{_OUTBOUND[entry.outbound.channel]}; its own must come by {entry.inbound} ({entry.mode})"
        yield AcceptanceLine("terms", "ok", terms)
        plan = await self._plan(self._way_of_mail())
        if plan is None or not plan.hops:
            yield self._no_way(plan)
            async for one in self._by_mt2_as_well():
                yield one
            return
        yield self._way(plan)
        for one in await self._ours(plan.hops[0]):
            yield one
        line, connection = await self._connect(plan.hops)
        yield line
        if connection is not None:
            try:
                for one in self._denials(connection):
                    yield one
                if self.settings.send:
                    yield await self._send(connection)
            finally:
                await connection.close()
        if plan.hops[0].protocol != "mt2":
            async for one in self._by_mt2_as_well():
                yield one

    async def _by_mt2_as_well(self) -> AsyncIterator[AcceptanceLine]:
        """A session with the partner's MT2 server, where there is one and mail to it goes by another way."""
        way = self._way_of_mail()
        if self._mt2 is None or not isinstance(way, MxWay):
            return
        is_used = "mt2" in way.channel.protocols
        only = replace(way.channel, protocols=("mt2",), stays=frozenset({"mt2"}))
        plan = await self._plan(replace(way, channel=only))
        is_published = plan is not None and bool(plan.hops)
        if not is_published:
            plan = await self._plan(self._invited_way(way))
        if plan is None or not plan.hops:
            return
        line, connection = await self._connect(plan.hops)
        if connection is not None:
            await connection.close()
        result = "note" if line.result == "bad" and not is_used else line.result
        line = replace(line, subject="mt2 connection", result=result)
        yield line if is_published else self._unpublished(line)

    def _invited_way(self, way: MxWay) -> HostWay | None:
        """To the port that the invitation names, where DNS names none."""
        invited = self.settings.mt2_at
        return None if invited is None else HostWay("mt2", *invited, tls=way.tls)

    def _unpublished(self, line: AcceptanceLine) -> AcceptanceLine:
        domain = self.settings.recipient.domain
        text = f"{line.text}; tried where its invitation says, since {domain} publishes no SRV record"
        remedy = line.remedy or f"no mail goes there until the partner has published _mt2._tcp.{domain}"
        return replace(line, text=text, result="note", remedy=remedy)

    # -- the way ---------------------------------------------------------------------------------------

    def _way_of_mail(self) -> HostWay | MxWay | None:
        """None where the recipient's mail does not go to a host at all."""
        way = self.assembly.routes.find(Recipient(self.settings.recipient)).way
        return way if isinstance(way, HostWay | MxWay) else None

    async def _plan(self, way: HostWay | MxWay | None) -> Plan | None:
        """The hops of a way."""
        if way is None:
            return None
        assembly = self.assembly
        net = assembly.config.net
        around = Surroundings(
            DnsLookup(self.resolver),
            net,
            address_guard(net.private_destinations),
            ourselves(assembly),
            random.SystemRandom().random,
        )
        spoken = []
        if assembly.client_tls.own:
            spoken.append(ServiceSending("amtp", assembly.config.amtp.port, NoMemory()))
        if self._mt2 is not None:
            spoken.append(ServiceSending("mt2", assembly.config.mt2.port, NoMemory()))
        return await HopPlanner(around, spoken).plan(way, self.settings.recipient.domain, self._envelope())

    def _no_way(self, plan: Plan | None) -> AcceptanceLine:
        domain = self.settings.recipient.domain
        if plan is None or plan.result is None:
            return AcceptanceLine("way", "bad", f"mail for {domain} does not leave this host", "see [routes]")
        remedy = "have the partner see to its DNS, or give the way in [routes]"
        return AcceptanceLine("way", "bad", f"{plan.result.status} {plan.result.text}", remedy)

    def _way(self, plan: Plan) -> AcceptanceLine:
        hops = ", ".join(f"{hop.protocol}:{hop.host}:{hop.port}" for hop in plan.hops)
        if plan.passed_over:
            return AcceptanceLine("way", "note", f"{hops}; {plan.passed_over[0].text}")
        return AcceptanceLine("way", "ok", hops)

    # -- how we look -----------------------------------------------------------------------------------

    async def _ours(self, hop: Hop) -> list[AcceptanceLine]:
        """What the partner will see of us, from the address that we connect from."""
        own = self.assembly.client_tls.own
        if own is None:
            remedy = "make one with `outrider cert host`, and name it in [tls]"
            return [AcceptanceLine("our certificate", "note", "none: no mutual TLS is possible", remedy)]
        config = self.assembly.config
        local = _local_address(hop, config.net.source_address, config.net.source_address6)
        addresses = (ip_address(local),) if local else ()
        chain = read_pem_chain(Path(own.certificate))
        view: HostView = await see_host(self.resolver, config.hostname, chain, (), addresses)
        settings = HostSettings.of(config.amtp)
        found = acceptance(view, self.assembly.ca_stores, settings, config.amtp.port, time.time())
        # Whether the partner minds, the connection will show: it may believe other CAs, or see us otherwise.
        return [_softened(line) for line in found]

    # -- the link --------------------------------------------------------------------------------------

    async def _connect(self, hops: Sequence[Hop]) -> tuple[AcceptanceLine, Connection | None]:
        """A session with the first address that gives one."""
        smtp = self._smtp
        spoken: dict[str, Dialler] = {"amtp": AmtpDialler(smtp.parts)}
        if self._mt2 is not None:
            spoken["mt2"] = Mt2Dialler(self._mt2)
        failed: DeliveryResult | None = None
        for hop in hops:
            if hop.protocol == "qmtp":
                continue
            dialler = spoken.get(hop.protocol, smtp)
            for address in hop.addresses:
                try:
                    return self._connected(await dialler.connect(hop, address))
                except (ConnectFailed, RequirementUnmet) as error:
                    failed = error.result
        assert failed is not None, "every hop has an address"
        return self._not_connected(failed), None

    def _connected(self, connection: Connection) -> tuple[AcceptanceLine, Connection]:
        ear = self._ear
        text = f"{connection.description}, {ear.tls or 'in the clear'}"
        if ear.proven:
            return AcceptanceLine("connection", "ok", text), connection
        remedy = "have the partner put its domain into the certificate, or name the host in `hosts`"
        return AcceptanceLine("connection", "note", f"{text}: its name is only claimed", remedy), connection

    def _not_connected(self, result: DeliveryResult) -> AcceptanceLine:
        text = f"{result.status} {result.text}" + (f" ({result.remote})" if result.remote else "")
        if result.code == 504 or result.status in ("4.7.0", "4.7.8"):
            remedy = "the partner does not believe us: see the lines above, and the partner's own log"
        elif result.status == "4.7.5":
            remedy = "compare the entry's `hosts` and CA set with what the partner uses; invite anew"
        else:
            remedy = "see that the partner's host runs and that nothing on the way blocks the port"
        return AcceptanceLine("connection", "bad", text, remedy)

    def _denials(self, connection: Connection) -> list[AcceptanceLine]:
        if not isinstance(connection, AmtpConnection):
            return []
        denied = {code: text for code in self.settings.codes if (text := connection.denied_by(code))}
        if not denied:
            codes = ", ".join(map(str, self.settings.codes)) or "none of ours to ask about"
            return [AcceptanceLine("mail policy codes", "ok", codes)]
        remedy = "agree with the partner on what it wants; mail of this code will be returned"
        return [
            AcceptanceLine("mail policy codes", "bad", f"{code}: {text}", remedy)
            for code, text in denied.items()
        ]

    # -- the message -----------------------------------------------------------------------------------

    def _envelope(self) -> Envelope:
        # Mail about mail policy is never refused for its code: what is tried here is the link.
        return Envelope(self.settings.sender, (Recipient(self.settings.recipient),), mpc=ABOUT_POLICY)

    async def _send(self, connection: Connection) -> AcceptanceLine:
        content = inline_content(self._message())
        name = MessageId("outrider-partner-test")
        message = StoredMessage(name, time.time(), self._envelope(), b"", content, content.size, ())
        result = (await connection.send(Job(message, (0,))))[0]
        text = f"{self.settings.recipient}: {result.status} {result.text}"
        if result.kind in (Kind.DELIVERED, Kind.RELAYED):
            return AcceptanceLine("message", "ok", text)
        return AcceptanceLine("message", "bad", text, "what it says is the partner's; ask its postmaster")

    def _message(self) -> bytes:
        settings, host = self.settings, self.assembly.config.hostname
        fields = (
            f"From: <{settings.sender}>",
            f"To: <{settings.recipient}>",
            "Subject: Test of the link between our mail hosts",
            f"Date: {format_date(time.time(), 0)}",
            f"Message-ID: <{secrets.token_hex(12)}@{host}>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=us-ascii",
        )
        text = f"Sent by `outrider partner test` on {host}.\r\nThe link works; nothing is to be done.\r\n"
        return ("\r\n".join(fields) + "\r\n\r\n" + text).encode()


def try_partner(assembly: Assembly, settings: TrialSettings, tell: Callable[[AcceptanceLine], None]) -> bool:
    """Run a trial and tell each line as it comes; whether nothing was bad."""

    async def run() -> bool:
        resolver = DnsResolver(assembly.resolver)
        well = True
        try:
            async for line in PartnerTrial(assembly, settings, resolver).lines():
                well = well and line.result != "bad"
                tell(line)
        finally:
            await resolver.aclose()
        return well

    return asyncio.run(run())


def _softened(line: AcceptanceLine) -> AcceptanceLine:
    subject = f"our {line.subject}"
    return AcceptanceLine(subject, "note" if line.result == "bad" else line.result, line.text, line.remedy)


def _local_address(hop: Hop, source: str, source6: str) -> str:
    """The address that a connection to the hop would come from; "" where there is no route to it."""
    for address in hop.addresses:
        if isinstance(address, str):
            continue
        configured = source if address.version == 4 else source6
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((str(address), hop.port))  # of a datagram socket: nothing is sent
            except OSError:
                continue
            return configured or str(probe.getsockname()[0])
    return ""
