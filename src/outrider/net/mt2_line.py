"""What the two halves of an MT2 connection need of it: time, room, and to be taken further."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from outrider.protocols.mt2.peer import Mt2Peer


class Line(Protocol):
    """One connection, as those see it who carry transfers on it."""

    @property
    def core(self) -> Mt2Peer:
        """The protocol."""
        ...

    def now(self) -> float:
        """The clock of the core."""
        ...

    def advance(self) -> None:
        """The core was told something: send what it has to say, take its events."""

    def advance_soon(self) -> None:
        """The same at the end of the loop's turn: what many transfers have to say then goes out at once."""

    async def wait_room(self) -> None:
        """Wait until the connection takes more octets. Returns at once when it is gone."""

    def hold(self, octets: int) -> None:
        """So many octets more (or less) wait for the disk: reading stops while they are too many."""

    def broke(self, error: BaseException) -> None:
        """A fault of ours: the session ends."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this beside everything else; a fault in it ends the session."""
        ...
