"""Large bodies in the database, piece by piece, so that every node can send what another took in.

A body is read where it is sent, without waiting for a network: whoever leases the message first copies the
pieces to a scratch file of its own, which goes when nobody holds the body any more. What is read from there
is compared with the digests that were stored with the message, like any body in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import weakref
from collections.abc import Callable
from pathlib import Path

from outrider.model.content import Body, InlineBody
from outrider.model.message import MessageId
from outrider.spool.bodies import PIECE, PIECE_DIGEST, BodyReference, FileBody, device_error, piece_digest
from outrider.spool.interface import SpoolError, SpoolUnavailable
from outrider.spool.postgresql.database import Database
from outrider.spool.postgresql.exchange import Connection


class Scratch:
    """A directory of copies; nothing in it has to survive anything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Make it, and empty it of what an earlier process left. Raises SpoolUnavailable."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self.directory.glob("*.body"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise device_error(error) from error

    def new_path(self) -> Path:
        """For one copy."""
        return self.directory / f"{os.getpid()}-{next(self._numbers)}.body"

    def body(self, path: Path, reference: BodyReference, damaged: Callable[[str], None]) -> FileBody:
        """A body that takes its file with it when it is forgotten."""
        body = FileBody(path, reference, damaged)
        weakref.finalize(body, _unlink, path)
        return body


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _append(path: Path, octets: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


async def append(path: Path, octets: bytes) -> None:
    """Write behind what is there, in a thread. Raises SpoolFull, SpoolUnavailable."""
    try:
        await asyncio.get_running_loop().run_in_executor(None, _append, path, octets)
    except OSError as error:
        raise device_error(error) from error


async def fetch(
    database: Database, scratch: Scratch, reference: BodyReference, damaged: Callable[[str], None]
) -> FileBody:
    """Copy a body out of the database. Pieces that are missing are noticed when it is read."""
    path = scratch.new_path()
    body = scratch.body(path, reference, damaged)
    body.adopted = True
    for number in range(reference.pieces()):

        async def piece(connection: Connection, number: int = number) -> bytes:
            cursor = await connection.execute(
                "SELECT octets FROM outrider.pieces WHERE body = %s AND number = %s",
                (reference.name, number),
                binary=True,
            )
            row = await cursor.fetchone()
            return bytes(row[0]) if row else b""

        await append(path, await database.query(piece))
    return body


class PostgresBodyWriter:
    """See `spool.interface.BodyWriter`. A piece is durable when its insert is."""

    def __init__(
        self, database: Database, scratch: Scratch, message: MessageId, owner: str, inline_limit: int
    ) -> None:
        self._database = database
        self._scratch = scratch
        self._message = message
        self._owner = owner
        self._inline_limit = inline_limit
        self._pending = bytearray()
        self._digests = bytearray()
        self._size = 0
        self._name = ""
        self._path: Path | None = None
        self._failed = False
        self._body: FileBody | None = None

    async def write(self, octets: bytes) -> None:
        """Append; whole pieces go to the database."""
        self._check()
        self._pending += octets
        self._size += len(octets)
        if self._size > self._inline_limit:
            while len(self._pending) >= PIECE:
                await self._put(bytes(memoryview(self._pending)[:PIECE]))
                del self._pending[:PIECE]

    async def finish(self) -> Body:
        """All pieces are in the database when this returns."""
        self._check()
        if not self._name and self._size <= self._inline_limit:
            return InlineBody(bytes(self._pending))
        while self._pending:
            await self._put(bytes(memoryview(self._pending)[:PIECE]))
            del self._pending[:PIECE]
        assert self._path is not None
        reference = BodyReference(self._name, self._size, bytes(self._digests))
        self._body = self._scratch.body(self._path, reference, _nobody)
        return self._body

    async def abandon(self) -> None:
        """Remove what was written."""
        self._failed = True
        if not self._name or (self._body is not None and self._body.adopted):
            return
        if self._body is None and self._path is not None:
            _unlink(self._path)
        with contextlib.suppress(SpoolError):  # this node's next start removes it
            await self._database.query(self._remove)

    async def _remove(self, connection: Connection) -> None:
        await connection.execute("DELETE FROM outrider.bodies WHERE name = %s AND NOT named", (self._name,))

    def _check(self) -> None:
        if self._failed:
            raise SpoolUnavailable("this body was abandoned, or writing it has failed before")

    async def _put(self, piece: bytes) -> None:
        try:
            if not self._name:
                await self._begin()
            assert self._path is not None
            number = len(self._digests) // PIECE_DIGEST
            self._digests += piece_digest(piece)

            async def insert(connection: Connection) -> None:
                await connection.execute(
                    "INSERT INTO outrider.pieces VALUES (%s, %s, %b) ON CONFLICT DO NOTHING",
                    (self._name, number, piece),
                )

            await self._database.query(insert)
            await append(self._path, piece)
        except BaseException:
            self._failed = True
            raise

    async def _begin(self) -> None:
        name = f"00/{self._message.encode().hex()[:200]}.{int.from_bytes(os.urandom(3), 'big')}"

        async def insert(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO outrider.bodies (name, message, owner) VALUES (%s, %s, %s)",
                (name, self._message, self._owner),
            )

        await self._database.query(insert)
        self._name = name
        self._path = self._scratch.new_path()


def _nobody(why: str) -> None:
    """Damage before a message is stored concerns only the one who reads."""
    del why
