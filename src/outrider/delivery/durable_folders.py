"""Folders whose names a power cut cannot take: what lies in them is no safer than they are.

Whether this process has made a folder, another thread is making it at this moment, or a process that died
between making and syncing did, is not to be seen from the folder. So each name is synced once in the life of
a process, by whoever needs it first, before anything behind it counts as delivered.
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
        """Folders whose own names, and those of all above them, are on stable storage."""

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
        on stable storage. `folder` is synced each time; above it, what holds a name that this process has not
        seen synced: a folder known for long may hold a new one. Raises OSError."""
        sync_folder(folder)
        named: list[Path] = []
        while folder not in self._known and (parent := folder.parent) != folder:
            try:
                sync_folder(parent)
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
            named.append(folder)
            folder = parent
        if len(self._known) > MOST_REMEMBERED:
            self._known.clear()
        self._known.update(named)


def sync_folder(folder: Path) -> None:
    """fsync of a directory. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
