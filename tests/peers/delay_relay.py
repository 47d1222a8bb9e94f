"""A relay that passes every octet on after a fixed time, each way, in order: distance, without a rate limit.

``python tests/peers/delay_relay.py ADDRESS PORT TO_ADDRESS TO_PORT SECONDS`` runs one; it says ``ready`` when
it listens. It is a process of its own, so that neither side's event loop is what delays.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

PIECE = 262_144
START_S = 20.0


class DelayRelay:
    """Runs the relay for as long as the context lasts."""

    def __init__(self, address: str, port: int, to_address: str, to_port: int, delay_s: float) -> None:
        self.address, self.port = address, port
        self._words = [address, str(port), to_address, str(to_port), str(delay_s)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *self._words], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait(START_S)
            raise RuntimeError(f"no relay at {self.address}:{self.port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(START_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Way:
    """One direction of a connection."""

    def __init__(self, delay_s: float, writer: asyncio.StreamWriter) -> None:
        self._delay_s = delay_s
        self._writer = writer
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._more = asyncio.Event()

    async def take_in(self, reader: asyncio.StreamReader) -> None:
        """Read, always: how much may be under way is for the two ends to settle."""
        clock = asyncio.get_running_loop().time
        octets = b"?"
        while octets:
            try:
                octets = await reader.read(PIECE)
            except OSError:
                octets = b""
            self._waiting.append((clock() + self._delay_s, octets))
            self._more.set()

    async def give_out(self) -> None:
        """Write each piece when its time has come; an empty one is the end."""
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(OSError):
            while True:
                while not self._waiting:
                    self._more.clear()
                    await self._more.wait()
                due, octets = self._waiting.popleft()
                if (wait := due - clock()) > 0:
                    await asyncio.sleep(wait)
                if not octets:
                    self._writer.write_eof() if self._writer.can_write_eof() else None
                    return
                self._writer.write(octets)
                await self._writer.drain()


async def _serve(address: str, port: int, to: tuple[str, int], delay_s: float) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*to, limit=2 * PIECE)
        except OSError:
            writer.close()
            return
        there, back = _Way(delay_s, far_writer), _Way(delay_s, writer)
        await asyncio.gather(
            there.take_in(reader), there.give_out(), back.take_in(far_reader), back.give_out()
        )
        for one in (writer, far_writer):
            one.close()

    server = await asyncio.start_server(relay, address, port, limit=2 * PIECE)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _address, _port, _to, _to_port, _delay = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_address, int(_port), (_to, int(_to_port)), float(_delay)))
