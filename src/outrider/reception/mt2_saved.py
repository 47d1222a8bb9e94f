"""Broken-off transfers over an orderly restart (MT2-18b): what a server that ends has of each, in a file.

A file is a line of JSON that says what it holds, then envelope, headers object and body object as far as they
came. Nothing is promised of it: a file that is not whole is dropped, the sender is told by STAT what is held,
and the whole object's digest is checked at its end as ever. So nothing waits for the disk here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from outrider.model.content import Body

FOLDER: Final = Path("mt2") / "partials"
"""Below data_dir."""
PIECE: Final = 262_144
_LONGEST_HEAD: Final = 4_096
_TMP: Final = ".tmp"
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


class SavedPartials:
    """The files of one server. Several workers share them; each knows those that were there when it began."""

    def __init__(self, folder: Path, keep_for: float, clock: Callable[[], float]) -> None:
        """`keep_for`: seconds for which a partial transfer is kept."""
        self._folder = folder
        self._clock = clock
        self._names: set[str] = set()
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if path.stat().st_mtime + keep_for < clock():
                    path.unlink(missing_ok=True)
                elif not path.name.endswith(_TMP):
                    self._names.add(path.name)

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def find(self, key: Key) -> Parts | None:
        """What was saved of a transfer; None for nothing that can be used."""
        name = _name(key)
        if name not in self._names:
            return None
        try:
            with (self._folder / name).open("rb") as file:
                head = _HEAD.decode(file.readline(_LONGEST_HEAD))
                envelope, headers = file.read(head.envelope), file.read(head.headers)
                is_whole = os.fstat(file.fileno()).st_size == file.tell() + head.body
        except (OSError, msgspec.MsgspecError, ValueError):
            is_whole = False
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
        """Remove it. Never raises."""
        name = _name(key)
        if name in self._names:
            self._names.discard(name)
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def save(self, parts: Parts, prefix: bytes, rest: Body | None) -> None:
        """Write a file; `prefix` and `rest` are the body object. For a thread. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = _name((parts.peer, parts.id))
        head = _Head(
            parts.peer, parts.id, parts.until, len(parts.envelope), len(parts.headers), parts.body_size
        )
        unfinished = self._folder / f"{name}{_TMP}"
        with open(unfinished, "wb", opener=_private) as file:
            file.write(msgspec.json.encode(head) + b"\n" + parts.envelope + parts.headers + prefix)
            file.writelines(rest.chunks(PIECE) if rest is not None else ())
        unfinished.rename(self._folder / name)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _name(key: Key) -> str:
    return hashlib.sha256("\0".join(key).encode()).hexdigest()
