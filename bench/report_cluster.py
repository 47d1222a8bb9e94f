"""The cluster's tables: what a second node adds, and what a message costs nodes and database."""

from __future__ import annotations

from bench.sheet import Sheet, cpu, dated, median, rate, ratio, table
from bench.subjects import OutriderNode
from bench.work import Kind, Shape

TARGET = 1.6
"""Of the rate of one node."""


def nodes(sheet: Sheet) -> str:
    """One row for each cluster, and how it stands to one node."""
    return "\n\n".join(_nodes(sheet, shape) for shape in sheet.of_kind(Kind.CLUSTER))


def _nodes(sheet: Sheet, shape: Shape) -> str:
    columns = (
        *("messages/s", "to one node", "CPU ms, node", "CPU ms, database"),
        *("commits a second", "of its CPU share, a node used"),
    )
    one = sheet.median(shape, OutriderNode.name, rate)
    rows = []
    for name, figures in sheet.found(shape).items():
        found = "-"
        if name != OutriderNode.name:
            found = f"{ratio(median(figures, rate), one, digits=2)} (target {TARGET})"
        cells = (
            sheet.rate_cell(shape, name),
            found,
            f"{median(figures, cpu):.2f}",
            f"{median(figures, lambda figure: figure.extra['database_ms']):.2f}",
            f"{median(figures, lambda figure: figure.extra['commits_s']):.0f}",
            f"{100 * median(figures, lambda figure: figure.extra['share_used']):.0f} %",
        )
        rows.append((name, *cells))
    share = (
        f"Each node has {shape.node_cores:g} of a core; database and generators have the rest of the machine."
    )
    return f"{table(['load'], columns, rows)}\n\n{share}\n{dated(sheet, shape)}"


def costs(sheet: Sheet) -> str:
    """What a message costs: of the spool alone, and of whole nodes."""
    columns = ("node, CPU ms a message", "database, CPU ms a message", "log written, KiB a message")
    rows = []
    for shape in sheet.of_kind(Kind.SPOOL, Kind.CLUSTER):
        for name, figures in sheet.found(shape).items():
            log = [one.extra["log_kib"] for one in figures if "log_kib" in one.extra]
            cells = (
                f"{median(figures, cpu):.2f}",
                f"{median(figures, lambda one: one.extra['database_ms']):.2f}",
                f"{median(figures, lambda one: one.extra['log_kib']):,.1f}" if log else "-",
            )
            rows.append((shape.name, name, *cells, sheet.measured(shape)))
    return table(["what", "by"], columns, rows, ["measured"]) if rows else ""
