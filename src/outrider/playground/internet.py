"""The small Internet of the playground: DNS, a CA, and sites that are real `outrider serve` processes.

Every site has a loopback address of its own, forward and reverse names, and - all but one - a certificate
of the playground's CA. Everything lives in one temporary folder and ends with the `Internet` object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outrider.identity.certificate_authority import CertificateAuthority
from outrider.playground.dns_server import DnsServer
from outrider.playground.zones import ZoneSet
from outrider.runtime.private_files import write_private

SMTP_PORT = 2525
SUBMISSION_PORT = 2587
QMTP_PORT = 2209
DNS_ADDRESS = "127.0.0.53"
READY_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class SitePlan:
    """One site as it is to be: its name, its address, what it serves."""

    name: str
    address: str
    domains: dict[str, str]
    """Domain to the TOML of its table (users and the like), delivered to Maildir."""
    tls: bool = True
    submission: bool = False
    qmtp: bool = False
    extra: str = ""
    """More TOML."""

    @property
    def hostname(self) -> str:
        """The host's name."""
        return f"mx.{self.name}.example"


@dataclass(slots=True)
class Site:
    """A site with its folder and its process."""

    plan: SitePlan
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "outrider.toml"

    def start(self) -> None:
        """Start its server; `Internet.start_site` also waits for it."""
        command = [sys.executable, "-m", "outrider.cli.main", "serve", "--config", os.fspath(self.config)]
        with (self.folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)

    def mailbox(self, user: str, domain: str) -> list[Path]:
        """What has arrived for a user."""
        new = self.folder / "mail" / domain / user / "new"
        return sorted(new.iterdir(), key=lambda path: path.stat().st_mtime_ns) if new.is_dir() else []

    def ask(self, *words: str) -> list[dict[str, Any]]:
        """Run one of the site's own commands with ``--json``; no rows when it is refused."""
        command = [
            sys.executable,
            "-m",
            "outrider.cli.main",
            *words,
            "--json",
            "--config",
            os.fspath(self.config),
        ]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []

    def log_events(self) -> Iterator[dict[str, Any]]:
        """Its log so far."""
        path = self.folder / "log"
        for line in path.read_text("utf-8").split("\n") if path.exists() else ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


class Internet:
    """Made once, filled with sites, ended as a whole."""

    def __init__(self, plans: tuple[SitePlan, ...]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outrider-playground-"))
        self.zones = ZoneSet()
        self.dns = DnsServer(self.zones, DNS_ADDRESS)
        now = datetime.now(UTC) - timedelta(minutes=5)
        self.authority = CertificateAuthority.create("Outrider Playground CA", now, days=30)
        self._not_before = now
        self.sites = {plan.name: Site(plan, self.folder / plan.name) for plan in plans}

    @property
    def ca_file(self) -> Path:
        """The CA that every site trusts."""
        return self.folder / "ca.pem"

    async def start(self) -> None:
        """Lay out the folder and start DNS; sites are started one by one. Raises OSError."""
        self.ca_file.write_bytes(self.authority.bundle_pem)
        for site in self.sites.values():
            self._publish(site.plan)
        await self.dns.start()
        for site in self.sites.values():
            self._furnish(site)

    async def start_site(self, name: str) -> None:
        """Start a site's server and wait until it is ready. Raises RuntimeError with what it said."""
        site = self.sites[name]
        before = sum(event.get("event") == "ready" for event in site.log_events())
        site.start()
        for _ in range(int(READY_LIMIT_S / 0.05)):
            if sum(event.get("event") == "ready" for event in site.log_events()) > before:
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
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        await self.dns.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self, plan: SitePlan) -> None:
        """Forward, reverse and MX records."""
        for domain in plan.domains:
            # The QMTP site announces its protocol by the preference alone (MXPS).
            preference = 12801 if plan.qmtp else 10
            self.zones.add_zone(domain, {"@": {"MX": [f"{preference} {plan.hostname}."]}})
        if f"{plan.name}.example" not in plan.domains:
            self.zones.add_zone(f"{plan.name}.example", {})
        self.zones.add_host(plan.hostname, plan.address)

    def _furnish(self, site: Site) -> None:
        site.folder.mkdir()
        if site.plan.tls:
            issued = self.authority.issue_host([site.plan.hostname], self._not_before, days=20)
            (site.folder / "host.pem").write_bytes(issued.certificate_pem)
            write_private(site.folder / "host.key", issued.key_pem)
        site.config.write_text(self._config(site.plan), "utf-8")

    def _config(self, plan: SitePlan) -> str:
        parts = [
            f'hostname = "{plan.hostname}"\ndata_dir = "data"\n',
            _listener("smtp", plan.address, SMTP_PORT),
            _listener("submission", plan.address, SUBMISSION_PORT) if plan.submission else "",
            _listener("qmtp", plan.address, QMTP_PORT) if plan.qmtp else "",
            '[log]\nfile = "log"\n',
            f'[dns]\nservers = ["{self.dns.endpoint}"]\n',
            self._tls(plan),
            f'[net]\nprivate_destinations = ["127.0.0.0/8"]\nsource_address = "{plan.address}"\n'
            f"smtp_port = {SMTP_PORT}\nqmtp_port = {QMTP_PORT}\n",
            "[delivery]\nretry = [1, 1, 2]\njitter = 0.1\n",
            *(self._domain(plan, domain, table) for domain, table in plan.domains.items()),
            plan.extra,
        ]
        return "\n".join(part for part in parts if part)

    def _domain(self, plan: SitePlan, domain: str, table: str) -> str:
        mailboxes = f"{self.folder}/{plan.name}/mail/{{domain}}/{{user}}"
        return f'[domains."{domain}"]\ndeliver = "maildir:{mailboxes}"\n{table}\n'

    def _tls(self, plan: SitePlan) -> str:
        trust = f'public_ca = ["{self.ca_file}"]\n'
        return (
            f'[tls]\n{trust}certificate = "host.pem"\nkey = "host.key"\n' if plan.tls else f"[tls]\n{trust}"
        )


def _listener(protocol: str, address: str, port: int) -> str:
    return f'[[listeners]]\nprotocol = "{protocol}"\naddress = "{address}"\nport = {port}\n'
