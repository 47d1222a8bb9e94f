"""Broken-off transfers in files (MT2-18b): what a server has of each, for its successor and for its workers.

A server of one process writes them when it ends in order. Of several workers each writes one whenever a
connection breaks amid a transfer: its peer may come back to another worker, and this one may die. Whoever
has claimed the transfer (`mt2_claims`) reads, replaces and removes its file, and nobody else; a file that has
expired, or for which there is no room any more, is removed by all.

A file is a line of JSON that says what it holds, then envelope, headers object and body object as far as they
came. Nothing is promised of it: a file that is not whole is dropped, the sender is told by STAT what is held,
and the whole object's digest is checked at its end as ever. So nothing waits for the disk here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from outrider.model.content import Body

FOLDER: Final = Path("mt2") / "partials"
"""Below data_dir."""
MOST_PARTIALS: Final = 64
"""Broken-off transfers kept for one identity."""
MOST_IN_ALL: Final = 512
"""And for all together."""
PIECE: Final = 262_144
_LONGEST_HEAD: Final = 4_096
_TMP: Final = ".tmp"
_UNFINISHED_S: Final = 60.0
"""Nobody is at work any more on an unfinished file that has not grown for so long."""
Key = tuple[str, str]
"""Proven identity and transfer id."""


class _Head(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The first line."""

    peer: str
    id: str
    until: float
    envelope: int
    headers: int
    body: int


_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is of a transfer."""

    peer: str
    id: str
    until: float
    """When it is to be forgotten, seconds since the epoch."""
    envelope: bytes
    headers: bytes
    body_size: int

    @property
    def size(self) -> int:
        """Octets of all objects."""
        return len(self.envelope) + len(self.headers) + self.body_size


@dataclass(frozen=True, slots=True, order=True)
class _File:
    """One in the folder; the oldest comes first."""

    modified: float
    name: str
    size: int

    @property
    def is_unfinished(self) -> bool:
        """Somebody is writing it, or died of that."""
        return self.name.endswith(_TMP)


class SavedPartials:
    """The files of one server."""

    def __init__(
        self, folder: Path, keep_for: float, clock: Callable[[], float], *, space: int, shared: bool = False
    ) -> None:
        """`keep_for`: seconds for which a partial transfer is kept; `space`: octets of all files together.
        `shared`: other processes write here too; if not, what there will be is what was there at the start,
        and nobody is asked for the rest."""
        self.space = space
        self.keep_for = keep_for
        self._folder = folder
        self._clock = clock
        self._shared = shared
        self.tidy()
        self._names = {file.name for file in self._files() if not file.is_unfinished}

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def find(self, key: Key) -> Parts | None:
        """What was saved of a transfer; None for nothing that can be used."""
        name = _name(key)
        if not self._shared and name not in self._names:
            return None
        try:
            with (self._folder / name).open("rb") as file:
                head = _HEAD.decode(file.readline(_LONGEST_HEAD))
                envelope, headers = file.read(head.envelope), file.read(head.headers)
                is_whole = os.fstat(file.fileno()).st_size == file.tell() + head.body
        except FileNotFoundError:
            self._names.discard(name)
            return None
        except (OSError, msgspec.MsgspecError, ValueError):
            is_whole = False
        self._names.add(name)
        if not is_whole or (head.peer, head.id) != key or head.until <= self._clock():
            self.forget(key)
            return None
        return Parts(head.peer, head.id, head.until, envelope, headers, head.body)

    def body(self, parts: Parts) -> Iterator[bytes]:
        """The body object as far as it came, in pieces; for a thread. Raises OSError."""
        left = parts.body_size
        with (self._folder / _name((parts.peer, parts.id))).open("rb") as file:
            file.seek(-left, os.SEEK_END)
            while left:
                piece = file.read(min(left, PIECE))
                if not piece:
                    raise OSError("the file is shorter than before")
                left -= len(piece)
                yield piece

    def forget(self, key: Key) -> None:
        """Remove it, if it was found or saved here. Never raises."""
        name = _name(key)
        if name in self._names:
            self._names.discard(name)
            self._remove((name,))

    def save(self, parts: Parts, prefix: bytes, rest: Body | None) -> None:
        """Write a file; `prefix` and `rest` are the body object. Older ones go where they are too many. For a
        thread. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = _name((parts.peer, parts.id))
        self.tidy(parts)
        head = _Head(
            parts.peer, parts.id, parts.until, len(parts.envelope), len(parts.headers), parts.body_size
        )
        unfinished = self._folder / f"{name}.{os.getpid()}{_TMP}"
        try:
            with open(unfinished, "wb", opener=_private) as file:
                file.write(msgspec.json.encode(head) + b"\n" + parts.envelope + parts.headers + prefix)
                file.writelines(rest.chunks(PIECE) if rest is not None else ())
            unfinished.rename(self._folder / name)
        except BaseException:
            self._remove((unfinished.name,))
            raise
        self._names.add(name)

    # --- room -----------------------------------------------------------------------------------------------

    def tidy(self, coming: Parts | None = None) -> None:
        """Remove what has expired, what nobody finishes, and the oldest while all are too many or too large,
        `coming` counted in: of that peer first, as one must not push out the others'. For a thread, once the
        server runs. Never raises."""
        now = self._clock()
        left: list[_File] = []
        gone: list[_File] = []
        for file in sorted(self._files()):
            patience = _UNFINISHED_S if file.is_unfinished else self.keep_for
            (gone if file.modified + patience < now else left).append(file)
        if coming is not None:
            own = _owner(coming.peer)
            left = [file for file in left if file.name != _name((coming.peer, coming.id))]
            mine = [file for file in left if file.name.startswith(own)]
            gone += mine[: max(0, len(mine) + 1 - MOST_PARTIALS)]
            left = [file for file in left if file not in gone]
            left.sort(key=lambda file: not file.name.startswith(own))  # stable: the oldest of each first
        size = sum(file.size for file in left) + (0 if coming is None else coming.size)
        while left and (size > self.space or len(left) + (coming is not None) > MOST_IN_ALL):
            gone.append(left.pop(0))
            size -= gone[-1].size
        self._remove([file.name for file in gone])

    def _files(self) -> Iterator[_File]:
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another was quicker
                    found = entry.stat(follow_symlinks=False)
                    yield _File(found.st_mtime, entry.name, found.st_size)

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _name(key: Key) -> str:
    return _owner(key[0]) + hashlib.sha256("\0".join(key).encode()).hexdigest()


def _owner(peer: str) -> str:
    """How the names of a peer's files begin."""
    return hashlib.sha256(peer.encode()).hexdigest()[:16] + "-"
