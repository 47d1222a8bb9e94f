"""Print which requirements are covered by tests that passed in the last run (`make requirements`).

`requirements/ids.txt` lists the requirements: id, step in which it is due, title, separated by tabs. The test
run leaves `var/test-results/*.json` (written by `tests/conftest.py`); each names the tests, their outcome and
the ids they cover. An id is covered when at least one test that names it passed and none failed.

Results are refused as stale when sources, tests or locks have changed in any octet since the run began.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
IDS = PROJECT / "requirements" / "ids.txt"
RESULTS = PROJECT / "var" / "test-results"
# `make test` runs what may go in parallel, then what needs the machine for itself.
PASSES = ("parallel", "serial")
# What decides the outcome of a test run.
_SOURCES = ("src", "tests", "tools", "requirements", "pyproject.toml")


class ResultsError(Exception):
    """The results of the last test run cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of `requirements/ids.txt`; `step` is the stage of the project in which it is due."""

    name: str
    step: int
    title: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """A requirement with the tests that name it and passed, and those that name it and did not."""

    requirement: Requirement
    passed: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def is_covered(self) -> bool:
        """Tell whether a test proves it and none contradicts."""
        return bool(self.passed) and not self.failed


def read_requirements(path: Path = IDS) -> list[Requirement]:
    """Read the list; raise ValueError for a line that is not `id TAB step TAB title` or an id given twice."""
    found: dict[str, Requirement] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Z][A-Z0-9]*-F?[0-9]+[a-z]?)\t([0-9])\t(\S.*)", line)
        if match is None:
            raise ValueError(f"{path.name}:{number}: expected id, step and title separated by tabs")
        if match[1] in found:
            raise ValueError(f"{path.name}:{number}: {match[1]} is listed twice")
        found[match[1]] = Requirement(match[1], int(match[2]), match[3])
    return list(found.values())


@functools.cache
def known_ids() -> frozenset[str]:
    """Return every id that a test may name."""
    return frozenset(requirement.name for requirement in read_requirements())


def fingerprint(project: Path = PROJECT) -> str:
    """Digest the names and contents of everything that decides the outcome of the tests."""
    digest = hashlib.sha256()
    for path in sorted(_source_files(project)):
        digest.update(f"{path.relative_to(project)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _source_files(project: Path) -> Iterator[Path]:
    for name in _SOURCES:
        top = project / name
        if top.is_file():
            yield top
        for path in top.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                yield path


def read_results(folder: Path, current: str) -> dict[str, dict[str, object]]:
    """Return the tests of the last run by id; raise ResultsError if it is incomplete, partial or stale."""
    tests: dict[str, dict[str, object]] = {}
    for name in PASSES:
        path = folder / f"{name}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"no results of a whole test run ({path.name} is missing); run `make test`"
            ) from error
        if record["fingerprint"] != current:
            raise ResultsError("the results are stale: sources or tests have changed since; run `make test`")
        tests.update(record["tests"])
    return tests


def coverage(requirements: Iterable[Requirement], tests: dict[str, dict[str, object]]) -> Iterator[Coverage]:
    """Join requirements and outcomes."""
    by_id: dict[str, dict[bool, list[str]]] = {}
    for test, entry in sorted(tests.items()):
        covers = entry["covers"]
        assert isinstance(covers, list)
        for name in covers:
            by_id.setdefault(name, {True: [], False: []})[entry["outcome"] == "passed"].append(test)
    for requirement in requirements:
        outcomes = by_id.get(requirement.name, {True: [], False: []})
        yield Coverage(requirement, tuple(outcomes[True]), tuple(outcomes[False]))


def as_line(item: Coverage) -> str:
    """Return `id TAB covered TAB test ids`, or `id TAB uncovered` with the tests that failed, if any."""
    if item.is_covered:
        return f"{item.requirement.name}\tcovered\t{' '.join(item.passed)}"
    failed = f"\tfailed: {' '.join(item.failed)}" if item.failed else ""
    return f"{item.requirement.name}\tuncovered{failed}"


def as_object(item: Coverage) -> dict[str, object]:
    """Return what `--json` prints for one requirement."""
    return {
        "id": item.requirement.name,
        "step": item.requirement.step,
        "title": item.requirement.title,
        "covered": item.is_covered,
        "tests": list(item.passed),
        "failed": list(item.failed),
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print which requirements the last test run covered.")
    parser.add_argument("--step", type=int, help="only requirements due in this step or before")
    parser.add_argument("--uncovered", action="store_true", help="list only what is not covered")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Print the index; 0 done, 1 no usable results."""
    arguments = _arguments(words)
    chosen = [item for item in read_requirements() if arguments.step is None or item.step <= arguments.step]
    try:
        tests = read_results(arguments.results, fingerprint())
    except ResultsError as error:
        print(f"requirements: {error}", file=sys.stderr)
        return 1
    items = list(coverage(chosen, tests))
    covered = sum(item.is_covered for item in items)
    shown = [item for item in items if not (arguments.uncovered and item.is_covered)]
    if arguments.json:
        counts = {"covered": covered, "uncovered": len(items) - covered, "total": len(items)}
        print(json.dumps({"requirements": [as_object(item) for item in shown], "counts": counts}, indent=1))
        return 0
    for item in shown:
        print(as_line(item))
    print(f"{covered} covered, {len(items) - covered} uncovered, {len(items)} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
