"""Measure Outrider and its peers, in turn, on one machine: ``make bench``.

For each shape of load the servers take turns, each started afresh, in an order that moves on from round to
round; a first round, which does not count, finds out how many messages keep a server busy for the time that a
measurement is to last. What is published are medians and ranges; every single figure is kept as JSON.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.bulk_profile import profile
from bench.measuring import MeasurementFailed, measure
from bench.million import measure_million
from bench.nodes import measure_cluster
from bench.programs import STORE
from bench.records import Record, Server, write_record
from bench.report import RECORD, publish, tables
from bench.subjects import SUBJECTS, Subject
from bench.work import SHAPES, Figure, Kind, Shape
from outrider.benchmark.explained import NotExplained
from outrider.benchmark.machine import machine_facts

WARM_UP_S = 0.7
PROFILED = 5000
"""Messages."""
LOAD_AT_HALF = "accept, 100 sessions kept"
"""The shape whose rate a server's half load is half of."""


FAILURES = (MeasurementFailed, NotExplained, OSError, RuntimeError, subprocess.SubprocessError)


class Run:
    """All measurements of one call."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self.rounds = rounds
        self._seconds = seconds
        self.figures: list[Figure] = []
        self.failures: list[str] = []
        self._estimates: dict[tuple[str, str], float] = {}

    def shape(self, shape: Shape, subjects: Sequence[type[Subject]]) -> None:
        """All rounds of one shape."""
        taking_part = [kind for kind in subjects if kind.takes_part(shape)]
        for kind in list(taking_part):
            if not self._warm_up(shape, kind):
                taking_part.remove(kind)
        for number in range(min(self.rounds, shape.most_rounds)):
            turn = number % len(taking_part) if taking_part else 0
            for kind in [*taking_part[turn:], *taking_part[:turn]]:
                if not self._one(shape, kind, number + 1):
                    taking_part.remove(kind)

    def _warm_up(self, shape: Shape, kind: type[Subject]) -> bool:
        """Find out how fast it is, in two steps; False if it cannot do it."""
        if shape.kind in (Kind.IDLE, Kind.MILLION, Kind.HANDSHAKE):
            return True
        if shape.kind is Kind.LATENCY:
            return self._half_load(shape, kind)
        try:
            rate = _measured(shape, kind, 0, shape.fewest).rate
            more = self._messages(shape, rate, WARM_UP_S)
            if more > 2 * shape.fewest:
                rate = _measured(shape, kind, 0, more).rate
        except FAILURES as error:
            self._failed(shape, kind, error)
            return False
        self._estimates[shape.name, kind.name] = rate
        return True

    def _half_load(self, shape: Shape, kind: type[Subject]) -> bool:
        """From what was measured before, or by measuring it now."""
        reference = next(one for one in SHAPES if one.name == LOAD_AT_HALF)
        rates = [one.rate for one in self.figures if (one.shape, one.subject) == (reference.name, kind.name)]
        if not rates:
            if not self._warm_up(reference, kind):
                return False
            rates = [self._estimates[reference.name, kind.name]]
        self._estimates[shape.name, kind.name] = statistics.median(rates) / 2
        return True

    def _one(self, shape: Shape, kind: type[Subject], number: int) -> bool:
        """One round of one server; False if it failed, and need not be tried again."""
        try:
            estimate = self._estimates.get((shape.name, kind.name), 0.0)
            messages = self._messages(shape, estimate, self._seconds)
            figure = _measured(shape, kind, number, messages, self._rate(shape, estimate))
        except FAILURES as error:
            self._failed(shape, kind, error)
            return False
        self.figures.append(figure)
        _say(
            f"{shape.name:44} {kind.name:20} {figure.rate:8.0f}/s {figure.cpu_ms:7.3f} ms "
            f"{figure.peak_mib:6.0f} MiB  {figure.note}"
        )
        return True

    @staticmethod
    def _rate(shape: Shape, estimate: float) -> float:
        return estimate if shape.kind is Kind.LATENCY else 0.0

    @staticmethod
    def _messages(shape: Shape, rate: float, seconds: float) -> int:
        return max(shape.fewest, min(shape.most, int(rate * seconds)))

    def _failed(self, shape: Shape, kind: type[Subject], error: Exception) -> None:
        """One server's failure is a line of the report, not the end of the run."""
        text = f"{kind.name}, {shape.name}: {_in_words(error)}"
        self.failures.append(text)
        _say(f"FAILED {text}")


def _measured(shape: Shape, kind: type[Subject], number: int, messages: int, rate: float = 0.0) -> Figure:
    if shape.kind is Kind.MILLION:
        return measure_million(shape, kind, number)
    if shape.kind is Kind.CLUSTER:
        return measure_cluster(shape, kind, number, messages)
    return measure(shape, kind, number, messages, rate)


def _in_words(error: Exception) -> str:
    """For the published page: no command lines with this machine's paths."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the load was not through after {error.timeout:.0f} s"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def selected(pattern: str) -> list[Shape]:
    """The shapes whose names contain one of the words, which are parted by semicolons; all without any."""
    words = [word.strip() for word in pattern.split(";") if word.strip()]
    return [shape for shape in SHAPES if not words or any(word in shape.name for word in words)]


def servers(pattern: str) -> list[type[Subject]]:
    """The servers whose names contain one of the words."""
    words = [word.strip().lower() for word in pattern.split(";") if word.strip()]
    return [kind for kind in SUBJECTS if not words or any(word in kind.name.lower() for word in words)]


def quick(shapes: Iterable[Shape]) -> list[Shape]:
    """The same with the fewest messages that still show something, and without the million."""
    return [
        replace(shape, fewest=min(shape.fewest, max(100, shape.sessions)), most=max(300, shape.sessions))
        for shape in shapes
        if shape.kind is not Kind.MILLION
    ]


def _profile_bulk() -> None:
    """What MT2's rate is made of, beside the figures."""
    text = profile(PROFILED, verified=True)
    target = STORE / "bulk-profile.txt"
    target.write_text(text, "utf-8")
    _say(f"{text}\nprofile: {target}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="that count; default 5")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="that a measurement lasts, about; default 2"
    )
    parser.add_argument(
        "--only", default="", help='shapes whose names contain one of these, as "relay; 1 MiB"'
    )
    parser.add_argument("--servers", default="", help='servers likewise, as "outrider; postfix"')
    parser.add_argument("--quick", action="store_true", help="one round of a few messages each")
    parser.add_argument("--no-publish", action="store_true", help="leave docs/performance.md as it is")
    parser.add_argument("--json", type=Path, help=f"where the figures go; default {RECORD.name} in docs")
    return parser.parse_args()


def main() -> int:
    """Command line; 0 if every measurement could be made."""
    arguments = _arguments()
    # All spools on one disk: the folder for temporary files may be memory.
    folder = STORE / "spools"
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = os.fspath(folder)
    shapes, subjects = selected(arguments.only), servers(arguments.servers)
    run = Run(1 if arguments.quick else arguments.rounds, 0.3 if arguments.quick else arguments.seconds)
    facts = machine_facts(folder)
    began = time.time()
    for shape in quick(shapes) if arguments.quick else shapes:
        run.shape(shape, subjects)
    if any(shape.kind is Kind.BULK for shape in shapes) and not arguments.quick:
        _profile_bulk()
    record = Record(
        machine={str(name): value for name, value in facts.items()},
        began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        minutes=round((time.time() - began) / 60, 1),
        rounds=run.rounds,
        servers=[Server(kind.name, kind.version(), kind.durability) for kind in subjects],
        figures=run.figures,
        failures=run.failures,
    )
    partial = arguments.quick or arguments.only or arguments.servers or arguments.no_publish
    target = arguments.json or (STORE / "performance.json" if partial else RECORD)
    write_record(record, target)
    _say(f"figures: {target}")
    if partial:
        print(tables(record))
    else:
        publish(record)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
