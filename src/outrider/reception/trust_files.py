"""Files of `[trust.lists]`: read at the start, and again when they have changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outrider.trust.list_files import MAX_OCTETS, ListEntries, ListFileError, parse_list
from outrider.trust.observer import TrustObserver

LOOK_EVERY_S = 2.0
"""A change is noticed by the next question after so long; a look costs one call of stat."""

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ReadList:
    """A list as it stood in its file."""

    path: Path
    signature: Signature
    entries: ListEntries


def read_list(path: Path) -> ReadList:
    """Raises OSError, or ListFileError with the line."""
    signature = _signature(path)
    if signature[2] > MAX_OCTETS:
        raise ListFileError(f"larger than {MAX_OCTETS} octets")
    try:
        return ReadList(path, signature, parse_list(path.read_text("utf-8")))
    except UnicodeDecodeError as error:
        raise ListFileError("not UTF-8") from error


def _signature(path: Path) -> Signature:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


class WatchedList:
    """One list, kept up to date. A file that cannot be used leaves in force what was read before."""

    def __init__(
        self, name: str, read: ReadList, observer: TrustObserver, clock: Callable[[], float]
    ) -> None:
        """`clock` runs monotonically, in seconds."""
        self._name = name
        self._read = read
        self._seen = read.signature
        self._observer = observer
        self._clock = clock
        self._looked_at = clock()
        self._reading = False

    async def entries(self) -> ListEntries:
        """As they stand in the file now, give or take `LOOK_EVERY_S`."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S and not self._reading:
            self._looked_at = now
            await self._look()
        return self._read.entries

    async def _look(self) -> None:
        self._reading = True
        try:
            signature = _signature(self._read.path)
            if signature != self._seen:
                self._seen = signature
                self._read = await asyncio.to_thread(read_list, self._read.path)
                self._observer.list_file_read(self._name, self._read.entries.count)
        except ListFileError as error:
            self._observer.list_file_unreadable(self._name, str(error))
        except OSError as error:
            self._seen = (0, 0, 0)
            self._observer.list_file_unreadable(self._name, error.strerror or os.strerror(error.errno or 0))
        finally:
            self._reading = False
