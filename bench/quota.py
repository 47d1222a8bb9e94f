"""A share of the CPU for a server and all that it starts: several on one machine stand for several machines.

Without it the nodes of a cluster take CPU from each other and the database, and what a second adds cannot
be seen. The kernel's control groups keep each within its share: version 1 (controller `cpu`) where it is
mounted, otherwise version 2 (`cpu.max`). Both need root, or a group that was handed over.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.accounting import move

PERIOD_US = 20_000
"""Short: a node that has used its share up stands still until the period ends, and its peers wait for it."""
MOUNTS = Path("/proc/self/mounts")

_numbers = itertools.count()


class NoQuota(Exception):
    """This machine lets nobody set quotas here; the argument says why."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where control groups can be made."""

    path: Path
    version: int


class CpuQuota:
    """A control group with a share of the CPU (1.0 = one core); leave it after its processes have ended."""

    def __init__(self, cores: float, mount: Mount | None = None) -> None:
        self.cores = cores
        self._mount = mount or find_mount(MOUNTS.read_text())
        self._group = self._mount.path / f"outrider-quota-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Self:
        """Raises NoQuota."""
        try:
            if self._mount.version == 2:
                _let_children_have_cpu(self._mount.path)
            self._group.mkdir()
            self._limit()
        except OSError as error:
            self.__exit__()
            raise NoQuota(f"no CPU quota can be set here: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        # Its processes are ended by whoever started them; a group can go once they are reaped.
        for _attempt in range(40):
            with contextlib.suppress(OSError):
                self._group.rmdir()
                return
            if not self._group.exists():
                return
            time.sleep(0.05)

    def _limit(self) -> None:
        quota_us = round(self.cores * PERIOD_US)
        if self._mount.version == 2:
            (self._group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._group / "cpu.cfs_quota_us").write_text(str(quota_us))

    def take(self, root: int) -> None:
        """The process, and all that it has started and will start. Raises NoQuota."""
        try:
            move(root, self._group)
        except OSError as error:
            raise NoQuota(f"no process can be put under a CPU quota here: {error.strerror}") from error


def find_mount(mounts: str) -> Mount:
    """Where quotas can be set, from the text of /proc/self/mounts. Raises NoQuota."""
    found = list(_writable_mounts(mounts))
    for version in (1, 2):
        for mount in found:
            if mount.version == version:
                return mount
    raise NoQuota("no control group for CPU that may be written to is mounted")


def _writable_mounts(mounts: str) -> Iterable[Mount]:
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4 or not os.access(fields[1], os.W_OK):
            continue
        path = Path(fields[1])
        if fields[2] == "cgroup" and "cpu" in fields[3].split(","):
            yield Mount(path, 1)
        elif fields[2] == "cgroup2" and "cpu" in _words(path / "cgroup.controllers"):
            yield Mount(path, 2)


def _let_children_have_cpu(parent: Path) -> None:
    """Version 2 gives a controller to children only where their parent says so. Raises OSError."""
    if "cpu" not in _words(parent / "cgroup.subtree_control"):
        (parent / "cgroup.subtree_control").write_text("+cpu")


def _words(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().split()
    return []
