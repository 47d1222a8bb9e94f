"""Clean up after a test run that can no longer do so itself.

A small process of its own reads from a pipe which folders and process groups are in use. When the pipe ends
(the test run stopped in order, was interrupted, or was killed outright) it ends what is still registered and
removes the folders. Run as a program this file needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO


def processes_below(root: Path) -> list[int]:
    """List the processes whose root directory is `root` or lies below it (servers drop into subfolders)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            their_root = (entry / "root").readlink()
            if their_root.is_relative_to(root):
                found.append(int(entry.name))
    return found


def end_all(root: Path | None, group: int | None) -> None:
    """Kill every process below `root` and in the process group, without asking."""
    if group is not None:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    if root is not None:
        for process in processes_below(root):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)


class Warden:
    """The test run's end of the pipe; one per process, started when the first peer is."""

    def __init__(self) -> None:
        self._pipe: IO[str] | None = None

    def register(self, folder: Path, *, root: Path | None = None, group: int | None = None) -> None:
        """See to it that `folder` goes away, and the processes below `root` and in `group`, if we die."""
        self._tell({"folder": str(folder), "root": str(root) if root else None, "group": group})

    def forget(self, folder: Path) -> None:
        """Note that the folder and its processes are gone."""
        self._tell({"folder": str(folder), "gone": True})

    def _tell(self, entry: dict[str, object]) -> None:
        if self._pipe is None:
            process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
            self._pipe = process.stdin
        assert self._pipe is not None
        self._pipe.write(json.dumps(entry) + "\n")
        self._pipe.flush()


WARDEN = Warden()


def main() -> None:
    """Read entries until the pipe ends, then end and remove what is left."""
    entries: dict[str, dict[str, object]] = {}
    for line in sys.stdin:
        entry = json.loads(line)
        if entry.get("gone"):
            entries.pop(entry["folder"], None)
        else:
            entries[entry["folder"]] = entry
    for folder, entry in entries.items():
        root, group = entry["root"], entry["group"]
        end_all(Path(root) if isinstance(root, str) else None, group if isinstance(group, int) else None)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
