"""Hosts that are not mail servers: one that never answers, and clients that say nothing."""

from __future__ import annotations

import contextlib
import socket
from typing import Self

_AT_ONCE = 50
"""Sessions that are opened together."""


class DeadHost:
    """A host whose packets get lost: connecting to it takes as long as the client has patience.

    A listening socket whose queue is full drops every further SYN, which is what an unreachable host looks
    like. (One that refuses connections at once would be no test of patience.)
    """

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        listening = self._stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self.address, self.port))
        listening.listen(0)
        # One more than the queue holds: the kernel lets in backlog + 1.
        for _ in range(2):
            client = self._stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((self.address, self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class IdleSessions:
    """Sessions that have said EHLO and then wait."""

    def __init__(self, address: str, port: int, count: int) -> None:
        self._target = (address, port)
        self._count = count
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            for begun in range(0, self._count, _AT_ONCE):
                self._open(min(_AT_ONCE, self._count - begun))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()

    def _open(self, count: int) -> None:
        """Some together: a few servers let each client wait a while before they greet it."""
        new = [socket.create_connection(self._target, timeout=30) for _ in range(count)]
        self._sockets += new
        for sock in new:
            self._read_reply(sock)
            sock.sendall(b"EHLO client.example\r\n")
        for sock in new:
            self._read_reply(sock)

    @staticmethod
    def _read_reply(sock: socket.socket) -> None:
        octets = b""
        while not (octets.endswith(b"\r\n") and octets.split(b"\r\n")[-2][3:4] == b" "):
            received = sock.recv(4096)
            if not received:
                raise ConnectionError(f"an idle session was ended: {octets!r}")
            octets += received
        if not octets.startswith(b"2"):
            raise ConnectionError(f"an idle session was refused: {octets!r}")
