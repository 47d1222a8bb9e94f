"""Bodies too large for a row: one file each, complete and durable before a message may name it.

The order of steps (each one leaves something that the next start can tell apart, see `STATES.md`):
``bodies/xx/NAME`` is created and its directory synced while the first octets arrive; the octets are written
as they come; at their end the file is synced. Only then does :meth:`BodyFileWriter.finish` give the body that
a message can be stored with. No rename marks a file as whole: the message's row does, and at start every file
that no message names is removed.

A body carries one digest for each piece of 256 KiB, and a piece is compared before it is handed on: what
reaches the wire was stored so, and a flipped bit stops the message instead of spoiling it (FAULT-F9).

**Who does what.** What waits for the device is done by threads of the spool's own: making the file and its
name, the sync at the end. The octets go to the kernel's memory from where they arrive, as the rows of the
database do: to hand a piece to a thread costs more than to write it. Reading runs where it is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import re
import stat
import threading
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from outrider.delivery.durable_folders import sync_folder
from outrider.model.content import Body, InlineBody
from outrider.model.message import MessageId
from outrider.spool.codec import Malformed, seal, unseal
from outrider.spool.interface import ContentDamaged, SpoolError, SpoolFull, SpoolUnavailable

PIECE = 262_144
"""Octets under one digest: a read of this size takes a fraction of a millisecond."""

MOST_WAITING = 4 * PIECE
"""Octets of a body that may wait for its file to be made."""
WRITE_BACK = 4 * PIECE
"""Octets after which the device is told to begin, so that the sync at the end waits for little."""
PIECE_DIGEST = 4
"""Octets of a piece's digest, a CRC-32: it finds what a device spoils; who may write here may write both."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHORT_OF_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing about a file that cannot be opened: it can be later (SEC-93)."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_FILE_NAME = re.compile(r"[0-9a-f]{2}/[A-Za-z0-9_-]{1,210}\.[0-9]{1,10}")

Steps = Callable[[str], None]
"""Called after each step that changes what is on the disk, with its name; tests stop the program there."""

T = TypeVar("T")


def no_steps(name: str) -> None:
    """Nobody watches."""
    del name


def piece_digest(piece: bytes | memoryview) -> bytes:
    """Of one piece."""
    return zlib.crc32(piece).to_bytes(PIECE_DIGEST, "big")


@dataclass(frozen=True, slots=True)
class BodyReference:
    """What a row keeps of a body in a file."""

    name: str
    """Relative to the directory of bodies."""
    size: int
    digests: bytes
    """One digest for each piece, in order."""

    def encode(self, message: str) -> bytes:
        """For the row."""
        return seal(msgspec.msgpack.encode((self.name, self.size, self.digests)), message)

    def pieces(self) -> int:
        """How many pieces it has."""
        return len(self.digests) // PIECE_DIGEST


def decode_reference(message: str, octets: object) -> BodyReference:
    """From the row. Raises Malformed; a name that leads out of the directory is one reason."""
    record = unseal(octets, message)
    try:
        name, size, digests = msgspec.msgpack.decode(record, type=tuple[str, int, bytes])
    except msgspec.DecodeError as error:
        raise Malformed(f"unreadable reference to a body: {error}") from None
    if not _FILE_NAME.fullmatch(name) or size < 0 or len(digests) != pieces_in(size) * PIECE_DIGEST:
        raise Malformed("impossible reference to a body")
    return BodyReference(name, size, digests)


def pieces_in(size: int) -> int:
    """How many pieces a body of `size` octets has."""
    return -(-size // PIECE)


class FileBody:
    """A body in a file, read when it is asked for and checked piece by piece (see `model.content.Body`)."""

    __slots__ = ("__weakref__", "_damaged", "_path", "adopted", "reference")

    def __init__(self, path: Path, reference: BodyReference, damaged: Callable[[str], None]) -> None:
        self._path = path
        self._damaged = damaged
        self.reference = reference
        self.adopted = False
        """A message has been handed to the spool with it: the file is the message's from then on."""

    def __repr__(self) -> str:
        return f"FileBody({self.reference.name!r}, {self.reference.size})"

    @property
    def size(self) -> int:
        """Octets."""
        return self.reference.size

    def chunks(self, size: int = PIECE) -> Iterator[bytes]:
        """The octets in order. Raises ContentDamaged before the first octet that is not as it was stored, and
        SpoolUnavailable where the file cannot be opened for now."""
        try:
            for piece in self._pieces():
                if size >= len(piece):
                    yield piece
                else:
                    yield from (piece[start : start + size] for start in range(0, len(piece), size))
        except ContentDamaged as error:
            self._damaged(str(error))
            raise

    def _pieces(self) -> Iterator[bytes]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in SHORT_OF_MEANS:
                raise device_error(error) from error
            raise ContentDamaged(f"body {self.reference.name}: {error.strerror}") from None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size != self.size:
                raise ContentDamaged(
                    f"body {self.reference.name}: {found.st_size} octets instead of {self.size}"
                )
            digests = self.reference.digests
            for start in range(0, len(digests), PIECE_DIGEST):
                piece = _read_piece(file.fileno(), self.reference.name)
                if piece_digest(piece) != digests[start : start + PIECE_DIGEST]:
                    raise ContentDamaged(f"body {self.reference.name}: checksum does not match")
                yield piece


def _read_piece(descriptor: int, name: str) -> bytes:
    parts: list[bytes] = []
    wanted = PIECE
    try:
        while wanted and (part := os.read(descriptor, wanted)):
            parts.append(part)
            wanted -= len(part)
    except OSError as error:
        raise ContentDamaged(f"body {name}: {error.strerror}") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


class BodyFiles:
    """The directory of bodies: makes writers, opens, removes."""

    def __init__(
        self, directory: Path, executor: Executor, *, inline_limit: int, steps: Steps = no_steps
    ) -> None:
        self.directory = directory
        self.inline_limit = inline_limit
        self._executor = executor
        self._steps = steps
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Make the 256 subdirectories once, so that no message has to wait for one. Raises OSError."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for number in range(256):
            (self.directory / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.directory)
        sync_folder(self.directory.parent)

    def writer(self, message: MessageId) -> BodyFileWriter:
        """A writer for a message's body."""
        return BodyFileWriter(self, message)

    def new_name(self, message: MessageId) -> str:
        """A name that no other body of this spool has."""
        safe = message if _SAFE_NAME.fullmatch(message) else "x" + message.encode().hex()[:200]
        return f"{zlib.crc32(message.encode()) & 0xFF:02x}/{safe}.{next(self._numbers)}"

    def open(self, reference: BodyReference, damaged: Callable[[str], None]) -> FileBody:
        """The body of a stored message; the file itself is opened when it is read."""
        body = FileBody(self.directory / reference.name, reference, damaged)
        body.adopted = True
        return body

    async def run(self, work: Callable[[], T]) -> T:
        """Run file work in a thread. Raises SpoolFull or SpoolUnavailable for what the device refuses."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except OSError as error:
            raise device_error(error) from error
        except RuntimeError as error:  # the executor was shut down
            raise SpoolUnavailable("the spool is closed") from error

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have a thread do file work that is waited for later, if at all. Raises SpoolUnavailable."""
        try:
            return self._executor.submit(work)
        except RuntimeError as error:  # the executor was shut down
            raise SpoolUnavailable("the spool is closed") from error

    def step(self, name: str) -> None:
        """A step is done."""
        self._steps(name)

    def remove(self, names: Collection[str]) -> None:
        """Remove bodies whose messages are finished; one that is gone already is no matter."""
        for name in names:
            (self.directory / name).unlink(missing_ok=True)

    def remove_orphans(self, named: Collection[str]) -> int:
        """Remove every file that no message names; how many there were."""
        orphans = [name for name in self._files() if name not in named]
        self.remove(orphans)
        numbers = (int(name.rpartition(".")[2]) for name in named)
        self._numbers = itertools.count(max(numbers, default=0) + 1)
        return len(orphans)

    def _files(self) -> Iterator[str]:
        """Regular files of our own subdirectories; no symbolic link is followed (SEC-209)."""
        for number in range(256):
            directory = self.directory / f"{number:02x}"
            if directory.is_symlink() or not directory.is_dir():
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        yield f"{directory.name}/{entry.name}"


class BodyFileWriter:
    """See `spool.interface.BodyWriter`. A body that stays within the inline limit never becomes a file."""

    def __init__(self, files: BodyFiles, message: MessageId) -> None:
        self._files = files
        self._message = message
        self._name = ""
        self._descriptor = -1
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._made: Future[None] | None = None
        """The making of the file and its name, which goes on while the first octets arrive."""
        self._is_open = threading.Event()
        """The file is made, or could not be."""
        self._digests = bytearray()
        self._size = 0
        self._written = 0
        self._told = 0
        """Up to where the device was told to begin."""
        self._failed = False
        self._body: FileBody | None = None
        self._guard = threading.Lock()

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append; whole pieces go to the file."""
        if self._failed:
            raise SpoolUnavailable("writing this body has failed before")
        self._pending.append(octets)
        self._pending_size += len(octets)
        self._size += len(octets)
        if self._size <= self._files.inline_limit or self._pending_size < PIECE:
            return None
        if self._made is None:
            self._made = self._begin()
        if self._descriptor >= 0:
            self._write_whole_pieces()
        elif self._pending_size >= MOST_WAITING or self._made.done():
            return self._write_once_made()
        return None

    async def finish(self) -> Body:
        """Durable when this returns. Raises SpoolUnavailable, SpoolFull."""
        if self._failed:
            raise SpoolUnavailable("writing this body has failed before")
        if self._made is None:
            if self._size <= self._files.inline_limit:
                return InlineBody(b"".join(self._pending))
            self._made = self._begin()
        await self._in_thread(self._seal_file)
        await self._name_durable()
        reference = BodyReference(self._name, self._size, bytes(self._digests))
        self._body = FileBody(self._files.directory / self._name, reference, _nobody)
        return self._body

    async def abandon(self) -> None:
        """Remove what was written."""
        self._failed = True
        with contextlib.suppress(SpoolError):
            await self._name_durable()
        if self._body is not None and self._body.adopted:
            return
        with contextlib.suppress(SpoolError):  # the next start removes it
            await self._files.run(self._remove)

    def _begin(self) -> Future[None]:
        """Have a thread make the file and its name durable."""
        self._name = self._files.new_name(self._message)
        try:
            return self._files.submit(self._make)
        except SpoolUnavailable:
            self._failed = True
            raise

    async def _write_once_made(self) -> None:
        await self._name_durable()
        self._write_whole_pieces()

    def _write_whole_pieces(self) -> None:
        octets = b"".join(self._pending)
        whole = len(octets) - len(octets) % PIECE
        try:
            self._append(memoryview(octets)[:whole])
        except OSError as error:
            self._failed = True
            raise device_error(error) from error
        self._pending = [octets[whole:]]
        self._pending_size = len(octets) - whole
        if self._written - self._told >= WRITE_BACK:
            begin, self._told = self._told, self._written
            size = self._told - begin
            self._files.submit(lambda: self._begin_write_back(begin, size))

    async def _name_durable(self) -> None:
        """Wait until the file and its name are; a failure in that is raised here."""
        if self._made is None:
            return
        try:
            # Shielded: whoever gives up waiting does not call the work off.
            await asyncio.shield(asyncio.wrap_future(self._made))
        except OSError as error:
            self._failed = True
            raise device_error(error) from error

    async def _in_thread(self, work: Callable[[], None]) -> None:
        try:
            await self._files.run(lambda: self._alone(work))
        except SpoolError:
            # An fsync that failed once must not be asked again: the octets may be gone (FAULT-F7).
            self._failed = True
            raise

    def _append(self, view: memoryview) -> None:
        for start in range(0, len(view), PIECE):
            self._digests += piece_digest(view[start : start + PIECE])
        self._written += len(view)
        left = view
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._files.step("body written")

    # In a thread from here on.

    def _alone(self, work: Callable[[], None]) -> None:
        # A caller that was cancelled leaves its work running; `abandon` must come after it, not amid it.
        with self._guard:
            if self._failed:
                raise SpoolUnavailable("this body was abandoned")
            work()

    def _make(self) -> None:
        path = self._files.directory / self._name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
            self._files.step("body created")
        finally:
            self._is_open.set()
        sync_folder(path.parent)
        self._files.step("directory synced")

    def _begin_write_back(self, begin: int, size: int) -> None:
        with self._guard:
            if self._descriptor >= 0:
                os.posix_fadvise(self._descriptor, begin, size, os.POSIX_FADV_DONTNEED)

    def _seal_file(self) -> None:
        # Its making was handed to a thread before this was: it is under way or done.
        self._is_open.wait()
        assert self._made is not None
        if self._descriptor < 0:
            self._made.result()  # raises what the device said
        self._append(memoryview(b"".join(self._pending)))
        self._pending.clear()
        os.fsync(self._descriptor)
        self._files.step("body synced")
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _remove(self) -> None:
        with self._guard:
            self._close()
            if self._name:
                (self._files.directory / self._name).unlink(missing_ok=True)


def _nobody(why: str) -> None:
    """Damage before a message is stored concerns only the one who reads."""
    del why


def device_error(error: OSError) -> SpoolUnavailable:
    """The device's refusal in the spool's words."""
    text = f"the spool's device refused: {error.strerror or error}"
    return SpoolFull(text) if error.errno in NO_ROOM else SpoolUnavailable(text)
