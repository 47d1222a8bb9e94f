"""SIGKILL at random moments under load: every acknowledged message arrives, whole."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.account import check_account
from tests.faults.figures import Case, blocks, publish, short_and_long
from tests.faults.load import Load
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.postgresql import PostgresServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial

BLOCK = 50
"""Rounds after which all mail is accounted for."""


def kill_rounds(server: OutriderServer, rounds: int, chance: random.Random) -> int:
    """Kill the server at a random moment of its work, in one round of ten once more while it starts; how
    often it was killed."""
    kills = 0
    for number in range(rounds):
        time.sleep(chance.uniform(0.05, 0.4))
        server.kill()
        kills += 1
        if number % 10 == 9:
            server.start_and_kill(chance.uniform(0.3, 1.0))
            kills += 1
        server.start()
    return kills


def kill_in_blocks(case: Case, rounds: int, **more: object) -> None:
    """Kill under load, account for it all, and go on with the same spool, which is named in `more`."""
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, **more)
    for block in blocks(case, rounds, BLOCK):
        with (
            Sink(sink_address, PORT, keeps_bodies=False) as sink,
            OutriderServer(configuration) as server,
        ):
            with Load(address, PORT, pause_s=0.02, prefix=block.prefix) as load:
                kills = kill_rounds(server, block.rounds, random.Random(f"{case.backend} {block.done}"))
            account = check_account(server, load, sink, kills)
        case.publish(account.figures(kills))


@pytest.mark.covers("FAULT-F2", "SMTP-5", "FAULT-F14")
@short_and_long(50, 500)
def test_killed_under_load_loses_nothing(rounds: int, tmp_path: Path) -> None:
    case = Case("F2", "server killed", "SQLite")
    kill_in_blocks(case, rounds, data_dir=str(tmp_path / "data"))


@pytest.mark.covers("FAULT-F2", "SMTP-5", "FAULT-F14")
@short_and_long(8, 500)
def test_killed_with_the_spool_in_postgresql(postgres_dsn: str, rounds: int) -> None:
    case = Case("F2", "server killed", "PostgreSQL")
    kill_in_blocks(case, rounds, spool={"backend": "postgresql", "dsn": postgres_dsn})


@pytest.mark.covers("FAULT-F3", "SMTP-5", "SEC-94")
@short_and_long(8, 100)
def test_the_database_killed_under_load_loses_nothing(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(9)
    with (
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        PostgresServer(loopback_address()) as postgres,
    ):
        configuration = relay(address, sink_address, spool={"backend": "postgresql", "dsn": postgres.dsn})
        with OutriderServer(configuration) as server:
            with Load(address, PORT) as load:
                for number in range(rounds):
                    time.sleep(chance.uniform(0.2, 0.6))
                    postgres.kill()
                    time.sleep(chance.uniform(0.0, 0.3))
                    postgres.start()
                    taken = len(load.acknowledged)
                    wait_until(
                        lambda taken=taken: len(load.acknowledged) > taken, f"mail after kill {number + 1}"
                    )
            assert {reply[:3] for reply in load.refusals} <= {b"451", b"452", b"421"}
            assert server.is_running()
            account = check_account(server, load, sink, rounds)
    publish("F3", "database killed", "PostgreSQL", account.figures(rounds))
