"""The server's end of the control socket (`control.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path

from outrider.runtime.control import MAX_REQUEST, CommandRefused, Handler, encode, short_path

REQUEST_TIMEOUT_S = 30.0
RETRY_S = 1.0
_BACKLOG = 64


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
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
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
