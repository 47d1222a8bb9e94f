"""FAULT-F12, shortened: minutes of steady mail with 5 % 4yz, 1 % 5yz and 1 % time-outs at the next hop.

Descriptors and memory must not grow with the mail that has passed, and the queue must be empty soon after the
last message. Days of it are for a machine that has days.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.account import check_account
from tests.faults.figures import publish, short_and_long
from tests.faults.load import Load
from tests.faults.sink import SILENCE, Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer

pytestmark = pytest.mark.serial

SAMPLES = 12
"""In one run; the first third is warming up and is not looked at."""
HALF_MINUTE_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a server uses at a moment."""

    descriptors: int
    octets: int
    """That it alone holds in memory: what is mapped from files is left out."""


def sample(server: OutriderServer) -> Sample:
    """Now."""
    folder = Path(f"/proc/{server.pid}")
    (line,) = [line for line in (folder / "status").read_text().split("\n") if line.startswith("RssAnon:")]
    return Sample(len(list((folder / "fd").iterdir())), int(line.split()[1]) * 1024)


def samples(server: OutriderServer, seconds: float) -> list[Sample]:
    """At even times, without the first third."""
    found = []
    for _ in range(SAMPLES):
        time.sleep(seconds / SAMPLES)
        found.append(sample(server))
    return found[SAMPLES // 3 :]


def moods() -> Callable[[str], bytes]:
    """One recipient in twenty is put off, one in a hundred refused, one in a hundred not answered."""
    chance = random.Random(12)

    def mood(recipient: str) -> bytes:
        fate = chance.random()
        if fate < 0.05:
            return b"451 4.2.0 Later\r\n"
        if fate < 0.06:
            return SILENCE
        return b""

    return mood


@pytest.mark.covers("FAULT-F12", "FAULT-F14")
@short_and_long(1, 20)
def test_it_can_go_on_like_this(rounds: int) -> None:
    """A round is half a minute."""
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(
        address,
        sink_address,
        delivery={"retry": [1, 2], "concurrency": 16, "command_timeout": 2},
    )
    with Sink(sink_address, PORT, keeps_bodies=False) as sink, OutriderServer(configuration) as server:
        sink.mood = moods()
        with Load(address, PORT, sessions=4, sizes=(1_500, 6_000, 20_000), pause_s=0.05) as load:
            seen = samples(server, HALF_MINUTE_S * rounds)
        account = check_account(server, load, sink, rounds, concurrency=10**6)
    early, late = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    growth = min(one.octets for one in late) - min(one.octets for one in early)
    figures = {
        **account.figures(rounds),
        "descriptors at most": max(one.descriptors for one in seen),
        "MiB at the end": round(late[-1].octets / 2**20, 1),
        "MiB grown in the second half": round(growth / 2**20, 1),
    }
    publish("F12", "soak by half minutes: 5 % 4yz, 1 % 5yz, 1 % time-outs", "SQLite", figures)
    assert account.duplicates == 0
    assert max(one.descriptors for one in late) <= max(one.descriptors for one in early) + 16
    assert growth < 8 * 2**20
