"""The cluster's table: what a second node adds, and what a message costs nodes and database."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from bench.subjects import OutriderNode
from bench.work import Figure, Shape

TARGET = 1.6
"""Of the rate of one node."""
ONE = OutriderNode.name
Figures = dict[str, list[Figure]]
"""All rounds of a shape, by server."""


def nodes(shape: Shape, found: Figures, rate_cell: Callable[[list[Figure]], str]) -> str:
    """One row for each cluster, and how it stands to one node."""
    columns = (
        *("messages/s", "to one node", "CPU ms, node", "CPU ms, database"),
        *("commits a second", "of its CPU share, a node used"),
    )
    rows = [f"| load | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    one = found.get(ONE)
    for name, figures in found.items():
        ratio = "-"
        if one and name != ONE:
            ratio = f"{_median(figures, _rate) / _median(one, _rate):.2f} (target {TARGET})"
        cells = (
            rate_cell(figures),
            ratio,
            f"{_median(figures, lambda figure: figure.cpu_ms):.2f}",
            f"{_median(figures, lambda figure: figure.extra['database_ms']):.2f}",
            f"{_median(figures, lambda figure: figure.extra['commits_s']):.0f}",
            f"{100 * _median(figures, lambda figure: figure.extra['share_used']):.0f} %",
        )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    share = (
        f"Each node has {shape.node_cores:g} of a core, database and generators have the rest of the machine."
    )
    return "\n".join([*rows, "", f"{share} Target: {shape.target}."])


def _rate(figure: Figure) -> float:
    return figure.rate


def _median(figures: list[Figure], of: Callable[[Figure], float]) -> float:
    return statistics.median(of(figure) for figure in figures)
