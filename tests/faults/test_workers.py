"""Worker processes and their supervisor are killed under load; one message kills its worker each time."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.faults.account import check_account
from tests.faults.figures import publish, short_and_long
from tests.faults.load import Load, make_mail
from tests.faults.sending import send
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.workers import changed_outrider, pids, wait_gone

pytestmark = pytest.mark.serial

IMPATIENT = changed_outrider("from outrider.runtime import restarts; restarts.LONGEST_WAIT_S = 0.2")
"""Dead workers are always replaced at once, that there be many to kill."""


def kill_workers(server: OutriderServer, rounds: int, chance: random.Random) -> int:
    """Kill one worker at a random moment of its work, in one round of five the other too; how many died."""
    kills = 0
    for number in range(rounds):
        time.sleep(chance.uniform(0.05, 0.4))
        chosen = [1, 2] if number % 5 == 4 else [chance.choice((1, 2))]
        before = pids(server)
        for one in chosen:
            os.kill(before[one], signal.SIGKILL)
        kills += len(chosen)
        wait_until(
            lambda chosen=chosen, before=before: all(pids(server)[one] != before[one] for one in chosen),
            "the workers to be replaced",
        )
    return kills


@pytest.mark.covers("FAULT-F2", "SMTP-5", "FAULT-F14")
@short_and_long(20, 500)
def test_workers_killed_under_load_lose_nothing(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, workers=2)
    with (
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        OutriderServer(configuration, command=IMPATIENT) as server,
    ):
        supervisor = server.pid
        with Load(address, PORT) as load:
            kills = kill_workers(server, rounds, random.Random(11))
        account = check_account(server, load, sink, kills)
        assert server.is_running()
        assert server.pid == supervisor
        assert len(server.log_events("worker_died")) == kills
    publish("F2", "worker killed", "SQLite", account.figures(kills))


@pytest.mark.covers("FAULT-F2", "SMTP-5", "FAULT-F14")
@short_and_long(3, 50)
def test_a_supervisor_killed_under_load_loses_nothing(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(12)
    configuration = relay(address, sink_address, workers=2)
    with Sink(sink_address, PORT, keeps_bodies=False) as sink, OutriderServer(configuration) as server:
        with Load(address, PORT) as load:
            for _ in range(rounds):
                time.sleep(chance.uniform(0.2, 0.8))
                workers = list(pids(server).values())
                os.kill(server.pid, signal.SIGKILL)
                wait_gone(workers)  # they end by themselves, and in order
                server.kill()
                server.start()
        account = check_account(server, load, sink, rounds)
        assert not server.log_events("worker_died")
    publish("F2", "supervisor killed", "SQLite", account.figures(rounds))


@pytest.mark.covers("FAULT-F11")
def test_poison_that_kills_its_worker_is_held_and_the_others_flow() -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(13)
    # The command runs as the server's own account, and so may do this to it.
    domains = {"poison.example": {"deliver": "pipe:/bin/sh -c 'kill -9 $PPID'"}}
    configuration = relay(
        *(address, sink_address), workers=2, user="nobody", domains=domains, spool={"lease": 1}
    )
    with Sink(sink_address, PORT) as sink, OutriderServer(configuration) as server:
        before = pids(server)
        poison = make_mail("poison", chance, 500).content
        poison_id = send(address, poison, "x@poison.example").split()[-1].decode()
        sent: list[str] = []
        number = 0
        until = time.monotonic() + 120  # a suspect is looked for every ten seconds
        while len(server.log_events("worker_died")) < 3 or not sent:
            assert time.monotonic() < until
            number += 1
            time.sleep(0.02)
            name = f"a-n{number}@far.example"
            try:
                if send(address, make_mail(f"n{number}", chance, 500).content, name).startswith(b"250"):
                    sent.append(name)
            except (OSError, AssertionError):
                continue  # taken by the worker that died of the other message
        wait_until(lambda: bool(held(server)), "the poison to be held", 60)
        [row] = held(server)
        assert row["id"] == poison_id
        assert "ended abnormally 3 times" in row["reason"]
        deaths = server.log_events("worker_died")
        assert len(deaths) == 3, "poison_after is 3 by default"
        [victim] = {int(str(death["worker"])) for death in deaths}
        assert pids(server)[3 - victim] == before[3 - victim], "the other worker has lived through it"
        ledger.wait_drained(server)
        assert all(sink.arrived_for(name) for name in sent)
        with Wire(address, PORT) as wire:
            wire.ehlo()


def held(server: OutriderServer) -> list[ledger.Row]:
    """What is held, or nothing while a worker is being replaced and its part is not known."""
    try:
        return [row for row in ledger.queue_list(server) if row["state"] == "held"]
    except SystemExit:
        return []
