"""What lies between the parties of AMDP, so that one of them can be killed between any two of their steps.

It shows the certificates of the services behind it, reads what is asked and answered, and says at each step
which it is, before a request goes on and after its answer has come.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

from tests.peers.certificates import TlsFiles

BEFORE: Final = "before"
MIDDLE: Final = "middle"
"""Half of the answer has been passed on."""
AFTER: Final = "after"
ENVELOPE: Final = "envelope"
"""The step whose request is MAIL and whose answer is the 250 to the content."""
_TAKEN = re.compile(rb"250 2\.\d\.\d .*queued as ")
_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)\r$")
_NAME = re.compile(rb"(?im)^host: *([^:\r]+)")

At = Callable[[str, str], bool]
"""Told of step and moment; True: somebody died of it, and the connection breaks."""


class _Stream(Protocol):
    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, octets: bytes, /) -> None: ...


class Wire:
    """Listens on one address and port for the time of a `with`, and calls from `source`."""

    def __init__(self, listen: tuple[str, int], to: tuple[str, int], at: At, source: str) -> None:
        self._listen, self._to, self._at, self._source = listen, to, at, source

    def __enter__(self) -> Self:
        self._socket = socket.create_server(self._listen)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                threading.Thread(target=self._guarded, args=(near,), daemon=True).start()

    def _guarded(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError, _Ended):
            try:
                self.serve(near)
            finally:
                near.close()

    def serve(self, near: socket.socket) -> None:
        """One connection. Raises OSError and _Ended, which end it."""
        raise NotImplementedError

    def call(self) -> socket.socket:
        """The server behind."""
        return socket.create_connection(self._to, source_address=(self._source, 0))

    def step(self, name: str, moment: str) -> None:
        """Say where we are. Raises _Ended."""
        if self._at(name, moment):
            raise _Ended


class _Ended(Exception):
    """The connection ends here."""


class HttpsWire(Wire):
    """Before a holder or an information service; a step is the last word of the path that is asked for."""

    def __init__(self, listen: str, to: str, at: At, tls: TlsFiles) -> None:
        super().__init__((listen, 443), (to, 443), at, listen)
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(tls.certificate, tls.key)
        self._client = ssl.create_default_context(cafile=str(tls.authority))

    def serve(self, near: socket.socket) -> None:
        """Requests of one connection, in turn."""
        with self._server.wrap_socket(near, server_side=True) as front:
            head, body = _message(front)
            name = _NAME.search(head)
            assert name is not None, head
            with self._client.wrap_socket(self.call(), server_hostname=name[1].decode()) as behind:
                while True:
                    self._pass_on(front, behind, head, body)
                    head, body = _message(front)

    def _pass_on(self, front: ssl.SSLSocket, behind: ssl.SSLSocket, head: bytes, body: bytes) -> None:
        name = head.split(b" ")[1].partition(b"?")[0].rpartition(b"/")[2].decode()
        self.step(name, BEFORE)
        behind.sendall(head + body)
        answer, content = _message(behind)
        self.step(name, AFTER)
        half = len(content) // 2
        front.sendall(answer + content[:half])
        self.step(name, MIDDLE)
        front.sendall(content[half:])


def _message(stream: _Stream) -> tuple[bytes, bytes]:
    """A request or an answer: its head, and as much body as it says. Raises _Ended."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += _more(stream)
    head, gap, body = read.partition(b"\r\n\r\n")
    found = _LENGTH.search(head + gap)
    pieces, missing = [body], (int(found[1]) if found else 0) - len(body)
    while missing > 0:
        pieces.append(_more(stream))
        missing -= len(pieces[-1])
    return head + gap, b"".join(pieces)


def _more(stream: _Stream) -> bytes:
    octets = stream.recv(262_144)
    if not octets:
        raise _Ended
    return octets


class SmtpWire(Wire):
    """Before a gateway that has no TLS: the step is `ENVELOPE`."""

    def serve(self, near: socket.socket) -> None:
        """One connection, both ways."""
        with self.call() as behind:
            other = threading.Thread(target=self._asked, args=(near, behind), daemon=True)
            other.start()
            try:
                while octets := behind.recv(65_536):
                    if _TAKEN.search(octets):
                        self.step(ENVELOPE, AFTER)
                    near.sendall(octets)
            finally:
                for one in (near, behind):
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                other.join()

    def _asked(self, near: socket.socket, behind: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, _Ended):
                while octets := near.recv(65_536):
                    if b"MAIL FROM:" in octets:
                        self.step(ENVELOPE, BEFORE)
                    behind.sendall(octets)
        finally:
            for one in (near, behind):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
