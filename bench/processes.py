"""What a server's processes cost: CPU time and memory, read from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


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


def pss_kib(root: int) -> int:
    """Proportional set size of the family, KiB: shared pages counted once in all."""
    total = 0
    for pid in family(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class PeakMemory:
    """Samples the family's memory in the background; `kib` is the largest seen."""

    def __init__(self, root: int, interval_s: float = 0.5) -> None:
        self._root = root
        self._interval_s = interval_s
        self._stop = threading.Event()
        self.kib = 0

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.kib = max(self.kib, pss_kib(self._root))
            if self._stop.wait(self._interval_s):
                return
