"""Ten thousand AMTP connections from a thousand hosts: what a server remembers of them, and what that weighs.

    python -m bench.identities [--hosts 1000] [--rounds 10]

Each host has an address, a name and a certificate of its own; in every round each of them connects, proves
who it is (handshake, EHLO), and leaves. Printed are, after each round, the server's memory (PSS), how many
questions DNS was asked, and the CPU time of a connection. Memory that goes on growing with the rounds is a
leak; questions that go on growing mean that a peer who comes again is looked up again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer

from bench.programs import STORE
from outrider.benchmark.generator import generate
from outrider.benchmark.plan import Plan
from outrider.benchmark.processes import cpu_s, family, pss_kib
from outrider.identity.certificate_authority import CertificateAuthority, Issued
from outrider.playground.dns_server import DnsServer
from outrider.playground.zones import ZoneSet

DOMAIN = "client.example"
SERVER = "mx.bench.example"
NETWORK = "127.8"
"""Of the clients: the two other octets number them."""
MIB = 1024
TTL_S = 3600
"""Of DNS records: longer than a run, so that only forgetting makes a question be asked again."""
_DAYS = 7


@dataclass(frozen=True, slots=True)
class Host:
    """A client."""

    name: str
    address: str
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Round:
    """What one round showed."""

    connections: int
    """So far."""
    memory_mib: float
    questions: int
    """Put to DNS so far."""
    cpu_ms: float
    """Of the server, for one connection of this round."""


def numbered(count: int) -> Iterator[tuple[str, str]]:
    """Names and addresses of so many hosts."""
    for number in range(count):
        yield f"host{number}.{DOMAIN}", f"{NETWORK}.{number // 250}.{number % 250 + 1}"


def settle(folder: Path, count: int) -> tuple[ZoneSet, list[Host]]:
    """Make the CA, the server's certificate and everything of the clients."""
    now = datetime.now(UTC) - timedelta(days=1)
    authority = CertificateAuthority.create("bench", now, _DAYS, kind="public")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    _write(authority.issue_host([SERVER], now, _DAYS), folder / SERVER)
    zones = ZoneSet()
    # That a host has no IPv6 address is remembered for as long as the SOA says (RFC 2308).
    zones.add_zone(DOMAIN, {"@": {"SOA": [f"ns hostmaster 1 3600 900 1209600 {TTL_S}"]}}, ttl_s=TTL_S)
    hosts = []
    for name, address in numbered(count):
        zones.add_host(name, address, ttl_s=TTL_S)
        certificate, key = _write(authority.issue_host([name], now, _DAYS), folder / name)
        hosts.append(Host(name, address, certificate, key))
    return zones, hosts


def _write(issued: Issued, stem: Path) -> tuple[Path, Path]:
    certificate, key = Path(f"{stem}.pem"), Path(f"{stem}.key")
    certificate.write_bytes(issued.certificate_pem)
    key.touch(mode=0o600)
    key.write_bytes(issued.key_pem)
    return certificate, key


def configuration(folder: Path, address: str, port: int, dns: str) -> str:
    """The server's."""
    return f"""
hostname = "{SERVER}"
data_dir = "{{dir}}/data"
[[listeners]]
protocol = "amtp"
address = "{address}"
port = {port}
[amtp]
port = {port}
[dns]
servers = ["{dns}"]
[tls]
certificate = "{folder}/{SERVER}.pem"
key = "{folder}/{SERVER}.key"
public_ca = ["{folder}/ca.pem"]
[domains."bench.example"]
deliver = "discard:"
"""


def visit(host: Host, address: str, port: int) -> None:
    """One connection. Raises RuntimeError if the server does not believe the host."""
    plan = Plan(
        address,
        port,
        messages=1,
        sessions=1,
        kept=False,
        amtp=True,
        mail=False,
        certificate=os.fspath(host.certificate),
        key=os.fspath(host.key),
        helo=host.name,
        source=host.address,
    )
    outcome = generate(plan)
    if outcome.failed:
        raise RuntimeError(f"{host.name}: {outcome.failures}")


async def measure(hosts: int, rounds: int, folder: Path) -> list[Round]:
    """All rounds. Raises RuntimeError if a host is refused."""
    zones, clients = await asyncio.to_thread(settle, folder, hosts)
    address, port = loopback_address(), 10125
    async with DnsServer(zones, "127.0.0.1") as dns:

        def put_all() -> tuple[float, float]:
            before = cpu_s(server.pid)
            for client in clients:
                visit(client, address, port)
            return 1000 * (cpu_s(server.pid) - before) / hosts, pss_kib(family(server.pid)) / MIB

        stack = contextlib.ExitStack()
        server = await asyncio.to_thread(
            lambda: stack.enter_context(OutriderServer(configuration(folder, address, port, dns.endpoint)))
        )
        try:
            found = [Round(0, pss_kib(family(server.pid)) / MIB, 0, 0.0)]
            for number in range(1, rounds + 1):
                cpu_ms, memory_mib = await asyncio.to_thread(put_all)
                found.append(Round(number * hosts, memory_mib, dns.questions, cpu_ms))
                _say(found[-1])
        finally:
            await asyncio.to_thread(stack.close)
    return found


def _say(one: Round) -> None:
    print(
        f"{one.connections:7,} connections {one.memory_mib:7.1f} MiB {one.questions:7,} questions to DNS "
        f"{one.cpu_ms:6.2f} ms CPU each",
        flush=True,
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="identities", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print the rounds as JSON at the end")
    arguments = parser.parse_args()
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="identities-", dir=STORE) as folder:
        found = asyncio.run(measure(arguments.hosts, arguments.rounds, Path(folder)))
    if arguments.json:
        print(json.dumps([asdict(one) for one in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
