"""SEC-93: no descriptor is left, again and again, while mail comes, is stored and goes on."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pytest

from tests.faults.account import check_account
from tests.faults.figures import publish, short_and_long
from tests.faults.load import Load
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial


def descriptors(server: OutriderServer) -> list[int]:
    """Those that the server has open."""
    return sorted(int(path.name) for path in Path(f"/proc/{server.pid}/fd").iterdir())


@pytest.mark.covers("SEC-93", "SMTP-5", "FAULT-F14")
@short_and_long(6, 100)
def test_starved_of_descriptors_under_load(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(93)
    # Half of the bodies go to files, each session and each delivery is a socket.
    with (
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        OutriderServer(relay(address, sink_address)) as server,
    ):
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        settled = len(descriptors(server))
        with Load(address, PORT, sessions=20, sizes=(100, 20_000, 300_000), pause_s=0.01) as load:
            for number in range(rounds):
                time.sleep(chance.uniform(0.1, 0.4))
                # The limit is on the number itself: with what is open, a few more can be had, or none.
                least = descriptors(server)[settled - 1] + 1 + chance.randint(0, 10)
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (least, hard))
                time.sleep(chance.uniform(0.2, 0.6))
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
                taken = len(load.acknowledged)
                wait_until(
                    lambda taken=taken: len(load.acknowledged) > taken, f"mail after time {number + 1}"
                )
        assert {reply[:3] for reply in load.refusals} <= {b"451", b"452", b"421"}
        account = check_account(server, load, sink, rounds)
        wait_until(lambda: len(descriptors(server)) <= settled + 10, "descriptors to be given back", 90)
    publish("SEC-93", "no descriptor left, under load", "SQLite", account.figures(rounds))
