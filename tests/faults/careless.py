"""Outrider with `synchronous=NORMAL`, which it would refuse: what many programs run SQLite with.

    python careless.py serve --config outrider.toml

A commit is then in the log but not synced. The tests use it to show that they would see the difference.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from outrider.cli.main import main
from outrider.spool.sqlite import connection

COMMAND = (sys.executable, str(Path(__file__).resolve()))


def _carelessly(
    prepare: Callable[[sqlite3.Connection, bool], None],
) -> Callable[[sqlite3.Connection, bool], None]:
    def prepare_carelessly(opened: sqlite3.Connection, read_only: bool) -> None:
        prepare(opened, read_only)
        opened.execute("PRAGMA synchronous = NORMAL").fetchall()

    return prepare_carelessly


def _believe(opened: sqlite3.Connection) -> None:
    """In place of the check that would refuse."""
    del opened


if __name__ == "__main__":
    connection._set = _carelessly(connection._set)
    connection.assert_safe = _believe
    main()
