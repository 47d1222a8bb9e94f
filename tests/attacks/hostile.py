"""A next hop that says what a test tells it to say, in whatever order, and listens to what comes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

PATIENCE_S = 20.0


class Dialogue:
    """One connection from the server under test, seen from the other end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(PATIENCE_S)
        self._buffer = b""
        self.heard: list[bytes] = []
        """Every line so far, content included."""

    def say(self, octets: bytes) -> None:
        """Send."""
        self._socket.sendall(octets)

    def hear(self) -> bytes:
        """The next line; raises ConnectionError at the end."""
        while b"\n" not in self._buffer:
            octets = self._socket.recv(65536)
            if not octets:
                raise ConnectionError("the client has closed")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        self.heard.append(line + b"\n")
        return line + b"\n"

    def hear_content(self) -> bytes:
        """Everything up to the final dot."""
        content = b""
        while (line := self.hear()) != b".\r\n":
            content += line
        return content

    def answer(self, *replies: bytes) -> None:
        """For each reply: hear a line, then say it."""
        for reply in replies:
            self.hear()
            self.say(reply)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Our half of the handshake."""
        self._socket = context.wrap_socket(self._socket, server_side=True)
        self._buffer = b""

    def obey(
        self, ehlo: bytes = b"250 hostile.example\r\n", *, greet: bool = False, heard: bytes = b""
    ) -> None:
        """Be an ordinary server to the end of the session; `heard` is a line that waits for its answer."""
        if greet:
            self.say(b"220 hostile.example ESMTP\r\n")
        while True:
            verb = (heard or self.hear())[:4].upper()
            heard = b""
            if verb == b"EHLO":
                self.say(ehlo)
            elif verb == b"DATA":
                self.say(b"354 Go ahead\r\n")
                self.hear_content()
                self.say(b"250 2.0.0 Taken\r\n")
            else:
                self.say(b"250 2.0.0 Ok\r\n")

    def listen(self) -> None:
        """Hear to the end, saying nothing."""
        while True:
            self.hear()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


Script = Callable[[Dialogue], None]


class HostileServer:
    """Runs the script for each connection, in threads, while the block lasts."""

    def __init__(self, address: str, port: int, script: Script) -> None:
        self._script = script
        self._listening = socket.create_server((address, port))
        self.dialogues: list[Dialogue] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A blocked accept does not notice close(); shutdown() wakes it.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for dialogue in self.dialogues:
            dialogue.close()
        self._thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            dialogue = Dialogue(connection)
            self.dialogues.append(dialogue)
            threading.Thread(target=self._serve, args=(dialogue,), daemon=True).start()

    def _serve(self, dialogue: Dialogue) -> None:
        with contextlib.suppress(OSError, ValueError):
            try:
                self._script(dialogue)
            finally:
                dialogue.close()

    def heard(self) -> bytes:
        """All lines of all connections."""
        return b"".join(line for dialogue in self.dialogues for line in dialogue.heard)
