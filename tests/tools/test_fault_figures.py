"""The figures of a fault run become a table: sums, later runs, and a page that lacks the place."""

from __future__ import annotations

import json

import pytest

from tools import fault_figures as figures

RUN = {"date": "2026-01-02", "machine": "2 cores"}


def line(**more: object) -> str:
    return json.dumps({"fault": "F4", "what": "power cut", "backend": "SQLite", **more})


def test_the_short_and_the_long_form_are_one_row() -> None:
    lines = [
        line(rounds=5, lost=0, **{"MiB at the end": 3}),
        line(rounds=100, lost=1, **{"MiB at the end": 2}),
    ]
    [row] = figures.joined(lines)
    assert (row["rounds"], row["lost"], row["MiB at the end"]) == (105, 1, 3)


def test_a_run_replaces_what_it_repeats_and_keeps_the_rest() -> None:
    old = figures.merged([], figures.joined([line(rounds=1), line(rounds=7, backend="PostgreSQL")]), RUN)
    new = figures.merged(old, figures.joined([line(rounds=2)]), {**RUN, "date": "2026-01-03"})
    assert [(row["backend"], row["rounds"], row["date"]) for row in new] == [
        ("PostgreSQL", 7, "2026-01-02"),
        ("SQLite", 2, "2026-01-03"),
    ]


def test_faults_stand_in_order_of_their_numbers() -> None:
    lines = [line(fault=fault) for fault in ("SEC-95", "F12", "F2")]
    assert [row["fault"] for row in figures.merged([], figures.joined(lines), RUN)] == ["F2", "F12", "SEC-95"]


def test_the_table_takes_its_place_on_the_page() -> None:
    rows = figures.merged([], figures.joined([line(rounds=1000, lost=0, held=3)]), RUN)
    page = f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n"
    made = figures.render(page, rows)
    assert "| F4 | power cut | SQLite | 1,000 |  | 0 |  |  | held 3 | 2026-01-02 |" in made
    assert "old" not in made
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    assert figures.render(made, rows) == made


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        figures.render("nothing here", [])
