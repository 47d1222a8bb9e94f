"""Printing for people and for programs: a table on a terminal, plain columns in a pipe, JSON when asked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import click

Row = Mapping[str, Any]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def fail(text: str, code: int = 1) -> NoReturn:
    """Say why on standard error, a line for each reason, and end: 1 refused or failed, 2 usage."""
    for line in text.split("\n"):
        click.echo(f"outrider: {line}", err=True)
    sys.exit(code)


def shown(value: object) -> str:
    """A value for a terminal: hostile control characters made visible."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(shown(part) for part in value)
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(value))


def print_json(value: object) -> None:
    """One JSON document a line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_rows(rows: Iterable[Row], columns: Sequence[tuple[str, str]], *, as_json: bool) -> int:
    """Rows as JSON lines, a table, or tab-parted text; columns are (key, heading). The number printed."""
    if sys.stdout.isatty() and not as_json:
        return _print_table(rows, columns)
    count = 0
    for row in rows:
        count += 1
        if as_json:
            print_json(row)
        else:
            click.echo("\t".join(shown(row.get(key)).replace("\t", " ") for key, _ in columns))
    return count


def _print_table(rows: Iterable[Row], columns: Sequence[tuple[str, str]]) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for _, heading in columns:
        table.add_column(heading, overflow="fold")
    try:
        for row in rows:
            table.add_row(*(Text(shown(row.get(key))) for key, _ in columns))
    finally:  # a list that breaks off is shown as far as it goes
        Console().print(table)
    return table.row_count


def age(seconds: float) -> str:
    """A time span as people say it: 45 s, 12 min, 3.5 h, 2.1 d."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} d"
