"""What all peers have in common that live in a room of their own."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Self

from tests.peers.rooms import Room


class Tenant(abc.ABC):
    """A peer as a context manager: the room is made on entering and goes away, with all in it, at the end."""

    room: Room
    """From entering on."""

    @abc.abstractmethod
    def make_room(self) -> Room:
        """A room of the right kind, with a title that tells one peer from another."""

    @abc.abstractmethod
    def move_in(self) -> None:
        """Configure, and start what is to run from the beginning. If it fails the room goes away."""

    def __enter__(self) -> Self:
        self.room = self.make_room()
        try:
            self.move_in()
        except BaseException:
            self.room.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.room.close()
