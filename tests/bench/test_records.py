"""Rows of one run in the place of those of another."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import bench.run
import msgspec
import pytest
from bench.records import Record, fallen_out, merged, read_record, write_record
from bench.run import Origin, Run, commit_now, rates, rows_of
from bench.work import SHAPES, Kind

from tests.bench.test_report import EXIM, MACHINE, OURS, POSTFIX, figure, record

ACCEPT, RELAY = Kind.ACCEPT, Kind.RELAY
OLD = record(figure(ACCEPT, OURS, 1.0), figure(ACCEPT, EXIM, 2.0), figure(RELAY, OURS, 4.0))


def test_a_row_is_replaced_whole_and_the_others_stay() -> None:
    new = record(figure(ACCEPT, OURS, 0.5), began="2026-02-02T00:00:00Z", commit="fedcba9")
    both = merged(OLD, new.rows)
    assert both.rows == [new.rows[0], OLD.rows[1]]
    assert {one.subject for one in both.rows[0].figures} == {OURS}
    assert (both.rows[0].commit, both.rows[1].commit) == ("fedcba9", OLD.rows[1].commit)


def test_rows_stand_in_the_order_of_the_shapes() -> None:
    (accept, relay) = OLD.rows
    assert merged(Record([relay]), [accept]) == OLD
    assert merged(Record([]), [relay, accept]) == OLD


def test_a_row_from_which_somebody_fell_out_replaces_nothing() -> None:
    (accept, _) = OLD.rows
    words = [f"{EXIM}, {accept.shape}: it ended"]
    failed = msgspec.structs.replace(accept, figures=accept.figures[:1], failures=words)
    assert fallen_out(accept, failed) == [EXIM]
    assert merged(OLD, [failed]) == OLD
    assert merged(Record([]), [failed]).rows == [failed]
    # Half of the rounds are no row either.
    longer = record(*(figure(ACCEPT, OURS, 1.0, number) for number in (1, 2))).rows[0]
    assert fallen_out(longer, msgspec.structs.replace(longer, figures=longer.figures[:1])) == [OURS]
    # Who was not through last time need not be now.
    assert fallen_out(msgspec.structs.replace(failed, rounds=2), failed) == []


def test_who_takes_no_part_any_more_is_not_missed() -> None:
    (accept, _) = OLD.rows
    alone = msgspec.structs.replace(accept, figures=accept.figures[:1])
    assert merged(OLD, [alone]).rows[0] == alone


def test_shapes_that_are_no_more_go() -> None:
    (accept, _) = OLD.rows
    assert merged(OLD, [msgspec.structs.replace(accept, shape="as it was called once")]) == OLD


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(OLD, tmp_path / "figures.json")
    assert read_record(tmp_path / "figures.json") == OLD


def test_rows_carry_their_moment_machine_and_commit() -> None:
    accept, relay = (next(shape for shape in SHAPES if shape.kind is kind) for kind in (ACCEPT, Kind.DEAD_MX))
    run = Run(5, 0.1)
    run.figures = [figure(ACCEPT, POSTFIX, 1.0), figure(Kind.DEAD_MX, OURS, 1.0)]
    run.failures = [(accept.name, "Exim: no")]
    first, second = rows_of(run, [accept, relay], 0.0, 240.0, Origin(MACHINE, "abc"))
    assert (first.began, first.minutes, first.commit, first.machine) == (
        "1970-01-01T00:00:00Z",
        2.0,
        "abc",
        MACHINE,
    )
    assert (first.rounds, second.rounds) == (5, 3)
    assert ([one.name for one in first.servers], first.failures) == ([POSTFIX], ["Exim: no"])
    assert second.failures == []


def test_what_was_measured_on_another_machine_is_no_guide() -> None:
    assert rates(OLD, MACHINE)[OLD.rows[0].shape, EXIM] == 500
    assert rates(OLD, {**MACHINE, "cores": 64}) == {}


def test_code_that_differs_from_its_commit_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True
        )

    monkeypatch.setattr(bench.run, "PROJECT", tmp_path)
    assert commit_now() == "no commit"
    (tmp_path / "src").mkdir()
    (tmp_path / "docs").mkdir()
    for name in ("src/a.py", "docs/performance.md"):
        (tmp_path / name).write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    clean = commit_now()
    assert len(clean) == 7
    (tmp_path / "docs/performance.md").write_text("figures")
    assert commit_now() == clean
    (tmp_path / "src/a.py").write_text("two")
    assert commit_now() == f"{clean}-dirty"


def test_figures_of_a_run_that_is_broken_off_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published: list[Record] = []
    monkeypatch.setattr(bench.run, "publish", lambda known, docs: published.append(known))
    write_record(OLD, tmp_path / bench.run.RECORD)
    new = record(replace(figure(ACCEPT, OURS, 0.1)))
    bench.run._keep(new.rows, tmp_path)
    bench.run._keep([], tmp_path)
    assert published == [merged(OLD, new.rows)] == [read_record(tmp_path / bench.run.RECORD)]
