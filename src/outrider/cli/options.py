"""Options that many commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = "/etc/outrider/outrider.toml"


def config_option(function: F) -> F:
    """``--config``: the file, from $OUTRIDER_CONFIG or /etc."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=lambda: Path(os.environ.get("OUTRIDER_CONFIG", DEFAULT_CONFIG)),
        show_default=f"$OUTRIDER_CONFIG or {DEFAULT_CONFIG}",
        help="Configuration file.",
    )(function)


def json_option(function: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")(function)
