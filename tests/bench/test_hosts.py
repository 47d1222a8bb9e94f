"""Hosts without a mail server, and what an account counts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bench.accounting import Account
from bench.hosts import DeadHost, IdleSessions

from outrider.benchmark.processes import PeakMemory, cpu_s, family, pss_kib
from tests.benchmark.server import Scripted, scripted

BURN = """
import os
print(flush=True)
input()
if os.fork() == 0:
    sum(range(3_000_000))
    os._exit(0)
os.wait()
print(flush=True)
input()
"""


def test_a_dead_host_answers_nothing(address: str) -> None:
    with DeadHost(address, 2525), pytest.raises(TimeoutError):
        socket.create_connection((address, 2525), timeout=0.3)


def test_idle_sessions_are_open_until_the_end() -> None:
    with scripted(Scripted()) as server, IdleSessions("127.0.0.1", server.port, 25):
        assert server.connections == 25


def test_a_server_that_refuses_idle_sessions_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(OSError, match="refused"), IdleSessions("127.0.0.1", port, 1):
        pass


@pytest.fixture
def burning() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for a line, works in a child, and waits again."""
    command = [sys.executable, "-c", BURN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        yield child
        child.kill()


def test_cpu_time_of_ended_children_counts(burning: subprocess.Popen[bytes]) -> None:
    assert burning.stdin
    assert burning.stdout
    with Account() as account:
        account.watch(burning.pid)
        before, before_tree = account.cpu_s(), cpu_s(burning.pid)
        burning.stdin.write(b"go\n")
        burning.stdin.flush()
        burning.stdout.readline()
        used, used_tree = account.cpu_s() - before, cpu_s(burning.pid) - before_tree
        assert account.pids() == family(burning.pid) == [burning.pid]
    assert used > 0.02
    assert used_tree > 0.01


def test_memory_is_that_of_the_processes(burning: subprocess.Popen[bytes]) -> None:
    with PeakMemory(lambda: [burning.pid]) as memory:
        assert pss_kib([burning.pid]) > 1000
    assert memory.kib > 1000


def test_a_process_that_ended_has_no_memory() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert pss_kib([done.pid]) == 0
