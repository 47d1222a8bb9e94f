"""How fast nodes are that share one PostgreSQL: 4 KiB messages, each stored with a lease and then settled.

    python -m bench.cluster [--nodes 1,2] [--callers 100] [--messages 6000] [--body 0] [--repeat 3]

Each node is a process; the database is a real server of the test harness, as durable as in production. What
is printed are medians: messages a second, and where the CPU time of one message goes: in the nodes, and in
the database (all its processes). On a machine that other work shares, only the CPU times mean something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.postgresql import PostgresServer

from bench.spool_bench import CountingObserver, new_message, settlement_of
from outrider.model.content import Content
from outrider.spool.postgresql.spool import PostgresSpool

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measure:
    """One round."""

    per_second: float
    node_ms: float
    database_ms: float
    log_kib: float
    """Written to the database's log: what its disk and its standbys have to take."""
    per_commit: float


async def lives(spool: PostgresSpool, prefix: str, count: int, callers: int, body: int) -> None:
    """`count` messages, each stored and settled, with so many under way at once. Bodies of `body` octets go
    piece by piece, as they would come from a client; 0 = 4 KiB in the message's own row."""
    octets = os.urandom(65_536)
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            message = replace(new_message(number), id=type(new_message(0).id)(f"{prefix}{number:012d}"))
            if body:
                writer = spool.body_writer(message.id)
                for _ in range(body // len(octets)):
                    if (room := writer.write(octets)) is not None:
                        await room
                message = replace(message, content=Content(message.content.headers, await writer.finish()))
            for leased in await spool.store(message, lease_until=message.received_at + 300):
                await spool.settle(settlement_of(leased))

    await asyncio.gather(*(caller() for _ in range(callers)))


async def be_node(dsn: str, name: str, count: int, callers: int, body: int) -> None:
    """One node: says `ready`, waits for a line, works, and prints what it used."""
    observer = CountingObserver()
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as scratch:
        spool = PostgresSpool(dsn, owner=name, scratch=Path(scratch), reserve=0, observer=observer)
        await spool.start(time.time())
        await lives(spool, f"{name}W", min(count, 500), callers, body)
        print("ready", flush=True)
        sys.stdin.readline()
        observer.commits = observer.requests = 0
        before, began = _cpu(), time.monotonic()
        await lives(spool, name, count, callers, body)
        elapsed, used = time.monotonic() - began, _cpu() - before
        print(json.dumps([elapsed, used, observer.requests / max(1, observer.commits)]), flush=True)
        await spool.close()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_of_group(leader: int) -> float:
    """CPU seconds of a process and of all its descendants, the ended ones included."""
    total, family = 0.0, {leader}
    rows = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        rows.append((int(path.parent.name), int(fields[1]), sum(map(int, fields[11:15])) / TICKS))
    grown = True
    while grown:
        more = {pid for pid, parent, _ in rows if parent in family} - family
        grown = bool(more)
        family |= more
    for pid, _, used in rows:
        total += used if pid in family else 0.0
    return total


def log_position(server: PostgresServer) -> float:
    """Octets that the database has written to its log since it was made."""
    return float(server.sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


def measure(server: PostgresServer, nodes: int, count: int, callers: int, body: int, number: int) -> Measure:
    """One round with so many nodes on a fresh database; `count` messages for each."""
    dsn = server.create_database(f"bench_{number}")
    command = [sys.executable, "-m", "bench.cluster", "--be-node", dsn]
    shape = [str(count), str(callers), str(body)]
    running = [
        subprocess.Popen([*command, f"n{one}", *shape], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for one in range(nodes)
    ]
    for node in running:
        assert node.stdout is not None
        node.stdout.readline()
    before, log_before, began = cpu_of_group(server.room.pid), log_position(server), time.monotonic()
    for node in running:
        assert node.stdin is not None
        node.stdin.write(b"\n")
        node.stdin.flush()
    found = [json.loads(node.stdout.readline()) for node in running if node.stdout is not None]
    elapsed, database = time.monotonic() - began, cpu_of_group(server.room.pid) - before
    log = log_position(server) - log_before
    for node in running:
        node.communicate()
    server.sql(f'DROP DATABASE "bench_{number}" WITH (FORCE)')
    total = count * nodes
    return Measure(
        total / elapsed,
        sum(one[1] for one in found) / total * 1000,
        database / total * 1000,
        log / total / 1024,
        statistics.mean(one[2] for one in found),
    )


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", default="1,2")
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--messages", type=int, default=6000, help="for each node")
    parser.add_argument("--body", type=int, default=0, help="octets, in pieces of 64 KiB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--be-node", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.be_node:
        dsn, name, *shape = given.be_node
        asyncio.run(be_node(dsn, name, *map(int, shape)))
        return
    print("nodes  messages/s  node ms  database ms  log KiB  requests a commit  (medians; CPU a message)")
    with PostgresServer(loopback_address(), settings={"shared_buffers": "256MB"}) as server:
        rounds: dict[int, list[Measure]] = {int(one): [] for one in given.nodes.split(",")}
        number = 0
        for _ in range(given.repeat):  # alternating, so that a disturbance hits all alike
            for nodes, measures in rounds.items():
                number += 1
                measures.append(measure(server, nodes, given.messages, given.callers, given.body, number))
        for nodes, measures in rounds.items():
            rate, node, database, log, commit = (
                statistics.median(getattr(one, name) for one in measures)
                for name in ("per_second", "node_ms", "database_ms", "log_kib", "per_commit")
            )
            print(f"{nodes:5}  {rate:10,.0f}  {node:7.3f}  {database:11.3f}  {log:7.1f}  {commit:17.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
