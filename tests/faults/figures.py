"""The figures of a fault run, for docs/reliability.md, and how many rounds a test has.

Every test of `tests/faults` that counts has a short form for `make test` and a long one, marked `long`, for
`make faults`. OUTRIDER_FIGURES names the file to which each appends what it found, a JSON object on a line;
OUTRIDER_FAULT_SCALE makes the long forms shorter (0.1) or longer (10).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

SCALE = float(os.environ.get("OUTRIDER_FAULT_SCALE", "1"))


def short_and_long(short: int, long: int) -> pytest.MarkDecorator:
    """The argument `rounds` of a test: a few for every day, and all for `make faults`."""
    scaled = max(1, round(long * SCALE))
    cases = [pytest.param(short, id="short"), pytest.param(scaled, id="long", marks=pytest.mark.long)]
    return pytest.mark.parametrize("rounds", cases)


def publish(fault: str, what: str, backend: str, figures: Mapping[str, int | float]) -> None:
    """Show what a run found, and keep it if it is to be published. `what` names the case in a few words."""
    print(f"\n{fault} {what} ({backend}): " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    target = os.environ.get("OUTRIDER_FIGURES")
    if target:
        line = json.dumps({"fault": fault, "what": what, "backend": backend, **figures})
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
