"""Measure accept and relay, Outrider against Postfix, alternating: ``make bench``.

Every figure is the median of the rounds; each round starts both servers afresh, in alternating order. CPU
is what the server's own processes used, memory the peak of their proportional set size. The load comes from
Postfix's smtp-source, the relayed mail goes to its smtp-sink.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.tools import SmtpSink, smtp_source

from bench.processes import PeakMemory, cpu_s
from bench.subjects import RECIPIENT, SUBJECTS, Subject

KIB = 1024
SETTLE_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of load."""

    name: str
    messages: int
    sessions: int
    size: int = 4 * KIB
    kept: bool = True
    relay: bool = False


SHAPES = (
    Shape("accept 4 KiB, 1 session kept", 3000, 1),
    Shape("accept 4 KiB, 20 sessions kept", 15000, 20),
    Shape("accept 4 KiB, 100 sessions kept", 15000, 100),
    Shape("accept 4 KiB, 20 parallel, new connection each", 5000, 20, kept=False),
    Shape("accept 1 MiB, 1 session kept", 200, 1, size=KIB * KIB),
    Shape("accept 1 MiB, 20 sessions kept", 600, 20, size=KIB * KIB),
    Shape("accept 1 MiB, 100 sessions kept", 600, 100, size=KIB * KIB),
    Shape("relay 4 KiB, 20 sessions kept", 4000, 20, relay=True),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What one round of one shape gave."""

    shape: str
    subject: str
    rate: float
    """Messages a second: accepted, or for relay arrived at the sink."""
    cpu_ms: float
    """CPU milliseconds a message, until the queue was empty."""
    peak_mib: float


def measure(shape: Shape, kind: type[Subject]) -> Figure:
    """One round."""
    if not shape.relay:
        with kind(loopback_address(), None) as subject:
            return _load(shape, subject)
    sink = loopback_address()
    with SmtpSink(sink, 2525, keep=False), kind(loopback_address(), (sink, 2525)) as subject:
        return _load(shape, subject)


def _load(shape: Shape, subject: Subject) -> Figure:
    before = cpu_s(subject.pid)
    with PeakMemory(subject.pid) as memory:
        began = time.monotonic()
        result = smtp_source(
            subject.address,
            subject.port,
            messages=shape.messages,
            sessions=shape.sessions,
            size_bytes=shape.size,
            recipient=RECIPIENT,
            one_connection=shape.kept,
        )
        if result.status:
            raise RuntimeError(f"{subject.name}, {shape.name}: smtp-source failed: {result.output[:500]}")
        accepted_s = result.duration_s
        _wait_empty(subject)
        emptied_s = time.monotonic() - began
    took = emptied_s if shape.relay else accepted_s
    cpu = 1000 * (cpu_s(subject.pid) - before) / shape.messages
    return Figure(shape.name, subject.name, shape.messages / took, cpu, memory.kib / KIB)


def _wait_empty(subject: Subject) -> None:
    limit = time.monotonic() + SETTLE_LIMIT_S
    while subject.waiting():
        if time.monotonic() > limit:
            raise RuntimeError(f"{subject.name}: the queue did not empty")
        time.sleep(0.2)


def run(shapes: tuple[Shape, ...], rounds: int, scale: float) -> list[Figure]:
    """All rounds of all shapes, the order of the servers turned round each time."""
    figures = []
    for shape in shapes:
        scaled = Shape(**{**asdict(shape), "messages": max(shape.sessions, int(shape.messages * scale))})
        for number in range(rounds):
            for kind in SUBJECTS if number % 2 == 0 else SUBJECTS[::-1]:
                figure = measure(scaled, kind)
                figures.append(figure)
                text = f"{figure.rate:8.0f}/s {figure.cpu_ms:7.3f} ms {figure.peak_mib:6.0f} MiB"
                print(f"{shape.name:50} {figure.subject:9} {text}", file=sys.stderr, flush=True)
    return figures


def table(figures: list[Figure]) -> str:
    """Medians and the ratio of the rates, in Markdown."""
    rows = [
        "| load | Outrider, messages/s | Postfix | ratio | CPU ms a message | Postfix | peak MiB | Postfix |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for shape in dict.fromkeys(figure.shape for figure in figures):
        ours, theirs = (
            [figure for figure in figures if (figure.shape, figure.subject) == (shape, kind.name)]
            for kind in SUBJECTS
        )
        rates = [statistics.median(figure.rate for figure in part) for part in (ours, theirs)]
        cpus = [statistics.median(figure.cpu_ms for figure in part) for part in (ours, theirs)]
        peaks = [statistics.median(figure.peak_mib for figure in part) for part in (ours, theirs)]
        spread = f"{min(f.rate for f in ours):,.0f}-{max(f.rate for f in ours):,.0f}"
        rows.append(
            f"| {shape} | {rates[0]:,.0f} ({spread}) | {rates[1]:,.0f} | {rates[0] / rates[1]:.1f} "
            f"| {cpus[0]:.2f} | {cpus[1]:.2f} | {peaks[0]:.0f} | {peaks[1]:.0f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the messages of each shape")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--json", type=Path, help="keep the raw figures here")
    arguments = parser.parse_args()
    shapes = tuple(shape for shape in SHAPES if arguments.only in shape.name)
    figures = run(shapes, arguments.rounds, arguments.scale)
    if arguments.json:
        record = {"machine": platform.platform(), "figures": [asdict(figure) for figure in figures]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    print(table(figures))


if __name__ == "__main__":
    main()
