"""How a body comes to be a file, and durable.

The order of steps (each one leaves something that the next start can tell apart, see `STATES.md`): a file
whose name is durable is taken (`body_files`); the octets are written as they come, over what it may have held
before; the file is synced; the row that names it is committed. No rename marks a file as whole, and no size:
the message's row does.

**Who does what.** The octets go to the kernel's memory from where they arrive, as the rows of the database
do: to hand a piece to a thread costs more than to write it. What waits for the device is done in threads. The
sync of a body of ordinary size is done by the thread that commits its message, right before the commit: two
threads less to be woken, one after the other, while a client waits. A larger body is begun to be written back
while it arrives and synced by a thread of its own before its message is stored, so that no commit that others
share waits for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from outrider.model.content import Body, InlineBody
from outrider.spool.bodies import PIECE, BodyReference, FileBody, Steps, device_error, piece_digest
from outrider.spool.body_files import BodyFiles
from outrider.spool.interface import SpoolError, SpoolUnavailable

MOST_WAITING = 4 * PIECE
"""Octets of a body that may wait for its file to be made."""
SYNC_WITH_COMMIT = 8 * PIECE
"""A body up to this size is synced by the thread that commits."""
WRITE_BACK = 4 * PIECE
"""Octets of a larger one after which the device is told to begin, so that the sync at the end waits for
little."""


class GrowingFile:
    """A body's file, open while it is written and until it is synced."""

    def __init__(self, path: Path, descriptor: int, steps: Steps) -> None:
        self._path = path
        self._descriptor = descriptor
        self._steps = steps
        self._guard = threading.Lock()
        self._told = 0
        """Up to where the device was told to begin."""
        self._lost = ""
        """Why what was written cannot be made durable any more."""
        self.size = 0
        self.digests = bytearray()

    def append(self, octets: bytes | memoryview) -> None:
        """Write down; every call but the last brings whole pieces. Raises SpoolUnavailable, SpoolFull."""
        view = memoryview(octets)
        for start in range(0, len(view), PIECE):
            self.digests += piece_digest(view[start : start + PIECE])
        self.size += len(view)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._lost = "writing it has failed"
            raise device_error(error) from error
        self._steps("body written")

    def unbegun(self) -> Callable[[], None] | None:
        """Work for a thread: have the device begin with what it was not told of; None when that is little."""
        if self.size <= SYNC_WITH_COMMIT or self.size - self._told < WRITE_BACK:
            return None
        begin, self._told = self._told, self.size
        size = self._told - begin
        return lambda: self._begin(begin, size)

    def _begin(self, begin: int, size: int) -> None:
        with self._guard:
            if self._descriptor >= 0:
                os.posix_fadvise(self._descriptor, begin, size, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """In a thread: every octet durable, and the file closed. Raises SpoolUnavailable; after a failure it
        is not asked again, as the kernel may call lost pages clean (FAULT-F7)."""
        with self._guard:
            if self._lost:
                raise SpoolUnavailable(f"a body is lost: {self._lost}")
            if self._descriptor < 0:
                return
            self._lost = "syncing it has failed"
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                raise device_error(error) from error
            self._lost = ""
            self._steps("body synced")
            self._close()

    def remove(self) -> None:
        """In a thread: close it and take it away. Raises OSError."""
        with self._guard:
            self._lost = "it was abandoned"
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class BodyFileWriter:
    """See `spool.interface.BodyWriter`. A body that stays within the inline limit never becomes a file."""

    def __init__(self, files: BodyFiles) -> None:
        self._files = files
        self._name = ""
        self._file: GrowingFile | None = None
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._size = 0
        self._failed = False
        self._body: FileBody | None = None

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Append; whole pieces go to the file."""
        if self._failed:
            raise SpoolUnavailable("writing this body has failed before")
        self._pending.append(octets)
        self._pending_size += len(octets)
        self._size += len(octets)
        if self._size <= self._files.inline_limit or self._pending_size < PIECE:
            return None
        if self._has_file():
            self._write_whole_pieces()
        elif self._pending_size >= MOST_WAITING or self._files.can_take():
            return self._write_once_made()
        return None

    async def finish(self) -> Body:
        """The body; durable with the message that is stored with it. Raises SpoolUnavailable, SpoolFull."""
        if self._failed:
            raise SpoolUnavailable("writing this body has failed before")
        if self._file is None and self._size <= self._files.inline_limit:
            return InlineBody(b"".join(self._pending))
        file = await self._made()
        self._append(file, b"".join(self._pending))
        self._pending.clear()
        if file.size > SYNC_WITH_COMMIT:
            await self._synced(file)
        reference = BodyReference(self._name, file.size, bytes(file.digests))
        path, use = self._files.directory / self._name, self._files.use_of(self._name)
        self._body = FileBody(path, reference, _nobody, file, use)
        return self._body

    async def abandon(self) -> None:
        """Remove what was written."""
        self._failed = True
        if self._file is None or (self._body is not None and self._body.adopted):
            return
        with contextlib.suppress(SpoolError):  # the next start removes it
            await self._files.run(self._file.remove)

    def _has_file(self) -> bool:
        """Whether a file is there to be written, taken now if need be. Raises SpoolUnavailable."""
        if self._file is None:
            with self._failing_for_good():
                taken = self._files.take()
            if taken is not None:
                self._name, descriptor = taken
                self._file = GrowingFile(self._files.directory / self._name, descriptor, self._files.step)
        return self._file is not None

    async def _made(self) -> GrowingFile:
        """The file, waited for if there is none yet: others may take those that are made."""
        while not self._has_file():
            with self._failing_for_good():
                await self._files.made()
            if self._failed:
                raise SpoolUnavailable("this body was abandoned")
        assert self._file is not None
        return self._file

    async def _write_once_made(self) -> None:
        await self._made()
        self._write_whole_pieces()

    def _write_whole_pieces(self) -> None:
        file = self._file
        assert file is not None
        octets = b"".join(self._pending)
        whole = len(octets) - len(octets) % PIECE
        self._append(file, memoryview(octets)[:whole])
        self._pending = [octets[whole:]]
        self._pending_size = len(octets) - whole
        begin = file.unbegun()
        if begin is not None:
            self._files.submit(begin)

    def _append(self, file: GrowingFile, octets: bytes | memoryview) -> None:
        with self._failing_for_good():
            file.append(octets)

    async def _synced(self, file: GrowingFile) -> None:
        with self._failing_for_good():
            await self._files.run(file.sync)

    @contextlib.contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """What fails within leaves a body that can never be whole: no more is taken for it."""
        try:
            yield
        except SpoolError:
            self._failed = True
            raise


def _nobody(why: str) -> None:
    """Damage before a message is stored concerns only the one who reads."""
    del why
