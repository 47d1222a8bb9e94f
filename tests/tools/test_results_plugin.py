"""The record of a test run, made by `tests/conftest.py`: ids checked, outcomes kept, workers included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers.images import PROJECT

CASES = """
import pytest

@pytest.mark.covers("SMTP-1", "SEC-2")
def test_good():
    pass

@pytest.mark.covers("SMTP-5")
def test_bad():
    raise AssertionError("as meant")

@pytest.mark.covers("SMTP-99")
def test_unknown_id():
    pass

@pytest.mark.covers("SMTP-1", "SMTP-3", "SMTP-4", "SMTP-5")
def test_four_ids():
    pass
"""
SKIPPED = """
import pytest

def test_skipped():
    pytest.skip("for no good reason")
"""


Recorded = dict[str, dict[str, object]]


def run(folder: Path, text: str, *options: str) -> tuple[subprocess.CompletedProcess[str], Recorded]:
    """Run a test file of its own under the project's conftest; return the process and what was recorded."""
    (folder / "test_cases.py").write_text(text)
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = covers: ids\n")
    results = folder / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--results", results, *options, folder],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.fspath(PROJECT)},
        capture_output=True,
        text=True,
    )
    recorded = json.loads(results.read_text())["tests"] if results.exists() else {}
    return done, {name.partition("::")[2]: entry for name, entry in recorded.items()}


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "workers"])
def test_outcomes_and_ids_are_recorded(tmp_path: Path, options: tuple[str, ...]) -> None:
    done, recorded = run(tmp_path, CASES, *options)
    assert done.returncode == 1
    assert recorded["test_good"] == {"covers": ["SMTP-1", "SEC-2"], "outcome": "passed"}
    assert recorded["test_bad"] == {"covers": ["SMTP-5"], "outcome": "failed"}
    assert recorded["test_unknown_id"]["outcome"] == "failed"
    assert recorded["test_four_ids"]["outcome"] == "failed"
    assert "covers unknown requirements: SMTP-99" in done.stdout
    assert "covers 4 requirements; a test may name 3" in done.stdout


def test_a_skipped_test_fails_the_run(tmp_path: Path) -> None:
    done, _ = run(tmp_path, SKIPPED)
    assert done.returncode == 1
    assert "SKIPPED counts as failed here" in done.stdout
