"""AMTP's tables: mail beside mail in the clear, and what a handshake costs."""

from __future__ import annotations

from bench.sheet import Sheet, cpu, dated, median, rate, table
from bench.work import Kind, Shape

TARGET = 0.7
"""Of the rate in the clear."""


def amtp(sheet: Sheet) -> str:
    """Both tables, as far as they were measured."""
    parts = []
    clear, mutual = sheet.of_kind(Kind.CLEAR), sheet.of_kind(Kind.AMTP)
    if clear and mutual:
        parts += [
            "### Mail over 20 sessions kept, beside SMTP in the clear",
            _mail(sheet, clear[0], mutual[0]),
        ]
    for shape in sheet.of_kind(Kind.HANDSHAKE):
        parts += [
            "### Full handshakes with certificates on both sides (TLS 1.3, P-256)",
            _handshakes(sheet, shape),
        ]
    return "\n\n".join(parts)


def _mail(sheet: Sheet, clear: Shape, mutual: Shape) -> str:
    columns = ("clear, messages/s", "AMTP, messages/s", "AMTP to clear", "clear, CPU ms", "AMTP, CPU ms")
    rows = []
    for server in sheet.taking_part([clear]):
        pair = [sheet.figures(shape, server) for shape in (clear, mutual)]
        if all(pair):
            rates = [median(figures, rate) for figures in pair]
            rows.append(
                (
                    server,
                    *(sheet.rate_cell(shape, server) for shape in (clear, mutual)),
                    f"{rates[1] / rates[0]:.2f} (target {TARGET})",
                    *(f"{median(figures, cpu):.2f}" for figures in pair),
                )
            )
    return f"{table(['server'], columns, rows)}\n\n{dated(sheet, clear, mutual)}"


def _handshakes(sheet: Sheet, shape: Shape) -> str:
    columns = ("a second, one client", "CPU ms each", "a CPU second")
    rows = []
    for server, figures in sheet.found(shape).items():
        each = median(figures, cpu)
        rows.append((server, sheet.rate_cell(shape, server), f"{each:.2f}", f"{1000 / each:,.0f}"))
    return f"{table(['server'], columns, rows)}\n\n{dated(sheet, shape)}"
