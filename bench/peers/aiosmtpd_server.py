"""aiosmtpd as a mail server of its own: every message becomes a file, synced before the 250.

Two processes share the listening socket. As with Postfix, the file is synced and its folder is not.
Run with one argument, JSON: address, port, folder, processes, tls (certificate and key, or null).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class Storing:
    """The handler: stores, and looks at nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(32)

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Durable, then 250."""
        del server, session
        content = envelope.content
        assert isinstance(content, bytes)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._store, content)
        return "250 2.0.0 stored"

    def _store(self, content: bytes) -> None:
        name = self._folder / f"{os.getpid()}-{next(self._numbers)}"
        with name.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


async def serve(listening: socket.socket, settings: dict[str, Any]) -> None:
    """Until SIGTERM."""
    context = None
    if settings["tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["tls"]["certificate"], settings["tls"]["key"])
    handler = Storing(Path(settings["folder"]))
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            handler,
            hostname="mx.aiosmtpd.example",
            data_size_limit=52_428_800,
            tls_context=context,
            require_starttls=False,
        ),
        sock=listening,
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Listen, become several, serve."""
    settings = json.loads(sys.argv[1])
    listening = socket.create_server((settings["address"], settings["port"]), backlog=1024)
    for _ in range(settings["processes"] - 1):
        if os.fork() == 0:
            break
    # Whoever started us ends the whole process group.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(listening, settings))
    else:
        uvloop.run(serve(listening, settings))


if __name__ == "__main__":
    main()
