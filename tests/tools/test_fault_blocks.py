"""A long fault run goes in blocks, and one that is started again does what is not in the figures file yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.figures import Block, Case, blocks

from tools import fault_figures

CASE = Case("F2", "server killed", "PostgreSQL")
OTHER = Case("F2", "server killed", "SQLite")


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a run writes to."""
    path = tmp_path / "figures.jsonl"
    monkeypatch.setenv("OUTRIDER_FIGURES", str(path))
    return path


def test_a_run_goes_in_blocks() -> None:
    assert list(blocks(CASE, 120, 50)) == [Block(0, 50), Block(50, 50), Block(100, 20)]


def test_it_goes_on_behind_what_is_in_the_file(figures: Path) -> None:
    OTHER.publish({"rounds": 400, "lost": 0})
    for block in blocks(CASE, 120, 50):
        CASE.publish({"rounds": block.rounds, "lost": 1})
        if block.done:
            break  # ended by somebody
    assert list(blocks(CASE, 120, 50)) == [Block(100, 20)]
    [row] = [
        row
        for row in fault_figures.joined(figures.read_text().splitlines())
        if row["backend"] == CASE.backend
    ]
    assert (row["rounds"], row["lost"]) == (100, 2)


def test_one_that_is_through_says_so(figures: Path) -> None:
    CASE.publish({"rounds": 120})
    assert figures.exists()
    with pytest.raises(pytest.skip.Exception, match="has 120 rounds"):
        list(blocks(CASE, 120, 50))


def test_a_short_form_is_run_whatever_is_in_the_file(figures: Path) -> None:
    CASE.publish({"rounds": 400})
    assert figures.exists()
    assert list(blocks(CASE, 8, 50)) == [Block(0, 8)]
