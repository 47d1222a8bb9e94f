"""Measure Outrider and its peers, in turn, on one machine: ``make bench``.

For each shape of load the servers take turns, each started afresh, in an order that moves on from round to
round; a first round, which does not count, finds out how many messages keep a server busy for the time that a
measurement is to last. What is published are medians and ranges; every single figure is kept as JSON.

Everything, or with ``--keep`` some shapes, go into the published pages, each row with its moment and commit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.images import PROJECT

from bench.bulk_profile import profile
from bench.choosing import (
    Choice,
    NothingChosen,
    grouped,
    objections,
    quick,
    selected,
    servers,
    taking_part,
)
from bench.estimate import Progress, expected_s
from bench.measuring import MeasurementFailed, measure
from bench.million import measure_million
from bench.nodes import measure_cluster
from bench.programs import STORE
from bench.records import Facts, Record, Row, Server, fallen_out, merged, read_record, write_record
from bench.report import DOCS, RECORD, publish, tables
from bench.spools import measure_spool
from bench.subjects import SUBJECTS, Subject
from bench.work import SHAPES, Figure, Kind, Shape
from outrider.benchmark.explained import NotExplained
from outrider.benchmark.machine import machine_facts

WARM_UP_S = 0.7
LONGEST_S = 8.0
"""Of load with the fewest messages, where a server is so slow that this is enough to see it."""
PROFILED = 5000
"""Messages."""
LOAD_AT_HALF = "accept, 100 sessions kept"
"""The shape whose rate a server's half load is half of."""
UNWARMED = (Kind.IDLE, Kind.MILLION, Kind.HANDSHAKE)
"""Kinds that need no number of messages."""

FAILURES = (MeasurementFailed, NotExplained, OSError, RuntimeError, subprocess.SubprocessError)
Rates = Mapping[tuple[str, str], float]
"""Messages a second by shape and server."""


@dataclass
class Run:
    """All measurements of one call."""

    rounds: int
    seconds: float
    """That a measurement lasts."""
    known: Rates = field(default_factory=dict)
    """What to expect, so that warming up takes one start and not two."""
    done: Callable[[Shape, str], None] = lambda shape, text: _say(text) if text else None
    """Told of each measurement; without words of one that does not count."""

    def __post_init__(self) -> None:
        self.figures: list[Figure] = []
        self.failures: list[tuple[str, str]] = []
        """Shape, and what went wrong."""
        self._estimates: dict[tuple[str, str], float] = {}

    def measure(self, shapes: Sequence[Shape], subjects: Sequence[type[Subject]]) -> None:
        """All rounds of one shape, or of several that take turns."""
        pairs = [(shape, kind) for shape in shapes for kind in taking_part(shape, subjects)]
        for shape, kind in list(pairs):
            if not self._warm_up(shape, kind):
                pairs.remove((shape, kind))
        for number in range(min(self.rounds, *(shape.most_rounds for shape in shapes))):
            turn = number % len(pairs) if pairs else 0
            for shape, kind in [*pairs[turn:], *pairs[:turn]]:
                if not self._one(shape, kind, number + 1):
                    pairs.remove((shape, kind))

    def _warm_up(self, shape: Shape, kind: type[Subject]) -> bool:
        """Find out how fast it is; in two steps if nothing is known of it. False if it cannot do it."""
        if shape.kind in UNWARMED:
            return True
        if shape.kind is Kind.LATENCY:
            return self._half_load(shape, kind)
        try:
            first = self._messages(shape, self.known.get((shape.name, kind.name), 0.0), WARM_UP_S)
            rate = _measured(shape, kind, 0, first).rate
            more = self._messages(shape, rate, WARM_UP_S)
            if more > 2 * first:
                rate = _measured(shape, kind, 0, more).rate
        except FAILURES as error:
            self._failed(shape, kind, error)
            return False
        self._estimates[shape.name, kind.name] = rate
        self.done(shape, "")
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
            messages = self._messages(shape, estimate, self.seconds)
            figure = _measured(shape, kind, number, messages, self._rate(shape, estimate))
        except FAILURES as error:
            self._failed(shape, kind, error)
            return False
        self.figures.append(figure)
        self.done(
            shape,
            f"{shape.name:44} {kind.name:20} {figure.rate:8.0f}/s {figure.cpu_ms:7.3f} ms "
            f"{figure.peak_mib:6.0f} MiB  {figure.note}",
        )
        return True

    @staticmethod
    def _rate(shape: Shape, estimate: float) -> float:
        return estimate if shape.kind is Kind.LATENCY else 0.0

    @staticmethod
    def _messages(shape: Shape, rate: float, seconds: float) -> int:
        fewest = shape.fewest
        if shape.kind is Kind.ACCEPT and rate:
            fewest = min(fewest, max(shape.sessions, int(rate * LONGEST_S)))
        return max(fewest, min(shape.most, int(rate * seconds)))

    def _failed(self, shape: Shape, kind: type[Subject], error: Exception) -> None:
        """One server's failure is a line of the report, not the end of the run."""
        text = f"{kind.name}, {shape.name}: {_in_words(error)}"
        self.failures.append((shape.name, text))
        self.done(shape, f"FAILED {text}")


def _measured(shape: Shape, kind: type[Subject], number: int, messages: int, rate: float = 0.0) -> Figure:
    if shape.kind is Kind.MILLION:
        return measure_million(shape, kind, number)
    if shape.kind is Kind.CLUSTER:
        return measure_cluster(shape, kind, number, messages)
    if shape.kind is Kind.SPOOL:
        return measure_spool(shape, kind, number, messages)
    return measure(shape, kind, number, messages, rate)


def _in_words(error: Exception) -> str:
    """For the published page: no command lines with this machine's paths."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the load was not through after {error.timeout:.0f} s"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def commit_now() -> str:
    """What `git describe` calls the checkout, with ``-dirty`` where the code differs from it."""
    # Without its locks: it would write to the index, which somebody may be using.
    git = ("git", "--no-optional-locks", "-C", os.fspath(PROJECT))
    named = subprocess.run([*git, "describe", "--always", "--abbrev=7"], capture_output=True, text=True)
    if named.returncode:
        return "no commit"
    code = ("src", "bench", "tests/peers", "pyproject.toml")
    changed = subprocess.run([*git, "status", "--porcelain", "--", *code], capture_output=True)
    return f"{named.stdout.strip()}{'-dirty' if changed.stdout else ''}"


def rates(known: Record, machine: Facts) -> Rates:
    """What was measured before on such a machine."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in known.rows:
        if all(row.machine.get(name) == machine[name] for name in ("processor", "cores")):
            for figure in row.figures:
                found.setdefault((figure.shape, figure.subject), []).append(figure.rate)
    return {key: statistics.median(values) for key, values in found.items()}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and of what the figures of this call are."""

    machine: Facts
    commit: str


def rows_of(run: Run, group: Sequence[Shape], began: float, ended: float, origin: Origin) -> list[Row]:
    """What the run has of these shapes, which were measured together."""
    rows = []
    for shape in group:
        figures = [figure for figure in run.figures if figure.shape == shape.name]
        measured = {figure.subject for figure in figures}
        rows.append(
            Row(
                shape=shape.name,
                began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
                minutes=round((ended - began) / 60 / len(group), 2),
                rounds=min(run.rounds, shape.most_rounds),
                commit=origin.commit,
                machine=origin.machine,
                servers=[
                    Server(kind.name, kind.version(), kind.durability)
                    for kind in SUBJECTS
                    if kind.name in measured
                ],
                figures=figures,
                failures=[text for name, text in run.failures if name == shape.name],
            )
        )
    return rows


def _profile_bulk() -> None:
    """What MT2's rate is made of, beside the figures."""
    text = profile(PROFILED, verified=True)
    target = STORE / "bulk-profile.txt"
    target.write_text(text, "utf-8")
    _say(f"{text}\nprofile: {target}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="all shapes with their servers and minutes")
    parser.add_argument("--rounds", type=int, default=5, help="that count; default 5")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="that a measurement lasts, about; default 2"
    )
    parser.add_argument(
        "--only",
        default="",
        help='shapes whose names contain one of these, or their numbers in --list, as "relay; 1 MiB; 3-5"',
    )
    parser.add_argument("--servers", default="", help='servers likewise, as "outrider; postfix"')
    parser.add_argument(
        "--keep", action="store_true", help="put what --only chooses into the published pages"
    )
    parser.add_argument("--quick", action="store_true", help="one round of a few messages each")
    parser.add_argument("--no-publish", action="store_true", help="leave docs/performance.md as it is")
    parser.add_argument("--json", type=Path, help="where figures go that are not published")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the pages; a copy takes --quick ones too")
    return parser.parse_args()


def _show(shapes: Sequence[Shape], subjects: Sequence[type[Subject]], arguments: argparse.Namespace) -> None:
    """One line a shape, with its number and the minutes that it takes; then its servers."""
    known = _known(arguments.docs)
    for shape in shapes:
        minutes = expected_s(shape, subjects, arguments.rounds, arguments.seconds, known) / 60
        row = known.row(shape.name)
        when = f"measured {row.began[:16]}, {row.commit}" if row is not None else "not measured"
        print(f"{SHAPES.index(shape) + 1:3}  {minutes:4.1f} min  {shape.name}  ({when})")
        print(f"{'':14} {'; '.join(kind.name for kind in taking_part(shape, subjects))}")


def _known(docs: Path) -> Record:
    path = docs / RECORD
    return read_record(path) if path.exists() else Record([])


class Counted:
    """Says each measurement that counts, with the time that is left."""

    def __init__(
        self, choice: Choice, shapes: Sequence[Shape], seconds: float, known: Record, began: float
    ) -> None:
        def expect(shape: Shape) -> float:
            return expected_s(shape, choice.servers, choice.rounds, seconds, known)

        self.total_s = sum(expect(shape) for shape in shapes)
        self._each = {shape.name: expect(shape) / self._measurements(choice, shape) for shape in shapes}
        self._progress = Progress(self.total_s)
        self._began = began

    @staticmethod
    def _measurements(choice: Choice, shape: Shape) -> int:
        rounds = min(choice.rounds, shape.most_rounds) + (shape.kind not in UNWARMED)
        return max(1, rounds * len(taking_part(shape, choice.servers)))

    def __call__(self, shape: Shape, text: str) -> None:
        self._progress.advance(self._each.get(shape.name, 0.0))
        left = self._progress.left_s(time.monotonic() - self._began)
        if text:
            _say(f"[{left / 60:4.1f} min left] {text}")


def main() -> int:
    """Command line; 0 if every measurement could be made, 2 if what is asked for makes no sense."""
    arguments = _arguments()
    try:
        shapes, subjects = selected(arguments.only), servers(arguments.servers)
    except NothingChosen as error:
        _say(str(error))
        return 2
    if arguments.list:
        _show(shapes, subjects, arguments)
        return 0
    partial = arguments.quick or arguments.only or arguments.servers or arguments.no_publish
    keep = arguments.keep or not partial
    choice = Choice(shapes, subjects, 1 if arguments.quick else arguments.rounds, arguments.quick)
    known = _known(arguments.docs)
    if keep and (said := objections(choice, known, tried=arguments.docs.resolve() != DOCS)):
        _say("\n".join(["nothing was measured:", *said]))
        return 2
    return _run(arguments, choice, known, keep)


def _run(arguments: argparse.Namespace, choice: Choice, known: Record, keep: bool) -> int:
    # All spools on one disk: the folder for temporary files may be memory.
    folder = STORE / "spools"
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = os.fspath(folder)
    origin = Origin({str(name): value for name, value in machine_facts(folder).items()}, commit_now())
    shapes = quick(choice.shapes) if choice.quick else list(choice.shapes)
    seconds = 0.3 if choice.quick else arguments.seconds
    before = Record([]) if choice.quick else known
    counted = Counted(choice, shapes, seconds, before, time.monotonic())
    until = time.strftime("%H:%M", time.localtime(time.time() + counted.total_s))
    _say(f"{len(shapes)} shapes, about {counted.total_s / 60:.0f} minutes, until {until}; {origin.commit}")
    run = Run(choice.rounds, seconds, rates(known, origin.machine), counted)
    kept = Record([])
    for group in grouped(shapes):
        began = time.time()
        run.measure(group, choice.servers)
        new = rows_of(run, group, began, time.time(), origin)
        kept = merged(kept, new)
        _keep(new if keep else [], arguments.docs)
    if not choice.quick and any(shape.kind is Kind.BULK for shape in shapes):
        _profile_bulk()
    target = arguments.json or STORE / RECORD
    write_record(kept, target)
    _say(f"figures: {arguments.docs if keep else target}")
    if not keep:
        print(tables(kept))
    return 1 if run.failures else 0


def _keep(rows: Sequence[Row], docs: Path) -> None:
    """At once: a run that is broken off has kept what it was through with."""
    if rows:
        known = _known(docs)
        for row in rows:
            old = known.row(row.shape)
            if old is not None and (lost := fallen_out(old, row)):
                _say(f"NOT KEPT {row.shape}, since these fell out: {'; '.join(lost)}")
        record = merged(known, rows)
        write_record(record, docs / RECORD)
        publish(record, docs)


if __name__ == "__main__":
    sys.exit(main())
