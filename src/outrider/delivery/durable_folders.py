"""Folders whose names a power cut cannot take: what lies in them is no safer than they are.

Whether this process has made a folder, another thread is making it at this moment, or a process that died
between making and syncing did, is not to be seen from the folder. So each is synced once in a process' life,
with all above it, by whoever needs it first, before anything in it counts as delivered.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_REMEMBERED = 50_000
"""Folders; with more, all are forgotten and looked at again."""

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL})
"""What may not be read, not be written, or knows no sync is no folder that we have made something in."""


class DurableFolders:
    """Safe for use by several threads: two that need a folder at once both sync it."""

    def __init__(self) -> None:
        self._known: set[Path] = set()

    def make(self, folder: Path, mode: int) -> None:
        """Make it and what is missing above it. Raises OSError."""
        missing: list[Path] = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        # What is made anew may have been known before somebody removed it.
        self._known.difference_update(missing)
        for one in reversed(missing):
            one.mkdir(mode=mode, exist_ok=True)

    def ensure(self, folder: Path) -> None:
        """Return when the names of all that lies in `folder`, its own and those of all folders above it are
        on stable storage. `folder` is synced each time, those above it once. Raises OSError."""
        sync_folder(folder)
        above: list[Path] = []
        while (parent := folder.parent) != folder and parent not in self._known:
            above.append(parent)
            folder = parent
        for one in above:
            try:
                sync_folder(one)
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
        if len(self._known) > MOST_REMEMBERED:
            self._known.clear()
        self._known.update(above)


def sync_folder(folder: Path) -> None:
    """fsync of a directory. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
