"""What a server's processes cost: CPU time and memory, read from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_SHARE_FOR_SAMPLING = 0.02
"""Of one core: looking must not slow what is looked at."""


def family(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, []))
    return found


def cpu_s(root: int) -> float:
    """CPU seconds of the family so far, ended and waited-for children included."""
    total = 0
    for pid in family(root):
        with contextlib.suppress(OSError, IndexError):
            total += sum(int(field) for field in _stat(pid)[11:15])
    return total / _TICKS


def pss_kib(pids: Iterable[int]) -> int:
    """Proportional set size of the processes, KiB: shared pages counted once in all."""
    total = 0
    for pid in pids:
        # A process may end while it is read (ESRCH).
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class PeakMemory:
    """Samples the memory of changing processes in the background; `kib` is the largest seen."""

    def __init__(self, pids: Callable[[], Iterable[int]], interval_s: float = 0.5) -> None:
        self._pids = pids
        self._interval_s = interval_s
        self._stop = threading.Event()
        self.kib = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            cpu = time.thread_time()
            self.kib = max(self.kib, pss_kib(self._pids()))
            cost = time.thread_time() - cpu
            if self._stop.wait(max(self._interval_s, cost / _SHARE_FOR_SAMPLING)):
                return
