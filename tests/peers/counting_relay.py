"""A relay that passes every octet on and counts them, each way: commands and TLS included."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

PIECE = 262_144


class CountingRelay:
    """Runs for as long as the context lasts. `source`: the address that the far side sees."""

    def __init__(
        self, address: str, port: int, to_address: str, to_port: int = 0, *, source: str = ""
    ) -> None:
        self.address, self.port = address, port
        self._to = (to_address, to_port or port)
        self._source = (source, 0) if source else None
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._octets = 0

    @property
    def octets(self) -> int:
        """Passed on so far, both ways together."""
        with self._lock:
            return self._octets

    def __enter__(self) -> Self:
        self._listening = socket.create_server((self.address, self.port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            ending = [self._listening, *self._sockets]
        for one in ending:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._to, source_address=self._source)
        except OSError:
            near.close()
            return
        with self._lock:
            self._sockets |= {near, far}
        back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
        back.start()
        self._copy(near, far)
        back.join()
        with self._lock:
            self._sockets -= {near, far}
        near.close()
        far.close()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(PIECE):
                with self._lock:
                    self._octets += len(octets)
                target.sendall(octets)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
