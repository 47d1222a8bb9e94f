"""SEC-95: somebody sets the time of day while the server runs.

No mail is lost or returned, and no storm of retries follows. A clock that is set back delays what had been
put off before by as much, until somebody says `queue retry --all`; it delays nothing else.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.faults import ledger
from tests.faults.account import check_account
from tests.faults.figures import publish
from tests.faults.load import Load
from tests.faults.powered import preloaded
from tests.faults.sending import send
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial

HOUR, DAY = 3600.0, 86_400.0
UNDER_WAY = 10
"""Deliveries within the milliseconds between reading the clock and writing by it."""


class Clock:
    """What a server takes for the time of day."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "shift"
        self._path.write_bytes(struct.pack("d", 0.0))
        self.environment = {
            "LD_PRELOAD": os.fspath(preloaded("clockshift")),
            "OUTRIDER_CLOCK_SHIFT": os.fspath(self._path),
        }

    def __enter__(self) -> Self:
        with self._path.open("r+b") as file:
            self._shift = mmap.mmap(file.fileno(), 8)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shift.close()

    def jump(self, seconds: float) -> None:
        """Set the clock on or back, against what it shows now."""
        (before,) = struct.unpack("d", self._shift[:])
        self._shift[:] = struct.pack("d", before + seconds)


@pytest.mark.covers("SEC-95", "FAULT-F14")
@pytest.mark.parametrize(
    "jump_s", [DAY, -DAY, HOUR, -HOUR], ids=["a day on", "a day back", "an hour on", "an hour back"]
)
def test_under_load(tmp_path: Path, jump_s: float) -> None:
    sink_address, address = loopback_address(), loopback_address()
    with (
        Clock(tmp_path) as clock,
        Sink(sink_address, PORT, keeps_bodies=False) as sink,
        OutriderServer(relay(address, sink_address), environment=clock.environment) as server,
    ):
        with Load(address, PORT, pause_s=0.01) as load:
            wait_until(lambda: len(load.acknowledged) > 100, "mail before the jump")
            clock.jump(jump_s)
            taken = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > taken + 100, "mail after the jump")
        # Nothing is put off and nothing has failed: it must all have gone by itself.
        wait_until(
            lambda: ledger.counts(server)["ready"] + ledger.counts(server)["active"] == 0, "mail to go on"
        )
        # What is under way at that moment may go twice. With the clock set on leases end early; with it set
        # back, one that is written by the new time looks ended to whoever read the old time just before.
        account = check_account(server, load, sink, 1)
        assert account.duplicates <= UNDER_WAY or jump_s > 0
    publish("SEC-95", "clock set on or back, an hour or a day", "SQLite", account.figures(1))


class Waiting:
    """A server with a clock of its own that tries again after 2 s and then every 4 s, and where it relays
    to: nothing is there yet."""

    def __init__(self, folder: Path) -> None:
        self.sink_address, self.address = loopback_address(), loopback_address()
        self.clock = Clock(folder)
        schedule = {"retry": [2, 4], "jitter": 0.0, "max_age": 5 * DAY, "delay_warning": 0}
        settings = relay(self.address, self.sink_address, delivery=schedule)
        self.server = OutriderServer(settings, environment=self.clock.environment)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Waiting]:
    """One that runs."""
    made = Waiting(tmp_path)
    with made.clock, made.server:
        yield made


def deferrals(server: OutriderServer) -> Counter[object]:
    """How often each recipient was put off."""
    return Counter(entry["recipient"] for entry in server.log_events("deferred"))


@pytest.mark.covers("SEC-95")
def test_a_clock_set_on_makes_no_storm(rig: Waiting) -> None:
    server, clock = rig.server, rig.clock
    with Sink(rig.sink_address, PORT):
        send_later(rig.address, 20, "before")
        server.wait_event("deferred", 20)
        clock.jump(DAY)
        before, began = deferrals(server), time.monotonic()
        server.wait_event("deferred", before.total() + 60)
        tries = deferrals(server) - before
        # Everything was due at once, and then by the schedule again, which waits 4 s from the second try on.
        assert max(tries.values()) <= 2 + (time.monotonic() - began) / 3.5
        assert not server.log_events("failed")


@pytest.mark.covers("SEC-95")
def test_a_clock_set_back_stops_nothing_that_comes_later(rig: Waiting) -> None:
    server, clock = rig.server, rig.clock
    with Sink(rig.sink_address, PORT):
        send_later(rig.address, 5, "before")
        server.wait_event("deferred", 5)
        clock.jump(-DAY)
        send_later(rig.address, 5, "after")
        # Retried as if nothing had been, by the schedule: a first try, and another 2 s later.
        wait_until(
            lambda: all(deferrals(server)[f"later-after-{n}@far.example"] >= 2 for n in range(5)), "retries"
        )
        # What had been put off by the old time can be had at once.
        before = deferrals(server)
        server.cli("queue", "retry", "--all")
        wait_until(
            lambda: all((deferrals(server) - before)[f"later-before-{n}@far.example"] for n in range(5)),
            "what had waited before",
        )
        assert not server.log_events("failed")


@pytest.mark.covers("SEC-95")
def test_a_clock_set_back_keeps_no_destination_for_dead(rig: Waiting) -> None:
    send(rig.address, b"Subject: x\r\n\r\nx\r\n", "a-before@far.example")
    rig.server.wait_event("destination_backed_off")
    rig.clock.jump(-DAY)
    with Sink(rig.sink_address, PORT) as sink:
        send(rig.address, b"Subject: x\r\n\r\nx\r\n", "a-after@far.example")
        wait_until(lambda: bool(sink.arrived_for("a-after@far.example")), "mail after the jump")


def send_later(address: str, count: int, word: str) -> None:
    """Mail for recipients who are put off for ever."""
    for number in range(count):
        send(address, b"Subject: x\r\n\r\nx\r\n", f"later-{word}-{number}@far.example")
