"""FAULT-F3: next hops, clients, the database and the name server go away in the middle of things."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

import pytest

from tests.faults.account import check_account
from tests.faults.between import Between
from tests.faults.figures import SCALE, publish, short_and_long
from tests.faults.load import DOMAIN, Load
from tests.faults.lossy import ADDRESSES, NETWORK, LossyNetwork
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial

Blow = Callable[[Between, random.Random], None]


def reset(wire: Between, chance: random.Random) -> None:
    """Every connection ends with RST."""
    del chance
    wire.reset()


def die(wire: Between, chance: random.Random) -> None:
    """Connections break and new ones are refused for a while."""
    wire.part()
    time.sleep(chance.uniform(0.0, 0.5))
    wire.join()


def fall_silent(wire: Between, chance: random.Random) -> None:
    """Nothing gets through for a while, then all of it."""
    wire.partition()
    time.sleep(chance.uniform(0.1, 1.0))
    wire.heal()


def fall_silent_and_break(wire: Between, chance: random.Random) -> None:
    """Nothing gets through for a while, and then the connections turn out to be dead."""
    wire.partition()
    time.sleep(chance.uniform(0.1, 1.0))
    wire.reset()
    wire.heal()


BLOWS: tuple[Blow, ...] = (reset, die, fall_silent, fall_silent_and_break)


def strike(wire: Between, rounds: int, chance: random.Random, load: Load) -> None:
    """So many blows while mail flows; after each it must flow again."""
    for number in range(rounds):
        time.sleep(chance.uniform(0.05, 0.3))
        BLOWS[number % len(BLOWS)](wire, chance)
        taken = len(load.acknowledged)
        wait_until(
            lambda taken=taken: len(load.acknowledged) > taken + 5, f"mail after blow {number + 1}", 60
        )


@pytest.mark.covers("FAULT-F3", "SMTP-6", "FAULT-F14")
@short_and_long(12, 200)
def test_a_next_hop_that_goes_away(rounds: int) -> None:
    sink_address, address, wire_address = (loopback_address() for _ in range(3))
    with (
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        Between(wire_address, PORT, (sink_address, PORT)) as wire,
        OutriderServer(relay(address, wire_address)) as server,
    ):
        with Load(address, PORT, pause_s=0.01) as load:
            strike(wire, rounds, random.Random(31), load)
        account = check_account(server, load, sink, rounds)
    publish("F3", "next hop dies, resets, falls silent", "SQLite", account.figures(rounds))


@pytest.mark.covers("FAULT-F3", "SMTP-5", "FAULT-F14")
@short_and_long(12, 200)
def test_clients_that_go_away(rounds: int) -> None:
    sink_address, address, wire_address = (loopback_address() for _ in range(3))
    with (
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        OutriderServer(relay(address, sink_address)) as server,
        Between(wire_address, PORT, (address, PORT)) as wire,
    ):
        with Load(wire_address, PORT) as load:
            strike(wire, rounds, random.Random(32), load)
        account = check_account(server, load, sink, rounds)
        # What the client was not told of may have been taken; if so, once, and whole.
        assert account.duplicates == 0
    publish("F3", "clients die, reset, fall silent", "SQLite", account.figures(rounds))


@pytest.mark.covers("FAULT-F3", "SEC-94", "FAULT-F14")
@short_and_long(8, 100)
def test_a_database_that_cannot_be_reached(postgres_dsn: str, rounds: int) -> None:
    sink_address, address, wire_address = (loopback_address() for _ in range(3))
    host = postgres_dsn.partition("@")[2].partition(":")[0]
    spool = {"backend": "postgresql", "dsn": postgres_dsn.replace(host, wire_address)}
    with (
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        Between(wire_address, 5432, (host, 5432)) as wire,
        OutriderServer(relay(address, sink_address, spool=spool)) as server,
    ):
        with Load(address, PORT) as load:
            strike(wire, rounds, random.Random(33), load)
        assert {reply[:3] for reply in load.refusals} <= {b"451", b"421"}
        account = check_account(server, load, sink, rounds)
    publish("F3", "database cut off, reset, silent", "PostgreSQL", account.figures(rounds))


@pytest.mark.covers("FAULT-F3", "SMTP-6")
@short_and_long(2, 20)
def test_a_name_server_that_dies(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(34)
    # Nothing is remembered for long: the next hop has to be looked up again and again.
    zone = f"@ 1 IN MX 10 mx.{DOMAIN}.\nmx 1 IN A {sink_address}\n"
    with Sink(sink_address, PORT, keeps_bodies=False) as sink, BindServer({DOMAIN: zone}) as names:
        configuration = relay(
            address,
            sink_address,
            dns={"servers": [f"{names.address}:{names.port}"], "timeout": 1.0},
            net={"smtp_port": PORT},
            routes={DOMAIN: "mx"},
        )
        with OutriderServer(configuration) as server:
            with Load(address, PORT, pause_s=0.05) as load:
                for _ in range(rounds):
                    time.sleep(chance.uniform(0.5, 1.5))
                    names.room.kill()
                    taken = len(load.acknowledged)
                    wait_until(lambda taken=taken: len(load.acknowledged) > taken + 20, "mail without names")
                    time.sleep(chance.uniform(0.5, 1.5))
                    names.start()
            account = check_account(server, load, sink, rounds)
            assert server.log_events("deferred"), "nobody missed the name server"
    publish("F3", "name server killed", "SQLite", account.figures(rounds))


@pytest.mark.long
@pytest.mark.covers("FAULT-F3", "SMTP-5", "FAULT-F14")
def test_a_network_that_loses_packets() -> None:
    """30 % of all packets are lost, between the clients and us as between us and the next hop."""
    messages = max(10, round(500 * SCALE))
    here, there = ADDRESSES
    configuration = relay(here, there, relay={"networks": [NETWORK]}, net={"private_destinations": [NETWORK]})
    with contextlib.ExitStack() as stack, LossyNetwork(0.3) as network:
        server = OutriderServer(configuration)
        with network.on(0):
            stack.enter_context(server)
        with network.on(1):
            sink = stack.enter_context(Sink(there, PORT, keeps_bodies=False))
            load = stack.enter_context(Load(here, PORT, sessions=20, sizes=(100, 1_500, 20_000)))
        wait_until(lambda: len(load.acknowledged) >= messages, f"{messages} messages", 1800)
        wait_until(lambda: len(sink.arrivals) >= messages // 2, "some of them to go on", 1800)
        packets = {"packets lost": network.lost}
        network.loss = 0.0
        load.stop()
        account = check_account(server, load, sink, messages)
        stack.close()
    publish("F3", "30 % of packets lost", "SQLite", account.figures(1) | packets)
