"""AMDP's tables: envelopes beside plain mail, the page, the download."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bench.work import Figure, Shape

TARGET = 0.4
"""Of the rate of plain mail of the same size."""
PAIRS = {
    "Outrider, AMDP, 2 workers": "Outrider, plain SMTP, 2 workers",
    "Outrider, AMDP, 1 process": "Outrider, plain SMTP, 1 process",
}
Figures = dict[str, list[Figure]]
"""All rounds of a shape, by server."""


def envelopes(shape: Shape, found: Figures, rate_cell: Callable[[list[Figure]], str]) -> str:
    """Accepted, called back and settled, beside mail that is only accepted."""
    rows = [_row("load", "a second", "CPU ms each", "to plain SMTP"), "| --- |" + " ---: |" * 3]
    for name, figures in found.items():
        plain = found.get(PAIRS.get(name, ""))
        ratio = f"{_rate(figures) / _rate(plain):.2f} (target {TARGET})" if plain else "-"
        rows.append(_row(name, rate_cell(figures), f"{_median(figures, lambda one: one.cpu_ms):.2f}", ratio))
    return "\n".join([*rows, "", f"Target: {shape.target}."])


def page(shape: Shape, found: Figures) -> str:
    """Milliseconds to the first octet."""
    columns = {"p50": "p50_ms", "p99": "p99_ms", "p50, connection and handshake included": "new_ms"}
    return _extras(shape, found, columns)


def download(shape: Shape, found: Figures) -> str:
    """Memory, and how long it took."""
    rows = [
        _row("server", "MiB/s", "ms to the first octet", "peak MiB (PSS)", "peak while it was handed in"),
        "| --- |" + " ---: |" * 4,
    ]
    for name, figures in found.items():
        cells = (
            f"{_median(figures, lambda one: one.extra['mib'] / one.seconds):,.0f}",
            f"{_median(figures, lambda one: one.extra['first_ms']):.1f}",
            f"{_median(figures, lambda one: one.peak_mib):.0f}",
            f"{_median(figures, lambda one: one.extra['hold_mib']):.0f}",
        )
        rows.append(_row(name, *cells))
    return "\n".join([*rows, "", f"Target: {shape.target}."])


def _extras(shape: Shape, found: Figures, columns: dict[str, str]) -> str:
    rows = [_row("server", *columns, "CPU ms each"), "| --- |" + " ---: |" * (len(columns) + 1)]
    for name, figures in found.items():
        values = [statistics.median(one.extra[key] for one in figures) for key in columns.values()]
        values.append(_median(figures, lambda one: one.cpu_ms))
        rows.append(_row(name, *(f"{value:.1f}" for value in values)))
    return "\n".join([*rows, "", f"Target: {shape.target}."])


def _rate(figures: Sequence[Figure]) -> float:
    return _median(figures, lambda one: one.rate)


def _median(figures: Sequence[Figure], of: Callable[[Figure], float]) -> float:
    return statistics.median(of(one) for one in figures)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
