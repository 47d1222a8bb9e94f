"""Tables of mail that is accepted and relayed: rates, CPU, memory, latency, idle sessions, a long queue."""

from __future__ import annotations

import operator
from collections.abc import Callable

from bench.sheet import OURS, Sheet, cpu, dated, median, rate, ratio, table
from bench.work import Figure, Kind, Shape

RATED = (Kind.ACCEPT, Kind.TLS, Kind.RELAY, Kind.DEAD_MX)
MOMENTS = {
    "s until ready": "ready_s",
    "s until a new message is accepted": "accepted_s",
    "s until the first old one is delivered": "delivered_s",
    "MiB (PSS) when ready": "ready_mib",
}


def rated(sheet: Sheet) -> list[Shape]:
    """The shapes whose rates are compared."""
    return sheet.of_kind(*RATED)


def mail(sheet: Sheet) -> str:
    """All these tables."""
    parts = []
    if shapes := rated(sheet):
        parts += [
            "### Messages a second",
            _rates(sheet, shapes),
            "### Outrider to others",
            _ratios(sheet, shapes),
            "### CPU milliseconds a message",
            _medians(sheet, shapes, cpu, 2),
            "### Peak memory, MiB (PSS)",
            _medians(sheet, shapes, lambda one: one.peak_mib, 0),
        ]
    for shape in sheet.of_kind(Kind.LATENCY):
        parts += ["### Latency at half load, ms", _latency(sheet, shape)]
    for shape in sheet.of_kind(Kind.IDLE):
        parts += [f"### {shape.name}", _idle(sheet, shape)]
    for shape in sheet.of_kind(Kind.MILLION):
        parts += [f"### {shape.name}", _million(sheet, shape)]
    return "\n\n".join(parts)


def _rates(sheet: Sheet, shapes: list[Shape]) -> str:
    servers = sheet.taking_part(shapes)
    rows = [
        (shape.name, *(sheet.rate_cell(shape, server) for server in servers), sheet.measured(shape))
        for shape in shapes
    ]
    return table(["load"], servers, rows, ["measured"])


def _medians(sheet: Sheet, shapes: list[Shape], of: Callable[[Figure], float], digits: int) -> str:
    servers = sheet.taking_part(shapes)
    rows = []
    for shape in shapes:
        values = (sheet.median(shape, server, of) for server in servers)
        rows.append((shape.name, *("-" if value is None else f"{value:,.{digits}f}" for value in values)))
    return table(["load"], servers, rows)


def _ratios(sheet: Sheet, shapes: list[Shape]) -> str:
    """How Outrider stands to Postfix and to the best peer."""
    servers = sheet.taking_part(shapes)
    ours = [name for name in servers if name.startswith(OURS)]
    columns = [f"{name} to {other}" for other in ("Postfix", "the best peer") for name in ours]
    rows = []
    for shape in shapes:
        rates = {name: sheet.median(shape, name, rate) for name in servers}
        name, best = best_peer(sheet, shape)
        cells = [ratio(rates[one], rates.get("Postfix")) for one in ours]
        cells += [f"{ratio(rates[one], best)} ({name})" if best else "-" for one in ours]
        rows.append((shape.name, *cells))
    return table(["load"], columns, rows)


def best_peer(sheet: Sheet, shape: Shape) -> tuple[str, float]:
    """The quickest that is not ours, and its rate; 0 where none was measured."""
    peers = [name for name in sheet.taking_part([shape]) if not name.startswith(OURS)]
    rates = {name: sheet.median(shape, name, rate) or 0.0 for name in peers}
    return max(rates.items(), key=operator.itemgetter(1), default=("", 0.0))


def _latency(sheet: Sheet, shape: Shape) -> str:
    names = ("p50", "p95", "p99", "p999", "max")
    rows = []
    for server, figures in sheet.found(shape).items():
        values = [median(figures, lambda one, name=name: one.extra[f"{name}_ms"]) for name in names]  # type: ignore[misc]
        rows.append((server, f"{median(figures, rate):,.0f}", *(f"{value:.1f}" for value in values)))
    return _dated(sheet, shape, table(["server"], ["messages/s", *names], rows))


def _idle(sheet: Sheet, shape: Shape) -> str:
    columns = ("MiB (PSS) in all", "MiB without sessions", "KiB a session", "CPU ms a session")
    rows = []
    for server, figures in sheet.found(shape).items():
        whole = f"{median(figures, lambda one: one.peak_mib):,.0f}"
        before = f"{median(figures, lambda one: one.extra['before_mib']):,.0f}"
        each = f"{median(figures, lambda one: one.extra['session_kib']):,.1f}"
        rows.append((server, whole, before, each, f"{median(figures, cpu):.2f}"))
    return _dated(sheet, shape, table(["server"], columns, rows))


def _million(sheet: Sheet, shape: Shape) -> str:
    rows = []
    for server, figures in sheet.found(shape).items():
        values = [median(figures, lambda one, name=name: one.extra[name]) for name in MOMENTS.values()]  # type: ignore[misc]
        values.append(median(figures, lambda one: one.peak_mib))
        rows.append((server, *(f"{value:.1f}" for value in values)))
    return _dated(sheet, shape, table(["server"], [*MOMENTS, "MiB at most"], rows))


def _dated(sheet: Sheet, shape: Shape, text: str) -> str:
    return f"{text}\n\n{dated(sheet, shape)}"
