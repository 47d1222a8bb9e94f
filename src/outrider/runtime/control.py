"""The control socket: how `outrider queue`, `explain`, `reload` and the rest talk to a running server.

A unix socket in the data folder, for its owner alone. One request is one line of JSON
(``{"command": "queue.list", "arguments": {...}}``); the answer is any number of lines ``{"row": ...}`` and a
last one, ``{"done": true}`` or ``{"error": "..."}``. Lists are streamed, so that a queue of a million rows
needs no more memory than a short one.

Here is what both ends know, and the caller's end; the server's is `control_server.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Handler = Callable[[str, dict[str, Any]], AsyncIterator[Row]]

MAX_REQUEST = 4 * 1024 * 1024
"""Octets of one request line: room for some 100,000 ids."""
MAX_ROW = 64 * 1024 * 1024
"""Octets of one answer line: `queue show --content` of an ordinary message."""
MAX_PATH = 107
"""Octets of a unix socket's path, as the kernel has it."""


class CommandRefused(Exception):
    """The command cannot be done; the text says why, for the person who gave it."""


class NoServer(Exception):
    """Nothing listens at the control socket."""


def socket_path(data_dir: Path) -> Path:
    """Where the control socket of that data folder is."""
    return data_dir / "control.sock"


def worker_socket_path(data_dir: Path, number: int) -> Path:
    """Where worker `number` answers for itself alone."""
    return data_dir / f"control-{number}.sock"


def call(data_dir: Path, command: str, arguments: dict[str, Any]) -> Iterator[Row]:
    """Ask a running server. Raises NoServer when there is none, CommandRefused when it says no."""
    connection = _connect(socket_path(data_dir))
    with connection, connection.makefile("rb") as answers:
        connection.sendall(encode({"command": command, "arguments": arguments}))
        for line in answers:
            answer = json.loads(line)
            if "row" in answer:
                yield answer["row"]
            elif "error" in answer:
                raise CommandRefused(answer["error"])
            else:
                return
    raise CommandRefused("the server closed the connection before it had answered; see its log")


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as short:
            connection.connect(short)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NoServer(str(path)) from None
    except PermissionError:
        connection.close()
        remedy = "run this as the server's user or as root"
        raise CommandRefused(f"{path}: permission denied; {remedy}") from None
    return connection


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """The path of a unix socket in a form that is short enough: a long one leads through its open folder.

    Raises OSError when there is no such folder.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def encode(value: Row) -> bytes:
    """One line of a request or an answer."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
