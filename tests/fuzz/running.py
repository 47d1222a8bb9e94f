"""Cases by their seeds, under a guard: one that fails says how it is run again."""

from __future__ import annotations

import random
import re
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

CASE_CPU_S = 20.0
"""Of the processor: far more than any case needs. Only what would never end meets it."""
MOST_GROWTH = 96 << 20
"""Octets that a block of cases may take beyond what was in use before; an input has a quarter of a MiB."""
_ADDRESS_SPACE = 768 << 20
"""Octets beyond what is mapped: one allocation by a number out of the input goes beyond it."""

Case = Callable[[random.Random], bool]
"""Draws an input, hands it to the code, and asserts what must hold. Tells whether the input was accepted."""


@dataclass(frozen=True)
class Target:
    """Something that reads what a peer sent."""

    name: str
    case: Case
    short: int = 300
    """Cases in `make test`."""
    long: int = 100_000
    """Cases in `make fuzz`."""


class Endless(Exception):
    """A case that took longer than any should."""


class Broken(AssertionError):
    """What a case has shown, and how to see it again."""


def refused(error: Exception, beginning: str = "") -> bool:
    """False; an input was refused in the one way that is documented, with one printable sentence."""
    text = str(error)
    assert text.startswith(beginning), text
    assert text, repr(error)
    assert text.isprintable(), text
    assert len(text) < 1_000, text
    return False


def run(target: Target, seeds: Iterable[int]) -> Counter[bool]:
    """How many inputs were accepted, how many refused. Raises Broken for the first case that fails."""
    outcomes: Counter[bool] = Counter()
    with _bounded(target.name):
        for seed in seeds:
            outcomes[_one(target, seed)] += 1
    return outcomes


def _one(target: Target, seed: int) -> bool:
    signal.setitimer(signal.ITIMER_PROF, CASE_CPU_S)
    try:
        return target.case(random.Random(seed))
    except BaseException as error:
        again = f"python -m tests.fuzz {target.name} {seed}"
        raise Broken(
            f"{target.name}, case {seed}: {type(error).__name__}: {error}\nAgain: {again}"
        ) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _bounded(name: str) -> Iterator[None]:
    """Within bounds of memory and, for each case, of time."""
    before, mapped = _status("VmRSS"), _status("VmSize")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    old = signal.signal(signal.SIGPROF, _end_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _ADDRESS_SPACE, hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a server: see runtime.starting.silence_libraries
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, old)
    growth = _status("VmHWM") - before
    assert growth <= MOST_GROWTH, f"{name}: {growth >> 20} MiB more than before"


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+([0-9]+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, key
    return int(found[1]) * 1024


def _end_of_time(_signal: int, _frame: FrameType | None) -> None:
    raise Endless(f"more than {CASE_CPU_S} s of the processor")
