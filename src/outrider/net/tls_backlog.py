"""Plain octets that wait to be encrypted, in order."""

from __future__ import annotations

from collections import deque

from outrider.net.tls_engine import Buffer


class Backlog:
    """What the application has written and the kernel had no room for."""

    __slots__ = ("_pieces", "octets")

    def __init__(self) -> None:
        self._pieces: deque[memoryview | bytes] = deque()
        self.octets = 0
        """How many wait."""

    def append(self, data: Buffer) -> None:
        """Add something: `bytes` by reference, a copy of what could change meanwhile."""
        piece = _steady(data)
        self._pieces.append(piece)
        self.octets += len(piece)

    def clear(self) -> None:
        """Give all up."""
        self._pieces.clear()
        self.octets = 0

    def take(self, most: int) -> memoryview | bytes:
        """The next octets: small pieces joined, so that they share a record, large ones cut at `most`."""
        pieces, room = self._pieces, most
        first = pieces.popleft()
        if len(first) > most:
            view = memoryview(first)
            pieces.appendleft(view[most:])
            self.octets -= most
            return view[:most]
        taken = [first]
        room -= len(first)
        while pieces and len(pieces[0]) <= room:
            taken.append(pieces.popleft())
            room -= len(taken[-1])
        self.octets -= most - room
        return first if len(taken) == 1 else b"".join(taken)


def _steady(data: Buffer) -> memoryview | bytes:
    """`data` in a form that nobody changes while it waits."""
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    if isinstance(view.obj, bytes) and view.contiguous:
        return view.cast("B")
    return bytes(view)
