"""A record as tables see it, and what all tables are made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from string import ascii_uppercase

from bench.choosing import ROUNDS
from bench.records import Record, Row, Server
from bench.subjects import SUBJECTS
from bench.work import SHAPES, Figure, Kind, Shape

OURS = "Outrider"
"""How the names of our own servers begin."""


class Sheet:
    """A record, looked at by shape and server."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._rows = {row.shape: row for row in record.rows}
        self.shapes = [
            shape for shape in SHAPES if shape.name in self._rows and self._rows[shape.name].figures
        ]
        order = {kind.name: number for number, kind in enumerate(SUBJECTS)}
        measured = {figure.subject for row in record.rows for figure in row.figures}
        self.servers = sorted(measured, key=lambda name: (order.get(name, len(order)), name))
        self.machines = list(dict.fromkeys(machine(row) for row in record.rows if row.figures))

    def of_kind(self, *kinds: Kind) -> list[Shape]:
        """The shapes of these kinds that were measured."""
        return [shape for shape in self.shapes if shape.kind in kinds]

    def figures(self, shape: Shape, server: str) -> list[Figure]:
        """All rounds."""
        row = self._rows.get(shape.name)
        return [one for one in row.figures if one.subject == server] if row is not None else []

    def found(self, shape: Shape) -> dict[str, list[Figure]]:
        """All rounds by server."""
        return {name: self.figures(shape, name) for name in self.taking_part([shape])}

    def taking_part(self, shapes: Iterable[Shape]) -> list[str]:
        """The servers that were measured with any of the shapes."""
        measured = {one.subject for shape in shapes for one in self._rows[shape.name].figures}
        return [server for server in self.servers if server in measured]

    def median(self, shape: Shape, server: str, of: Callable[[Figure], float]) -> float | None:
        """None if it did not take part."""
        figures = self.figures(shape, server)
        return median(figures, of) if figures else None

    def rate_cell(self, shape: Shape, server: str) -> str:
        """Median and range of the rates; rounds that a server did not get through are told."""
        figures = self.figures(shape, server)
        if not figures:
            return "-"
        short = len(figures) < self._rows[shape.name].rounds
        return f"{rate_cell(figures)}, {_rounds(len(figures))}" if short else rate_cell(figures)

    def measured(self, shape: Shape) -> str:
        """When, what of Outrider, and on which machine where there are several."""
        row = self._rows[shape.name]
        parts = [f"{row.began[:10]} {row.began[11:16]}", commit(row)]
        if len(self.machines) > 1:
            parts.append(ascii_uppercase[self.machines.index(machine(row)) % len(ascii_uppercase)])
        if row.rounds != ROUNDS:
            parts.append(_rounds(row.rounds))
        return ", ".join(parts)

    def versions(self) -> list[Server]:
        """Each server once, with all versions that its figures are of."""
        known: dict[str, list[Server]] = {}
        for row in self.record.rows:
            for server in row.servers:
                known.setdefault(server.name, []).append(server)
        together = []
        for name in self.servers:
            if ones := known.get(name, []):
                versions = dict.fromkeys(one.version for one in ones)
                together.append(Server(name, ", ".join(versions), ones[-1].durability))
        return together


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def machine(row: Row) -> str:
    """Where it was measured."""
    facts = row.machine
    return (
        f"{facts['cores']} cores of {facts['processor']}, {facts['memory_mib']:,} MiB, {facts['kernel']}, "
        f"{str(facts['file_system']).partition(' ')[0]}, Python {facts['python']}"
    )


def commit(row: Row) -> str:
    """With a plus where it was not all."""
    name, dirty, _ = row.commit.partition("-dirty")
    return f"{name}+" if dirty else name


def table(
    first: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]], last: Sequence[str] = ()
) -> str:
    """Columns of words, of numbers, and of words again."""
    rule = "| --- " * len(first) + "| ---: " * len(numbers) + "| --- " * len(last) + "|"
    head = [line(*first, *numbers, *last), rule]
    return "\n".join([*head, *(line(*row) for row in rows)])


def line(*cells: str) -> str:
    """One row."""
    return f"| {' | '.join(cells)} |"


def median(figures: Sequence[Figure], of: Callable[[Figure], float]) -> float:
    """Of at least one figure."""
    return statistics.median(of(one) for one in figures)


def rate(figure: Figure) -> float:
    """Messages a second."""
    return figure.rate


def cpu(figure: Figure) -> float:
    """CPU milliseconds a message."""
    return figure.cpu_ms


def number(value: float) -> str:
    """A rate as people read it."""
    return f"{value:,.{1 if value < 50 else 0}f}"


def rate_cell(figures: Sequence[Figure]) -> str:
    """The median and the range."""
    rates = [one.rate for one in figures]
    digits = 1 if max(rates) < 50 else 0
    text = f"{statistics.median(rates):,.{digits}f} ({min(rates):,.{digits}f}-{max(rates):,.{digits}f})"
    late = any(" arrived in time" in one.note for one in figures)
    return f"{text}, not all in time" if late else text


def ratio(ours: float | None, theirs: float | None, digits: int = 1) -> str:
    """As a number, or a dash where one of them is missing."""
    return f"{ours / theirs:.{digits}f}" if ours and theirs else "-"


def dated(sheet: Sheet, *shapes: Shape) -> str:
    """The line below a table that has no column for it."""
    moments = dict.fromkeys(sheet.measured(shape) for shape in shapes)
    return f"Measured {'; '.join(moments)}."
