"""The control socket: how `outrider queue`, `explain`, `reload` and the rest talk to a running server.

A unix socket in the data folder, for its owner alone. One request is one line of JSON
(``{"command": "queue.list", "arguments": {...}}``); the answer is any number of lines ``{"row": ...}`` and a
last one, ``{"done": true}`` or ``{"error": "..."}``. Lists are streamed, so that a queue of a million rows
needs no more memory than a short one.
"""

from __future__ import annotations

import asyncio
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
REQUEST_TIMEOUT_S = 30.0


class CommandRefused(Exception):
    """The command cannot be done; the text says why, for the person who gave it."""


class NoServer(Exception):
    """Nothing listens at the control socket."""


def socket_path(data_dir: Path) -> Path:
    """Where the control socket of that data folder is."""
    return data_dir / "control.sock"


class ControlServer:
    """Listens and hands each request to the handler."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Open the socket, 0600; a stale one of a dead server is replaced. Raises OSError."""
        self._path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, path=_short(self._path), limit=MAX_REQUEST
            )
        finally:
            os.umask(old)

    async def stop(self) -> None:
        """Close the socket and whatever is still connected."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._connections:
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT_S)
            await self._answer(line, writer)
        except (TimeoutError, ConnectionError, ValueError):
            pass  # the caller went away or spoke nonsense; there is nobody to tell
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        request = json.loads(line)
        try:
            async for row in self._handler(str(request["command"]), dict(request.get("arguments", {}))):
                writer.write(_encode({"row": row}))
                await writer.drain()
            writer.write(_encode({"done": True}))
        except CommandRefused as refusal:
            writer.write(_encode({"error": str(refusal)}))
        except Exception as error:
            writer.write(_encode({"error": f"the server failed at this: {type(error).__name__}: {error}"}))
        await writer.drain()


def call(data_dir: Path, command: str, arguments: dict[str, Any]) -> Iterator[Row]:
    """Ask a running server. Raises NoServer when there is none, CommandRefused when it says no."""
    connection = _connect(socket_path(data_dir))
    with connection, connection.makefile("rb") as answers:
        connection.sendall(_encode({"command": command, "arguments": arguments}))
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
        connection.connect(_short(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NoServer(str(path)) from None
    except PermissionError:
        connection.close()
        remedy = "run this as the server's user or as root"
        raise CommandRefused(f"{path}: permission denied; {remedy}") from None
    return connection


def _short(path: Path) -> str:
    """A unix socket's path may have 107 octets; a path relative to here may be shorter."""
    absolute = str(path)
    if len(os.fsencode(absolute)) <= 107:
        return absolute
    relative = os.path.relpath(absolute)
    return min(absolute, relative, key=len)


def _encode(value: Row) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
