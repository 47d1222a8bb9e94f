"""What the command line gives out is a table for people or JSON for programs: nothing that a spreadsheet
would take for formulas."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from outrider.cli.main import main

SPREADSHEETS = ("csv", "tsv", "xls", "ods")


def _commands(command: click.Command, path: tuple[str, ...], parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, parent, path[-1])
    yield f"{' '.join(path)}\n{command.get_help(context)}"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, (*path, name), context)


@pytest.mark.covers("SEC-206")
def test_no_command_writes_for_spreadsheets() -> None:
    """A subject `=cmd()` is never a cell. Who adds such an export has to prefix what begins with = + - @, tab
    or CR, and to say so here."""
    shown = list(_commands(main, ("outrider",), None))
    assert len(shown) > 50
    named = [
        text.partition("\n")[0] for text in shown for kind in SPREADSHEETS if kind in text.lower().split()
    ]
    assert not named
    assert not [text for text in shown for kind in SPREADSHEETS if f"--{kind}" in text or f"|{kind}" in text]
