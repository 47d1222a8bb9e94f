"""A server of several worker processes, and what its supervisor says of them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.sites import json_rows

LAUNCHER = "from outrider.cli.main import main\n{}\nmain()"


def changed_outrider(change: str) -> tuple[str, ...]:
    """A command that runs Outrider after some Python has changed something in it."""
    return sys.executable, "-c", LAUNCHER.format(change)


def pids(server: OutriderServer) -> dict[int, int]:
    """The process of each worker as it was last started."""
    return {int(str(one["worker"])): int(str(one["pid"])) for one in server.log_events("worker_started")}


def kill_worker(server: OutriderServer, number: int) -> None:
    """Kill one, and wait until the supervisor knows."""
    died = len(server.log_events("worker_died"))
    os.kill(pids(server)[number], signal.SIGKILL)
    server.wait_event("worker_died", died + 1)


def wait_restarted(server: OutriderServer, number: int, starts: int = 2) -> None:
    """Wait until a worker has been started that often."""
    server.wait_event("worker_started", starts, worker=number)


def is_process(pid: int) -> bool:
    """Whether there is such a process, zombies left out."""
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/stat").open() as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_gone(processes: list[int]) -> None:
    """Wait until all of them have ended."""
    wait_until(lambda: not any(map(is_process, processes)), f"the end of {processes}")


def status(server: OutriderServer) -> dict[str, Any]:
    """The answer of `outrider status --json`."""
    [row] = json_rows(server, "status")
    return row


def stored_by(server: OutriderServer) -> dict[str, int]:
    """Which worker took each message in, by id, as the log has it."""
    return {str(one["id"]): int(str(one["worker"])) for one in server.log_events("received")}
