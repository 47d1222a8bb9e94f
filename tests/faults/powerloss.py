"""A power cut, played from the journal that `powerloss.c` keeps of a program's use of its disk.

Only what was synced is sure. Of everything else the cut takes what chance decides:

- of a file's unsynced writes none, all, or any of their sectors (512 octets), in no order: a write may be
  torn, and a later one may be there where an earlier one is not; so may the file's growth without its octets;
- under `Names.STRICT` any of a folder's unsynced changes (names made, renamed, removed), in no order. A name
  is only sure when its folder was synced, whatever was done to its file;
- under `Names.ORDERED` changes of names are kept as a journaling file system (ext4, XFS) keeps them: in order
  over all folders, and every sync of anything makes all before it sure. That is what PostgreSQL relies on.

The disk under test is rewritten to what the cut has left, and the next round begins with that.
"""

from __future__ import annotations

import enum
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_MAGIC = struct.pack("=Q", 0x9D6B1F47C3A5E208)
_HEADER = struct.Struct("=8sQQQIIII")


class Kind(enum.IntEnum):
    """What a record of the journal tells."""

    CREATE = 1
    WRITE = 2
    RESIZE = 3
    GROW = 4
    SYNC_BEGUN = 5
    SYNC_ENDED = 6
    LINK = 7
    RENAME = 8
    UNLINK = 9
    MKDIR = 10


class Names(enum.Enum):
    """What keeps a change of names."""

    STRICT = "strict"
    ORDERED = "ordered"


@dataclass(frozen=True, slots=True)
class Record:
    """One record; see the structure of the same name in `powerloss.c`."""

    kind: Kind
    file: int
    folder: int
    other: int
    mode: int
    name: str
    data: bytes


def read_journal(octets: bytes) -> Iterator[Record]:
    """All whole records. One that a killed process left unfinished amid those of others is left out."""
    at = 0
    while at + _HEADER.size <= len(octets):
        _, file, folder, other, kind, mode, name_length, data_length = _HEADER.unpack_from(octets, at)
        data_at = at + _HEADER.size + name_length
        end = data_at + data_length
        if end > len(octets) or (end < len(octets) and octets[end : end + 8] != _MAGIC):
            torn, at = at, octets.find(_MAGIC, at + 1)
            if at < 0:
                return
            assert torn < at
            continue
        name = os.fsdecode(octets[at + _HEADER.size : data_at])
        yield Record(Kind(kind), file, folder, other, mode, name, octets[data_at:end])
        at = end


@dataclass(frozen=True, slots=True)
class Change:
    """An unsynced change of a file's content."""

    at: int
    """Its place in the journal."""
    kind: Kind
    offset: int
    """Of a write; of the other kinds the new size."""
    data: bytes = b""

    def apply(self, content: bytearray) -> None:
        """Make it, whole."""
        if self.kind is Kind.WRITE:
            _overwrite(content, self.offset, self.data)
        elif self.kind is Kind.GROW or self.offset > len(content):
            content.extend(bytes(max(0, self.offset - len(content))))
        else:
            del content[self.offset :]

    def apply_in_part(self, content: bytearray, chance: random.Random) -> None:
        """Make what the cut leaves of it: for a write any of its sectors."""
        if self.kind is not Kind.WRITE:
            if chance.random() < 0.5:
                self.apply(content)
            return
        start = 0
        while start < len(self.data):
            end = min(len(self.data), (self.offset + start) // SECTOR * SECTOR + SECTOR - self.offset)
            if chance.random() < 0.5:
                _overwrite(content, self.offset + start, self.data[start:end])
            start = end


def _overwrite(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


@dataclass(slots=True, eq=False)
class File:
    """A file: what of it is sure, and what is not yet."""

    mode: int
    owner: int
    sure: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    changed: bool = False
    """Since the last cut: its copy on the disk has to be written anew."""

    def content(self) -> bytearray:
        """As the program sees it."""
        content = bytearray(self.sure)
        for change in self.pending:
            change.apply(content)
        return content

    def synced(self, before: int) -> None:
        """All changes that the journal has before that place are sure."""
        covered = [change for change in self.pending if change.at < before]
        for change in covered:
            change.apply(self.sure)
        del self.pending[: len(covered)]

    def cut(self, chance: random.Random) -> None:
        """The power is cut."""
        fate = chance.random()
        for change in self.pending:
            if fate < 0.15:
                change.apply(self.sure)
            elif fate < 0.6:
                change.apply_in_part(self.sure, chance)
        self.pending.clear()


@dataclass(slots=True, eq=False)
class Folder:
    """A folder: the names in it that are sure, and those that the program sees."""

    mode: int
    owner: int
    sure: dict[str, File | Folder] = field(default_factory=dict)
    seen: dict[str, File | Folder] = field(default_factory=dict)
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Rename:
    """An unsynced change of names: `gone` is no longer in `source`, and `made` stands in `target`."""

    at: int
    source: Folder
    gone: str
    target: Folder
    made: str
    what: File | Folder | None

    def apply(self) -> None:
        """Make it sure."""
        if self.gone:
            self.source.sure.pop(self.gone, None)
        if self.made and self.what is not None:
            self.target.sure[self.made] = self.what


class Disk:
    """The folder `root` on an imagined disk. Make it while no program uses the folder."""

    def __init__(self, root: Path, names: Names, *, lies: Callable[[str], bool] | None = None) -> None:
        """`lies` names the files (by their last name) whose syncs the disk confirms and does not make: with
        it a test shows that it would find a loss."""
        self._root = root
        self._names = names
        self._lies = lies or (lambda name: False)
        self._by_inode: dict[int, File | Folder] = {}
        self._name_of: dict[int, str] = {}
        self._renames: list[Rename] = []
        self._syncs: dict[int, tuple[int, int]] = {}
        self.syncs = 0
        """How many syncs were completed."""
        self.writes = 0
        """How many writes there were."""
        self.dropped = 0
        """Octets of unsynced writes that were there to be lost at the cuts."""
        self.strays = 0
        """Records that fit nothing known: 0, unless the journal misses something."""
        found = self._read(root)
        assert isinstance(found, Folder)
        self._top = found

    def _read(self, path: Path) -> File | Folder:
        """What is there, all of it sure."""
        facts = path.lstat()
        if not path.is_dir():
            file = File(facts.st_mode, facts.st_uid, bytearray(path.read_bytes()))
            self._by_inode[facts.st_ino] = file
            self._name_of[facts.st_ino] = path.name
            return file
        folder = Folder(facts.st_mode, facts.st_uid)
        for entry in os.scandir(path):
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                continue
            folder.sure[entry.name] = self._read(Path(entry.path))
        folder.seen = dict(folder.sure)
        self._by_inode[facts.st_ino] = folder
        return folder

    # --- replaying ------------------------------------------------------------------------------------

    def replay(self, journal: bytes) -> None:
        """What the programs did since the last cut."""
        for at, record in enumerate(read_journal(journal)):
            if record.kind is Kind.SYNC_BEGUN:
                self._syncs[record.other] = (at, record.file)
            elif record.kind is Kind.SYNC_ENDED:
                self._sync(*self._syncs.pop(record.file))
            elif record.kind in (Kind.WRITE, Kind.RESIZE, Kind.GROW):
                self._change_content(at, record)
            else:
                self._change_names(at, record)

    def _change_content(self, at: int, record: Record) -> None:
        file = self._by_inode.get(record.file)
        if not isinstance(file, File):
            self.strays += 1
            return
        self.writes += record.kind is Kind.WRITE
        file.changed = True
        file.pending.append(Change(at, record.kind, record.folder, record.data))

    def _change_names(self, at: int, record: Record) -> None:
        folder = self._by_inode.get(record.folder)
        if not isinstance(folder, Folder):
            self.strays += 1
            return
        if record.kind is Kind.UNLINK:
            folder.seen.pop(record.name, None)
            self._renames.append(Rename(at, folder, record.name, folder, "", None))
        elif record.kind is Kind.RENAME:
            self._rename(at, folder, record)
        else:
            what = self._made(folder, record)
            folder.seen[record.name] = what
            self._renames.append(Rename(at, folder, "", folder, record.name, what))

    def _made(self, folder: Folder, record: Record) -> File | Folder:
        if record.kind is Kind.LINK:
            return self._by_inode[record.file]
        kind = Folder if record.kind is Kind.MKDIR else File
        made = kind(record.mode, folder.owner, changed=True)
        self._by_inode[record.file] = made
        self._name_of[record.file] = record.name
        return made

    def _rename(self, at: int, source: Folder, record: Record) -> None:
        target = self._by_inode.get(record.other)
        what = source.seen.pop(record.name, None)
        if not isinstance(target, Folder) or what is None:
            self.strays += 1
            return
        made = os.fsdecode(record.data)
        target.seen[made] = what
        self._renames.append(Rename(at, source, record.name, target, made, what))

    def _sync(self, begun: int, inode: int) -> None:
        if self._lies(self._name_of.get(inode, "")):
            return
        self.syncs += 1
        what = self._by_inode.get(inode)
        if isinstance(what, File):
            what.synced(begun)
        kept = []
        for rename in self._renames:
            covered = self._names is Names.ORDERED or what in (rename.source, rename.target)
            if covered and rename.at < begun:
                rename.apply()
            else:
                kept.append(rename)
        self._renames = kept

    def differences(self) -> list[str]:
        """Where the journal's idea of what the program sees is not what is on the disk."""
        return list(self._differences(self._root, self._top))

    def _differences(self, path: Path, what: File | Folder) -> Iterator[str]:
        if isinstance(what, File):
            if path.read_bytes() != what.content():
                yield str(path.relative_to(self._root))
            return
        found = {entry.name for entry in path.iterdir() if not entry.is_socket()}
        yield from (str((path / name).relative_to(self._root)) for name in found ^ set(what.seen))
        for name in found & set(what.seen):
            yield from self._differences(path / name, what.seen[name])

    # --- the cut --------------------------------------------------------------------------------------

    def cut(self, chance: random.Random) -> None:
        """Lose what chance takes of all that is unsynced, and rewrite the folder to what is left."""
        self._cut_names(chance)
        # Both: a file whose removal is lost is no longer in the table, if its inode was used again.
        everything = {id(what): what for what in (*self._by_inode.values(), *_below(self._top))}
        for what in everything.values():
            if isinstance(what, File):
                self.dropped += sum(len(change.data) for change in what.pending)
                what.cut(chance)
        before, self._by_inode = self._by_inode, {}
        self._name_of, self._syncs = {}, {}
        self._write(self._root, self._top, before)

    def _cut_names(self, chance: random.Random) -> None:
        if self._names is Names.ORDERED:
            left = self._renames[: chance.randint(0, len(self._renames))]
        else:
            share = chance.choice((0.0, 0.5))
            left = [rename for rename in self._renames if chance.random() < share]
        for rename in left:
            rename.apply()
        self._renames.clear()

    def _write(self, path: Path, what: File | Folder, before: Mapping[int, File | Folder]) -> None:
        """Have the disk be as what is sure, touching only what differs from what was there `before`."""
        if isinstance(what, Folder):
            self._write_folder(path, what, before)
        elif what.changed or not path.exists() or before.get(path.lstat().st_ino) is not what:
            _write_file(path, what)
        what.changed = False
        inode = path.lstat().st_ino
        self._by_inode[inode] = what
        self._name_of[inode] = path.name

    def _write_folder(self, path: Path, folder: Folder, before: Mapping[int, File | Folder]) -> None:
        if not path.is_dir():
            path.mkdir()
            path.chmod(folder.mode & 0o7777)
            os.chown(path, folder.owner, folder.owner)
        for entry in list(os.scandir(path)):
            if entry.name not in folder.sure and not entry.is_symlink():
                _remove(Path(entry.path))
        folder.seen = dict(folder.sure)
        for name, what in folder.sure.items():
            self._write(path / name, what, before)


def _below(folder: Folder) -> Iterator[File | Folder]:
    yield folder
    for what in folder.sure.values():
        if isinstance(what, Folder):
            yield from _below(what)
        else:
            yield what


def _write_file(path: Path, file: File) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(file.sure)
    path.chmod(file.mode & 0o7777)
    os.chown(path, file.owner, file.owner)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
