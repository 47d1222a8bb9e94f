"""Nodes that share one PostgreSQL, each held to a share of the CPU as if it were a machine of its own.

The database, the load generators and the next host have no quota: what is left of the machine is theirs. A
message counts when it has arrived at the next host, which stops the clock; then the queue must become empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tests.peers.addresses import loopback_address
from tests.peers.postgresql import PostgresServer

from bench.accounting import Account
from bench.measuring import (
    PORT,
    CountingSink,
    MeasurementFailed,
    put_by_smtp_source,
    wait_arrived,
    wait_empty,
)
from bench.quota import CpuQuota, NoQuota
from bench.subjects import OutriderNode, Subject
from bench.work import KIB, Figure, Shape, Work
from outrider.benchmark.processes import PeakMemory, cpu_s

DATABASE_SETTINGS = {"shared_buffers": "256MB"}
_COMMITS = "SELECT coalesce(sum(count), 0) FROM outrider.commits"
"""Each connection counts the transactions that it has committed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything that runs."""

    nodes: Sequence[OutriderNode]
    database: PostgresServer
    account: Account
    """Of the database."""

    def spent(self) -> Spent:
        """What has been used so far."""
        return Spent(
            sum(cpu_s(node.pid) for node in self.nodes),
            self.account.cpu_s(),
            int(self.database.sql(_COMMITS)),
        )

    def pids(self) -> list[int]:
        """Of the nodes."""
        return [node.pid for node in self.nodes]


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds and commits at one moment."""

    nodes_s: float
    database_s: float
    commits: int


def measure_cluster(shape: Shape, kind: type[Subject], number: int, messages: int) -> Figure:
    """One measurement; the messages are shared out among the nodes. Raises MeasurementFailed."""
    if not issubclass(kind, OutriderNode):
        raise MeasurementFailed(f"{kind.name}: it is not a cluster")
    try:
        with ExitStack() as stack:
            sink = stack.enter_context(CountingSink(loopback_address(), PORT))
            cluster = _start(stack, shape, kind, sink)
            return _measured(
                Figure(shape.name, kind.name, number, messages, 0.0, 0.0, 0.0), shape, cluster, sink
            )
    except NoQuota as error:
        raise MeasurementFailed(f"not measured: {error}") from error


def _start(stack: ExitStack, shape: Shape, kind: type[OutriderNode], sink: CountingSink) -> Cluster:
    quotas = [stack.enter_context(CpuQuota(shape.node_cores)) for _ in range(kind.nodes)]
    account = stack.enter_context(Account())
    database = stack.enter_context(PostgresServer(loopback_address(), settings=DATABASE_SETTINGS))
    account.watch(database.room.pid)
    hops = ((sink.address, PORT),)
    nodes = [
        stack.enter_context(kind(Work(loopback_address(), PORT, shape.sessions, hops), database.dsn, place))
        for place in range(1, kind.nodes + 1)
    ]
    for node, quota in zip(nodes, quotas, strict=True):
        quota.take(node.pid)
    return Cluster(nodes, database, account)


def _measured(blank: Figure, shape: Shape, cluster: Cluster, sink: CountingSink) -> Figure:
    share = blank.messages // len(cluster.nodes)
    wanted = share * len(cluster.nodes)
    before = cluster.spent()
    with PeakMemory(cluster.pids) as memory, ThreadPoolExecutor(len(cluster.nodes)) as pool:
        sources = list(pool.map(lambda node: put_by_smtp_source(shape, node, share), cluster.nodes))
        arrived, seconds = wait_arrived(sink, wanted, min(source.began for source in sources))
        during = cluster.spent()
        wait_empty(cluster.nodes[0])
    after = cluster.spent()
    if not arrived:
        raise MeasurementFailed(f"{blank.subject}: nothing arrived")
    share_used = (during.nodes_s - before.nodes_s) / seconds / (shape.node_cores * len(cluster.nodes))
    extra = {
        "database_ms": 1000 * (after.database_s - before.database_s) / arrived,
        "commits_s": (during.commits - before.commits) / seconds,
        "share_used": share_used,
    }
    late = "" if arrived >= wanted else f"{arrived} of {wanted} arrived in time"
    return replace(
        blank,
        messages=arrived,
        seconds=seconds,
        cpu_ms=1000 * (after.nodes_s - before.nodes_s) / arrived,
        peak_mib=memory.kib / KIB,
        extra=extra,
        note="; ".join(part for part in (late, cluster.nodes[0].explained()) if part),
    )
