"""FAULT-F8, SEC-92: the disk is full; nothing acknowledged is lost, and no hand is needed afterwards."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import ledger
from tests.faults.account import account_of
from tests.faults.load import Load
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.images import require_root
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial

DISK_OCTETS = 48 * 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own; whatever still uses it at the end does not keep it mounted."""
    require_root("mounting a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size={DISK_OCTETS},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "outrider-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """A file that takes all room but `leave` octets."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))
    if leave:
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - leave)
    return filler


@pytest.mark.covers("FAULT-F8", "SEC-92", "FAULT-F14")
@pytest.mark.parametrize("sizes", [(100, 1500), (20_000, 300_000)], ids=["in the database", "in files"])
def test_a_disk_that_runs_full_under_load(disk: Path, sizes: tuple[int, ...]) -> None:
    address, sink_address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, data_dir=str(disk / "data"))
    with OutriderServer(configuration) as server, Load(address, PORT, sizes=sizes) as load:
        # Nothing leaves before the sink is there: the queue itself fills what the file has left.
        filler = fill(disk, leave=6 * 1024 * 1024)
        wait_until(lambda: len(load.refusals) >= 20, "mail to be refused", 60)
        assert {reply[:4] for reply in load.refusals} <= {b"452 ", b"451 "}
        filler.unlink()
        refused = len(load.refusals)
        taken = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) >= taken + 5, "mail to be taken again")
        load.stop()
        with Sink(sink_address, PORT) as sink:
            wait_until(lambda: drains(server), "the queue to drain", 120)
            held = [row["reason"] for row in ledger.queue_list(server) if row["state"] == "held"]
            account = account_of(load, sink)
            print(
                f"\n{account.acknowledged} acknowledged, {refused} refused, duplicates {account.duplicates}"
            )
            assert not held, "a full disk is no reason to hold mail for a person"
            assert not account.lost
            assert not account.truncated
            assert not account.bounces_lost
            assert server.is_running()
            assert not server.log_events("internal_failure")


def drains(server: OutriderServer) -> bool:
    """Whether the queue is empty; what is put off because the way was dead is tried at once instead."""
    counts = ledger.counts(server)
    if counts["ready"]:
        server.cli("queue", "retry", "--all", check=False)  # some are under way by now
    return bool(counts["ready"] + counts["active"] == 0)


@pytest.mark.covers("FAULT-F8", "SEC-92")
def test_below_the_reserve_mail_waits_outside(disk: Path) -> None:
    address, sink_address = loopback_address(), loopback_address()
    space = {"reserve": 8 * 1024 * 1024}
    configuration = relay(address, sink_address, data_dir=str(disk / "data"), spool=space)
    with Sink(sink_address, PORT) as sink, OutriderServer(configuration) as server:
        filler = fill(disk, leave=4 * 1024 * 1024)
        with Load(address, PORT, sessions=1) as load:
            wait_until(lambda: len(load.refusals) >= 3, "MAIL to be refused")
            assert {reply[:4] for reply in load.refusals} == {b"452 "}
            filler.unlink()
            wait_until(lambda: len(load.acknowledged) >= 3, "mail to be taken")
        ledger.wait_drained(server)
        assert not account_of(load, sink).lost
