"""Bodies too large for a row: one file each, which is read piece by piece and compared as it is read.

A body carries one digest for each piece of 256 KiB, and a piece is compared before it is handed on: what
reaches the wire was stored so, and a flipped bit stops the message instead of spoiling it (FAULT-F9).
`body_files` has the directory, `body_writer` how a file comes to be. Reading runs where it is called.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from outrider.spool.codec import Malformed, seal, unseal
from outrider.spool.interface import ContentDamaged, SpoolFull, SpoolUnavailable

PIECE = 262_144
"""Octets under one digest: a read of this size takes a fraction of a millisecond."""

PIECE_DIGEST = 4
"""Octets of a piece's digest, a CRC-32: it finds what a device spoils; who may write here may write both."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHORT_OF_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing about a file that cannot be opened: it can be later (SEC-93)."""
_FILE_NAME = re.compile(r"[0-9a-f]{2}/[A-Za-z0-9_-]{1,210}\.[0-9]{1,15}")

Steps = Callable[[str], None]
"""Called after each step that changes what is on the disk, with its name; tests stop the program there."""


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


class Unsynced(Protocol):
    """A file that was written and not synced."""

    def sync(self) -> None:
        """Make it durable. Raises SpoolUnavailable."""


class FileUse:
    """A file while it holds one message's body: who reads it, and whether the message is finished.

    A file that nobody reads can be given to another body; from then on nobody reads it as this one. Safe to
    be called from several threads.
    """

    __slots__ = ("__weakref__", "_guard", "_is_over", "_readers")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._readers = 0
        self._is_over = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the file this body's. Raises ContentDamaged once its message is finished."""
        with self._guard:
            if self._is_over:
                raise ContentDamaged("its message is finished")
            self._readers += 1
        try:
            yield
        finally:
            with self._guard:
                self._readers -= 1

    def end(self) -> bool:
        """The message is finished; whether nobody reads the file (and nobody will)."""
        with self._guard:
            self._is_over = True
            return not self._readers


class FileBody:
    """A body in a file, read when it is asked for and checked piece by piece (see `model.content.Body`).

    The file may be longer: it may have held another body before (see `body_files`)."""

    __slots__ = ("__weakref__", "_damaged", "_path", "_unsynced", "_use", "adopted", "reference")

    def __init__(
        self,
        path: Path,
        reference: BodyReference,
        damaged: Callable[[str], None],
        unsynced: Unsynced | None = None,
        use: FileUse | None = None,
    ) -> None:
        """`unsynced`: the file, where it may not be durable yet. `use`: what others who read the same file
        know of it; None where it is this body's alone for ever."""
        self._path = path
        self._damaged = damaged
        self._unsynced = unsynced
        self._use = use or FileUse()
        self.reference = reference
        self.adopted = False
        """A message has been handed to the spool with it: the file is the message's from then on."""

    def __repr__(self) -> str:
        return f"FileBody({self.reference.name!r}, {self.reference.size})"

    @property
    def size(self) -> int:
        """Octets."""
        return self.reference.size

    @property
    def is_durable(self) -> bool:
        """Whether every octet would outlive the loss of power."""
        return self._unsynced is None

    def make_durable(self) -> None:
        """In a thread: wait for the device. Raises SpoolUnavailable; the body is lost then."""
        if self._unsynced is not None:
            self._unsynced.sync()
            self._unsynced = None

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
        name, digests = self.reference.name, self.reference.digests
        with self._use.reading(), self._opened() as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size < self.size:
                raise ContentDamaged(f"body {name}: {found.st_size} octets instead of {self.size}")
            for number in range(self.reference.pieces()):
                piece = _read_piece(descriptor, name, min(PIECE, self.size - number * PIECE))
                digest = digests[number * PIECE_DIGEST : (number + 1) * PIECE_DIGEST]
                if piece_digest(piece) != digest:
                    raise ContentDamaged(f"body {name}: checksum does not match")
                yield piece

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in SHORT_OF_MEANS:
                raise device_error(error) from error
            raise ContentDamaged(f"body {self.reference.name}: {error.strerror}") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _read_piece(descriptor: int, name: str, wanted: int) -> bytes:
    parts: list[bytes] = []
    try:
        while wanted and (part := os.read(descriptor, wanted)):
            parts.append(part)
            wanted -= len(part)
    except OSError as error:
        raise ContentDamaged(f"body {name}: {error.strerror}") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def device_error(error: OSError) -> SpoolUnavailable:
    """The device's refusal in the spool's words."""
    text = f"the spool's device refused: {error.strerror or error}"
    return SpoolFull(text) if error.errno in NO_ROOM else SpoolUnavailable(text)
