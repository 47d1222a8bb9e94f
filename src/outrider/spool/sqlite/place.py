"""The directory of a SQLite spool: is it ours, is it fit, and does no other process have it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from outrider.delivery.durable_folders import sync_folder
from outrider.spool.interface import SpoolUnavailable, UnsafeSettings

DATABASE = "spool.db"
LOCK = "spool.lock"
BODIES = "bodies"
EPOCH = "spool.epoch"

UNFIT = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse"),
    )
)
"""File systems over a network: their locks and their fsync do not keep SQLite's promises."""
VOLATILE = frozenset(("tmpfs", "ramfs"))


def prepare_directory(directory: Path) -> str:
    """Make the directory if need be and check it; the name of its file system, "" if unknown.

    Raises UnsafeSettings for a directory that others can write to or that lies on an unfit file system
    (SEC-209, FAULT-F5), SpoolUnavailable when the system refuses.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_names_durable(directory)
        found = directory.stat()
    except OSError as error:
        raise SpoolUnavailable(f"{directory}: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise UnsafeSettings(f"{directory} belongs to user {found.st_uid}, this is user {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeSettings(f"{directory} can be written by others; chmod 700 {directory}")
    file_system = file_system_of(directory)
    if file_system in UNFIT:
        raise UnsafeSettings(
            f"{directory} is on {file_system}, where a commit is no promise: use a local disk or postgresql"
        )
    return file_system


def _make_names_durable(directory: Path) -> None:
    """Sync the folders above, any of which may just have been made: what is in a folder is no safer than its
    name (FAULT-F4). Raises OSError."""
    for parent in directory.resolve().parents:
        try:
            sync_folder(parent)
        except PermissionError:
            return  # who may not read it has made nothing in it


def file_system_of(directory: Path) -> str:
    """Type of the file system as /proc/self/mountinfo has it; "" where that does not exist."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").split("\n")
    except OSError:
        return ""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2:3] == [wanted]:
            return rest.split(" ")[0]
    return ""


def check_own_file(path: Path) -> None:
    """Refuse a database, log or lock that is a link or not ours (SEC-209). Raises UnsafeSettings."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SpoolUnavailable(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise UnsafeSettings(f"{path} is not a plain file with one name: someone put it there; remove it")
    if found.st_uid != os.geteuid():
        raise UnsafeSettings(f"{path} belongs to user {found.st_uid}, this is user {os.geteuid()}")


class DirectoryLock:
    """One process owns the directory, as long as it lives; the kernel lets go when it dies."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        self._descriptor = -1

    def take(self) -> None:
        """Raises SpoolUnavailable, naming the process that has it."""
        check_own_file(self._path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise SpoolUnavailable(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise SpoolUnavailable(
                f"the spool in {self._path.parent} is in use by process {holder}: "
                "ask that server, or stop it first"
            ) from error
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def read_epoch(directory: Path) -> int:
    """The count of starts kept beside the database; 0 where there is none.

    A database with a lower count than this is an older copy, put back (FAULT-F9).
    """
    try:
        text = (directory / EPOCH).read_text(errors="replace").strip()
    except OSError:
        return 0
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else 0


def write_epoch(directory: Path, epoch: int) -> None:
    """Keep the count of starts beside the database. Raises OSError."""
    temporary = directory / (EPOCH + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{epoch}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(directory / EPOCH)
    sync_folder(directory)
