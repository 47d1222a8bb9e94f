"""What a server costs, however many processes it starts and however they are related.

Exim's deliveries detach themselves, so that a family tree loses sight of them and of the CPU time they used.
A control group does not: what is started in it stays in it, and the kernel adds up its time. Where there is
no control group (no root, or none mounted), the family tree has to do; `kind` says which it was.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import Self

from outrider.benchmark.processes import cpu_s, family

_numbers = itertools.count()


class Account:
    """The processes of one server, from the moment it is told of them; leave it after they have ended."""

    def __init__(self) -> None:
        self._root = 0
        self._group: Path | None = None

    def __enter__(self) -> Self:
        return self

    def watch(self, root: int) -> None:
        """Count for this process and all that it has started and will start."""
        self._root = root
        mount = _cgroup2_mount()
        if mount is not None:
            group = mount / f"outrider-bench-{os.getpid()}-{next(_numbers)}"
            with contextlib.suppress(OSError):
                group.mkdir()
                move(root, group)
                self._group = group

    def __exit__(self, *_: object) -> None:
        if self._group is None:
            return
        # Its processes are ended by whoever started them; a group can go once they are reaped.
        for _attempt in range(20):
            with contextlib.suppress(OSError):
                self._group.rmdir()
                return
            time.sleep(0.05)

    @property
    def kind(self) -> str:
        """How it counts."""
        return "control group" if self._group else "process tree"

    def pids(self) -> list[int]:
        """All its processes now."""
        if self._group is None:
            return family(self._root)
        return [int(line) for line in (self._group / "cgroup.procs").read_text().split()]

    def cpu_s(self) -> float:
        """CPU seconds used so far; only differences mean something."""
        if self._group is None:
            return cpu_s(self._root)
        fields = dict(line.split() for line in (self._group / "cpu.stat").read_text().split("\n") if line)
        return int(fields["usage_usec"]) / 1e6


def move(root: int, group: Path) -> None:
    """Put a process and its descendants into a control group. Raises OSError.

    Processes that are born while this is done belong to a parent already moved, or are found next time.
    """
    moved: set[int] = set()
    while new := set(family(root)) - moved:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))
        moved |= new


def _cgroup2_mount() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().split("\n"):
        fields = line.split(" ")
        if len(fields) > 3 and fields[2] == "cgroup2" and os.access(fields[1], os.W_OK):
            return Path(fields[1])
    return None
