"""SEC-214, SEC-213: told to stop in the middle of things, or made to stand still."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.faults.load import is_whole, make_mail
from tests.faults.sending import send
from tests.faults.sink import Arrival, Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until


@pytest.mark.covers("SEC-214")
def test_sigterm_during_data_lets_the_message_end() -> None:
    address, sink_address = loopback_address(), loopback_address()
    mail = make_mail("during", random.Random(1), 20_000)
    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:
        with Wire(address, PORT) as idle, Wire(address, PORT) as wire:
            idle.ehlo()
            wire.ehlo()
            wire.begin(b"ann@far.example")
            octets = mail.content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
            wire.send(octets[:5000])
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            idle.expect(b"421 4.3.2 ")
            idle.socket.close()
            wire.send(octets[5000:])
            wire.expect(b"250 2.0.0 Ok: queued")
            wire.expect(b"421 4.3.2 ")
            assert wire.until_closed() == b""
        stopping.join()
        server.start()
        ledger.wait_drained(server)
        (arrival,) = sink.arrived_for("ann@far.example")
        assert is_whole(arrival.content)


@pytest.mark.covers("SEC-214")
def test_sigterm_between_our_final_dot_and_the_reply() -> None:
    address, sink_address = loopback_address(), loopback_address()
    mail = make_mail("dot", random.Random(1), 500)
    reached, go_on = threading.Event(), threading.Event()

    def wait_for_the_signal(_arrival: Arrival) -> None:
        reached.set()
        go_on.wait(20)

    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:
        sink.before_250 = wait_for_the_signal
        send(address, mail.content, "ann@far.example")
        assert reached.wait(20)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        server.wait_event("stopping")
        go_on.set()
        stopping.join()
        server.start()
        ledger.wait_drained(server)
        assert len(sink.arrivals) == 1, "the reply that came while stopping was not recorded"


@pytest.mark.covers("SEC-214")
def test_sigterm_during_outgoing_data_with_more_waiting() -> None:
    address, sink_address = loopback_address(), loopback_address()
    chance = random.Random(1)
    names = [f"a-{number}@far.example" for number in range(30)]
    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:
        sink.before_354 = lambda: time.sleep(0.2)
        for name in names:
            assert send(address, make_mail(name.partition("@")[0], chance, 20_000).content, name).startswith(
                b"250"
            )
        server.stop()
        sink.before_354 = None
        server.start()
        ledger.wait_drained(server)
        assert {name: len(sink.arrived_for(name)) for name in names} == dict.fromkeys(names, 1)
        assert all(is_whole(arrival.content) for arrival in sink.arrivals)


@pytest.mark.covers("SEC-213")
def test_a_server_that_stood_still_goes_on_where_it_was() -> None:
    address, sink_address = loopback_address(), loopback_address()
    chance = random.Random(1)
    reached, go_on = threading.Event(), threading.Event()

    def stand_still(_arrival: Arrival) -> None:
        reached.set()
        go_on.wait(20)

    configuration = relay(address, sink_address, spool={"lease": 1})
    with Sink(sink_address, PORT) as sink, OutriderServer(configuration) as server:
        sink.before_250 = stand_still
        for number in range(5):
            send(address, make_mail(f"s{number}", chance, 500).content, f"a-{number}@far.example")
        assert reached.wait(20)
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(3)  # three leases
        os.killpg(server.pid, signal.SIGCONT)
        go_on.set()
        sink.before_250 = None
        ledger.wait_drained(server)
        assert sorted(name for one in sink.arrivals for name in one.recipients) == [
            f"a-{number}@far.example" for number in range(5)
        ]
        assert not server.log_events("internal_failure")


@pytest.mark.covers("SEC-214")
def test_reload_with_sessions_open() -> None:
    address, sink_address = loopback_address(), loopback_address()
    chance = random.Random(1)
    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:
        wires = [Wire(address, PORT) for _ in range(100)]
        for wire in wires:
            wire.ehlo()
            wire.begin(b"ann@far.example")
        server.reload()
        server.wait_event("reloaded")
        for number, wire in enumerate(wires):
            wire.send(make_mail(f"r{number}", chance, 500).content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            wire.expect(b"250 2.0.0 Ok: queued")
            wire.socket.close()
        wait_until(lambda: len(sink.arrived_for("ann@far.example")) == 100, "100 messages")
