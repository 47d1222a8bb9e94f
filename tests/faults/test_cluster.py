"""Nodes of a cluster killed, stopped and cut off; their database taken away, and its standby promoted."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from types import TracebackType
from typing import Self

import pytest

from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.faults.account import account_of
from tests.faults.load import Load
from tests.faults.sending import send, try_to_send
from tests.faults.sink import Arrival, Sink
from tests.faults.sites import PORT
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.postgresql import PostgresServer
from tests.peers.postgresql_standby import PostgresStandby, dsn_of
from tests.peers.rooms import wait_until
from tests.system.clusters import LEASE_S, node

pytestmark = pytest.mark.serial

ROUNDS = max(1, int(os.environ.get("OUTRIDER_KILL_ROUNDS", "12")) // 12)
CONCURRENCY = 8
HTTP_PORT = 9090


def check_accounts(asked: OutriderServer, loads: Sequence[Load], sink: Sink, blows: int) -> None:
    """Nothing lost, nothing cut, at most what was under way came twice; the ledger says the same."""
    ledger.wait_drained(asked, 120)
    held = ledger.counts(asked)["held"]
    if held:
        asked.cli("queue", "release", "--all")
        ledger.wait_drained(asked, 120)
    total = duplicates = 0
    for load in loads:
        account = account_of(load, sink)
        total += account.acknowledged
        duplicates = account.duplicates  # of all that arrived, whoever sent it
        assert not account.lost
        assert not account.truncated
        assert not account.bounces_lost
        wanted = Counter(
            (name, "failed" if "refused" in name else "relayed")
            for mail in load.acknowledged.values()
            for name in mail.recipients
        )
        assert ledger.recipient_states(asked, load.ids.values()) == wanted
    print(f"\n{blows} blows, {total} messages acknowledged, {duplicates} duplicates, held meanwhile {held}")
    assert duplicates <= blows * CONCURRENCY
    assert total


def load_on(address: str, number: int) -> Load:
    """Sessions to one node; the messages of several loads can be told apart."""
    return Load(address, PORT, sessions=4, seed=number, prefix=f"n{number}-")


def more_than(load: Load, number: int) -> Callable[[], bool]:
    """Whether so many messages were acknowledged."""
    return lambda: len(load.acknowledged) > number


def arrived(sink: Sink, names: Sequence[str]) -> Callable[[], bool]:
    """Whether there was mail for all of them."""
    return lambda: all(sink.arrived_for(name) for name in names)


@pytest.mark.covers("FAULT-F2", "FAULT-F14", "SEC-213")
def test_a_node_killed_under_load_loses_nothing_and_the_other_takes_over(postgres_dsn: str) -> None:
    first, second = loopback_address(), loopback_address()
    chance = random.Random(11)
    with (
        Sink(loopback_address(), PORT) as sink,
        node("one", first, sink.address, postgres_dsn) as one,
        node("two", second, sink.address, postgres_dsn) as two,
    ):
        with load_on(first, 1) as load_one, load_on(second, 2) as load_two:
            for number in range(ROUNDS):
                wait_until(more_than(load_one, len(load_one.acknowledged) + 10), "mail at the first")
                time.sleep(chance.uniform(0.0, 0.5))
                one.kill()
                # Its mail moves on while it is away.
                names = [mail.recipients[0] for mail in list(load_one.acknowledged.values())]
                what = f"the other node to deliver all of it after kill {number + 1}"
                wait_until(arrived(sink, names), what, 60)
                if number < ROUNDS - 1:
                    one.start()
        check_accounts(two, (load_one, load_two), sink, ROUNDS)
        assert not two.log_events("internal_failure")


@pytest.mark.covers("SEC-213", "FAULT-F10")
def test_a_node_that_slept_through_its_lease_sends_nothing_more_of_it(postgres_dsn: str) -> None:
    first, second = loopback_address(), loopback_address()
    with (
        Sink(loopback_address(), PORT) as sink,
        node("one", first, sink.address, postgres_dsn, delivery={"concurrency": 1, "retry": [1]}) as one,
        node("two", second, sink.address, postgres_dsn, delivery={"concurrency": 1, "retry": [1]}) as two,
    ):
        asleep = threading.Event()

        def fall_asleep(_arrival: Arrival) -> None:
            if not asleep.is_set():
                os.killpg(one.pid, signal.SIGSTOP)
                asleep.set()

        names = [f"r{number}@far.example" for number in range(6)]
        with Wire(first, PORT) as wire:  # in one go: the rest waits in memory while the first is under way
            wire.ehlo()
            ids = []
            gate = threading.Event()
            sink.before_354 = lambda: gate.wait(60)
            for name in names:
                wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
                wire.expect(b"250", after=f"RCPT TO:<{name}>".encode())
                wire.expect(b"354", after=b"DATA")
                ids.append(wire.expect(b"250", after=b"Subject: x\r\n\r\nx\r\n.").split()[-1].decode())
        sink.before_250 = fall_asleep
        gate.set()
        wait_until(asleep.is_set, "the first node to be stopped")
        wait_until(
            lambda: all(sink.arrived_for(name) for name in names), "the second node to deliver the rest", 60
        )
        ledger.wait_drained(two)
        os.killpg(one.pid, signal.SIGCONT)
        one.wait_event("lease_lost")
        # Awake again, it takes mail and delivers it - and nothing of what it had before.
        after = send(first, b"Subject: x\r\n\r\nx\r\n", "after@far.example").split()[-1].decode()
        ledger.wait_drained(one)
        arrivals = Counter(name for arrival in sink.arrivals for name in arrival.recipients)
        assert arrivals["after@far.example"] == 1
        assert sum(arrivals.values()) <= len(names) + 2, "only what was in flight may come twice"
        assert set(arrivals) == {*names, "after@far.example"}
        assert ledger.recipient_states(two, (*ids, after)) == Counter((name, "relayed") for name in arrivals)


def ready(address: str) -> tuple[int, str]:
    """What /readyz says."""
    try:
        with closing(urllib.request.urlopen(f"http://{address}:{HTTP_PORT}/readyz", timeout=30)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read().decode()


@pytest.mark.covers("SEC-94", "FAULT-F3")
def test_without_its_database_a_node_says_451_and_resumes_by_itself(postgres_server: PostgresServer) -> None:
    del postgres_server  # one of its own is taken away here
    address = loopback_address()
    listeners = [
        {"protocol": "smtp", "address": address, "port": PORT},
        {"protocol": "http", "address": address, "port": HTTP_PORT},
    ]
    gate, reached = threading.Event(), threading.Event()

    def wait_at_the_end(_arrival: Arrival) -> None:
        reached.set()
        gate.wait(60)

    with (
        Sink(loopback_address(), PORT) as sink,
        PostgresServer(loopback_address()) as postgres,
        node("one", address, sink.address, postgres.dsn, listeners=listeners) as server,
    ):
        assert ready(address) == (200, "ready\n")
        sink.before_250 = wait_at_the_end
        under_way = send(address, b"Subject: x\r\n\r\nx\r\n", "under-way@far.example").split()[-1].decode()
        wait_until(reached.is_set, "a delivery to be under way")
        postgres.stop()
        wait_until(lambda: ready(address)[0] == 503, "the node to know that its database is away")
        assert "database" in ready(address)[1]
        with Wire(address, PORT) as wire:
            wire.ehlo()
            assert wire.command(b"MAIL FROM:<s@client.example>").startswith(b"451")
        gate.set()  # it ends while nothing can be recorded
        wait_until(lambda: bool(server.log_events("spool_failed")), "a settlement that has to wait")
        postgres.start()
        wait_until(lambda: ready(address)[0] == 200, "the node to know that its database is back")
        after = try_to_send(address, b"Subject: x\r\n\r\nx\r\n", "after@far.example")
        assert after.startswith(b"250")
        ledger.wait_drained(server)
        assert len(sink.arrived_for("under-way@far.example")) == 1
        assert ledger.recipient_states(server, (under_way, after.split()[-1].decode())) == {
            ("under-way@far.example", "relayed"): 1,
            ("after@far.example", "relayed"): 1,
        }


@pytest.mark.covers("FAULT-F3", "SEC-94", "SMTP-5")
def test_a_standby_promoted_under_load_has_all_that_was_acknowledged() -> None:
    first, second = loopback_address(), loopback_address()
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(loopback_address(), PORT))
        primary = stack.enter_context(PostgresServer(loopback_address()))
        standby = stack.enter_context(PostgresStandby(loopback_address(), primary))
        standby.wait_streaming()
        # Without this, what the primary acknowledged and had not sent on would be lost with it.
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql("SELECT pg_reload_conf()")
        wait_until(
            lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync", "synchronous standby"
        )
        dsn = dsn_of(primary, standby)
        one = stack.enter_context(node("one", first, sink.address, dsn))
        two = stack.enter_context(node("two", second, sink.address, dsn))
        with load_on(first, 1) as load_one, load_on(second, 2) as load_two:
            wait_until(lambda: min(len(load_one.ids), len(load_two.ids)) > 20, "mail on both nodes")
            primary.kill()
            standby.promote()
            before = len(load_one.ids), len(load_two.ids)
            wait_until(
                lambda: len(load_one.ids) > before[0] + 10 and len(load_two.ids) > before[1] + 10,
                "both nodes to take mail again",
                60,
            )
        assert {reply[:3] for reply in (*load_one.refusals, *load_two.refusals)} <= {b"451", b"452", b"421"}
        check_accounts(two, (load_one, load_two), sink, 2)
        for server in (one, two):
            assert not server.log_events("internal_failure")


class Cable:
    """A TCP relay in a thread between a node and its database, that can be cut without either being told."""

    def __init__(self, target: str, port: int = 5432) -> None:
        self.address = loopback_address()
        self._target = (target, port)
        self._port = port
        self._cut = False
        self._closing = False
        self._pairs: dict[socket.socket, socket.socket] = {}

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.address, self._port))
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._thread.join(10)
        for one in (self._listener, *self._pairs):
            one.close()

    def cut(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._cut = True

    def mend(self) -> None:
        """Let new connections through; what was open stays dead."""
        for one in list(self._pairs):
            one.close()
        self._pairs.clear()
        self._cut = False

    def _run(self) -> None:
        while not self._closing:
            if self._cut:
                time.sleep(0.02)
                continue
            with suppress(OSError, ValueError):
                self._pass(select.select([self._listener, *self._pairs], [], [], 0.05)[0])

    def _pass(self, readable: Sequence[socket.socket]) -> None:
        for one in readable:
            if one is self._listener:
                inner, _ = self._listener.accept()
                outer = socket.create_connection(self._target)
                self._pairs.update({inner: outer, outer: inner})
                continue
            other = self._pairs.get(one)
            octets = one.recv(65_536) if other is not None else b""
            if octets and other is not None:
                other.sendall(octets)
            elif other is not None:
                for end in (one, other):
                    self._pairs.pop(end, None)
                    end.close()


@pytest.mark.covers("SEC-213", "FAULT-F3", "FAULT-F14")
def test_a_node_cut_off_from_the_database_is_taken_over_and_comes_back(
    postgres_server: PostgresServer,
) -> None:
    first, second = loopback_address(), loopback_address()
    dsn = postgres_server.create_database("cut_off")
    with (
        Sink(loopback_address(), PORT) as sink,
        Cable(postgres_server.address) as cable,
        node("one", first, sink.address, dsn.replace(postgres_server.address, cable.address)) as one,
        node("two", second, sink.address, dsn) as two,
    ):
        with load_on(first, 1) as load_one, load_on(second, 2) as load_two:
            wait_until(lambda: len(load_one.ids) > 20, "mail at the first node")
            cable.cut()
            names = [mail.recipients[0] for mail in list(load_one.acknowledged.values())]
            wait_until(
                lambda: all(sink.arrived_for(name) for name in names), "the second to deliver the first's", 60
            )
            time.sleep(LEASE_S)
            cable.mend()
            before = len(load_one.ids)
            wait_until(lambda: len(load_one.ids) > before, "the first node to take mail again", 90)
        check_accounts(two, (load_one, load_two), sink, 2)
        assert one.is_running()
    postgres_server.sql('DROP DATABASE "cut_off" WITH (FORCE)')
