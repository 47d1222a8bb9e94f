"""The imagined disk: what a power cut leaves, for programs that sync and programs that do not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.powered import Powered
from tests.faults.powerloss import SECTOR, Names

CUTS = 30
"""So often is each program run: chance takes everything at some time."""

OPEN = "import os; d = {root!r}; f = os.open(d + '/file', os.O_RDWR | os.O_CREAT, 0o600); "
SYNC_FOLDER = "g = os.open(d, os.O_RDONLY); os.fsync(g); "


def left_by(program: str, folder: Path, names: Names = Names.STRICT) -> set[bytes | None]:
    """Every content that the file had after a cut at the end of the program; None where it was gone."""
    found: set[bytes | None] = set()
    for number in range(CUTS):
        root = folder / str(number)
        root.mkdir()
        powered = Powered(root, folder / f"journal-{number}", names)
        command = [sys.executable, "-c", (OPEN + program).format(root=str(root))]
        subprocess.run(command, env={**os.environ, **powered.environment}, check=True)
        powered.cut(random.Random(number))
        assert powered.disk.strays == 0
        path = root / "file"
        found.add(path.read_bytes() if path.exists() else None)
    return found


@pytest.mark.covers("FAULT-F4")
def test_what_was_synced_with_its_name_is_there(tmp_path: Path) -> None:
    assert left_by("os.write(f, b'kept'); os.fsync(f); " + SYNC_FOLDER, tmp_path) == {b"kept"}


def test_a_name_is_lost_unless_its_folder_was_synced(tmp_path: Path) -> None:
    program = "os.write(f, b'kept'); os.fsync(f)"
    assert left_by(program, tmp_path) == {b"kept", None}
    (tmp_path / "journaled").mkdir()
    assert left_by(program, tmp_path / "journaled", Names.ORDERED) == {b"kept"}


def test_a_file_that_was_not_synced_may_be_empty_whole_or_gone(tmp_path: Path) -> None:
    assert left_by("os.write(f, b'lost'); " + SYNC_FOLDER, tmp_path) == {b"", b"lost"}


def test_writes_are_torn_and_change_places(tmp_path: Path) -> None:
    program = (
        f"os.write(f, b'a' * {2 * SECTOR}); os.fsync(f); {SYNC_FOLDER}"
        f"os.pwrite(f, b'b' * {SECTOR}, 0); os.pwrite(f, b'c' * {SECTOR}, {SECTOR})"
    )
    found = {content[::SECTOR] for content in left_by(program, tmp_path) if content}
    assert found == {b"aa", b"ba", b"ac", b"bc"}


def test_a_write_after_the_sync_is_not_covered_by_it(tmp_path: Path) -> None:
    program = f"os.write(f, b'a'); os.fsync(f); {SYNC_FOLDER}os.pwrite(f, b'b', 0)"
    assert left_by(program, tmp_path) == {b"a", b"b"}


def test_a_renamed_file_has_one_name_or_the_other(tmp_path: Path) -> None:
    program = (
        f"os.write(f, b'old'); os.fsync(f); {SYNC_FOLDER}"
        "n = os.open(d + '/new', os.O_WRONLY | os.O_CREAT); os.write(n, b'new'); os.fsync(n); "
        "os.rename(d + '/new', d + '/file')"
    )
    assert left_by(program, tmp_path) == {b"old", b"new"}


def test_a_disk_that_lies_keeps_nothing_sure(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    kept = set()
    for number in range(CUTS):
        (root / "file").unlink(missing_ok=True)
        powered = Powered(root, tmp_path / "journal", Names.STRICT, lies=lambda name: name == "file")
        program = (OPEN + "os.write(f, b'kept'); os.fsync(f); " + SYNC_FOLDER).format(root=str(root))
        environment = {**os.environ, **powered.environment}
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
        powered.cut(random.Random(number))
        kept.add((root / "file").read_bytes())
    assert b"" in kept
