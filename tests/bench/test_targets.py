"""Targets, and whether they are reached."""

from __future__ import annotations

from bench.sheet import Sheet
from bench.subjects import SUBJECTS
from bench.targets import TARGETS, beside
from bench.work import SHAPES, Kind

from tests.bench.test_report import EXIM, OURS, POSTFIX, figure, record

ONE = "Outrider, 1 process"


def lines(text: str, *words: str) -> list[str]:
    return [line for line in text.split("\n") if all(word in line for word in words)]


def test_every_target_is_of_a_server_that_is_measured_so() -> None:
    for target in TARGETS:
        (shape,) = (shape for shape in SHAPES if shape.name == target.shape)
        (kind,) = (kind for kind in SUBJECTS if kind.name == target.server)
        assert kind.takes_part(shape), target


def test_a_ratio_is_reached_or_not() -> None:
    text = beside(Sheet(record(figure(Kind.ACCEPT, OURS, 1.0), figure(Kind.ACCEPT, POSTFIX, 2.0))))
    (line,) = lines(text, "accept, 1 session kept", "2 x Postfix")
    assert "| 2.00 x (1,000 to 500) | yes | 2026-01-01 00:00, abcdef0, 1 round |" in line
    text = beside(Sheet(record(figure(Kind.ACCEPT, OURS, 1.01), figure(Kind.ACCEPT, POSTFIX, 2.0))))
    (line,) = lines(text, "accept, 1 session kept", "2 x Postfix")
    assert "| 1.98 x (990 to 500) | **no** |" in line


def test_ahead_is_more_than_level() -> None:
    for seconds, word in ((1.0, "**no**"), (0.9, "yes")):
        sheet = Sheet(record(figure(Kind.ACCEPT, ONE, seconds), figure(Kind.ACCEPT, POSTFIX, 1.0)))
        (line,) = lines(beside(sheet), "accept, 1 session kept", "ahead of Postfix")
        assert f"| {word} |" in line


def test_the_best_peer_is_named() -> None:
    (shape,) = (shape for shape in SHAPES if shape.name == "accept, 100 sessions kept")
    figures = [
        figure(shape.kind, name, seconds, shape=shape.name)
        for name, seconds in ((OURS, 1.0), (ONE, 0.5), (POSTFIX, 4.0), (EXIM, 2.0))
    ]
    (line,) = lines(beside(Sheet(record(*figures))), "3 x the best peer")
    assert "| 2.00 x (1,000 to Exim 500) | **no** |" in line


def test_a_limit_is_kept_or_not() -> None:
    sheet = Sheet(record(figure(Kind.IDLE, OURS, 0.0, before_mib=40.0, session_kib=25.5)))
    (line,) = lines(beside(sheet), "1,000 idle sessions")
    assert "| 50 MiB | yes |" in line


def test_what_was_not_measured_stands_there_too() -> None:
    text = beside(Sheet(record(figure(Kind.ACCEPT, OURS, 1.0))))
    assert len(text.split("\n")) == 2 + len(TARGETS)
    (line,) = lines(text, "cluster")
    assert line.endswith("| not measured | - | - |")
