"""The figures of a fault run, for docs/reliability.md, and how many rounds a test has.

Every test of `tests/faults` that counts has a short form for `make test` and a long one, marked `long`, for
`make faults`. OUTRIDER_FIGURES names the file to which each appends what it found, a JSON object on a line;
OUTRIDER_FAULT_SCALE makes the long forms shorter (0.1) or longer (10).

The longest go in blocks (`blocks`): each is accounted for and its figures are kept before the next begins. A
run that is started again with the same file does what is still to be done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SCALE = float(os.environ.get("OUTRIDER_FAULT_SCALE", "1"))


def short_and_long(short: int, long: int) -> pytest.MarkDecorator:
    """The argument `rounds` of a test: a few for every day, and all for `make faults`."""
    scaled = max(1, round(long * SCALE))
    cases = [pytest.param(short, id="short"), pytest.param(scaled, id="long", marks=pytest.mark.long)]
    return pytest.mark.parametrize("rounds", cases)


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table: `what` names the case in a few words."""

    fault: str
    what: str
    backend: str

    def publish(self, figures: Mapping[str, int | float]) -> None:
        """Show what a run found, and keep it if it is to be published."""
        said = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"\n{self.fault} {self.what} ({self.backend}): {said}")
        if (target := _target()) is not None:
            with target.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**self._key(), **figures}) + "\n")

    def published_rounds(self) -> int:
        """How many rounds of it the figures file has."""
        target = _target()
        if target is None or not target.exists():
            return 0
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        return sum(row["rounds"] for row in rows if row.items() >= self._key().items())

    def _key(self) -> dict[str, str]:
        return {"fault": self.fault, "what": self.what, "backend": self.backend}


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a long run."""

    done: int
    """Rounds before it, in other runs too."""
    rounds: int

    @property
    def prefix(self) -> str:
        """For the tokens of its mail: the parts of a run share a spool."""
        return f"t{self.done}x"


def blocks(case: Case, rounds: int, size: int) -> Iterator[Block]:
    """The parts of a run of so many rounds that the figures file does not have yet. Each is to be published
    before the next is asked for. A run that fits one block is made in any case."""
    done = case.published_rounds() if rounds > size else 0
    if done >= rounds:
        pytest.skip(f"the figures file has {done} rounds of it: nothing is left to do")
    while done < rounds:
        part = min(size, rounds - done)
        yield Block(done, part)
        done += part


def publish(fault: str, what: str, backend: str, figures: Mapping[str, int | float]) -> None:
    """Publish the figures of a case that is run in one go."""
    Case(fault, what, backend).publish(figures)


def _target() -> Path | None:
    name = os.environ.get("OUTRIDER_FIGURES")
    return Path(name) if name else None
