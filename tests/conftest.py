"""What holds for all tests: which requirements they prove, the record of their outcome, the peers' logs.

- `@pytest.mark.covers("SMTP-5", "SEC-18")` names one to three ids of `requirements/ids.txt`. A test that
  names an unknown one, or more than three, fails.
- `--results FILE` records every outcome with the ids as JSON, together with a fingerprint of sources and
  tests, for `tools/requirements_index.py`. `make test` passes it; it also makes a skipped test an error.
- A failing test shows what the peer servers logged while it ran; one that hangs fails (`tests/limits.py`).
- No example of Hypothesis is held to a time: how long one takes says what else the machine does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tools.requirements_index import fingerprint, known_ids

# A failed assertion in what tests share shows its values too.
pytest.register_assert_rewrite(*(f"tests.{room.name}" for room in Path(__file__).parent.iterdir()))

from tests.peers import records  # noqa: E402

pytest_plugins = ["tests.peers.fixtures", "tests.limits"]

MOST_IDS = 3
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--results`."""
    parser.addoption("--results", type=Path, help="record outcomes and covered requirements in this file")


def pytest_configure(config: pytest.Config) -> None:
    """Record only where reports come together: in the controlling process, if there are workers."""
    target = config.getoption("results")
    if target is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(Path(target)), "outrider-results")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the ids travel with the reports, from workers too."""
    for item in items:
        item.user_properties.append(("covers", _covered_ids(item)))


def _covered_ids(item: pytest.Item) -> list[str]:
    return [str(name) for marker in item.iter_markers("covers") for name in marker.args]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that names requirements wrongly; forget the logs of earlier tests."""
    records.begin_test()
    ids = _covered_ids(item)
    unknown = [name for name in ids if name not in known_ids()]
    if unknown:
        pytest.fail(f"covers unknown requirements: {', '.join(unknown)}", pytrace=False)
    if len(set(ids)) > MOST_IDS:
        pytest.fail(f"covers {len(set(ids))} requirements; a test may name {MOST_IDS}", pytrace=False)


@pytest.fixture(autouse=True)
def _at_home() -> Iterator[None]:
    """A test that runs a command in process may have changed the working directory: the next starts here."""
    yield
    os.chdir(Path(__file__).parents[1])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the peers' logs to a failure."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {title}", text) for title, text in records.shown()]
    return report


class _Recorder:
    """Collects the outcome of each test and writes them at the end of the session."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._fingerprint = fingerprint()
        self._tests: dict[str, dict[str, object]] = {}
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome; a test passes if its call passed and neither set-up nor clean-up failed."""
        entry = self._tests.setdefault(
            report.nodeid, {"covers": dict(report.user_properties).get("covers", []), "outcome": "passed"}
        )
        if report.outcome != "passed" and entry["outcome"] != "failed":
            entry["outcome"] = report.outcome
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file; a skipped test would be a hole that nobody sees, so it fails the run."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        record = {"fingerprint": self._fingerprint, "tests": self._tests}
        self._target.write_text(json.dumps(record, indent=1) + "\n")
        if self._skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why the run failed if only skipped tests are the cause."""
        for name in self._skipped:
            terminalreporter.write_line(f"SKIPPED counts as failed here: {name}", red=True)
