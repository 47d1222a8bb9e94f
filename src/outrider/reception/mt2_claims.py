"""Which transfers each worker of a machine has under way: one of them at most each (MT2-18a).

A claim is a lock of the kernel's on one octet of a file that all workers have open: at a place that the
transfer's identity and id give. Nobody need keep a table, nothing has to be cleared away after a worker that
died, and two workers that ask at the same moment get two different answers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from outrider.reception.mt2_saved import Key

FILE: Final = Path("mt2") / "claims"
"""Below data_dir. It stays empty."""
_PLACES: Final = (1 << 62) - 1
_ELSEWHERE: Final = (errno.EACCES, errno.EAGAIN)


class TransferClaims:
    """One worker's. The locks are the process's: it must not open the file a second time, as to close that
    would let go of all of them."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def take(self, key: Key) -> bool:
        """Claim it; False: another worker has. Raises OSError where the kernel has no lock left."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except OSError as error:
            if error.errno in _ELSEWHERE:
                return False
            raise
        return True

    def give_back(self, key: Key) -> None:
        """Let go of it. Never raises."""
        with contextlib.suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(key))

    def is_elsewhere(self, key: Key) -> bool:
        """Whether another worker has it. Not to be asked about what this one has: that is let go of."""
        if not self.take(key):
            return True
        self.give_back(key)
        return False

    def close(self) -> None:
        """Let go of all."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _place(key: Key) -> int:
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") & _PLACES
