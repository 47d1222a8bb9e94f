"""Files that nobody else may read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.runtime.private_files import write_private


@pytest.fixture(autouse=True)
def _generous_umask() -> Iterator[None]:
    """The worst case: a umask that would let everybody read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_private(path, b"secret")
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_readable_file_is_replaced_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with path.open("rb") as held_open:
        write_private(path, b"new")
        assert held_open.read() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    path = tmp_path / "key.pem"
    path.symlink_to(target)
    write_private(path, b"secret")
    assert target.read_bytes() == b"untouched"
    assert not path.is_symlink()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_private(tmp_path / "folder", b"secret")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(OSError):
        write_private(tmp_path / "missing" / "key.pem", b"secret")
