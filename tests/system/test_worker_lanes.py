"""The concurrency of a destination holds over all workers, and each of them gets its part."""

from __future__ import annotations

import threading
import time

import pytest

from tests.faults.sink import Arrival, Sink
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.sites import CONTENT, site, smtp_dialogue
from tests.system.workers import stored_by

MESSAGES = 30
LIMIT = 3


class Doorman:
    """Counts who is in at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def enter(self) -> None:
        """A message begins."""
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def leave(self, _: Arrival) -> None:
        """It has taken its time."""
        time.sleep(0.05)
        with self._lock:
            self._inside -= 1


@pytest.mark.covers("SMTP-3")
def test_a_destinations_concurrency_holds_over_all_workers(address: str) -> None:
    sink_address, doorman = loopback_address(), Doorman()
    settings = site(
        "alpha.example",
        address,
        routes={"far.example": {"to": f"smtp:[{sink_address}]:2525", "concurrency": LIMIT}},
        workers=2,
    )
    with Sink(sink_address, 2525) as sink, OutriderServer(settings) as server:
        sink.before_354, sink.before_250 = doorman.enter, doorman.leave
        for number in range(MESSAGES):
            _send(address, f"user{number}@far.example")
        wait_until(lambda: len(sink.arrivals) == MESSAGES, "all to be delivered")
        assert 2 <= doorman.most <= LIMIT
        assert set(stored_by(server).values()) == {1, 2}
        server.wait_event("relayed", MESSAGES)
        assert {event["worker"] for event in server.log_events("relayed")} == {1, 2}


def _send(address: str, recipient: str) -> None:
    replies = smtp_dialogue(
        *(address, 25, b"EHLO c.example", b"MAIL FROM:<ann@alpha.example>"),
        *(f"RCPT TO:<{recipient}>".encode(), b"DATA", CONTENT + b"."),
    )
    assert replies[-1].startswith(b"250 "), replies
