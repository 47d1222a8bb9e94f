"""Options that many commands share, and options that belong together as one argument."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

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


def bundle(
    name: str, make: Callable[..., object], options: Mapping[str, Callable[[Any], Any]]
) -> Callable[[F], F]:
    """Options that come to the command as one argument called `name`: what `make` makes of their values.

    `options`, in the order of the help: for each argument of `make` the option that gives it.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def gathered(*arguments: Any, **values: Any) -> Any:
            values[name] = make(**{one: values.pop(one) for one in options})
            return function(*arguments, **values)

        decorated = cast(F, gathered)
        for option in reversed(list(options.values())):
            decorated = option(decorated)
        return decorated

    return decorate
