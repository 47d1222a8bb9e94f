"""Several worker processes below a supervisor: to clients and to the operator they are one server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.wire import Wire
from tests.faults.sink import Sink
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OUTRIDER, OutriderServer
from tests.peers.rooms import wait_until
from tests.system.sites import (
    CONTENT,
    Settings,
    body_of,
    json_rows,
    mailbox,
    queued,
    site,
    smtp_dialogue,
    wait_mailbox,
)
from tests.system.test_operations import notify_socket
from tests.system.workers import (
    changed_outrider,
    is_process,
    kill_worker,
    pids,
    status,
    stored_by,
    wait_gone,
    wait_restarted,
)

HTTP_PORT = 9464
STUFFED = CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def two_workers(address: str, **tables: Any) -> Settings:
    """The usual site with two workers; mail for `later.example` stays in the queue."""
    routes = {"later.example": f"smtp:[{loopback_address()}]:25", **tables.pop("routes", {})}
    delivery = {"retry": [3600], **tables.pop("delivery", {})}
    return site("alpha.example", address, routes=routes, delivery=delivery, workers=2, **tables)


def send(address: str, recipient: str) -> str:
    """Send one message over a connection of its own; its id."""
    replies = smtp_dialogue(
        *(address, 25, b"EHLO c.example", b"MAIL FROM:<eve@client.example>"),
        *(f"RCPT TO:<{recipient}>".encode(), b"DATA", STUFFED.removesuffix(b"\r\n")),
    )
    assert replies[-1].startswith(b"250 2.0.0 Ok: queued as "), replies
    return replies[-1].split()[-1].decode()


def send_to_both(server: OutriderServer, address: str, recipient: str, count: int = 6) -> list[str]:
    """Send messages, half of them to each worker; their ids.

    A connection that stays open keeps its worker busy: the next ones go to the other in the end.
    """
    ids: list[str] = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            wire = stack.enter_context(Wire(address, 25))
            wire.ehlo()
            wire.begin(recipient.encode(), b"eve@client.example")
            wire.send(STUFFED)
            ids.append(wire.reply().split()[-1].decode())
    server.wait_event("received", count)
    assert set(stored_by(server).values()) == {1, 2}
    return ids


@pytest.mark.covers("SMTP-9")
def test_connections_are_shared_out_evenly(address: str) -> None:
    with OutriderServer(two_workers(address)) as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Wire(address, 25))
        shown = status(server)
        counts = [worker["connections"] for worker in shown["workers"]]
        assert sum(counts) == shown["connections"] == 20
        assert min(counts) >= 7


@pytest.mark.covers("SMTP-9")
def test_commands_speak_for_all_workers(address: str) -> None:
    with OutriderServer(two_workers(address)) as server:
        ids = send_to_both(server, address, "bob@later.example")
        for _ in range(4):  # whichever of the two is asked
            rows = queued(server)
            assert [row["id"] for row in rows] == sorted(ids, key=ids.index)
            assert len(queued(server, "--limit", "3")) == 3
        for one in ids:
            assert json_rows(server, "explain", one)[0]["id"] == one
            assert json_rows(server, "queue", "show", one)[0]["id"] == one
            assert server.cli("queue", "show", one, "--object", "content").stdout.endswith(b"on\r\n")
        wait_until(
            lambda: json_rows(server, "queue", "count")[0]["ready"] == 6, "all six to wait for the retry"
        )
        assert len(json_rows(server, "queue", "destinations")) == 1
        server.cli("queue", "hold", *ids)
        assert {row["state"] for row in queued(server)} == {"held"}
        server.cli("queue", "drop", "--all")
        assert queued(server) == []


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize("how", ["SIGHUP", "command"])
def test_a_reload_reaches_all_workers_and_those_that_come_later(how: str, address: str) -> None:
    settings = two_workers(address)
    with OutriderServer(settings) as server:
        settings["domains"]["alpha.example"]["users"] = ["ann", "zoe"]
        server.write_configuration(settings)
        if how == "SIGHUP":
            server.reload()
        else:
            assert server.cli("reload").stdout == b"reloaded\n"
        events = server.wait_event("reloaded", 2)
        assert {event["worker"] for event in events} == {1, 2}
        send_to_both(server, address, "zoe@alpha.example")
        kill_worker(server, 1)
        kill_worker(server, 2)
        wait_restarted(server, 1)
        wait_restarted(server, 2)
        send_to_both(server, address, "zoe@alpha.example")
        wait_mailbox(server, "zoe", 12)


@pytest.mark.covers("SMTP-9")
def test_a_bad_file_changes_nothing_in_any_worker(address: str) -> None:
    settings = two_workers(address)
    with OutriderServer(settings) as server:
        server.write_configuration({**settings, "limits": {"mesage_size": 1}})
        done = server.cli("reload", check=False)
        assert done.returncode == 1
        assert b"message_size" in done.stderr
        server.reload()
        server.wait_event("reload_refused")
        assert not server.log_events("reloaded")
        kill_worker(server, 1)
        wait_restarted(server, 1)
        send_to_both(server, address, "ann@alpha.example")
        wait_mailbox(server, "ann", 6)


@pytest.mark.covers("SMTP-9")
def test_a_reload_reaches_a_worker_that_was_just_being_started(address: str) -> None:
    settings = two_workers(address)
    with OutriderServer(settings, command=changed_outrider(SLOW_RESTART)) as server:
        kill_worker(server, 2)
        settings["domains"]["alpha.example"]["users"] = ["ann", "zoe"]
        server.write_configuration(settings)
        wait_until(lambda: "being started" in str(status(server)["workers"][1]["ready"]), "the new worker")
        server.reload()
        server.wait_event("reloaded", worker=1)
        server.wait_event("reloaded", worker=2)
        send_to_both(server, address, "zoe@alpha.example")


SLOW_RESTART = """
import asyncio
from outrider.runtime import server
genuine = server.Server._start_delivery
async def slow(self, stack):
    await asyncio.sleep(4 * self._membership.restarts)
    await genuine(self, stack)
server.Server._start_delivery = slow
"""


@pytest.mark.covers("SEC-214", "SMTP-5")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "command"])
def test_all_workers_stop_in_order(how: str, address: str) -> None:
    with OutriderServer(two_workers(address)) as server:
        workers = list(pids(server).values())
        with Wire(address, 25) as first, Wire(address, 25) as second:
            for wire in (first, second):
                wire.ehlo()
                wire.begin(b"ann@alpha.example", b"eve@client.example")
            if how == "command":
                assert server.cli("stop").stdout == b"stopping\n"
            else:
                os.killpg(server.pid, signal.Signals[how])  # as a terminal does
            server.wait_event("stopping")
            for wire in (first, second):
                wire.send(STUFFED)
                wire.expect(b"250 2.0.0 Ok: queued")
                wire.expect(b"421 4.3.2 ")
        wait_until(lambda: not server.is_running(), "the end of the supervisor")
        wait_gone(workers)
        server.stop()  # it has ended with 0
        assert len(server.log_events("stopped")) == 1
        assert not server.log_events("worker_died")
        assert not list((server.folder / "data").glob("control*.sock"))
        server.start()
        assert [body_of(message) for message in wait_mailbox(server, "ann", 2)] == [body_of(CONTENT)] * 2


@pytest.mark.covers("SMTP-5", "SMTP-9")
def test_a_dead_worker_is_replaced_and_its_mail_moves_on(address: str) -> None:
    with OutriderServer(two_workers(address)) as server:
        ids = send_to_both(server, address, "bob@later.example")
        before = pids(server)
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(address, 25)) for _ in range(6)]
            kill_worker(server, 2)
            [event] = server.log_events("worker_died")
            assert (event["worker"], event["signal"], event["restart_in_s"]) == (2, "SIGKILL", 0.1)
            # Those of the dead one are gone; the others are served as ever.
            answers = [answer_or_nothing(wire) for wire in wires]
            assert 0 < sum(answer.startswith(b"250") for answer in answers) < 6
        wait_restarted(server, 2)
        assert pids(server)[1] == before[1]
        assert sorted(row["id"] for row in queued(server)) == sorted(ids)
        shown = status(server)
        assert shown["ready"] == "yes"
        assert [worker["restarts"] for worker in shown["workers"]] == [0, 1]
        assert b"1 restarts" in server.cli("status").stdout


def answer_or_nothing(wire: Wire) -> bytes:
    """The reply to NOOP, if anybody is there."""
    try:
        return wire.command(b"NOOP")
    except OSError:
        return b""


@pytest.mark.covers("SMTP-9")
def test_connections_that_wait_while_all_workers_are_dead_are_served(address: str) -> None:
    with OutriderServer(two_workers(address)) as server:
        for pid in pids(server).values():
            os.kill(pid, signal.SIGKILL)
        with Wire(address, 25) as wire:  # the socket is the supervisor's
            wire.ehlo()
        wait_restarted(server, 1)
        wait_restarted(server, 2)


@pytest.mark.covers("SEC-214", "SMTP-5")
def test_workers_stop_when_their_supervisor_is_killed(address: str) -> None:
    with OutriderServer(two_workers(address)) as server:
        workers = list(pids(server).values())
        with Wire(address, 25) as wire:
            wire.ehlo()
            wire.begin(b"ann@alpha.example", b"eve@client.example")
            os.kill(server.pid, signal.SIGKILL)
            wire.send(STUFFED)
            wire.expect(b"250 2.0.0 Ok: queued")
        wait_gone(workers)
        server.kill()
        server.start()
        wait_mailbox(server, "ann", 1)


@pytest.mark.covers("SMTP-5")
def test_with_fewer_workers_all_spools_are_delivered(address: str) -> None:
    next_hop = loopback_address()
    settings = two_workers(address, routes={"later.example": f"smtp:[{next_hop}]:25"})
    with OutriderServer({**settings, "workers": 3}) as server:
        send_to_all_three(server, address)
        server.stop()
        server.write_configuration({**settings, "workers": 2})
        server.start()
        server.wait_event("shard_adopted", worker=1, shard=3)
        assert status(server)["workers"][0]["adopted"] == [3]
        assert len(queued(server)) == 12
        server.stop()
        server.write_configuration({**settings, "workers": 1})
        server.start()
        assert len(server.wait_event("shard_adopted", 3)) == 3
        assert status(server)["adopted"] == [2, 3]
        with Sink(next_hop) as sink:
            server.cli("queue", "retry", "--all")
            wait_until(lambda: len(sink.arrivals) == 12, "the mail of all three")
            wait_until(lambda: queued(server) == [], "the queue to be empty")


def send_to_all_three(server: OutriderServer, address: str) -> None:
    """Twelve messages, some for each of three workers."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(address, 25)) for _ in range(12)]
        for wire in wires:
            wire.ehlo()
            wire.begin(b"bob@later.example", b"eve@client.example")
            wire.send(STUFFED)
            wire.expect(b"250 2.0.0 Ok: queued")
    server.wait_event("received", 12)
    assert set(stored_by(server).values()) == {1, 2, 3}
    server.wait_event("deferred", 12)


@pytest.mark.covers("FAULT-F11", "SMTP-5")
def test_the_spool_of_a_worker_that_cannot_live_is_handed_over(address: str) -> None:
    settings = two_workers(address)
    with OutriderServer(settings) as server:
        ids = send_to_both(server, address, "bob@later.example")
        second = {one for one, worker in stored_by(server).items() if worker == 2}
        server.stop()
        # From now on worker 2 dies in each start, wherever it is.
        server._command = list(changed_outrider(DEADLY_START))
        server.start()
        [given_up] = server.wait_event("worker_given_up")
        assert (given_up["worker"], given_up["starts"]) == (2, 5)
        assert len(server.log_events("worker_died")) == 5
        [adopted] = server.wait_event("shard_adopted")
        assert (adopted["worker"], adopted["shard"]) == (1, 2)
        assert server.log_events("ready")[-1]["workers"] == 1
        shown = status(server)
        assert shown["workers"][0]["adopted"] == [2]
        assert "given up" in shown["workers"][1]["ready"]
        assert shown["ready"] == "yes"
        assert sorted(row["id"] for row in queued(server)) == sorted(ids)
        assert second < set(ids)
        for one in second:
            assert json_rows(server, "explain", one)[0]["id"] == one
        send(address, "ann@alpha.example")
        # A successor of the heir has both spools too.
        kill_worker(server, 1)
        wait_restarted(server, 1, starts=3)
        assert status(server)["workers"][0]["adopted"] == [2]
        assert sorted(row["id"] for row in queued(server)) == sorted(ids)


DEADLY_START = """
import os, signal
from outrider.runtime import server
genuine = server.Server._start_delivery
async def deadly(self, stack):
    if self._membership.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    await genuine(self, stack)
server.Server._start_delivery = deadly
"""


@pytest.mark.covers("FAULT-F11")
def test_a_spool_that_kills_whoever_opens_it_is_left_alone(address: str) -> None:
    settings = two_workers(address)
    with OutriderServer({**settings, "workers": 3}) as server:
        send_to_all_three(server, address)
        server.stop()
        server._command = list(changed_outrider(DEADLY_ADOPTION))
        server.write_configuration(settings)
        server.start()
        [event] = server.log_events("shard_not_adopted")
        assert (event["worker"], event["shard"]) == (1, 3)
        assert len(server.wait_event("worker_died", worker=1)) == 2
        assert status(server)["ready"] == "yes"
        assert 0 < len(queued(server)) < 12
        server.stop()
        # Nothing is lost with it: an Outrider that can opens it.
        server._command = [str(OUTRIDER)]
        server.start()
        assert len(queued(server)) == 12


DEADLY_ADOPTION = """
import os, signal
from outrider.spool import sharded
async def deadly(self, spool, now):
    os.kill(os.getpid(), signal.SIGKILL)
sharded.ShardedSpool.adopt = deadly
"""


@pytest.mark.covers("SMTP-9")
def test_a_worker_that_cannot_start_stops_all_with_one_line(address: str, tmp_path: Path) -> None:
    with OutriderServer(two_workers(address)) as server:
        server.stop()
        (server.folder / "data/spool/2").chmod(0o777)
        done = subprocess.run(
            [OUTRIDER, "serve", "--config", server.config_path], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 1
        reasons = [line for line in done.stderr.decode().split("\n") if line.startswith("outrider: ")]
        assert len(reasons) == 1
        assert "spool/2" in reasons[0]
        assert "chmod 700" in reasons[0]
        assert b"Traceback" not in done.stderr
        assert b'"ready"' not in done.stderr


@pytest.mark.covers("SMTP-9")
def test_a_second_server_leaves_the_first_alone(address: str, tmp_path: Path) -> None:
    with OutriderServer(two_workers(address)) as server:
        second = two_workers(address, data_dir=f"{server.folder}/data")
        second["listeners"][0]["port"] = 26
        for workers in (1, 2):
            with (
                pytest.raises(RuntimeError, match="is in use by"),
                OutriderServer({**second, "workers": workers}),
            ):
                pass
        assert status(server)["ready"] == "yes"
        send_to_both(server, address, "ann@alpha.example")


@pytest.mark.covers("SMTP-9")
def test_a_worker_that_does_not_answer_is_named_and_then_replaced(address: str) -> None:
    change = "from outrider.runtime import supervisor; supervisor.SILENCE_S = 12.0"
    with OutriderServer(two_workers(address), command=changed_outrider(change)) as server:
        send_to_both(server, address, "bob@later.example")
        frozen = pids(server)[2]
        os.kill(frozen, signal.SIGSTOP)
        try:
            done = server.cli("queue", "list", check=False)
            if done.returncode:  # else the frozen one's socket took the request, and it is gone by now
                assert b"worker 2" in done.stderr
        finally:
            [event] = server.wait_event("worker_died", worker=2, signal="SIGKILL")
        assert "stood still" in str(event["text"])
        wait_restarted(server, 2)
        assert not is_process(frozen)
        assert len(queued(server)) == 6


@pytest.mark.covers("SMTP-9", "SEC-90")
def test_connection_limits_hold_over_all_workers(address: str) -> None:
    limits = {"connections_per_address": 4, "connections": 9}
    settings = two_workers(address, limits=limits, relay={"networks": []})
    settings["listeners"].append({"protocol": "smtp", "address": address, "port": 26, "max_connections": 1})
    with OutriderServer(settings) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(Wire(address, 25, source="127.0.0.9"))
        with Wire(address, 25, source="127.0.0.9", greet=False) as wire:
            assert wire.reply().startswith(b"421 4.3.2")
        for _ in range(4):
            stack.enter_context(Wire(address, 25, source="127.0.0.10"))
        stack.enter_context(Wire(address, 26, source="127.0.0.11"))
        for port in (25, 26):
            with Wire(address, port, source="127.0.0.12", greet=False) as wire:
                assert wire.reply().startswith(b"421 4.3.2")
        reasons = {event["why"] for event in server.wait_event("connection_refused", 3)}
        assert reasons == {"address_full", "listener_full", "server_full"}
        # A worker that dies gives back what it had.
        kill_worker(server, 1)
        kill_worker(server, 2)
        wait_restarted(server, 1)
        wait_restarted(server, 2)
        for _ in range(4):
            stack.enter_context(Wire(address, 25, source="127.0.0.9"))


@pytest.mark.covers("SMTP-9")
def test_metrics_and_health_are_those_of_the_whole_server(address: str) -> None:
    settings = two_workers(address)
    settings["listeners"].append({"protocol": "http", "address": address, "port": HTTP_PORT})
    with OutriderServer(settings) as server:
        send_to_both(server, address, "bob@later.example")
        for _ in range(4):
            page = get(address, "/metrics")
            assert 'outrider_messages_received_total{protocol="ESMTP"} 6.0' in page
            assert 'outrider_workers{state="answering"} 2' in page
        assert get(address, "/readyz") == "ready\n"
        kill_worker(server, 2)
        wait_restarted(server, 2)
        assert "outrider_worker_restarts_total 1.0" in get(address, "/metrics")
        wait_until(lambda: get(address, "/readyz") == "ready\n", "all workers to be ready again")


def get(address: str, path: str) -> str:
    """What the HTTP listener says."""
    try:
        with urllib.request.urlopen(f"http://{address}:{HTTP_PORT}{path}", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


@pytest.mark.covers("SMTP-9")
def test_the_service_manager_hears_the_supervisor_alone(address: str, tmp_path: Path) -> None:
    with notify_socket(tmp_path) as manager:
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with OutriderServer(two_workers(address), environment=environment) as server:
            assert manager.recv(4096) == b"READY=1"
            assert len(server.log_events("worker_started")) == 2
            kill_worker(server, 1)
            wait_restarted(server, 1)
            server.reload()
            server.wait_event("reloaded", 2)
            assert manager.recv(4096) == b"READY=1"
            server.stop()
            said = [word for word in received_until(manager, b"STOPPING=1") if word != b"READY=1"]
            assert said == [b"STOPPING=1"]


def received_until(manager: socket.socket, last: bytes) -> Iterator[bytes]:
    """What is said up to that word."""
    word = b""
    while word != last:
        word = manager.recv(4096)
        yield word


@pytest.mark.covers("SEC-210")
def test_lines_of_all_workers_are_whole_and_say_whose_they_are(address: str) -> None:
    with OutriderServer(two_workers(address)) as server:
        send_to_both(server, address, "bob@later.example", 20)
        server.stop()
        lines = [json.loads(line) for line in server.log().split("\n") if line]
    assert {line["worker"] for line in lines if line["event"] == "received"} == {1, 2}
    assert all("worker" not in line for line in lines if line["event"] in ("ready", "stopping", "stopped"))


@pytest.mark.covers("SMTP-8")
def test_the_processes_have_no_threads_to_fork_and_no_privileges(address: str) -> None:
    settings = {**two_workers(address), "user": "nobody"}
    with OutriderServer(settings) as server:
        assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1
        for pid in (server.pid, *pids(server).values()):
            fields = Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t65534\t65534\t65534\t65534\n" in fields
        for socket_of in ("control.sock", "control-1.sock", "control-2.sock"):
            found = (server.folder / "data" / socket_of).stat()
            assert (found.st_mode & 0o777, found.st_uid) == (0o600, 65534)
        kill_worker(server, 1)
        wait_restarted(server, 1)
        assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1
        send_to_both(server, address, "bob@later.example")


@pytest.mark.covers("SMTP-9")
def test_one_worker_for_each_core(address: str) -> None:
    with OutriderServer({**two_workers(address), "workers": 0}) as server:
        cores = len(os.sched_getaffinity(0))
        assert len(server.log_events("worker_started")) == (cores if cores > 1 else 0)
        send(address, "ann@alpha.example")
        assert len(wait_mailbox(server, "ann")) == len(mailbox(server, "ann")) == 1


@pytest.mark.covers("SMTP-5", "SMTP-9")
def test_workers_share_one_queue_in_postgresql(address: str, postgres_dsn: str) -> None:
    settings = two_workers(address, spool={"backend": "postgresql", "dsn": postgres_dsn})
    settings["listeners"].append({"protocol": "http", "address": address, "port": HTTP_PORT})
    with OutriderServer(settings) as server:
        ids = send_to_both(server, address, "bob@later.example")
        server.wait_event("deferred", 6)
        for _ in range(4):  # none twice, whichever of the two is asked
            assert sorted(row["id"] for row in queued(server)) == sorted(ids)
            assert json_rows(server, "queue", "count")[0]["ready"] == 6
        wait_until(lambda: 'outrider_queue_items{state="ready"} 6.0' in get(address, "/metrics"), "a count")
        kill_worker(server, 1)
        wait_restarted(server, 1)
        for one in ids:
            assert json_rows(server, "explain", one)[0]["id"] == one
        assert server.cli("queue", "drop", "--all").stdout.count(b"\n") == 6
        assert queued(server) == []
