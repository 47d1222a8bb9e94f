"""The fixture for Outrider's own process, against a stand-in that keeps the contract of `serve`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from tests.peers.outrider_server import OutriderServer, to_toml

STAND_IN = """
import json, signal, sys, time
if sys.argv[1] == "queue":
    print(json.dumps(sys.argv[1:]))
    sys.exit(0)
assert sys.argv[1:3] == ["serve", "--config"], sys.argv
def stop(*_):
    sys.exit({status})
signal.signal(signal.SIGTERM, stop)
print("not an event", file=sys.stderr)
print(json.dumps({{"event": "ready", "listeners": ["127.0.0.1:25"]}}), file=sys.stderr, flush=True)
time.sleep(600)
"""


def stand_in(folder: Path, status: int = 0) -> tuple[str, ...]:
    program = folder / "stand-in.py"
    program.write_text(STAND_IN.format(status=status))
    return (sys.executable, str(program))


def test_waits_for_ready_and_reads_events(tmp_path: Path) -> None:
    with OutriderServer({"hostname": "mx.alpha.example"}, command=stand_in(tmp_path)) as server:
        assert server.log_events() == [{"event": "ready", "listeners": ["127.0.0.1:25"]}]
        assert "not an event" in server.log()
        server.restart()
        assert len(server.wait_event("ready", 2)) == 2
        words = server.cli_json("queue", "list")
        assert words == ["queue", "list", "--json", "--config", str(server.config_path)]
        server.kill()
        assert not server.is_running()
        folder = server.folder
    assert not folder.exists()


def test_a_stop_that_fails_is_an_error(tmp_path: Path) -> None:
    server = OutriderServer("", command=stand_in(tmp_path, status=3))
    with server, pytest.raises(RuntimeError, match="ended with 3 instead of 0"):
        server.stop()


def test_a_server_that_ends_early_shows_its_log() -> None:
    command = (sys.executable, "-c", "raise SystemExit('bad configuration')")
    with pytest.raises(RuntimeError, match="ended before it was ready\nbad configuration"):
        OutriderServer("", command=command).__enter__()


def test_writes_the_configuration_with_its_folder(tmp_path: Path) -> None:
    tables = {
        "hostname": "mx.alpha.example",
        "listeners": [{"protocol": "smtp", "port": 25}, {"protocol": "qmtp", "port": 209}],
        "dns": {"servers": []},
        "domains": {"alpha.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["ann", "bøb"]}},
    }
    assert tomllib.loads(to_toml(tables)) == tables
    with OutriderServer(tables, command=stand_in(tmp_path)) as server:
        written = tomllib.loads(server.config_path.read_text())
        assert written["data_dir"] == f"{server.folder}/data"
        assert written["domains"]["alpha.example"]["deliver"] == f"maildir:{server.folder}/mail/{{user}}"
