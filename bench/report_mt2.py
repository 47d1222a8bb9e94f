"""MT2's tables: bulk over one connection beside other feeds, and over a distance."""

from __future__ import annotations

from bench.sheet import Sheet, cpu, dated, median, rate, ratio, table
from bench.work import Kind, Shape

SEALED, UNSEALED = "Outrider, MT2, seals verified", "Outrider, MT2, seals not verified"
FAR_TARGET = 0.5
"""Of the rate without a delay."""


def bulk(sheet: Sheet) -> str:
    """Both tables, as far as they were measured."""
    parts = []
    for shape in sheet.of_kind(Kind.BULK):
        parts += [f"### {shape.name}", _feeds(sheet, shape)]
    if far := sheet.of_kind(Kind.BULK_FAR):
        parts += ["### Over a distance", _far(sheet, far)]
    return "\n\n".join(parts)


def _feeds(sheet: Sheet, shape: Shape) -> str:
    """Each feed, and how MT2 stands to it, with seals verified and without."""
    rows = []
    for name, figures in sheet.found(shape).items():
        theirs = median(figures, rate)
        ratios = (ratio(sheet.median(shape, ours, rate), theirs) for ours in (SEALED, UNSEALED))
        rows.append((name, sheet.rate_cell(shape, name), f"{median(figures, cpu):.2f}", *ratios))
    columns = ("messages/s", "CPU ms", "MT2 with seals verified to it", "not verified to it")
    return f"{table(['feed'], columns, rows)}\n\n{dated(sheet, shape)}"


def _far(sheet: Sheet, shapes: list[Shape]) -> str:
    rows = []
    near = next((shape for shape in shapes if not shape.delay_s), None)
    for name in sheet.taking_part(shapes):
        reference = sheet.median(near, name, rate) if near is not None else None
        for shape in shapes:
            if shape.delay_s:
                found = ratio(sheet.median(shape, name, rate), reference, digits=2)
                rows.append((shape.name, sheet.rate_cell(shape, name), f"{found} (target {FAR_TARGET})"))
            else:
                rows.append((shape.name, sheet.rate_cell(shape, name), "-"))
    return f"{table(['load'], ['messages/s', 'to no delay'], rows)}\n\n{dated(sheet, *shapes)}"
