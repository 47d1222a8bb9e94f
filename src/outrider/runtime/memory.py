"""How much memory the process has, asked often and measured seldom."""

from __future__ import annotations

import os
import time

_LOOK_S = 1.0


class MemoryGauge:
    """Whether resident memory is above the limit of [limits] memory; 0 = no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._page = os.sysconf("SC_PAGE_SIZE")
        # Opened once: it must still be readable when no descriptor is left (SEC-93).
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._looked_at = 0.0
        self._short = False

    def is_short(self) -> bool:
        """Whether new mail has to wait (452)."""
        if not self._limit:
            return False
        now = time.monotonic()
        if now - self._looked_at > _LOOK_S:
            self._looked_at = now
            self._short = self._resident() > self._limit
        return self._short

    def _resident(self) -> int:
        return int(os.pread(self._statm, 256, 0).split()[1]) * self._page
