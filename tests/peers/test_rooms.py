"""Nothing is left of a peer: after its block, after a failure, after the test run was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.images import PROJECT, STORE
from tests.peers.postfix import PostfixServer
from tests.peers.rooms import wait_until
from tests.peers.warden import processes_below

RUN_THAT_HANGS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
import time
from tests.peers.addresses import loopback_address
from tests.peers.postfix import PostfixServer

with PostfixServer(loopback_address()) as server:
    print(server.room.path, flush=True)
    time.sleep(600)
"""


def rooms() -> set[Path]:
    return set((STORE / "rooms").iterdir())


def test_room_and_processes_go_with_the_block(address: str) -> None:
    with PostfixServer(address) as server:
        path = server.room.path
        assert processes_below(path)
    assert not path.exists()
    assert not processes_below(path)


def test_a_server_that_cannot_start_leaves_nothing(address: str) -> None:
    with pytest.raises(RuntimeError, match="ended before it listened"):
        PostfixServer(address, main_cf={"mail_owner": "no-such-user"}).__enter__()
    assert not [
        path for path in rooms() if (path / "etc/postfix/main.cf").exists() and address in _main_cf(path)
    ]


def _main_cf(room: Path) -> str:
    try:
        return (room / "etc/postfix/main.cf").read_text()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda blow: blow.name)
def test_a_run_that_is_ended_leaves_nothing(blow: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN_THAT_HANGS],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert run.stdout is not None
    with run:
        room = Path(run.stdout.readline().strip())
        assert processes_below(room)
        os.kill(run.pid, blow)
    wait_until(lambda: not processes_below(room) and not room.exists(), f"{room} to be cleaned up")


def test_stopped_server_starts_again_on_its_data(address: str) -> None:
    with PostfixServer(address) as server:
        server.stop()
        assert not processes_below(server.room.path)
        server.room.write("mail/ann/new/1", b"kept\n", owner="vmail")
        server.start()
        assert server.messages("ann") == [b"kept\n"]
