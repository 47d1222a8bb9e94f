"""A queue of a million whose destination is down, and a restart: it stands in nobody's way (FAULT-F13)."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
from bench.fill_queue import Queue, fill

from outrider.runtime.control import call
from tests.faults import ledger
from tests.faults.load import make_mail
from tests.faults.sending import send
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

LARGEST_MIB = 300
"""However long the queue is: the queue manager's capacity and SQLite's caches bound what is in memory."""
DEFERRED_AT_MOST = 2000
"""Messages that were in memory when the destination was given up: only their senders' patience was spent."""


def total(server: OutriderServer) -> int:
    """Items in the queue."""
    counts = ledger.counts(server)
    return int(counts["ready"] + counts["active"] + counts["held"])


def most_memory_mib(server: OutriderServer) -> int:
    """The most that it has ever had resident."""
    found = re.search(r"^VmHWM:\s+([0-9]+) kB", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


def passes(server: OutriderServer, address: str, sink: Sink, name: str) -> None:
    """Fresh mail for somewhere else is taken and delivered."""
    reply = send(address, make_mail(name, random.Random(1), 500).content, f"{name}@far.example")
    assert reply.startswith(b"250"), reply
    wait_until(lambda: bool(sink.arrived_for(f"{name}@far.example")), f"{name} to be delivered")


@pytest.mark.covers("FAULT-F13")
@pytest.mark.parametrize("messages", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_long_queue_stands_in_nobodys_way(messages: int) -> None:
    address, sink_address, down = loopback_address(), loopback_address(), loopback_address()
    lane = f"smtp:[{down}]:{PORT}"
    configuration = relay(address, sink_address, routes={"*": lane}, delivery={"retry": [600]})
    with Sink(sink_address, PORT) as sink, OutriderServer(configuration) as server:
        server.stop()
        queue = Queue(messages, lane=lane, due=True, now=time.time())
        assert max(fill(server.folder / "data" / "spool" / "1", queue)) == messages
        server.start()
        passes(server, address, sink, "at-once")
        server.wait_event("destination_backed_off", destination=lane)
        passes(server, address, sink, "while-it-is-put-off")
        wait_until(lambda: total(server) == messages, "all that waited to be there, and no more")

        server.kill()
        server.start()
        passes(server, address, sink, "after-a-crash")
        wait_until(lambda: ledger.counts(server)["active"] == 0, "all that was under way to be given back")
        wait_until(lambda: total(server) == messages, "all that waited to be there still")

        listed = call(server.folder / "data", "queue.list", {})
        assert sum(1 for _ in listed) == messages
        passes(server, address, sink, "after-the-list")
        assert most_memory_mib(server) < LARGEST_MIB
        # Neither start made a storm of attempts, nor of results for those that had none.
        assert len(server.log_events("connection_failed")) <= 40
        assert len(server.log_events("deferred")) <= DEFERRED_AT_MOST
        server.stop()
