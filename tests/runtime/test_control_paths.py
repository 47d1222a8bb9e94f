"""The control socket in a folder whose path is longer than a unix socket's may be."""

import os
from pathlib import Path

import pytest

from outrider.runtime.control import MAX_PATH, NoServer, call, short_path, socket_path
from outrider.runtime.control_server import open_control


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder that is too long for a socket."""
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    assert len(os.fsencode(socket_path(folder))) > MAX_PATH
    return folder


def test_it_is_opened_and_found(deep: Path) -> None:
    with open_control(socket_path(deep)) as listening:
        assert socket_path(deep).is_socket()
        assert socket_path(deep).stat().st_mode & 0o777 == 0o600
        with short_path(socket_path(deep)) as short:
            assert len(short) <= MAX_PATH
        assert listening.getsockname()


def test_nobody_is_there(deep: Path) -> None:
    with pytest.raises(NoServer):
        next(iter(call(deep, "server.status", {})))
    with pytest.raises(NoServer):
        next(iter(call(deep / "gone", "server.status", {})))
