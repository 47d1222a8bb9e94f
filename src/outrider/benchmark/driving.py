"""Load by several generator processes at once, so that the generator is not what is measured.

A generator process is this module run as a program: it reads its plan from standard input, says that it is
up, waits for the word to begin, and writes its outcome as JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from array import array
from collections.abc import Iterator
from dataclasses import asdict

from outrider.benchmark.generator import generate
from outrider.benchmark.plan import Outcome, Plan, merged


def drive(plan: Plan, processes: int = 1) -> Outcome:
    """Carry out the plan; with one process in this very thread. Raises RuntimeError if a generator dies."""
    shares = plan.shares(processes)
    if len(shares) == 1:
        return generate(plan)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(_generator(share, seed)) for seed, share in enumerate(shares)]
        for child in children:
            _line(child)
        for child in children:
            _say(child, "begin")
        return merged([_outcome(json.loads(_line(child))) for child in children])


@contextlib.contextmanager
def _generator(plan: Plan, seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "outrider.benchmark.driving"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        try:
            _say(child, json.dumps({"plan": asdict(plan), "seed": seed}))
            yield child
        finally:
            child.kill()


def _say(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # then it has nothing to answer, which is noticed
        child.stdin.write(line + "\n")
        child.stdin.flush()


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a load generator ended before its time")
    return line


def _outcome(row: dict[str, object]) -> Outcome:
    times, failures = row.pop("times"), row.pop("failures")
    assert isinstance(times, list)
    assert isinstance(failures, dict)
    began, ended, cpu = (float(str(row[name])) for name in ("began", "ended", "cpu"))
    return Outcome(began, ended, array("d", times), failures, cpu)


def main() -> None:
    """Be a generator."""
    order = json.loads(sys.stdin.readline())
    plan = Plan(**order["plan"])
    print("up", flush=True)
    sys.stdin.readline()
    outcome = generate(plan, seed=order["seed"])
    print(json.dumps({**asdict(outcome), "times": list(outcome.times)}), flush=True)


if __name__ == "__main__":
    main()
