"""SIGKILL at random moments under load: every acknowledged message arrives, whole.

The number of rounds is OUTRIDER_KILL_ROUNDS: 50 unless told otherwise; the checklist asks for 500.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter

import pytest

from tests.faults import ledger
from tests.faults.account import account_of
from tests.faults.load import Load
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.postgresql import PostgresServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial

ROUNDS = int(os.environ.get("OUTRIDER_KILL_ROUNDS", "50"))
DATABASE_ROUNDS = max(1, ROUNDS // 6)
CONCURRENCY = 8


def kill_rounds(server: OutriderServer, rounds: int, chance: random.Random) -> int:
    """Kill the server at a random moment of its work, in one round of ten once more while it starts; how
    often it was killed."""
    kills = 0
    for number in range(rounds):
        time.sleep(chance.uniform(0.05, 0.4))
        server.kill()
        kills += 1
        if number % 10 == 9:
            killer = threading.Timer(chance.uniform(0.3, 1.0), server.kill)
            killer.start()
            with contextlib.suppress(RuntimeError):  # it came no further
                server.start()
            killer.join()
            kills += 1
        server.start()
    return kills


def check_account(server: OutriderServer, load: Load, sink: Sink, kills: int) -> None:
    """Nothing lost, nothing cut, and what came twice was under way in a kill; then the ledger."""
    ledger.wait_drained(server, 120)
    held = ledger.counts(server)["held"]
    if held:  # messages that happened to be under way in several kills look like poison
        server.cli("queue", "release", "--all")
        ledger.wait_drained(server, 120)
    account = account_of(load, sink)
    print(f"\n{kills} kills, {account.acknowledged} messages acknowledged of {len(load.offered)} offered,")
    print(
        f"lost {len(account.lost)}, truncated {len(account.truncated)}, "
        f"duplicates {account.duplicates}, held meanwhile {held}"
    )
    assert account.acknowledged >= kills
    assert not account.lost
    assert not account.truncated
    assert not account.bounces_lost
    assert account.duplicates <= kills * CONCURRENCY  # each at most what was between delivery and record
    wanted = Counter(
        (name, "failed" if "refused" in name else "relayed")
        for mail in load.acknowledged.values()
        for name in mail.recipients
    )
    assert ledger.recipient_states(server, load.ids.values()) == wanted
    assert not server.log_events("internal_failure")


@pytest.mark.covers("FAULT-F2", "SMTP-5", "FAULT-F14")
def test_killed_under_load_loses_nothing() -> None:
    sink_address, address = loopback_address(), loopback_address()
    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:
        with Load(address, PORT) as load:
            kills = kill_rounds(server, ROUNDS, random.Random(7))
        check_account(server, load, sink, kills)


@pytest.mark.covers("FAULT-F2", "SMTP-5", "FAULT-F14")
def test_killed_with_the_spool_in_postgresql(postgres_dsn: str) -> None:
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, spool={"backend": "postgresql", "dsn": postgres_dsn})
    with Sink(sink_address, PORT) as sink, OutriderServer(configuration) as server:
        with Load(address, PORT) as load:
            kills = kill_rounds(server, DATABASE_ROUNDS, random.Random(8))
        check_account(server, load, sink, kills)


@pytest.mark.covers("FAULT-F3", "SMTP-5", "SEC-94")
def test_the_database_killed_under_load_loses_nothing() -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(9)
    with Sink(sink_address, PORT) as sink, PostgresServer(loopback_address()) as postgres:
        configuration = relay(address, sink_address, spool={"backend": "postgresql", "dsn": postgres.dsn})
        with OutriderServer(configuration) as server:
            with Load(address, PORT) as load:
                for number in range(DATABASE_ROUNDS):
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
            check_account(server, load, sink, DATABASE_ROUNDS)
