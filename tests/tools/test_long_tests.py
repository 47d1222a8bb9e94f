"""No test marked `long` is left to nobody: each belongs to a target of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_MARK = re.compile(r"mark\.long\b")


def _run_by_targets() -> set[Path]:
    """Files and folders that `make faults` and `make fuzz` hand to pytest."""
    text = (PROJECT / "Makefile").read_text() + (PROJECT / "tools" / "run-faults").read_text()
    lines = [line for line in text.splitlines() if re.search(r"pytest .*-m long|^run ", line)]
    return {PROJECT / name for line in lines for name in re.findall(r"tests/[a-z0-9_/.]+", line)}


def test_every_long_test_is_run_by_a_target() -> None:
    marked = [path for path in (PROJECT / "tests").rglob("test_*.py") if _MARK.search(path.read_text())]
    places = _run_by_targets()
    assert {PROJECT / "tests" / "fuzz", PROJECT / "tests" / "faults", PROJECT / "tests" / "system"} <= places
    assert len(marked) > 5
    assert [path for path in marked if not places & {path, *path.parents}] == []
