"""Folders made by several threads at once: nobody counts on a name that is not yet durable (FAULT-F4)."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from outrider.delivery import durable_folders
from outrider.delivery.durable_folders import DurableFolders


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was synced, in order."""
    folders: list[Path] = []
    monkeypatch.setattr(durable_folders, "sync_folder", folders.append)
    return folders


@pytest.mark.covers("FAULT-F4", "SMTP-8")
def test_the_folder_is_synced_each_time_and_each_new_name_above_once(
    tmp_path: Path, synced: list[Path]
) -> None:
    folders = DurableFolders()
    new = tmp_path / "ann" / "new"
    folders.ensure(new)
    assert synced == [new, *new.parents]
    folders.ensure(new)
    assert synced[len(new.parents) + 1 :] == [new]
    folders.ensure(tmp_path / "bob" / "new")
    # What holds the new mailbox's name has been synced before, without that name.
    assert synced[-3:] == [tmp_path / "bob" / "new", tmp_path / "bob", tmp_path]


@pytest.mark.covers("FAULT-F4", "SMTP-8")
def test_a_folder_that_another_thread_is_just_making_is_synced_by_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = DurableFolders()
    new = tmp_path / "ann" / "new"
    folders.make(new, 0o700)
    first_is_at_the_parent, second_is_done = threading.Event(), threading.Event()
    by_thread: dict[str, list[Path]] = {"first": [], "MainThread": []}

    def sync(folder: Path) -> None:
        name = threading.current_thread().name
        if name == "first" and folder == new.parent:
            first_is_at_the_parent.set()
            assert second_is_done.wait(20)
        by_thread[name].append(folder)

    monkeypatch.setattr(durable_folders, "sync_folder", sync)
    first = threading.Thread(target=folders.ensure, args=(new,), name="first")
    first.start()
    assert first_is_at_the_parent.wait(20)
    folders.ensure(new)
    second_is_done.set()
    first.join(20)
    assert {new.parent, tmp_path} <= set(by_thread["MainThread"])


@pytest.mark.covers("FAULT-F4")
def test_a_folder_made_again_is_synced_again(tmp_path: Path, synced: list[Path]) -> None:
    folders = DurableFolders()
    new = tmp_path / "ann" / "new"
    folders.make(new, 0o700)
    folders.ensure(new)
    new.rmdir()
    new.parent.rmdir()
    folders.make(new, 0o700)
    synced.clear()
    folders.ensure(new)
    assert synced == [new, new.parent, tmp_path]


@pytest.mark.covers("FAULT-F3")
@pytest.mark.parametrize(("number", "harmless"), [(errno.EACCES, True), (errno.EIO, False)])
def test_only_errors_of_folders_that_are_not_ours_are_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, harmless: bool
) -> None:
    def sync(folder: Path) -> None:
        if folder == tmp_path:
            raise OSError(number, "no")

    monkeypatch.setattr(durable_folders, "sync_folder", sync)
    if harmless:
        DurableFolders().ensure(tmp_path / "new")
    else:
        with pytest.raises(OSError, match="no"):
            DurableFolders().ensure(tmp_path / "new")
