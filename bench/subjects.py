"""The servers that are measured, each configured for the same work, and what each does before its 250.

None is slowed down, and where a choice had to be made it is the quicker one for the peer: Exim, OpenSMTPD and
Haraka leave accepted mail in the queue where Outrider and Postfix also deliver it (to nowhere), and what the
small programs around a library do is nothing but to store.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.peers.bind import BindServer
from tests.peers.exim import EximServer
from tests.peers.images import PROJECT, image
from tests.peers.inn import InnServer
from tests.peers.opensmtpd import OpenSmtpdServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer

from bench.programs import Program, npm_folder, npm_version
from bench.work import (
    CLIENT_NAME,
    CONNECT_TIMEOUT_S,
    DOMAIN,
    FEEDS,
    HELD,
    HOLDER_NAME,
    HOLDER_PORT,
    MIB,
    OURS_ALONE,
    RECIPIENT,
    Kind,
    Shape,
    Work,
)
from outrider.benchmark.explained import POLICY, check, random_message
from outrider.holding.incoming.arrival_store import FILE as ARRIVALS
from outrider.runtime.control import call

PROCESSES = 2
"""Of those servers that have to be told."""
OUTRIDER_NAME = "mx.outrider.example"
LARGEST = 300 * MIB
_LOCAL = '[domains."{domain}"]\ndeliver = "discard:"\n'
ALL_BUT_BULK = frozenset(Kind) - {Kind.BULK}
ALL_BUT_ENVELOPES = frozenset(Kind) - {Kind.ENVELOPES}
ALL_BUT_CLUSTER = frozenset(Kind) - {Kind.CLUSTER}
NOT_FOR_ALL = FEEDS | HELD | {Kind.ENVELOPES, Kind.CLUSTER, Kind.SPOOL}


class Subject(abc.ABC):
    """A server under measurement, started for one kind of work."""

    name: ClassVar[str]
    durability: ClassVar[str]
    """What has happened when the 250 is given."""
    does_not: ClassVar[frozenset[Kind]] = OURS_ALONE
    """Kinds of shapes that it cannot take part in."""
    is_library: ClassVar[bool] = False
    """It is a small program around a library."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._stack = contextlib.ExitStack()

    @classmethod
    def takes_part(cls, shape: Shape) -> bool:
        """Whether the shape is measured with it."""
        if shape.only and cls.name not in shape.only:
            return False
        return shape.kind not in cls.does_not and not (shape.few and cls.is_library)

    @classmethod
    @abc.abstractmethod
    def version(cls) -> str:
        """Of the software."""

    @abc.abstractmethod
    def start(self) -> int:
        """Start the server; its process id."""

    def waiting(self) -> int:
        """Messages that it still has to deliver."""
        return 0

    def explained(self) -> str:
        """For Outrider: what `explain` knows of a random message of this measurement."""
        return ""

    def __enter__(self) -> Self:
        try:
            self.pid = self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class OutriderTwo(Subject):
    """Two workers, for two cores."""

    name = "Outrider, 2 workers"
    durability = "the message's row, or its file and folder, synced; commits are shared"
    does_not: ClassVar[frozenset[Kind]] = NOT_FOR_ALL
    workers: ClassVar[int] = 2
    server: ClassVar[type[OutriderServer]] = OutriderServer

    @classmethod
    def version(cls) -> str:
        """As installed."""
        done = subprocess.run(
            [sys.executable, "-m", "outrider.cli.main", "--version"], capture_output=True, check=True
        )
        return done.stdout.decode().split()[-1]

    def start(self) -> int:
        self._server = self._stack.enter_context(self.server(self.configuration()))
        # Nothing of it is wanted any more when it has been measured: no reason to wait for a stop in order.
        self._stack.callback(self._server.kill)
        return self._server.pid

    def configuration(self, data_dir: Path = Path("data")) -> str:
        """Its outrider.toml; a relative folder is the server's own."""
        work = self.work
        return f"""
hostname = "{OUTRIDER_NAME}"
data_dir = "{data_dir}"
workers = {self.workers}
[[listeners]]
protocol = "{"amtp" if work.amtp_client else "smtp"}"
address = "{work.address}"
port = {work.port}
max_connections = 20_000
[dns]
servers = [{self._name_server()}]
[relay]
networks = ["127.0.0.0/8"]
[net]
private_destinations = ["127.0.0.0/8"]
smtp_port = {work.hops[0][1] if work.hops else 25}
[routes]
"*" = "{self._way()}"
[delivery]
connect_timeout = {CONNECT_TIMEOUT_S}
[limits]
connections = 20_000
messages_per_session = 1_000_000_000
{POLICY}{self._tls()}"""

    def _way(self) -> str:
        hops = self.work.hops
        if not hops:
            return "discard:"
        return f"smtp:[{hops[0][0]}]:{hops[0][1]}" if len(hops) == 1 else "mx"

    def _name_server(self) -> str:
        """Hosts in an order of preference come from MX records, clients have their names, as in life."""
        zones = {}
        if len(self.work.hops) > 1:
            numbered = list(enumerate(address for address, _ in self.work.hops))
            records = [f"@ MX {10 * number + 10} host{number}" for number, _ in numbered]
            records += [f"host{number} A {address}" for number, address in numbered]
            zones[DOMAIN] = "\n".join(records)
        if self.work.amtp_client:
            zones[CLIENT_NAME] = f"@ A {self.work.amtp_client}"
            zones[ip_address(self.work.amtp_client).reverse_pointer] = f"@ PTR {CLIENT_NAME}."
        if self.work.holder:
            zones[CLIENT_NAME] = f"@ A {self.work.holder}\nmhf-1 A {self.work.holder}"
            zones[DOMAIN] = f"@ A {self.work.address}"
        if not zones:
            return ""
        server = self._stack.enter_context(BindServer(zones))
        return f'"{server.address}:{server.port}"'

    def _tls(self) -> str:
        files, work = self.work.tls, self.work
        if files is None:
            return ""
        authorities = f'"{files.authority}"' if work.amtp_client else ""
        port = f"[amtp]\nport = {work.port}\n" if work.amtp_client else ""
        return (
            f'[tls]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\n'
            f"public_ca = [{authorities}]\n{port}"
        )

    def waiting(self) -> int:
        counts = next(iter(call(self._server.folder / "data", "queue.count", {})))
        return int(counts["ready"]) + int(counts["active"])

    def explained(self) -> str:
        name = random_message(self._server.folder / "log")
        row = self._server.cli_json("explain", name)
        assert isinstance(row, dict)
        return check(row)


class OutriderOne(OutriderTwo):
    """As it is by default: one process."""

    name = "Outrider, 1 process"
    does_not = NOT_FOR_ALL | {Kind.MILLION}
    workers = 1


class OutriderSmtpBulk(OutriderOne):
    """Fed by SMTP, pipelined."""

    name = "Outrider, SMTP pipelined"
    does_not = ALL_BUT_BULK


class OutriderMt2(OutriderOne):
    """Fed by MT2 under TLS, every seal verified before the commit."""

    name = "Outrider, MT2, seals verified"
    does_not = frozenset(Kind) - FEEDS
    verify_seals: ClassVar[bool] = True

    def configuration(self, data_dir: Path = Path("data")) -> str:
        """With a listener that lets the feeding host pipeline."""
        text = super().configuration(data_dir).replace('protocol = "smtp"', 'protocol = "mt2"')
        files = self.work.tls
        assert files is not None
        return text.replace("public_ca = []", f'public_ca = ["{files.authority}"]') + (
            f'[mt2]\npipe = ["{self.work.bulk_client}"]\n'
            f"verify_seals = {'true' if self.verify_seals else 'false'}\n"
        )


class OutriderMt2Unverified(OutriderMt2):
    """The same, seals kept and not looked at."""

    name = "Outrider, MT2, seals not verified"
    does_not = ALL_BUT_BULK
    verify_seals = False


class OutriderEnvelopes(OutriderOne):
    """A gateway that takes envelopes, calls their holder back over HTTPS, and hands them to their readers
    (to nowhere)."""

    name = "Outrider, AMDP, 1 process"
    durability = "as for mail; before the holder is told to burn the id, its answer too"
    does_not = ALL_BUT_ENVELOPES
    announces: ClassVar[bool] = True
    """It is sent envelopes; otherwise ordinary mail of their size."""

    def start(self) -> int:
        work, files = self.work, self.work.tls
        assert files is not None
        holder = self._stack.enter_context(Program("amdp-holder", work.holder, HOLDER_PORT, {}))
        settings = {
            "address": work.holder,
            "port": HOLDER_PORT,
            "certificate": os.fspath(files.certificate),
            "key": os.fspath(files.key),
            "recipient": RECIPIENT,
        }
        holder.start(sys.executable, os.fspath(PROJECT / "bench/peers/amdp_holder.py"), json.dumps(settings))
        return super().start()

    def configuration(self, data_dir: Path = Path("data")) -> str:
        """With the role, and its recipient's domain."""
        return f'{super().configuration(data_dir)}{_LOCAL.format(domain=DOMAIN)}[amdp]\nroles = ["img"]\n'

    def _tls(self) -> str:
        """None for mail: the certificate is the holder's."""
        files = self.work.tls
        assert files is not None
        return f'[amdp.incoming]\nca = ["{files.authority}"]\n'

    def stop(self) -> Path:
        """Stop the server before its time; its folder."""
        self._server.stop()
        return self._server.folder

    def settled(self) -> int:
        """Envelopes that their holder has confirmed and that were handed on."""
        path = self._server.folder / "data" / ARRIVALS
        if not path.exists():
            return 0  # it is made at the first call-back
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            try:
                [(count,)] = database.execute("SELECT count(*) FROM arrivals WHERE state = 'delivered'")
            except sqlite3.OperationalError:
                return 0  # it is being made
        return int(count)


class OutriderEnvelopesTwo(OutriderEnvelopes):
    """The same with two workers."""

    name = "Outrider, AMDP, 2 workers"
    workers = 2


class OutriderPlain(OutriderEnvelopes):
    """The same server, sent ordinary mail."""

    name = "Outrider, plain SMTP, 1 process"
    announces = False


class OutriderPlainTwo(OutriderPlain):
    """The same with two workers."""

    name = "Outrider, plain SMTP, 2 workers"
    workers = 2


class Aiohttp(Subject):
    """A bare HTTP server: what a call-back for each envelope would cost at least."""

    name = "aiohttp alone, requests, 2 processes"
    durability = "nothing: it takes no mail"
    does_not = ALL_BUT_ENVELOPES

    @classmethod
    def version(cls) -> str:
        from importlib.metadata import version

        return version("aiohttp")

    def start(self) -> int:
        work = self.work
        program = self._stack.enter_context(Program("aiohttp", work.address, work.port, {}))
        settings = json.dumps({"address": work.address, "port": work.port, "processes": PROCESSES})
        return program.start(sys.executable, os.fspath(PROJECT / "bench/peers/aiohttp_server.py"), settings)


class OutriderFacility(OutriderOne):
    """A holding facility, with its pages."""

    name = "Outrider, holding facility"
    durability = "the message's row, or its file and folder, synced; commits are shared"
    does_not = frozenset(Kind) - HELD

    def configuration(self, data_dir: Path = Path("data")) -> str:
        """It holds all mail of its users."""
        text = super().configuration(data_dir).replace("[limits]\n", f"[limits]\nmessage_size = {LARGEST}\n")
        return f"""{text}{_LOCAL.format(domain=CLIENT_NAME)}
[[listeners]]
protocol = "amdp"
address = "{self.work.address}"
[amdp]
roles = ["omg", "mhf"]
port = {HOLDER_PORT}
[amdp.outgoing]
hold = "all"
classes = {{ "*" = "Agent::Bulk" }}
[amdp.holding]
names = {{ "{CLIENT_NAME}" = "{HOLDER_NAME}" }}
"""


class OutriderNode(OutriderOne):
    """A cluster of one; and one node of any cluster."""

    name = "Outrider, 1 node on PostgreSQL"
    durability = "rows of PostgreSQL, its log synced; commits are shared"
    does_not = ALL_BUT_CLUSTER
    nodes: ClassVar[int] = 1

    def __init__(self, work: Work, dsn: str = "", number: int = 1) -> None:
        super().__init__(work)
        self._dsn = dsn
        self._number = number

    def configuration(self, data_dir: Path = Path("data")) -> str:
        """With its own name, and the database that all share."""
        text = super().configuration(data_dir).replace(OUTRIDER_NAME, f"node{self._number}.outrider.example")
        return f'{text}[spool]\nbackend = "postgresql"\ndsn = "{self._dsn}"\n'


class OutriderNodes(OutriderNode):
    """A cluster of two."""

    name = "Outrider, 2 nodes on PostgreSQL"
    nodes = 2


class SpoolNode(Subject):
    """The spool of one node, with nobody who talks to it over a network."""

    name = "spool of 1 node"
    durability = OutriderNode.durability
    does_not = frozenset(Kind) - {Kind.SPOOL}
    nodes: ClassVar[int] = 1

    @classmethod
    def version(cls) -> str:
        return OutriderNode.version()

    def start(self) -> int:
        """Not by itself: see `bench.cluster`."""
        raise NotImplementedError


class SpoolNodes(SpoolNode):
    """Of two."""

    name = "spools of 2 nodes"
    nodes = 2


class OpenSsl(Subject):
    """OpenSSL's own server, which does the handshake and no more: what a handshake costs at least."""

    name = "OpenSSL alone"
    durability = "nothing: it takes no mail"

    @classmethod
    def takes_part(cls, shape: Shape) -> bool:
        return shape.kind is Kind.HANDSHAKE

    @classmethod
    def version(cls) -> str:
        done = subprocess.run(["openssl", "version"], capture_output=True, check=True)
        return done.stdout.decode().split()[1]

    def start(self) -> int:
        work, files = self.work, self.work.tls
        assert files is not None
        program = self._stack.enter_context(Program("openssl", work.address, work.port, {}))
        # In this mode it does not look at its standard input, and waits for a request that never comes.
        return program.start(
            *("openssl", "s_server", "-www", "-quiet", "-accept", f"{work.address}:{work.port}"),
            *("-cert", os.fspath(files.certificate), "-key", os.fspath(files.key)),
            *("-CAfile", os.fspath(files.authority), "-Verify", "2"),
        )


class Postfix(Subject):
    """Debian's Postfix with its defaults, without look-ups that the others do not do either."""

    name = "Postfix"
    durability = "the queue file synced"

    @classmethod
    def version(cls) -> str:
        return _package_version("postfix", "postfix")

    def start(self) -> int:
        work = self.work
        settings = {
            "smtpd_client_connection_count_limit": "0",
            "default_process_limit": str(max(100, work.connections + 20)),
            "smtp_connect_timeout": f"{CONNECT_TIMEOUT_S}s",
            # One loopback client stands for many; its own brake on a full incoming queue is off already.
            "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
            "smtpd_tls_ask_ccert": "no",
        }
        if not work.hops:
            settings["default_transport"] = settings["relay_transport"] = "discard"
        # More than one next hop: tried in this order, the second when the first does not answer.
        elif len(work.hops) > 1:
            settings["transport_maps"] = ""
            hops = ", ".join(f"[{host}]:{port}" for host, port in work.hops)
            settings["default_transport"] = f"smtp:{hops}"
        self._server = self._stack.enter_context(
            PostfixServer(
                work.address,
                work.port,
                main_cf=settings,
                hostname="mx.postfix.example",
                local_domains=("local.example",),
                relay_to={"*": work.hops[0]} if len(work.hops) == 1 else {},
                tls=work.tls,
            )
        )
        return self._server.room.pid

    def waiting(self) -> int:
        shown = self._server.room.run("postqueue", "-p").stdout
        found = re.search(rb"in (\d+) Requests?", shown)
        return int(found[1]) if found else 0


class _OpenSmtpdForLoad(OpenSmtpdServer):
    """Without a trace of every command, and without waiting for a name server that is not there."""

    foreground = ("/usr/sbin/smtpd", "-F", "-f", "/etc/smtpd.conf")

    def configure(self) -> None:
        """Names of clients come from /etc/hosts alone."""
        super().configure()
        self.room.write("etc/resolv.conf", "lookup file\n")

    def _configuration(self) -> str:
        # A hundred messages a session is its default.
        return f"smtp limit max-mails 1000000\n{super()._configuration()}"


class PostfixBulk(Postfix):
    """Fed by SMTP, pipelined, with CHUNKING."""

    name = "Postfix, SMTP pipelined"
    does_not = ALL_BUT_BULK


class Inn(Subject):
    """Debian's INN, fed by CHECK and TAKETHIS."""

    name = "INN, traditional spool"
    durability = "the article's file written, nothing synced"
    does_not = ALL_BUT_BULK
    cyclic: ClassVar[bool] = False

    @classmethod
    def version(cls) -> str:
        return _package_version("inn", "inn2")

    def start(self) -> int:
        work = self.work
        self._server = self._stack.enter_context(InnServer(work.address, work.port, cyclic=self.cyclic))
        return self._server.room.pid


class InnCyclic(Inn):
    """The same into cyclic buffers."""

    name = "INN, cyclic buffers"
    durability = "the article in a mapped file, nothing synced"
    cyclic = True


class OpenSmtpd(Subject):
    """Debian's OpenSMTPD; what it accepts for nobody stays in its queue."""

    name = "OpenSMTPD"
    durability = "nothing synced: a power cut loses mail"
    # 6.8 cannot use a private key with OpenSSL 3; its next hops come from DNS alone; and with a listen queue
    # of five it loses some of a hundred sessions that begin at once.
    does_not = OURS_ALONE | {Kind.TLS, Kind.DEAD_MX, Kind.LATENCY}
    most_sessions: ClassVar[int] = 100
    """That begin at once: of a thousand most wait for the kernel to send their SYN again, and again."""

    @classmethod
    def takes_part(cls, shape: Shape) -> bool:
        """Idle sessions are opened a few at a time."""
        few = shape.kind is Kind.IDLE or shape.sessions <= cls.most_sessions
        return few and super().takes_part(shape)

    @classmethod
    def version(cls) -> str:
        return _package_version("opensmtpd", "opensmtpd")

    def start(self) -> int:
        work = self.work
        # A route is needed even for mail that stays.
        hop = work.hops[0] if work.hops else ("127.0.0.1", 9)
        self._server = self._stack.enter_context(
            _OpenSmtpdForLoad(
                work.address,
                work.port,
                hostname="mx.opensmtpd.example",
                local_domains=("local.example",),
                relay_to={"*": hop},
            )
        )
        if not work.hops:
            self._server.room.run("smtpctl", "pause", "mta")
        return self._server.room.pid

    def waiting(self) -> int:
        if not self.work.hops:
            return 0
        shown = self._server.room.run("smtpctl", "show", "stats").stdout.decode()
        found = re.search(r"^scheduler\.envelope=(\d+)$", shown, re.MULTILINE)
        return int(found[1]) if found else 0


class _EximForLoad(EximServer):
    """With room for many sessions; for mail that nobody gets, without queue runners."""

    def __init__(self, work: Work) -> None:
        self._work = work
        if not work.hops:
            self.foreground = ("/usr/sbin/exim4", "-bdf")
        extra = ["split_spool_directory = true", "smtp_connect_backlog = 1024"]
        if not work.hops:
            extra.append("queue_only = true")
        super().__init__(
            work.address,
            work.port,
            main="\n".join(extra),
            hostname="mx.exim.example",
            local_domains=("local.example",),
            relay_to={"*": work.hops[0]} if work.hops else {},
            tls=work.tls,
        )

    def _configuration(self) -> str:
        text = super()._configuration()
        text = text.replace("smtp_accept_max = 200", f"smtp_accept_max = {self._work.connections + 100}")
        if len(self._work.hops) > 1:
            # Without blanks: they would end the list.
            hosts = ":".join(f"{host}::{port}" for host, port in self._work.hops)
            text = re.sub(r'route_list = "\* [^ ]+ byname"', f'route_list = "* {hosts} byname"', text)
        return text.replace(
            "  allow_localhost", f"  allow_localhost\n  connect_timeout = {CONNECT_TIMEOUT_S}s"
        )


class Exim(Subject):
    """Debian's Exim; what it accepts for nobody stays in its queue."""

    name = "Exim"
    durability = "body file and header file synced"
    # Set up as the others it defers all mail; until somebody knows why, that is our fault and no figure.
    does_not = OURS_ALONE | {Kind.DEAD_MX}

    @classmethod
    def version(cls) -> str:
        return _package_version("exim", "exim4-daemon-light")

    def start(self) -> int:
        self._server = self._stack.enter_context(_EximForLoad(self.work))
        return self._server.room.pid

    def waiting(self) -> int:
        if not self.work.hops:
            return 0
        return int(self._server.room.run("/usr/sbin/exim4", "-bpc").stdout)


class Haraka(Subject):
    """npm's Haraka; what it accepts for nobody stays in its queue."""

    name = "Haraka"
    durability = "the queue file synced"

    @classmethod
    def version(cls) -> str:
        return npm_version("Haraka")

    def start(self) -> int:
        work = self.work
        environment = {"BENCH_HOPS": json.dumps(work.hops), "NODE_PATH": os.fspath(npm_folder())}
        self._program = Program("haraka", work.address, work.port, environment)
        program = self._stack.enter_context(self._program)
        for name, text in self._files().items():
            program.write(name, text)
        if work.tls is not None:
            program.write("config/tls_cert.pem", work.tls.certificate.read_text())
            program.write("config/tls_key.pem", work.tls.key.read_text())
        return program.start(
            "node", os.fspath(npm_folder() / "Haraka/bin/haraka"), "-c", os.fspath(program.folder)
        )

    def _files(self) -> dict[str, str]:
        work = self.work
        plugin = (PROJECT / "bench/peers/haraka/bench.js").read_text()
        return {
            "config/smtp.ini": f"listen={work.address}:{work.port}\nnodes={PROCESSES}\n",
            "config/plugins": "tls\nbench\n" if work.tls else "bench\n",
            "config/me": "mx.haraka.example\n",
            "config/host_list": "local.example\n",
            "config/outbound.ini": (
                f"enable_tls=false\nconnect_timeout={CONNECT_TIMEOUT_S}\nlocal_mx_ok=true\n"
            ),
            "config/log.ini": "[main]\nlevel=notice\n",
            # It does not start without one; this is its own.
            "config/connection.ini": (npm_folder() / "Haraka/config/connection.ini").read_text(),
            "config/databytes": "52428800\n",
            "plugins/bench.js": plugin,
            "package.json": '{"name": "bench", "version": "1.0.0"}\n',
        }

    def waiting(self) -> int:
        if not self.work.hops:
            return 0
        return sum(1 for _ in (self._program.folder / "queue").iterdir())


class _Library(Subject):
    """A program of ours around a library: it stores what it gets, and that is all."""

    durability = "the file synced"
    does_not = OURS_ALONE | {Kind.RELAY, Kind.DEAD_MX}
    is_library = True

    def _run(self, title: str, *command: str, environment: dict[str, str] | None = None) -> int:
        work = self.work
        program = self._stack.enter_context(Program(title, work.address, work.port, environment or {}))
        (program.folder / "mail").mkdir()
        tls = None
        if work.tls is not None:
            tls = {"certificate": os.fspath(work.tls.certificate), "key": os.fspath(work.tls.key)}
        settings = {
            "address": work.address,
            "port": work.port,
            "folder": os.fspath(program.folder / "mail"),
            "processes": PROCESSES,
            "tls": tls,
        }
        return program.start(*command, json.dumps(settings))


class SmtpServer(_Library):
    """npm's smtp-server."""

    name = "smtp-server (npm)"

    @classmethod
    def version(cls) -> str:
        return npm_version("smtp-server")

    def start(self) -> int:
        # Its threads do the syncs; four, the default, would hold it back.
        environment = {"NODE_PATH": os.fspath(npm_folder()), "UV_THREADPOOL_SIZE": "32"}
        script = PROJECT / "bench/peers/smtp_server.js"
        return self._run("smtp-server", "node", os.fspath(script), environment=environment)


class Aiosmtpd(_Library):
    """PyPI's aiosmtpd on uvloop."""

    name = "aiosmtpd"

    @classmethod
    def version(cls) -> str:
        from importlib.metadata import version

        return version("aiosmtpd")

    def start(self) -> int:
        script = PROJECT / "bench/peers/aiosmtpd_server.py"
        return self._run("aiosmtpd", sys.executable, os.fspath(script))


def _package_version(image_name: str, package: str) -> str:
    """Without the epoch."""
    stamp = json.loads((image(image_name) / ".image.json").read_text())
    return str(stamp["packages"][package]).rpartition(":")[2]


SUBJECTS: tuple[type[Subject], ...] = (
    OutriderTwo,
    OutriderOne,
    OutriderMt2,
    OutriderMt2Unverified,
    OutriderSmtpBulk,
    OutriderEnvelopesTwo,
    OutriderPlainTwo,
    OutriderEnvelopes,
    OutriderPlain,
    Aiohttp,
    OutriderFacility,
    OutriderNode,
    OutriderNodes,
    SpoolNode,
    SpoolNodes,
    PostfixBulk,
    Inn,
    InnCyclic,
    OpenSsl,
    Postfix,
    OpenSmtpd,
    Exim,
    Haraka,
    SmtpServer,
    Aiosmtpd,
)
