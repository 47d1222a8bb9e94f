"""A wire between two programs that can be cut, reset and made silent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST and forgets what was not yet sent."""


class Between:
    """Listens at one address and passes everything on to another; by `with`, in a thread of its own."""

    def __init__(self, address: str, port: int, to: tuple[str, int]) -> None:
        self._place = (address, port)
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="between", daemon=True)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self) -> None:
        """Break every connection, so that both ends hear RST; what was under way is gone."""
        self._run(self._reset())

    def partition(self) -> None:
        """Let nothing through in either direction, without a word to either side, until `heal`."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self) -> None:
        """What had to wait goes on, as when a lost packet is sent again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def part(self) -> None:
        """Break every connection and refuse new ones, as when the program there has died."""
        self._run(self._part())

    def join(self) -> None:
        """Take connections (again)."""
        self._run(self._listen())

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, *self._place, backlog=200)

    async def _part(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _close(self) -> None:
        await self._part()
        self._flowing.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # by `_reset`; the stream's own callback would report it
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        try:
            back, forth = await asyncio.open_connection(*self._to)
        except OSError:
            return
        ours = [_copy_of_socket(writer), _copy_of_socket(forth)]
        self._sockets.update(ours)
        try:
            await asyncio.gather(self._copy(reader, forth), self._copy(back, writer))
        finally:
            for one in ours:
                self._sockets.discard(one)
                one.close()
            forth.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while octets := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(octets)
                await writer.drain()
            writer.write_eof()


def _copy_of_socket(writer: asyncio.StreamWriter) -> socket.socket:
    # asyncio lends its socket wrapped; options set on a copy hold for both.
    return socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
