"""Bring the figures of a fault run into docs/reliability.json and the table of docs/reliability.md.

    python -m tools.fault_figures var/faults/figures.jsonl

`tests/faults/figures.py` writes a line for each case of a run; the same case run twice (its short and its
long form) is one row with the sums of both. A case that this run did not have keeps the row of the run that
did, with its date. `--render` writes the table anew from the JSON, without a run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
KEPT = PROJECT / "docs" / "reliability.json"
PAGE = PROJECT / "docs" / "reliability.md"
BEGIN = "<!-- figures: written by make faults -->"
END = "<!-- end of figures -->"

Row = dict[str, Any]
_KEY = ("fault", "what", "backend")
_COLUMNS = ("rounds", "acknowledged", "lost", "truncated", "duplicates")
_LARGEST = frozenset(("descriptors at most", "MiB at the end", "MiB grown in the second half"))
"""Figures of which the largest counts, not the sum."""


def joined(lines: Iterable[str]) -> list[Row]:
    """One row for each case of a run."""
    found: dict[tuple[str, ...], Row] = {}
    for line in lines:
        new: Row = json.loads(line)
        row = found.setdefault(tuple(new[name] for name in _KEY), {name: new[name] for name in _KEY})
        for name, value in new.items():
            if name in _KEY:
                continue
            before = row.get(name, 0)
            row[name] = max(before, value) if name in _LARGEST else before + value
    return list(found.values())


def merged(kept: Iterable[Row], new: Iterable[Row], run: Row) -> list[Row]:
    """The rows of this run, and those of earlier ones that it did not repeat."""
    rows = {tuple(row[name] for name in _KEY): row for row in kept}
    for row in new:
        rows[tuple(row[name] for name in _KEY)] = {**row, **run}
    return sorted(rows.values(), key=_order)


def _order(row: Row) -> tuple[object, ...]:
    letters, number = row["fault"].rstrip("0123456789"), row["fault"].lstrip("EFSC-")
    return letters, int(number), row["what"], row["backend"]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    head = ("fault", "case", "spool", *_COLUMNS, "also", "run")
    lines = [head, ("---", "---", "---", *("---:" for _ in _COLUMNS), "---", "---")]
    for row in rows:
        also = [f"{name} {_number(value)}" for name, value in row.items() if name not in _NOT_ALSO]
        counts = (_number(row[name]) if name in row else "" for name in _COLUMNS)
        lines.append((row["fault"], row["what"], row["backend"], *counts, ", ".join(also), row["date"]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_NOT_ALSO = frozenset((*_KEY, *_COLUMNS, "date", "machine"))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def render(page: str, rows: Sequence[Row]) -> str:
    """The page with the table in its place. Raises ValueError when it has no place for it."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{PAGE.name} lacks the lines {BEGIN} and {END}")
    machines = sorted({row["machine"] for row in rows})
    text = f"{table(rows)}\nMachine: {'; '.join(machines)}.\n" if rows else ""
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def this_run() -> Row:
    """When and on what."""
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    programs = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": today, "machine": f"{os.cpu_count()} cores, {system}, {programs}"}


def main(arguments: Sequence[str]) -> int:
    """Merge and render; 0."""
    parser = argparse.ArgumentParser(description="Publish the figures of a fault run.")
    parser.add_argument("figures", type=Path, nargs="?", help="what the run wrote, JSON lines")
    parser.add_argument("--render", action="store_true", help="only write the table anew")
    given = parser.parse_args(arguments)
    rows: list[Row] = json.loads(KEPT.read_text()) if KEPT.exists() else []
    if not given.render:
        if given.figures is None:
            parser.error("which figures?")
        rows = merged(rows, joined(given.figures.read_text().splitlines()), this_run())
        KEPT.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(render(PAGE.read_text(), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
