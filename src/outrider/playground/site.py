"""One site of the small Internet: what it is to be, its configuration, and its process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outrider.config.loader import load
from outrider.extension_state.choices import open_extension_store
from outrider.extension_state.store import ExtensionStore
from outrider.holding.facility.held_records import HeldCopy
from outrider.holding.facility.held_store import open_held_store
from outrider.holding.facility.held_upkeep import copies
from outrider.playground.packages import packages
from outrider.runtime.control import CommandRefused, NoServer, call

SMTP_PORT = 2525
SUBMISSION_PORT = 2587
QMTP_PORT = 2209
AMTP_PORT = 10125
"""Of public connections, the same at every site (AMTP-6)."""
PRIVATE_PORT = 10126
"""Of private connections; another one, because it may be (AMTP-19)."""
MT2_PORT = 10127
"""None was ever assigned; the SRV records say it (MT2-27)."""
AMDP_PORT = 10443
"""Of AMDP's HTTPS, at every site: 443 is for root alone."""
PUBLIC = "public"
"""What the CA is called that everybody trusts."""


@dataclass(frozen=True, slots=True)
class SitePlan:
    """One site as it is to be: its name, its address, what it serves."""

    name: str
    address: str
    domains: dict[str, str]
    """Domain to the TOML of its table (users and the like), delivered to Maildir."""
    host: str = ""
    """The host's name; default `mx.NAME.example`."""
    tls: bool = True
    submission: bool = False
    qmtp: bool = False
    amtp: bool = False
    """It takes public AMTP connections, and SRV records say so."""
    mt2: bool = False
    """It takes MT2, and SRV records say so."""
    amdp: tuple[str, ...] = ()
    """Its roles in AMDP."""
    takes_private: str = ""
    """The private network whose members may connect to its port for private connections."""
    member_of: tuple[str, ...] = ()
    """Private networks whose CA has given it a certificate."""
    published: bool = True
    """DNS names it for its domains; otherwise another site stands before them."""
    fronts: tuple[str, ...] = ()
    """Domains of others for which DNS names it, and its certificate too."""
    backs_up: tuple[str, ...] = ()
    """Domains for which DNS names it as the second choice (SRV)."""
    unproven: tuple[str, ...] = ()
    """Domains that it only pretends to serve: DNS names it, its certificate does not."""
    ptr: str = ""
    """The reverse name of its address, where it is not the host's name."""
    extra: str = ""
    """More TOML."""

    @property
    def hostname(self) -> str:
        """The host's name."""
        return self.host or f"mx.{self.name}.example"

    @property
    def office(self) -> str:
        """An address nearby, from which the site's own people hand mail in."""
        return f"{self.address.rpartition('.')[0]}.9"

    @property
    def certified_names(self) -> list[str]:
        """What its public certificate says: the host, and the domains that DNS names it for (AMTP-5)."""
        domains = dict.fromkeys((*self.amtp_domains, *self.mt2_domains))
        proven = (domain for domain in domains if domain not in self.unproven)
        return [self.hostname, *proven, *self.amdp_hosts]

    @property
    def amdp_hosts(self) -> tuple[str, ...]:
        """Names of its holding facilities and information services."""
        labels = {"mhf": "mhf-1", "mis": "amdp-mis"}
        roles = (role for role in labels if role in self.amdp)
        return tuple(f"{labels[role]}.{domain}" for role in roles for domain in self.domains)

    @property
    def amtp_domains(self) -> tuple[str, ...]:
        """For which DNS names it as the first choice of those that take AMTP."""
        return self._first_choice_for if self.amtp else ()

    @property
    def mt2_domains(self) -> tuple[str, ...]:
        """For which DNS names it as the one that takes MT2."""
        return self._first_choice_for if self.mt2 else ()

    @property
    def _first_choice_for(self) -> tuple[str, ...]:
        return (*(self.domains if self.published else ()), *self.fronts)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a site's configuration has to know of the Internet around it."""

    folder: Path
    """Of the playground."""
    dns: str
    """The resolver's address and port."""

    def authority(self, network: str = PUBLIC) -> Path:
        """The file with the certificate of a network's CA."""
        return self.folder / f"ca-{network}.pem"


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
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=self.environment
            )

    @property
    def environment(self) -> dict[str, str]:
        """Of its programs: with packages that the playground has laid down and nobody has installed."""
        paths = [*packages(self.folder.parent), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def outrider(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `outrider` with its configuration; blocks."""
        return self.program(*words, "--config", os.fspath(self.config))

    def program(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command that needs no configuration; blocks."""
        command = [sys.executable, "-m", "outrider.cli.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)

    def ask(self, command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """A command of its control socket. Raises NoServer, CommandRefused."""
        return list(call(self.folder / "data", command, arguments))

    @contextlib.contextmanager
    def extension_choices(self) -> Iterator[ExtensionStore]:
        """What its users have chosen, as `outrider extension` and `outrider consent` open it."""
        loaded = load(self.config)
        store = open_extension_store(loaded.config, self.folder / "data")
        try:
            yield store
        finally:
            store.close()

    def held(self, message: str) -> list[HeldCopy]:
        """The copies of a message that it holds."""
        store = open_held_store(load(self.config).config, self.folder / "data")
        try:
            return copies(store, message)
        finally:
            store.close()

    def mailbox(self, user: str, domain: str) -> list[Path]:
        """What has arrived for a user."""
        new = self.folder / "mail" / domain / user / "new"
        return sorted(new.iterdir(), key=lambda path: path.stat().st_mtime_ns) if new.is_dir() else []

    def explain(self, message_id: str) -> dict[str, Any]:
        """What `outrider explain` knows of a message here; nothing when the server knows none such."""
        with contextlib.suppress(NoServer, CommandRefused, OSError):
            return next(iter(call(self.folder / "data", "explain", {"id": message_id})), {})
        return {}

    def log_events(self, event: str = "") -> Iterator[dict[str, Any]]:
        """Its log so far; of one name only, if one is given."""
        path = self.folder / "log"
        for line in path.read_text("utf-8").split("\n") if path.exists() else ():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if not event or entry.get("event") == event:
                    yield entry


def configuration(plan: SitePlan, around: Surroundings) -> str:
    """A site's `outrider.toml`."""
    mailboxes = f"{around.folder}/{plan.name}/mail/{{domain}}/{{user}}"
    parts = [
        f'hostname = "{plan.hostname}"\ndata_dir = "data"\n',
        *_listeners(plan),
        '[log]\nfile = "log"\n',
        f'[dns]\nservers = ["{around.dns}"]\n',
        _tls(plan, around),
        f'[net]\nprivate_destinations = ["127.0.0.0/8"]\nsource_address = "{plan.address}"\n'
        f"smtp_port = {SMTP_PORT}\nqmtp_port = {QMTP_PORT}\namdp_port = {AMDP_PORT}\n",
        "[delivery]\nretry = [1, 1, 2]\njitter = 0.1\n",
        *(
            f'[domains."{domain}"]\ndeliver = "maildir:{mailboxes}"\n{table}\n'
            for domain, table in plan.domains.items()
        ),
        _amdp(plan),
        plan.extra,
    ]
    return "\n".join(part for part in parts if part)


def _listeners(plan: SitePlan) -> Iterator[str]:
    yield _listener("smtp", plan.address, SMTP_PORT)
    if plan.submission:
        yield _listener("submission", plan.address, SUBMISSION_PORT)
    if plan.qmtp:
        yield _listener("qmtp", plan.address, QMTP_PORT)
    if plan.amtp:
        yield _listener("amtp", plan.address, AMTP_PORT)
    if plan.mt2:
        yield _listener("mt2", plan.address, MT2_PORT)
    if plan.amdp_hosts:
        yield _listener("amdp", plan.address, AMDP_PORT)
    if plan.takes_private:
        yield _listener("amtp", plan.address, PRIVATE_PORT) + "private = true\n"


def _listener(protocol: str, address: str, port: int) -> str:
    return f'[[listeners]]\nprotocol = "{protocol}"\naddress = "{address}"\nport = {port}\n'


def _tls(plan: SitePlan, around: Surroundings) -> str:
    lines = ["[tls]", f'public_ca = ["{around.authority()}"]']
    if plan.takes_private:
        lines.append(f'private_ca = ["{around.authority(plan.takes_private)}"]')
    if plan.tls:
        lines += ['certificate = "host.pem"', 'key = "host.key"']
    return "\n".join(lines) + "\n"


def _amdp(plan: SitePlan) -> str:
    if not plan.amdp:
        return ""
    roles = ", ".join(f'"{role}"' for role in plan.amdp)
    incoming = "[amdp.incoming]\nwindow = 0\nretry = [1, 1, 2]\n" if "img" in plan.amdp else ""
    return f"[amdp]\nroles = [{roles}]\nport = {AMDP_PORT}\n\n{incoming}"


def private_way(host: str, network: str) -> str:
    """The route to a host by a private connection, as a value in TOML, for a member of its network."""
    return f'{{ to = "amtp:{host}:{PRIVATE_PORT}", certificate = "{network}.pem", key = "{network}.key" }}'
