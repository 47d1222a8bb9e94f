"""The spool of nodes that share one PostgreSQL, as a shape of the benchmark: see `bench.cluster`."""

from __future__ import annotations

from tests.peers.addresses import loopback_address
from tests.peers.postgresql import PostgresServer

from bench import cluster
from bench.measuring import MeasurementFailed
from bench.nodes import DATABASE_SETTINGS
from bench.subjects import SpoolNode, Subject
from bench.work import MIB, Figure, Shape


def measure_spool(shape: Shape, kind: type[Subject], number: int, messages: int) -> Figure:
    """One measurement; the messages are shared out among the nodes. Raises MeasurementFailed."""
    if not issubclass(kind, SpoolNode):
        raise MeasurementFailed(f"{kind.name}: it is no spool")
    share = max(1, messages // kind.nodes)
    body = shape.size if shape.size >= MIB else 0
    with PostgresServer(loopback_address(), settings=DATABASE_SETTINGS) as server:
        found = cluster.measure(server, kind.nodes, share, shape.sessions, body, number)
    total = share * kind.nodes
    extra = {
        "database_ms": found.database_ms,
        "log_kib": found.log_kib,
        "requests_a_commit": found.per_commit,
    }
    return Figure(shape.name, kind.name, number, total, total / found.per_second, found.node_ms, 0.0, extra)
