"""The facts about the machine without which a figure says nothing."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine_facts(folder: Path) -> dict[str, str | int]:
    """Processor, memory, kernel, Python, and the file system that holds `folder`."""
    return {
        "processor": _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_first(r"^MemTotal:\s*(\d+) kB$", "/proc/meminfo") or 0) // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": file_system(folder),
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def file_system(folder: Path) -> str:
    """Kind and options of the file system that holds the folder, as `ext4 rw,relatime`."""
    wanted = folder.resolve()
    best = (0, "")
    for line in Path("/proc/self/mounts").read_text().split("\n"):
        fields = line.split(" ")
        if len(fields) > 3 and wanted.is_relative_to(fields[1]):
            best = max(best, (len(fields[1]), f"{fields[2]} {fields[3]}"))
    return best[1]


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found[1].strip() if found else ""
