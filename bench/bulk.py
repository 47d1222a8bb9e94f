"""Bulk over one connection: a loop around a feed that sends and receives, and nothing else."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from bench.bulk_feeds import Feed, FeedRefused

_READ = 262_144
_PIECE = 1_048_576
"""Octets encrypted at a time: a record for each message would cost more than its content."""
STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """For a feed under TLS: who we are, and who vouches for the server."""

    certificate: Path
    key: Path
    authority: Path
    server: str


def run_feed(feed: Feed, messages: int, address: str, port: int, tls: TlsIdentity | None = None) -> float:
    """Feed all messages; seconds from connecting to the last good answer. Raises FeedRefused, OSError."""
    began = time.monotonic()
    with socket.create_connection((address, port), timeout=STALL_S) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = _Wire(plain, tls)
        while feed.taken < messages:
            answer = feed.receive(wire.receive())
            if answer:
                wire.send(answer)
        return time.monotonic() - began


class _Wire:
    """A connection that always reads while it has something to write."""

    def __init__(self, plain: socket.socket, tls: TlsIdentity | None) -> None:
        self._socket = plain
        self._engine = _Engine(tls) if tls is not None else None
        self._waiting: deque[memoryview] = deque()
        if self._engine is not None:
            self._handshake(self._engine)
        plain.setblocking(False)

    def _handshake(self, engine: _Engine) -> None:
        while not engine.shake_hands():
            self._socket.sendall(engine.outgoing.read())
            engine.take(self._socket.recv(_READ))
        self._socket.sendall(engine.outgoing.read())

    def send(self, octets: bytes) -> None:
        """Queue it; it goes out when the kernel takes it."""
        view = memoryview(octets)
        for start in range(0, len(view), _PIECE):
            piece = view[start : start + _PIECE]
            self._waiting.append(memoryview(self._engine.encrypt(piece)) if self._engine else piece)

    def receive(self) -> bytes:
        """What came next; meanwhile what is queued goes out. Raises FeedRefused when nothing comes."""
        while True:
            held = self._engine.decrypt() if self._engine is not None else b""
            if held:
                return held
            if self._waiting:
                self._write()
            wanted = [self._socket] if self._waiting else []
            readable, _, _ = select.select([self._socket], wanted, [], STALL_S)
            if not readable and not wanted:
                raise FeedRefused(f"no answer for {STALL_S:g} s")
            if not readable:
                continue
            octets = self._socket.recv(_READ)
            if not octets:
                raise FeedRefused("connection lost")
            if self._engine is None:
                return octets
            self._engine.take(octets)

    def _write(self) -> None:
        while self._waiting:
            try:
                sent = self._socket.send(self._waiting[0])
            except BlockingIOError:
                return
            if sent < len(self._waiting[0]):
                self._waiting[0] = self._waiting[0][sent:]
                return
            self._waiting.popleft()


class _Engine:
    """TLS 1.3 over memory."""

    def __init__(self, tls: TlsIdentity) -> None:
        context = ssl.create_default_context(cafile=str(tls.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls.certificate, tls.key)
        context.set_alpn_protocols(["mt2"])
        self._incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self.outgoing, server_hostname=tls.server)

    def shake_hands(self) -> bool:
        """Go on; whether it is complete."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def take(self, octets: bytes) -> None:
        """Octets from the wire."""
        if not octets:
            raise FeedRefused("connection lost")
        self._incoming.write(octets)

    def decrypt(self) -> bytes:
        """What they say."""
        parts = []
        try:
            while part := self._object.read(_READ):
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        return b"".join(parts)

    def encrypt(self, octets: memoryview) -> bytes:
        """As they go over the wire."""
        self._object.write(octets)
        return self.outgoing.read()
