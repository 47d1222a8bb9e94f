"""A TCP proxy that cuts connections: each of the first ones after a number of octets, later ones never."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Listens on one address and port for the time of a `with`."""

    def __init__(self, listen: tuple[str, int], to: tuple[str, int], cuts: Sequence[int]) -> None:
        """`cuts`: octets, of both directions together, after which each connection in turn is reset."""
        self._listen, self._to = listen, to
        self._cuts = list(cuts)
        self.connections = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._socket = socket.create_server(self._listen)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A close alone would not wake the thread that waits in accept.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @property
    def cuts_left(self) -> int:
        """Connections that are still to be cut."""
        return len(self._cuts)

    def mend(self) -> None:
        """No further connection is cut."""
        self._cuts.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                self.connections += 1
                left = [self._cuts.pop(0)] if self._cuts else [-1]
                try:
                    far = socket.create_connection(self._to)
                except OSError:  # nobody listens there just now
                    near.close()
                    continue
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target, left), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65_536):
                with self._lock:
                    whole = left[0] < 0 or len(octets) < left[0]
                    passed = octets if whole else octets[: left[0]]
                    if left[0] >= 0:
                        left[0] -= len(passed)
                target.sendall(passed)
                if not whole:
                    break
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
