"""The figures as they are kept: JSON that a later run, or a reader, can work with.

Kept is a row for each shape of load, with its own moment, machine and commit, since a later run may measure
some shapes and not others. All figures of one row come from one run; a row is replaced whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.work import SHAPES, Figure

Facts = dict[str, str | int]


class Server(msgspec.Struct, frozen=True):
    """One of those that took part."""

    name: str
    version: str
    durability: str


class Row(msgspec.Struct, frozen=True):
    """What one run has measured of one shape of load."""

    shape: str
    began: str
    """UTC; of the first measurement that counts, or of the run where nothing else is known."""
    minutes: float
    """That the shape took, warming up included; 0 = not known."""
    rounds: int
    commit: str
    """Of Outrider, with ``-dirty`` when there were changes beside it."""
    machine: Facts
    servers: list[Server]
    figures: list[Figure]
    failures: list[str]
    """Measurements that could not be made, and why."""


class Record(msgspec.Struct, frozen=True):
    """All rows, in the order of the shapes."""

    rows: list[Row]

    def row(self, shape: str) -> Row | None:
        """What is known of a shape."""
        return next((row for row in self.rows if row.shape == shape), None)


def fallen_out(old: Row, new: Row) -> list[str]:
    """Servers that have all rounds in the old row, and figures but not all, or none, in the new one.

    Who takes no part in the shape any more is not missed: a run that leaves out others is refused beforehand.
    """
    failed = {text.partition(f", {new.shape}: ")[0] for text in new.failures}
    tried = failed | {figure.subject for figure in new.figures}
    return [name for name in _whole(old) if name in tried and name not in _whole(new)]


def _whole(row: Row) -> list[str]:
    counts = Counter(figure.subject for figure in row.figures)
    return [name for name, count in counts.items() if count >= row.rounds]


def merged(old: Record, new: Iterable[Row]) -> Record:
    """The old record with these rows in the place of those of the same shapes.

    A row in which somebody fell out who has all rounds in the old one replaces nothing. Shapes that there are
    no more are left out.
    """
    rows = {row.shape: row for row in old.rows}
    for row in new:
        if row.shape not in rows or not fallen_out(rows[row.shape], row):
            rows[row.shape] = row
    return Record([rows[shape.name] for shape in SHAPES if shape.name in rows])


def read_record(path: Path) -> Record:
    """Raises OSError or msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Record)


def write_record(record: Record, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    new.replace(path)
