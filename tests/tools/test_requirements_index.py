"""The requirement index: what counts as covered, and which results are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import requirements_index as index

REQUIREMENTS = [index.Requirement("SMTP-1", 1, "one"), index.Requirement("AMTP-10", 3, "other")]


def entry(outcome: str, *covers: str) -> dict[str, object]:
    return {"outcome": outcome, "covers": list(covers)}


def write_results(folder: Path, fingerprint: str, tests: dict[str, dict[str, object]]) -> None:
    for name in index.PASSES:
        record = {"fingerprint": fingerprint, "tests": tests if name == "parallel" else {}}
        (folder / f"{name}.json").write_text(json.dumps(record))


def test_a_requirement_is_covered_by_a_test_that_passed() -> None:
    tests = {"a::t": entry("passed", "SMTP-1"), "b::t": entry("passed")}
    first, second = index.coverage(REQUIREMENTS, tests)
    assert index.as_line(first) == "SMTP-1\tcovered\ta::t"
    assert index.as_line(second) == "AMTP-10\tuncovered"


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_test_that_did_not_pass_uncovers_it(outcome: str) -> None:
    tests = {"a::t": entry("passed", "SMTP-1"), "b::t": entry(outcome, "SMTP-1")}
    [first, _] = index.coverage(REQUIREMENTS, tests)
    assert index.as_line(first) == "SMTP-1\tuncovered\tfailed: b::t"


def test_counts_come_last_and_steps_are_selected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path, index.fingerprint(), {"a::t": entry("passed", "SMTP-1")})
    assert index.main(["--results", str(tmp_path), "--step", "1"]) == 0
    printed = capsys.readouterr().out.rstrip("\n").split("\n")
    assert "SMTP-1\tcovered\ta::t" in printed
    assert not [line for line in printed if line.startswith("AMTP")]
    assert printed[-1] == f"1 covered, {len(printed) - 2} uncovered, {len(printed) - 1} in all"


def test_uncovered_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path, index.fingerprint(), {"a::t": entry("passed", "SMTP-1")})
    assert index.main(["--results", str(tmp_path), "--uncovered", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["counts"]["covered"] == 1
    assert "SMTP-1" not in {item["id"] for item in printed["requirements"]}


def test_stale_and_missing_results_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index.main(["--results", str(tmp_path)]) == 1
    assert "no results" in capsys.readouterr().err
    write_results(tmp_path, "0" * 64, {})
    assert index.main(["--results", str(tmp_path)]) == 1
    assert "stale" in capsys.readouterr().err


def test_any_change_of_a_source_changes_the_fingerprint(tmp_path: Path) -> None:
    source = tmp_path / "src" / "module.py"
    source.parent.mkdir()
    source.write_text("a = 1\n")
    before = index.fingerprint(tmp_path)
    source.write_text("a = 2\n")
    changed = index.fingerprint(tmp_path)
    source.rename(source.with_name("other.py"))
    assert len({before, changed, index.fingerprint(tmp_path)}) == 3


@pytest.mark.parametrize("line", ["SMTP-1 1 spaces", "SMTP-1\t1\t", "smtp-1\t1\tlower", "SMTP-1\tx\tno step"])
def test_malformed_lists_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(f"# a comment\n{line}\n")
    with pytest.raises(ValueError, match=r"ids\.txt:2"):
        index.read_requirements(path)


def test_the_list_of_the_project_is_sound() -> None:
    requirements = index.read_requirements()
    assert {"SMTP-2a", "TLS-4b", "MT2-18e", "AMDP-23", "SEC-215", "FAULT-F14"} <= index.known_ids()
    assert all(requirement.step in range(1, 6) for requirement in requirements)
