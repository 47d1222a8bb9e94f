"""The small Internet of the playground: DNS, CAs, and sites that are real `outrider serve` processes.

Every site has a loopback address of its own, forward and reverse names, and - all but those that shall have
none - a certificate of the playground's public CA. Closed groups have private CAs of their own. Everything
lives in one temporary folder and ends with the `Internet` object.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outrider.identity.certificate_authority import CertificateAuthority, Issued, Kind
from outrider.playground.dns_server import DnsServer
from outrider.playground.packages import lay_down_chess
from outrider.playground.site import AMTP_PORT, MT2_PORT, PUBLIC, Site, SitePlan, Surroundings, configuration
from outrider.playground.zones import ZoneSet
from outrider.runtime.private_files import write_private

DNS_ADDRESS = "127.0.0.53"
READY_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0
_CA_DAYS = 30
_HOST_DAYS = 20
_FIRST_CHOICE, _SECOND_CHOICE = 10, 20
_QMTP_PREFERENCE = 12801  # MXPS announces the protocol by the preference alone


class Internet:
    """Made once, filled with sites, ended as a whole."""

    def __init__(self, plans: tuple[SitePlan, ...]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outrider-playground-"))
        self.zones = ZoneSet()
        self.dns = DnsServer(self.zones, DNS_ADDRESS)
        self.not_before = datetime.now(UTC) - timedelta(minutes=5)
        self.authorities = {PUBLIC: self._authority("Outrider Playground CA", "public")}
        for network in sorted({plan.takes_private for plan in plans if plan.takes_private}):
            self.authorities[network] = self._authority(f"Private CA of {network}", "private")
        self.sites = {plan.name: Site(plan, self.folder / plan.name) for plan in plans}

    def _authority(self, name: str, kind: Kind) -> CertificateAuthority:
        return CertificateAuthority.create(name, self.not_before, _CA_DAYS, kind=kind)

    @property
    def ca_file(self) -> Path:
        """The CA that every site trusts."""
        return self._around().authority()

    def issue(self, names: list[str], network: str = PUBLIC, mailboxes: Sequence[str] = ()) -> Issued:
        """A host certificate, which may also say whose host it is."""
        authority = self.authorities[network]
        return authority.issue_host(names, self.not_before, _HOST_DAYS, mailboxes=mailboxes)

    def issue_user(self, mailbox: str) -> Issued:
        """A person's certificate, for the headers and seals of MT2."""
        return self.authorities[PUBLIC].issue_user(mailbox, self.not_before, _HOST_DAYS)

    async def start(self) -> None:
        """Lay out the folder and start DNS; sites are started one by one. Raises OSError."""
        for network, authority in self.authorities.items():
            self._around().authority(network).write_bytes(authority.bundle_pem)
        lay_down_chess(self.folder)
        self.publish()
        await self.dns.start()
        for site in self.sites.values():
            self._furnish(site)

    async def start_site(self, name: str) -> None:
        """Start a site's server and wait until it is ready. Raises RuntimeError with what it said."""
        site = self.sites[name]
        before = sum(1 for _ in site.log_events("ready"))
        site.start()
        for _ in range(int(READY_LIMIT_S / 0.05)):
            if sum(1 for _ in site.log_events("ready")) > before:
                return
            if site.process is not None and site.process.poll() is not None:
                break
            await asyncio.sleep(0.05)
        said = (site.folder / "stderr").read_text(errors="replace").strip()
        raise RuntimeError(f"{site.plan.hostname} did not start: {said or 'it said nothing'}")

    async def stop(self) -> None:
        """End every process and remove everything."""
        running = [
            site.process for site in self.sites.values() if site.process and site.process.poll() is None
        ]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                await asyncio.to_thread(process.wait, STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        await self.dns.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _around(self) -> Surroundings:
        return Surroundings(self.folder, self.dns.endpoint)

    # -- DNS ---------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Forward and reverse names, MX and SRV records of everybody."""
        plans = [site.plan for site in self.sites.values()]
        services = _services(plans)
        for plan in plans:
            for domain in plan.domains if plan.published else ():
                preference = _QMTP_PREFERENCE if plan.qmtp else _FIRST_CHOICE
                self.zones.add_zone(domain, {"@": {"MX": [f"{preference} {plan.hostname}."]}})
        for (service, domain), records in services.items():
            if f"{domain}." not in self.zones.origins():
                self.zones.add_zone(domain)
            self.zones.put(f"_{service}._tcp.{domain}", "SRV", *records)
        for plan in plans:
            self._publish_host(plan)

    def _publish_host(self, plan: SitePlan) -> None:
        # The reverse name is that of the last.
        for name in (plan.hostname, plan.ptr) if plan.ptr else (plan.hostname,):
            zone = name.partition(".")[2]
            if f"{zone}." not in self.zones.origins():
                self.zones.add_zone(zone)
            self.zones.add_host(name, plan.address)
        for name in plan.amdp_hosts:
            self.zones.put(name, "A", plan.address)

    # -- files -------------------------------------------------------------------------------------

    def _furnish(self, site: Site) -> None:
        site.folder.mkdir()
        if site.plan.tls:
            lay_down(site.folder, "host", self.issue(site.plan.certified_names))
        for network in site.plan.member_of:
            lay_down(site.folder, network, self.issue([site.plan.hostname], network))
        site.config.write_text(configuration(site.plan, self._around()), "utf-8")


def _services(plans: list[SitePlan]) -> dict[tuple[str, str], list[str]]:
    """Where domains take AMTP and MT2: service and domain to the values of SRV records (RFC 2782)."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for plan in plans:
        choices = (
            ("amtp", AMTP_PORT, _FIRST_CHOICE, plan.amtp_domains),
            ("amtp", AMTP_PORT, _SECOND_CHOICE, plan.backs_up),
            ("mt2", MT2_PORT, _FIRST_CHOICE, plan.mt2_domains),
        )
        for service, port, priority, domains in choices:
            for domain in domains:
                found[service, domain].append(f"{priority} 0 {port} {plan.hostname}.")
    return dict(found)


def lay_down(folder: Path, name: str, issued: Issued) -> None:
    """Write a certificate and its key."""
    (folder / f"{name}.pem").write_bytes(issued.certificate_pem)
    write_private(folder / f"{name}.key", issued.key_pem)
