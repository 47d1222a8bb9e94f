"""The example extension, found by a program though nobody has installed it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from outrider.playground.packages import lay_down_chess, packages

FIND = """
from outrider.runtime.extension_finding import find_extensions
print([(one.extension.name, one.origin) for one in find_extensions()])
"""


@pytest.mark.covers("MT2-20")
def test_the_example_is_found_as_if_it_were_installed(tmp_path: Path) -> None:
    assert packages(tmp_path) == []
    lay_down_chess(tmp_path)
    path = os.pathsep.join(packages(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", FIND], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert "('chess', 'outrider-chess')" in done.stdout, done.stderr
