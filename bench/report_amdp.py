"""AMDP's tables: envelopes beside plain mail, the page, the download."""

from __future__ import annotations

from bench.sheet import Sheet, cpu, dated, median, rate, table
from bench.work import Kind, Shape

TARGET = 0.4
"""Of the rate of plain mail of the same size."""
PAIRS = {
    "Outrider, AMDP, 2 workers": "Outrider, plain SMTP, 2 workers",
    "Outrider, AMDP, 1 process": "Outrider, plain SMTP, 1 process",
}


def amdp(sheet: Sheet) -> str:
    """All tables, as far as they were measured."""
    parts = []
    for shape in sheet.of_kind(Kind.ENVELOPES):
        parts += ["### Envelopes over 20 sessions kept, a second", _envelopes(sheet, shape)]
    for shape in sheet.of_kind(Kind.PAGE):
        parts += ["### The retrieval page, ms to the first octet", _page(sheet, shape)]
    for shape in sheet.of_kind(Kind.DOWNLOAD):
        parts += ["### A download of 200 MiB", _download(sheet, shape)]
    return "\n\n".join(parts)


def _envelopes(sheet: Sheet, shape: Shape) -> str:
    """Accepted, called back and settled, beside mail that is only accepted."""
    rows = []
    for name, figures in sheet.found(shape).items():
        plain = sheet.median(shape, PAIRS.get(name, ""), rate)
        ratio = f"{median(figures, rate) / plain:.2f} (target {TARGET})" if plain else "-"
        rows.append((name, sheet.rate_cell(shape, name), f"{median(figures, cpu):.2f}", ratio))
    return f"{table(['load'], ['a second', 'CPU ms each', 'to plain SMTP'], rows)}\n\n{dated(sheet, shape)}"


def _page(sheet: Sheet, shape: Shape) -> str:
    columns = {"p50": "p50_ms", "p99": "p99_ms", "p50, connection and handshake included": "new_ms"}
    rows = []
    for name, figures in sheet.found(shape).items():
        values = [median(figures, lambda one, key=key: one.extra[key]) for key in columns.values()]  # type: ignore[misc]
        rows.append((name, *(f"{value:.1f}" for value in [*values, median(figures, cpu)])))
    return f"{table(['server'], [*columns, 'CPU ms each'], rows)}\n\n{dated(sheet, shape)}"


def _download(sheet: Sheet, shape: Shape) -> str:
    """Memory, and how long it took."""
    columns = ("MiB/s", "ms to the first octet", "peak MiB (PSS)", "peak while it was handed in")
    rows = []
    for name, figures in sheet.found(shape).items():
        cells = (
            f"{median(figures, lambda one: one.extra['mib'] / one.seconds):,.0f}",
            f"{median(figures, lambda one: one.extra['first_ms']):.1f}",
            f"{median(figures, lambda one: one.peak_mib):.0f}",
            f"{median(figures, lambda one: one.extra['hold_mib']):.0f}",
        )
        rows.append((name, *cells))
    return f"{table(['server'], columns, rows)}\n\n{dated(sheet, shape)}"
