"""Asking the server; or, when none runs, the spool itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outrider.cli.output import fail
from outrider.config.loader import Loaded, load
from outrider.config.problems import ConfigError
from outrider.runtime.control import CommandRefused, NoServer, Row, call


def load_or_fail(config_path: Path) -> Loaded:
    """The configuration, or its faults on standard error and exit 1."""
    try:
        return load(config_path)
    except ConfigError as error:
        fail(str(error))


def ask(config_path: Path, command: str, arguments: dict[str, Any]) -> Iterator[Row]:
    """The rows that the command gives; a refusal ends the program with exit 1.

    Commands about the queue also work while no server runs: then the spool is opened here.
    """
    loaded = load_or_fail(config_path)
    try:
        yield from call(loaded.resolve(loaded.config.data_dir), command, arguments)
    except NoServer:
        yield from _ask_offline(loaded, command, arguments)
    except CommandRefused as refusal:
        fail(str(refusal))


def _ask_offline(loaded: Loaded, command: str, arguments: dict[str, Any]) -> Iterator[Row]:
    from outrider.runtime.offline import run_offline

    try:
        yield from run_offline(loaded, command, arguments)
    except (CommandRefused, NoServer) as refusal:
        fail(str(refusal))
