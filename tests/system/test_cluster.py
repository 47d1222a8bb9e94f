"""Nodes that share one PostgreSQL: one queue, one operator's word, one promise to each destination."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from outrider.cli.asking import ask
from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.faults.sending import send
from tests.faults.sink import Arrival, Sink
from tests.faults.sites import PORT
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.clusters import node

HOLD_RULE = {"name": "wait", "action": "hold", "stage": "headers", "when": {"header.subject": "hold me"}}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Two nodes and the host to which they send."""

    one: OutriderServer
    two: OutriderServer
    addresses: tuple[str, str]
    sink: Sink

    def send(self, number: int, recipient: str, content: bytes = b"Subject: x\r\n\r\nx\r\n") -> str:
        """Hand a message to the first or the second node; its id."""
        return send(self.addresses[number], content, recipient).split()[-1].decode()

    def drain(self) -> None:
        """Wait until nothing is left to do."""
        ledger.wait_drained(self.one)


class Gate:
    """Keeps the sink from saying 250 until it is opened, and counts who waits at it."""

    def __init__(self, sink: Sink) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.waiting = 0
        self.most = 0
        sink.before_250 = self._pass

    def _pass(self, _arrival: Arrival) -> None:
        with self._lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self._open.wait(60)
        with self._lock:
            self.waiting -= 1

    def open(self) -> None:
        """Let all through."""
        self._open.set()


def make_cluster(stack: ExitStack, dsn: str, **more: object) -> Cluster:
    """Two nodes, running until the stack is closed."""
    addresses = loopback_address(), loopback_address()
    sink = stack.enter_context(Sink(loopback_address(), PORT))
    one, two = (
        stack.enter_context(node(name, address, sink.address, dsn, **more))
        for name, address in zip(("one", "two"), addresses, strict=True)
    )
    return Cluster(one, two, addresses, sink)


@pytest.fixture
def cluster(postgres_dsn: str) -> Iterator[Cluster]:
    """Two nodes that deliver one message at a time to `far.example`, and hold what asks for it."""
    with ExitStack() as stack:
        yield make_cluster(
            stack, postgres_dsn, delivery={"retry": [1], "concurrency": 1}, policy={"rules": [HOLD_RULE]}
        )


@pytest.mark.covers("SEC-208")
def test_what_one_node_holds_another_shows_and_releases(cluster: Cluster) -> None:
    held = cluster.send(0, "ann@far.example", b"Subject: hold me\r\n\r\nx\r\n")
    (row,) = ledger.queue_list(cluster.two)
    assert (row["id"], row["state"]) == (held, "held")
    assert cluster.two.cli("explain", held).stdout == cluster.one.cli("explain", held).stdout
    cluster.two.cli("queue", "release", held)
    cluster.drain()
    assert len(cluster.sink.arrived_for("ann@far.example")) == 1
    assert ledger.recipient_states(cluster.one, [held]) == {("ann@far.example", "relayed"): 1}


@pytest.mark.covers("SEC-208")
@pytest.mark.parametrize(
    ("command", "state"), [("hold", "held"), ("drop", "dropped"), ("fail", "failed"), ("reroute", "relayed")]
)
def test_an_operator_reaches_what_waits_in_another_nodes_memory(
    cluster: Cluster, command: str, state: str
) -> None:
    gate = Gate(cluster.sink)
    under_way = cluster.send(0, "first@far.example")
    wait_until(lambda: gate.waiting == 1, "the first delivery")
    waiting = cluster.send(0, "second@far.example")
    wait_until(
        lambda: [row["state"] for row in ledger.queue_list(cluster.two)] == ["active", "active"],
        "both to be leased by the first node",
    )
    argument = ["--to", f"smtp:[{cluster.sink.address}]:{PORT}"] if command == "reroute" else []
    refused = cluster.two.cli("queue", command, under_way, *argument, check=False)
    assert b"being delivered" in refused.stdout + refused.stderr
    cluster.two.cli("queue", command, waiting, *argument)
    gate.open()
    ids = (under_way, waiting)
    wait_until(
        lambda: (
            ledger.recipient_states(cluster.one, ids)
            == {("first@far.example", "relayed"): 1, ("second@far.example", state): 1}
        ),
        "both to be where they belong",
    )
    assert len(cluster.sink.arrived_for("first@far.example")) == 1
    assert len(cluster.sink.arrived_for("second@far.example")) == (1 if command == "reroute" else 0)


def test_a_pause_holds_on_all_nodes_and_over_restarts(cluster: Cluster) -> None:
    def paused(server: OutriderServer) -> list[object]:
        rows = ask(server.config_path, "queue.destinations", {})
        return [row["destination"] for row in rows if row["paused"]]

    way = f"smtp:[{cluster.sink.address}]:{PORT}"
    cluster.one.cli("queue", "pause", way)
    wait_until(lambda: paused(cluster.two) == [way], "the other node to know")
    ids = [cluster.send(number % 2, f"r{number}@far.example") for number in range(6)]
    cluster.one.restart()
    wait_until(lambda: paused(cluster.one) == [way], "the restarted node to know")
    wait_until(lambda: ledger.counts(cluster.two)["ready"] == 6, "all mail to wait")
    assert not cluster.sink.arrivals
    cluster.two.cli("queue", "resume", way)
    cluster.drain()
    assert paused(cluster.one) == paused(cluster.two) == []
    assert ledger.recipient_states(cluster.two, ids) == {
        (f"r{number}@far.example", "relayed"): 1 for number in range(6)
    }


@pytest.mark.covers("SMTP-3")
def test_concurrency_holds_over_all_nodes(postgres_dsn: str) -> None:
    with ExitStack() as stack:
        cluster = make_cluster(stack, postgres_dsn, delivery={"retry": [1], "concurrency": 4})
        gate = Gate(cluster.sink)
        for number in range(12):
            cluster.send(number % 2, f"r{number}@far.example")
        wait_until(lambda: gate.waiting == 4, "as many deliveries as are allowed")
        most: list[int] = []
        cluster.sink.before_250 = lambda _arrival: most.append(gate.waiting)
        gate.open()
        cluster.drain()
        assert gate.most == 4
        assert len(cluster.sink.arrivals) == 12


@pytest.mark.covers("SMTP-3")
def test_a_slot_that_cannot_be_divided_goes_round(cluster: Cluster) -> None:
    running: list[int] = [0]
    most: list[int] = [0]
    lock = threading.Lock()

    def pass_slowly(_arrival: Arrival) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1

    cluster.sink.before_250 = pass_slowly
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda number: [cluster.send(number, f"n{number}-{i}@far.example") for i in range(60)], (0, 1)
            )
        )
    cluster.drain()
    assert most == [1]
    assert len(cluster.sink.arrivals) == 120


@pytest.mark.covers("SMTP-3")
def test_a_rate_holds_over_all_nodes(postgres_dsn: str) -> None:
    rate = 10
    with ExitStack() as stack:
        addresses = loopback_address(), loopback_address()
        sink = stack.enter_context(Sink(loopback_address(), PORT))
        routes = {"far.example": {"to": f"smtp:[{sink.address}]:{PORT}", "rate": rate}}
        one, two = (
            stack.enter_context(node(name, address, sink.address, postgres_dsn, routes=routes))
            for name, address in zip(("one", "two"), addresses, strict=True)
        )
        moments: list[float] = []
        sink.before_250 = lambda _arrival: moments.append(time.monotonic())
        cluster = Cluster(one, two, addresses, sink)
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda number: [cluster.send(number, f"n{number}-{i}@far.example") for i in range(40)],
                    (0, 1),
                )
            )
        cluster.drain()
        assert len(moments) == 80
        # A second's worth may go at once on each node until both know of each other; then the rate holds. A
        # slow machine only makes it slower.
        elapsed = moments[-1] - moments[0]
        assert len(moments) <= 3 * rate + rate * elapsed


def test_two_nodes_of_one_name_are_refused(cluster: Cluster, postgres_dsn: str) -> None:
    address = loopback_address()
    twin = node("one", address, cluster.sink.address, postgres_dsn)
    with pytest.raises(RuntimeError, match="another process uses this spool as"), twin:
        pytest.fail("it started")
    cluster.send(0, "ann@far.example")
    cluster.drain()


def test_a_node_is_told_of_mail_that_nobody_holds(cluster: Cluster) -> None:
    """A node that is stopped in order gives its mail back; the other takes it at once."""
    gate = Gate(cluster.sink)
    for number in range(5):
        cluster.send(0, f"r{number}@far.example")
    wait_until(lambda: gate.waiting == 1, "a delivery")
    gate.open()
    cluster.one.stop()
    ledger.wait_drained(cluster.two)
    assert {name for arrival in cluster.sink.arrivals for name in arrival.recipients} == {
        f"r{number}@far.example" for number in range(5)
    }


def test_a_session_on_either_node_sees_the_same_spool(cluster: Cluster) -> None:
    for address in cluster.addresses:
        with Wire(address, PORT) as wire:
            wire.ehlo()
    ids = [cluster.send(number, f"n{number}@far.example") for number in (0, 1)]
    cluster.drain()
    for server in (cluster.one, cluster.two):
        assert {row["id"] for row in ledger.queue_list(server, done=True)} == set(ids)


def test_workers_of_one_machine_share_the_queue_too(postgres_dsn: str) -> None:
    address = loopback_address()
    with (
        Sink(loopback_address(), PORT) as sink,
        node("one", address, sink.address, postgres_dsn, workers=2, policy={"rules": [HOLD_RULE]}) as server,
    ):
        names = [f"r{number}@far.example" for number in range(10)]
        held = [send(address, b"Subject: hold me\r\n\r\nx\r\n", name).split()[-1].decode() for name in names]
        assert ledger.counts(server)["held"] == 10
        assert sorted(row["id"] for row in ledger.queue_list(server)) == sorted(held)
        server.cli("queue", "release", "--all")
        ledger.wait_drained(server)
        assert ledger.recipient_states(server, held) == {(name, "relayed"): 1 for name in names}
        assert len(sink.arrivals) == 10
