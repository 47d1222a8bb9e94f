"""What the tests of the TLS transport share: a recording application, servers and clients on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.peers.certificates import CertificateAuthority, TlsFiles

from outrider.net.tls import TlsTimes, TlsTransport, start_tls_client, tls_server_side
from outrider.net.tls_context import ClientContext, ServerContexts, ServerTls
from outrider.net.tls_files import CertificateFiles
from outrider.net.tls_info import TlsFailure, TlsInfo

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
LIMIT_S = 20.0


Work = Coroutine[Any, Any, None]


def run_on(loop: str, work: Work) -> None:
    """Run `work` to its end on the loop of that name; hanging is a failure."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.wait_for(work, LIMIT_S)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(watched())
    assert not complaints, complaints


def pair(files: TlsFiles) -> CertificateFiles:
    return CertificateFiles(files.certificate, files.key)


def server_tls(authority: CertificateAuthority, name: str = "mx.alpha.example", **options: Any) -> ServerTls:
    return ServerTls(ServerContexts(pair(authority.issue(name))), **options)


class App(asyncio.Protocol):
    """Records what an application is told; `echo` sends everything back."""

    def __init__(self, *, echo: bool = False, keep_open: bool = False) -> None:
        self.echo = echo
        self.keep_open = keep_open
        self.transport: TlsTransport | None = None
        self.received = bytearray()
        self.events: list[str] = []
        self.lost: Exception | None = None
        self.failure: TlsFailure | None = None
        self.made = asyncio.Event()
        self.ended = asyncio.Event()
        self.failed = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._news = asyncio.Event()

    @property
    def tls(self) -> TlsTransport:
        assert self.transport is not None
        return self.transport

    @property
    def info(self) -> TlsInfo:
        assert self.tls.info is not None
        return self.tls.info

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        if isinstance(transport, TlsTransport):
            self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()
        if self.echo:
            self.tls.write(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        self._news.set()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost = exc
        self._news.set()
        self.ended.set()

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.writable.clear()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.writable.set()

    def tls_ready(self, transport: TlsTransport, _info: TlsInfo) -> None:
        self.events.append("ready")
        self.transport = transport
        self.made.set()

    def tls_failed(self, failure: TlsFailure) -> None:
        self.events.append("failed")
        self.failure = failure
        self.failed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, looking whenever something happens here."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def octets(self, count: int) -> bytes:
        """Wait for `count` octets in all."""
        await self.until(lambda: len(self.received) >= count or self.ended.is_set())
        return bytes(self.received)


@asynccontextmanager
async def listening(make: Callable[[], asyncio.Protocol]) -> AsyncIterator[tuple[str, int]]:
    """A plain TCP server on loopback whose connections get `make()`; its address."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def tls_listening(
    tls: ServerTls, app: App, *, times: TlsTimes | None = None
) -> AsyncIterator[tuple[str, int]]:
    """A server of implicit TLS for one connection, recorded by `app`."""
    async with listening(lambda: tls_server_side(app, tls, times=times, on_failed=app.tls_failed)) as address:
        yield address


async def connect(
    address: tuple[str, int],
    app: App,
    context: ClientContext | None = None,
    *,
    placeholder: Callable[[], asyncio.Protocol] = asyncio.Protocol,
    **options: Any,
) -> TlsTransport:
    """A client of implicit TLS."""
    loop = asyncio.get_running_loop()
    raw, _ = await loop.create_connection(placeholder, *address)
    return await start_tls_client(raw, app, context or ClientContext(), announce=True, **options)


async def finished(*apps: App) -> None:
    """Wait until all of them have lost their connection."""
    for app in apps:
        await app.ended.wait()


def der_of(path: Path) -> tuple[bytes, ...]:
    """The certificates in a PEM file."""
    certificates = x509.load_pem_x509_certificates(path.read_bytes())
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
