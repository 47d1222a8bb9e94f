"""The playground as visitors run it: everything comes out as it should, and nothing stays behind."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from outrider.playground.amdp_scenes import AMDP_SCENES
from outrider.playground.amtp_scenes import AMTP_SCENES
from outrider.playground.mt2_scenes import MT2_SCENES
from outrider.playground.scenes import SMTP_SCENES
from tests.peers.outrider_server import OUTRIDER

SCENES = len(SMTP_SCENES) + len(AMTP_SCENES) + len(MT2_SCENES) + len(AMDP_SCENES)


@pytest.mark.covers("AMTP-20", "MT2-23a", "AMDP-20")
def test_every_scene_comes_out_as_it_should_and_nothing_is_left(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": os.fspath(tmp_path)}
    done = subprocess.run(
        [OUTRIDER, "playground", "--once"], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SCENES} of {SCENES} as they should be" in done.stdout
    assert "FAIL" not in done.stdout
    assert len(re.findall(r"^ok   ", done.stdout, re.MULTILINE)) == SCENES
    assert "lies; gained: nothing" in done.stdout
    assert not list(tmp_path.iterdir())
    assert os.fspath(tmp_path) not in _commands()


def _commands() -> str:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(line for line in lines if "outrider.cli.main serve" in line)
