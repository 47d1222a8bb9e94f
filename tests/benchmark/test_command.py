"""`outrider bench` as users run it: a real server, real mail, short."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.server import Scripted, scripted
from tests.peers.outrider_server import OUTRIDER


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OUTRIDER, "bench", *words], capture_output=True, text=True, timeout=120)


def result(*words: str) -> dict[str, Any]:
    done = bench(*words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "options", [[], ["--workers", "2", "--starttls", "--new-connections"], ["--amtp", "--workers", "2"]]
)
def test_a_server_of_its_own_is_measured_and_explains_the_run(tmp_path: Path, options: list[str]) -> None:
    found = result("--messages", "60", "--sessions", "3", "--folder", os.fspath(tmp_path), *options)
    assert (found["accepted"], found["failed"]) == (60, 0)
    assert found["messages_per_s"] > 0
    latency = found["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    assert found["server_cpu_ms_per_message"] > 0
    assert found["server_peak_mib"] > 5
    assert "the rule" in found["explained"]
    assert found["machine"]["cores"] >= 1
    assert not list(tmp_path.iterdir())


def test_connections_alone_are_measured(tmp_path: Path) -> None:
    found = result(
        "--messages", "20", "--sessions", "2", "--amtp", "--no-mail", "--folder", os.fspath(tmp_path)
    )
    assert (found["accepted"], found["failed"]) == (20, 0)
    assert "explained" not in found
    assert not list(tmp_path.iterdir())


def test_amtp_and_starttls_exclude_each_other() -> None:
    assert bench("--amtp", "--starttls").returncode == 2


def test_a_running_server_is_measured_from_outside() -> None:
    with scripted(Scripted()) as server:
        address = f"127.0.0.1:{server.port}"
        found = result("--server", address, "--messages", "40", "--pid", str(os.getpid()), "--processes", "2")
    assert (found["accepted"], server.messages) == (40, 40)
    assert found["server_peak_mib"] > 1
    assert "explained" not in found


def test_a_message_not_accepted_is_an_exit_code_and_a_line() -> None:
    with scripted(Scripted(refuse_data_every=10)) as server:
        done = bench("--server", f"127.0.0.1:{server.port}", "--messages", "20")
    assert done.returncode == 1
    assert "2: after the data: 451 not now" in done.stdout


def test_a_port_that_is_none_is_a_fault_of_usage() -> None:
    assert bench("--server", "localhost:smtp").returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    done = bench("--server", f"127.0.0.1:{port}", "--messages", "5")
    assert done.returncode == 1
    assert "Connection refused" in done.stdout
