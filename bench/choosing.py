"""Which shapes and servers a run takes, and whether what it measures may be kept: decisions without I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.records import Record
from bench.subjects import SUBJECTS, Subject
from bench.work import SHAPES, Kind, Shape

ROUNDS = 5
"""That a row must have to be kept, unless its shape has fewer by itself."""
_NUMBERS = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")


class NothingChosen(Exception):
    """A word fits nothing; the argument says which."""


def selected(pattern: str) -> list[Shape]:
    """The shapes that the words choose, which are parted by semicolons; all without any.

    A word is a whole name, or a part of names, or a number or range of numbers of `--list`. With a shape come
    those that it is held against. Raises NothingChosen.
    """
    names = {name for word in _words(pattern) for name in _fitting(word)}
    if not names:
        return list(SHAPES)
    together = {_companions(shape) for shape in SHAPES if shape.name in names}
    return [shape for shape in SHAPES if _companions(shape) in together]


def _fitting(word: str) -> list[str]:
    names = [shape.name for shape in SHAPES]
    if (numbers := _NUMBERS.fullmatch(word)) is not None:
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        found = names[max(first - 1, 0) : last]
    else:
        exact = [name for name in names if name.lower() == word]
        found = exact or [name for name in names if word in name.lower()]
    if not found:
        raise NothingChosen(f"no shape is called {word!r}; --list shows them all")
    return found


def servers(pattern: str) -> list[type[Subject]]:
    """The servers whose names contain one of the words; all without any. Raises NothingChosen."""
    words = _words(pattern)
    for word in words:
        if not any(word in kind.name.lower() for kind in SUBJECTS):
            raise NothingChosen(f"no server is called {word!r}; --list shows them all")
    return [kind for kind in SUBJECTS if not words or any(word in kind.name.lower() for word in words)]


def _words(pattern: str) -> list[str]:
    return [word.strip().lower() for word in pattern.split(";") if word.strip()]


def _companions(shape: Shape) -> str:
    return shape.beside or shape.name


def grouped(shapes: Iterable[Shape]) -> list[list[Shape]]:
    """Those that are held against each other take turns in the same rounds; all others stand alone."""
    groups: dict[str, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(_companions(shape), []).append(shape)
    return list(groups.values())


def taking_part(shape: Shape, kinds: Iterable[type[Subject]]) -> list[type[Subject]]:
    """Of these servers."""
    return [kind for kind in kinds if kind.takes_part(shape)]


def quick(shapes: Iterable[Shape]) -> list[Shape]:
    """The same with the fewest messages that still show something, and without the million."""
    return [
        replace(shape, fewest=min(shape.fewest, max(100, shape.sessions)), most=max(300, shape.sessions))
        for shape in shapes
        if shape.kind is not Kind.MILLION
    ]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a run is asked to do."""

    shapes: Sequence[Shape]
    servers: Sequence[type[Subject]]
    rounds: int
    quick: bool


def objections(choice: Choice, known: Record, *, tried: bool = False) -> list[str]:
    """Why the rows of this run could not stand in the published page; nothing if they can.

    Whoever stands in a row now must be measured again with it: the cells of one row come from one run.
    `tried`: the pages are a copy, in which few messages and rounds may stand.
    """
    said = []
    if choice.quick and not tried:
        said.append("--quick measures too few messages to be kept")
    if choice.rounds < ROUNDS and not tried and not choice.quick:
        said.append(f"{choice.rounds} rounds are too few to be kept; it takes {ROUNDS}")
    for shape in choice.shapes:
        chosen = {kind.name for kind in taking_part(shape, choice.servers)}
        if not chosen:
            said.append(f"{shape.name}: none of the servers chosen takes part in it")
        elif lost := [name for name in _standing(shape, known) if name not in chosen]:
            said.append(
                f"{shape.name}: {'; '.join(lost)} would lose their place in the row, whose cells have to "
                "come from one run; add them to --servers, or leave --servers out"
            )
    return said


def _standing(shape: Shape, known: Record) -> list[str]:
    """Servers with figures in the row that the shape has now, as far as they still take part in it."""
    row = known.row(shape.name)
    measured = {figure.subject for figure in row.figures} if row is not None else set()
    return [kind.name for kind in taking_part(shape, SUBJECTS) if kind.name in measured]
