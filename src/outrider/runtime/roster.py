"""How each worker stands, for all processes to read: a page of shared memory that the supervisor writes.

So every worker can say in `outrider status` which of its siblings is being restarted or was given up, without
asking a process that may be the one in trouble.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum

_ROW = struct.Struct("=BxxxII")
"""State, process id, restarts."""


class Standing(IntEnum):
    """Where a worker is in its life."""

    DOWN = 0
    """Dead, to be started again after a wait."""
    STARTING = 1
    READY = 2
    GIVEN_UP = 3
    """It died too often before it was ready; another worker has its mail."""


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One worker."""

    standing: Standing
    pid: int
    restarts: int


class Roster:
    """Made before the first fork; one writer, any number of readers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * _ROW.size)

    def write(self, number: int, entry: RosterEntry) -> None:
        """Say how worker `number` (from 1) stands; for the supervisor alone."""
        _ROW.pack_into(self._memory, self._at(number), entry.standing, entry.pid, entry.restarts)

    def read(self, number: int) -> RosterEntry:
        """How worker `number` stands."""
        standing, pid, restarts = _ROW.unpack_from(self._memory, self._at(number))
        return RosterEntry(Standing(standing), pid, restarts)

    def _at(self, number: int) -> int:
        if not 1 <= number <= self.workers:
            raise IndexError(f"there is no worker {number}")
        return (number - 1) * _ROW.size
