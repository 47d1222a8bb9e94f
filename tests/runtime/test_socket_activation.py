"""Sockets that a service manager opened are used, whatever their family."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers.addresses import loopback_address

LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "outrider.cli.main", "serve", "--config", sys.argv[2]])
"""


def serve(listening: int, config: Path) -> subprocess.Popen[bytes]:
    """The server, with the descriptor where systemd puts the first one."""
    command = [sys.executable, "-c", LAUNCHER, str(listening), str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, pass_fds=[listening])


def listening_socket(address: str) -> socket.socket:
    """As systemd makes it."""
    if address.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX)
        made.bind(address.removeprefix("unix:"))
    else:
        made = socket.create_server(
            (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
    made.listen()
    made.settimeout(30)
    return made


def greeting(address: str, port: int) -> bytes:
    """What the server says first."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(address.removeprefix("unix:"))
    else:
        client = socket.create_connection((address, port), timeout=30)
    with client:
        client.settimeout(30)
        return client.recv(200)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "unix"])
def test_a_socket_passed_by_the_service_manager_is_used(kind: str, workers: int, tmp_path: Path) -> None:
    address = {"IPv4": loopback_address(), "IPv6": "::1", "unix": f"unix:{tmp_path}/lmtp"}[kind]
    with listening_socket(address) as listening:
        port = 0 if kind == "unix" else listening.getsockname()[1]
        where = f'address = "{address}"\n' + (f"port = {port}\n" if port else "")
        config = tmp_path / "outrider.toml"
        config.write_text(
            f'hostname = "mx.a.example"\ndata_dir = "data"\nworkers = {workers}\n'
            f'[[listeners]]\nprotocol = "lmtp"\n{where}'
            "[dns]\nservers = []\n"
        )
        with serve(listening.fileno(), config) as server:
            try:
                # The connection waits in the socket's queue until the server is there.
                assert greeting(address, port) == b"220 mx.a.example LMTP Outrider\r\n"
            finally:
                server.terminate()
            assert server.wait(30) == 0


def test_a_descriptor_that_does_not_listen_is_named(tmp_path: Path) -> None:
    config = tmp_path / "outrider.toml"
    config.write_text('hostname = "mx.a.example"\ndata_dir = "data"\n[[listeners]]\nprotocol = "lmtp"\n')
    with config.open() as file, serve(file.fileno(), config) as server:
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 1
    assert b"inherited descriptor 3: it is no socket" in errors
    assert b"Traceback" not in errors
