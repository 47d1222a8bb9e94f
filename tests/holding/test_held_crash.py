"""What is left of held mail when the facility dies between any two steps (AMDP-9, AMDP-13)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.covers("AMDP-9", "AMDP-13", "FAULT-F2")
def test_a_death_after_each_statement_loses_doubles_and_locks_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.holding.held_crash_child", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.rstrip("\n").split("\n")
    total = int(lines[0].removeprefix("total "))
    assert total > 40
    assert lines[1:] == [f"{number} ok" for number in range(1, total + 1)]
