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
MAX_PATH = 107
"""Octets of a unix socket's path, as the kernel has it."""
REQUEST_TIMEOUT_S = 30.0
RETRY_S = 1.0
_BACKLOG = 64


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


def open_control(path: Path) -> socket.socket:
    """A listening control socket, 0600; one that a dead server left is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o177)
    try:
        with short_path(path) as short:
            listening.bind(short)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(old)
    return listening


class ControlServer:
    """Listens and hands each request to the handler.

    The socket may be shared by several processes, each of which takes what it can get: the server's workers
    are equal, and each can answer for all.
    """

    def __init__(self, listening: socket.socket, handler: Handler) -> None:
        self._listening = listening
        self._handler = handler
        self._sessions: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take requests from now on."""
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def stop(self) -> None:
        """Close the socket and whatever is still connected. Its path is for whoever opened it to remove."""
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        for writer in self._connections:
            writer.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            accepted, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # a sibling was faster, or the caller has gone
        except OSError:  # no descriptor is free: leave the loop in peace for a moment
            loop.remove_reader(self._listening)
            self._pause = loop.call_later(RETRY_S, self.start)
            return
        accepted.setblocking(False)
        session = loop.create_task(self._converse(accepted))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _converse(self, accepted: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=accepted, limit=MAX_REQUEST)
        except OSError:
            accepted.close()
            return
        await self._serve(reader, writer)

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
                writer.write(encode({"row": row}))
                await writer.drain()
            writer.write(encode({"done": True}))
        except CommandRefused as refusal:
            writer.write(encode({"error": str(refusal)}))
        except Exception as error:
            writer.write(encode({"error": f"the server failed at this: {type(error).__name__}: {error}"}))
        await writer.drain()


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
