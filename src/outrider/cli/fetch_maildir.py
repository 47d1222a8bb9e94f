"""The Maildir side of `outrider fetch`: messages come in whole and durable, envelopes go after them.

The name of a fetched message follows from its id: whoever is interrupted between storing it, telling the
holder, and removing the envelope finds it there the next time, and neither loses nor doubles it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from outrider.delivery.durable_folders import DurableFolders, sync_folder
from outrider.wire.line_ends import has_stray_octets

_PIECE = 262_144
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class MailFolder:
    """A Maildir. Raises OSError throughout."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether there is one."""
        return all((path / part).is_dir() for part in ("new", "cur"))

    def make(self) -> None:
        """Where it is missing."""
        folders = DurableFolders()
        for part in ("new", "cur", "tmp"):
            folders.make(self.path / part, 0o700)
        folders.ensure(self.path / "new")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One `outrider fetch` at a time: others wait."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def messages(self) -> Iterator[Path]:
        """All of them, in order of their names."""
        for part in ("new", "cur"):
            yield from sorted(one for one in (self.path / part).iterdir() if not one.name.startswith("."))

    def find(self, name: str) -> Path | None:
        """The message of that name, whatever flags it has got since."""
        for part in ("new", "cur"):
            for one in (self.path / part).iterdir():
                if one.name.partition(":")[0].partition(",")[0] == name:
                    return one
        return None

    def store(self, name: str, write: Callable[[int], None]) -> None:
        """Have a message written to a descriptor, and put it into `new`, durably."""
        temporary = self.path / "tmp" / f"{name}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, _NEW, 0o600)
        try:
            try:
                write(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(self.path / "new" / name)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(self.path / "new")

    def remove(self, message: Path) -> None:
        """Take a message out, also when its flags have changed since it was listed."""
        found: Path | None = message
        if not message.exists():
            found = self.find(message.name.partition(":")[0].partition(",")[0])
        if found is not None:
            found.unlink(missing_ok=True)
            sync_folder(found.parent)


def read_regular(path: Path, limit: int) -> bytes:
    """Up to `limit` octets of a regular file; b"" for anything else. Raises OSError."""
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def name_for(message_id: str, timestamp: int) -> str:
    """The file name of the message with that id: it tells nobody the id."""
    digest = hashlib.sha256(f"amdp {message_id}".encode()).hexdigest()[:32]
    return f"{timestamp}.AMDP{digest}.outrider"


def mailbox_lines(top: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """A message as Maildirs keep it, in pieces: with LF for CRLF, from which CRLF can be had again; one that
    has other line ends or NUL stays as it is, octet for octet."""
    file.seek(0)
    if any(map(has_stray_octets, _whole_lines(file))):
        yield top
        file.seek(0)
        yield from iter(lambda: file.read(_PIECE), b"")
        return
    yield top.replace(b"\r\n", b"\n")
    file.seek(0)
    for piece in _whole_lines(file):
        yield piece.replace(b"\r\n", b"\n")


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Pieces that do not end between CR and LF."""
    while piece := file.read(_PIECE):
        if piece.endswith(b"\r"):
            piece += file.read(1)
        yield piece


def write_all(descriptor: int, octets: bytes) -> None:
    """All of them."""
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]
