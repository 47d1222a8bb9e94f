"""A client that says exactly what it is told to, octet for octet."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

PATIENCE_S = 20.0


class Wire:
    """One connection to the server under test, by `with`. Every wait ends after PATIENCE_S, as a failure."""

    def __init__(self, address: str, port: int, *, source: str = "", greet: bool = True) -> None:
        self.socket = socket.create_connection(
            (address, port), timeout=PATIENCE_S, source_address=(source, 0) if source else None
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        if greet:
            self.expect(b"220")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    # -- octets ----------------------------------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Send, in one segment if it fits."""
        self.socket.sendall(octets)

    def drip(self, pieces: Iterable[bytes], gap_s: float) -> None:
        """Send each piece in a segment of its own, with a gap after it."""
        for piece in pieces:
            self.send(piece)
            time.sleep(gap_s)

    def _more(self) -> bool:
        try:
            octets = self.socket.recv(65536)
        except ConnectionResetError:
            octets = b""
        self._buffer += octets
        return bool(octets)

    def reply(self) -> bytes:
        """The next whole reply, all its lines; b"" when the server has closed instead."""
        end = 0
        while True:
            stop = self._buffer.find(b"\r\n", end)
            if stop < 0:
                if not self._more():
                    return b""
                continue
            if self._buffer[end + 3 : end + 4] != b"-":
                reply, self._buffer = self._buffer[: stop + 2], self._buffer[stop + 2 :]
                return reply
            end = stop + 2

    def replies(self, count: int) -> list[bytes]:
        """The codes of the next replies."""
        return [self.reply()[:3] for _ in range(count)]

    def until_closed(self) -> bytes:
        """All that comes before the server closes."""
        while self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    # -- conversation ----------------------------------------------------------------------------------

    def command(self, line: bytes) -> bytes:
        """Send one line; its reply."""
        self.send(line + b"\r\n")
        return self.reply()

    def expect(self, *codes: bytes, after: bytes | None = None) -> bytes:
        """The reply (to the line `after`, if one is given), which must begin with one of these codes."""
        answer = self.reply() if after is None else self.command(after)
        assert answer.startswith(codes), (after, answer)
        return answer

    def ehlo(self) -> bytes:
        """Say EHLO; the capabilities."""
        return self.expect(b"250", after=b"EHLO client.example")

    def begin(self, recipient: bytes = b"ann@here.example", sender: bytes = b"s@client.example") -> None:
        """A transaction as far as the 354."""
        self.expect(b"250", after=b"MAIL FROM:<" + sender + b">")
        self.expect(b"250", after=b"RCPT TO:<" + recipient + b">")
        self.expect(b"354", after=b"DATA")

    def is_in_step(self) -> bool:
        """Whether the next reply is that to a NOOP: no reply more has come than was waited for."""
        return self.command(b"NOOP") == b"250 2.0.0 Ok\r\n"

    def start_tls(self, context: ssl.SSLContext | None = None) -> None:
        """The handshake; what was read and not taken is lost."""
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._buffer = b""
        self.socket = context.wrap_socket(self.socket, server_hostname="mx.here.example")
