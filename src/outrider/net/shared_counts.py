"""Counts that several processes keep together, without a lock and without a server.

One anonymous piece of memory is made before the processes are: each then writes a row of its own and reads
all. Nobody ever writes what another writes, so there is nothing to lock, and a reader sees every cell as it
was at some moment just past.

Keys (addresses, destinations) are not stored. Each is hashed to two cells of a row, and its total is the
smaller of the two sums over all rows (a count-min sketch): never too small; too large only while both cells
are shared with other keys in use. The hash is seeded at random when the program starts, so that nobody
outside can choose keys that meet.
"""

from __future__ import annotations

import mmap
from typing import Final

WIDTH: Final = 65_536
"""Cells for each of the two hashes. With 10,000 keys in use, 2 of 100 totals are too large (by what shares
both cells)."""
_MASK: Final = WIDTH - 1
_CELL: Final = 4
"""Octets of a cell: one aligned store, which no reader sees half done."""
_ROW: Final = 2 * WIDTH + mmap.PAGESIZE // _CELL
"""Cells of a row: both hashes, and a page of which the first cell is the plain total."""
_ALL: Final = 2 * WIDTH


class SharedCounts:
    """The memory. To be made before `os.fork`; a page of it that nobody counts in takes no memory."""

    def __init__(self, rows: int) -> None:
        """`rows`: one for each process, numbered from 0."""
        self._rows = rows
        self._memory = mmap.mmap(-1, rows * _ROW * _CELL)  # shared, and zero
        self._cells = memoryview(self._memory).cast("I")

    @property
    def rows(self) -> int:
        """How many processes may count."""
        return self._rows

    def row(self, number: int) -> CountRow:
        """What the process with that number counts with. Raises IndexError."""
        self._check(number)
        return CountRow(self._cells, number, self._rows)

    def clear(self, row: int) -> None:
        """Forget what a process counted that is dead. Raises IndexError."""
        self._check(row)
        start = row * _ROW * _CELL
        self._memory[start : start + _ROW * _CELL] = bytes(_ROW * _CELL)

    def _check(self, number: int) -> None:
        if not 0 <= number < self._rows:
            raise IndexError(f"row {number} of {self._rows}")


class CountRow:
    """One process's own counts, and the totals of all."""

    __slots__ = ("_base", "_bases", "_cells", "processes")

    def __init__(self, cells: memoryview[int], number: int, rows: int) -> None:
        self._cells = cells
        self._base = number * _ROW
        self._bases = tuple(row * _ROW for row in range(rows))
        self.processes = rows
        """How many rows there are."""

    def add(self, key: bytes) -> None:
        """Count one more under `key`."""
        first, second = _places(key)
        self._cells[self._base + first] += 1
        self._cells[self._base + second] += 1

    def remove(self, key: bytes) -> None:
        """Count one less under `key`, which this process has added before."""
        for place in _places(key):
            self._lower(self._base + place)

    def total(self, key: bytes) -> int:
        """How many all processes have under `key`; at least."""
        cells, bases = self._cells, self._bases
        first, second = (sum([cells[base + place] for base in bases]) for place in _places(key))
        return min(first, second)

    def add_all(self) -> None:
        """Count one more without a key."""
        self._cells[self._base + _ALL] += 1

    def remove_all(self) -> None:
        """Count one less without a key."""
        self._lower(self._base + _ALL)

    def total_all(self) -> int:
        """How many all processes have, counted without a key: exactly."""
        cells = self._cells
        return sum([cells[base + _ALL] for base in self._bases])

    def _lower(self, place: int) -> None:
        # A row that was cleared stays at nothing: a count too low passes, one below nothing never would.
        if self._cells[place]:
            self._cells[place] -= 1


def _places(key: bytes) -> tuple[int, int]:
    """The cells of a key in any row, one for each hash; processes that were forked share the seed."""
    value = hash(key)
    return value & _MASK, WIDTH + ((value >> 32) & _MASK)
