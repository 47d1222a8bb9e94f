"""FAULT-F10, F11: a crash between the next hop's 250 and our record; a message that kills its server."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import pytest

from tests.faults import ledger
from tests.faults.load import is_whole, make_mail
from tests.faults.sending import send
from tests.faults.sink import Arrival, Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until


@pytest.mark.covers("FAULT-F10")
@pytest.mark.parametrize("size", [500, 50_000])
def test_a_crash_after_the_next_hops_250_makes_one_duplicate(size: int) -> None:
    address, sink_address = loopback_address(), loopback_address()
    mail = make_mail("twice", random.Random(1), size)
    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:

        def die_after_the_reply(_arrival: Arrival) -> None:
            sink.before_250 = None
            # Stopped, it cannot act on the reply that is about to be written.
            os.killpg(server.pid, signal.SIGSTOP)
            threading.Timer(0.3, server.kill).start()

        sink.before_250 = die_after_the_reply
        send(address, mail.content, "ann@far.example")
        wait_until(lambda: not server.is_running(), "the server to die")
        server.start()
        ledger.wait_drained(server)
        first, second = sink.arrivals
        assert first.field(b"Message-ID") == second.field(b"Message-ID") == b"<twice@load.example>"
        assert first.content == second.content
        assert is_whole(first.content)


@pytest.mark.covers("FAULT-F11")
def test_poison_is_held_and_the_others_flow() -> None:
    address, sink_address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, spool={"lease": 1})
    chance = random.Random(1)
    with Sink(sink_address, PORT) as sink, OutriderServer(configuration) as server:

        def kill_the_sender_of_poison(arrival: Arrival) -> None:
            if arrival.field(b"X-Token") == b"poison":
                server.kill()

        sink.before_250 = kill_the_sender_of_poison
        poison = make_mail("poison", chance, 500)
        poison_id = send(address, poison.content, "x@far.example").split()[-1].decode()
        deaths = 0
        sent: list[str] = []
        for number in range(40):
            wait_until(lambda: not server.is_running() or bool(held_rows(server)), "the server to die", 60)
            if server.is_running():
                break
            deaths += 1
            with contextlib.suppress(RuntimeError):  # the poison may be tried before it is ready
                server.start()
            if not server.is_running():
                continue
            name = f"a-n{number}@far.example"
            with contextlib.suppress(OSError, AssertionError):  # it may die under the sending, too
                if send(address, make_mail(f"n{number}", chance, 500).content, name).startswith(b"250"):
                    sent.append(name)
        assert deaths == 3, "poison_after is 3 by default"
        (held,) = held_rows(server)
        assert held["id"] == poison_id
        assert "ended abnormally 3 times" in held["reason"]
        ledger.wait_drained(server)
        assert sent
        assert all(sink.arrived_for(name) for name in sent)


def held_rows(server: OutriderServer) -> list[ledger.Row]:
    """What is held, or nothing while nobody can be asked."""
    try:
        return [row for row in ledger.queue_list(server) if row["state"] == "held"]
    except (OSError, SystemExit, RuntimeError):
        return []
