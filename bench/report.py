"""The figures as people read them: tables and a chart, put between the marks of docs/performance.md.

python -m bench.report          # anew from docs/performance.json
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.peers.images import PROJECT

from bench import report_amdp, report_cluster
from bench.chart import Bar, Group, chart
from bench.records import Record, read_record
from bench.work import SHAPES, Figure, Kind, Shape

PAGE = PROJECT / "docs" / "performance.md"
RECORD = PROJECT / "docs" / "performance.json"
CHART = PROJECT / "docs" / "performance.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
AMTP_TARGET = 0.7
"""Of the rate in the clear."""
FAR_TARGET = 0.5
"""Of the rate without a delay."""
BULK_OURS = ("Outrider, MT2, seals verified", "Outrider, MT2, seals not verified")
RATED = (Kind.ACCEPT, Kind.TLS, Kind.RELAY, Kind.DEAD_MX)


class Sheet:
    """A record, looked at by shape and server."""

    def __init__(self, record: Record) -> None:
        self.record = record
        measured = {figure.shape for figure in record.figures}
        self.shapes = [shape for shape in SHAPES if shape.name in measured]
        self.servers = [
            server.name
            for server in record.servers
            if any(figure.subject == server.name for figure in record.figures)
        ]

    def figures(self, shape: Shape, server: str) -> list[Figure]:
        """All rounds."""
        return [one for one in self.record.figures if (one.shape, one.subject) == (shape.name, server)]

    def taking_part(self, shapes: Iterable[Shape]) -> list[str]:
        """The servers that were measured with any of the shapes."""
        names = {shape.name for shape in shapes}
        measured = {figure.subject for figure in self.record.figures if figure.shape in names}
        return [server for server in self.servers if server in measured]

    def median(self, shape: Shape, server: str, of: Callable[[Figure], float]) -> float | None:
        """None if it did not take part."""
        values = [of(figure) for figure in self.figures(shape, server)]
        return statistics.median(values) if values else None


def tables(record: Record) -> str:
    """Everything, in Markdown."""
    sheet = Sheet(record)
    rated = [shape for shape in sheet.shapes if shape.kind in RATED]
    parts = [_facts(record)]
    if rated:
        parts += [
            "### Messages a second",
            _table(sheet, rated, _rate_cell),
            "### CPU milliseconds a message",
            _table(sheet, rated, lambda figures: f"{_median(figures, lambda one: one.cpu_ms):.2f}"),
            "### Peak memory, MiB (PSS)",
            _table(sheet, rated, lambda figures: f"{_median(figures, lambda one: one.peak_mib):,.0f}"),
        ]
    for shape in sheet.shapes:
        if shape.kind is Kind.LATENCY:
            parts += ["### Latency at half load, ms", _latency(sheet, shape)]
        if shape.kind is Kind.IDLE:
            parts += [f"### {shape.name}", _idle(sheet, shape)]
        if shape.kind is Kind.MILLION:
            parts += [f"### {shape.name}", _million(sheet, shape)]
        if shape.kind is Kind.BULK:
            parts += [f"### {shape.name}", _bulk(sheet, shape)]
    far = [shape for shape in sheet.shapes if shape.kind is Kind.BULK_FAR]
    if far:
        parts += ["### Bulk by MT2 over a distance", _far(sheet, far)]
    parts += _mutual(sheet)
    parts += _amdp(sheet)
    parts += _clusters(sheet)
    targets = _targets(sheet)
    if targets:
        parts += ["### Beside the targets", targets]
    if record.failures:
        parts += ["Not measured:", "\n".join(f"- {text}" for text in record.failures)]
    return "\n\n".join(parts)


def _facts(record: Record) -> str:
    facts = record.machine
    rows = [
        "| server | version | before its 250 |",
        "| --- | --- | --- |",
        *(f"| {server.name} | {server.version} | {server.durability} |" for server in record.servers),
    ]
    return "\n".join(
        [
            f"{facts['cores']} cores of {facts['processor']}, {facts['memory_mib']:,} MiB,",
            f"{facts['kernel']}, {str(facts['file_system']).partition(' ')[0]},",
            f"Python {facts['python']}; begun {record.began},",
            f"{f'{record.minutes:g} minutes, ' if record.minutes else ''}{record.rounds} rounds.",
            "",
            *rows,
        ]
    )


def _table(sheet: Sheet, shapes: Iterable[Shape], cell: Callable[[list[Figure]], str]) -> str:
    shapes = list(shapes)
    servers = sheet.taking_part(shapes)
    rows = [_row("load", *servers), "| --- |" + " ---: |" * len(servers)]
    for shape in shapes:
        found = [sheet.figures(shape, server) for server in servers]
        rows.append(_row(shape.name, *(cell(figures) if figures else "-" for figures in found)))
    return "\n".join(rows)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _median(figures: list[Figure], of: Callable[[Figure], float]) -> float:
    return statistics.median(of(one) for one in figures)


def _rate_cell(figures: list[Figure]) -> str:
    rates = [one.rate for one in figures]
    digits = 1 if max(rates) < 50 else 0
    text = f"{statistics.median(rates):,.{digits}f} ({min(rates):,.{digits}f}-{max(rates):,.{digits}f})"
    late = any(" arrived in time" in one.note for one in figures)
    return f"{text}, not all in time" if late else text


def _latency(sheet: Sheet, shape: Shape) -> str:
    names = ("p50", "p95", "p99", "p999", "max")
    rows = [_row("server", "messages/s", *names), "| --- |" + " ---: |" * (len(names) + 1)]
    for server in sheet.servers:
        figures = sheet.figures(shape, server)
        if figures:
            values = [_median(figures, lambda one, name=name: one.extra[f"{name}_ms"]) for name in names]  # type: ignore[misc]
            rate = f"{_median(figures, lambda one: one.rate):,.0f}"
            rows.append(_row(server, rate, *(f"{value:.1f}" for value in values)))
    return "\n".join(rows)


def _idle(sheet: Sheet, shape: Shape) -> str:
    rows = [
        _row("server", "MiB (PSS) in all", "MiB without sessions", "KiB a session", "CPU ms a session"),
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for server in sheet.servers:
        figures = sheet.figures(shape, server)
        if figures:
            whole = f"{_median(figures, lambda one: one.peak_mib):,.0f}"
            before = f"{_median(figures, lambda one: one.extra['before_mib']):,.0f}"
            each = f"{_median(figures, lambda one: one.extra['session_kib']):,.1f}"
            cpu = f"{_median(figures, lambda one: one.cpu_ms):.2f}"
            rows.append(_row(server, whole, before, each, cpu))
    return "\n".join(rows)


def _mutual(sheet: Sheet) -> list[str]:
    """AMTP beside SMTP in the clear, and what a handshake costs; nothing where they were not measured."""
    by_kind = {shape.kind: shape for shape in sheet.shapes}
    parts = []
    if Kind.CLEAR in by_kind and Kind.AMTP in by_kind:
        title = "### AMTP beside SMTP in the clear, by our own generator, 20 sessions kept"
        parts += [title, _amtp(sheet, by_kind[Kind.CLEAR], by_kind[Kind.AMTP])]
    if Kind.HANDSHAKE in by_kind:
        parts += ["### Full handshakes with certificates on both sides (TLS 1.3, P-256)"]
        parts += [_handshakes(sheet, by_kind[Kind.HANDSHAKE])]
    return parts


def _amtp(sheet: Sheet, clear: Shape, amtp: Shape) -> str:
    columns = ("clear, messages/s", "AMTP, messages/s", "AMTP to clear", "clear, CPU ms", "AMTP, CPU ms")
    rows = [_row("server", *columns), "| --- |" + " ---: |" * len(columns)]
    for server in sheet.servers:
        pair = [sheet.figures(shape, server) for shape in (clear, amtp)]
        if all(pair):
            rates = [_median(figures, lambda one: one.rate) for figures in pair]
            cpu = (f"{_median(figures, lambda one: one.cpu_ms):.2f}" for figures in pair)
            ratio = f"{rates[1] / rates[0]:.2f} (target {AMTP_TARGET})"
            rows.append(_row(server, *(_rate_cell(figures) for figures in pair), ratio, *cpu))
    return "\n".join(rows)


def _handshakes(sheet: Sheet, shape: Shape) -> str:
    columns = ("handshakes a second", "CPU ms each", "handshakes a CPU second")
    rows = [_row("server", *columns), "| --- |" + " ---: |" * len(columns)]
    for server in sheet.servers:
        figures = sheet.figures(shape, server)
        if figures:
            each = _median(figures, lambda one: one.cpu_ms)
            rows.append(_row(server, _rate_cell(figures), f"{each:.2f}", f"{1000 / each:,.0f}"))
    return "\n".join(rows)


def _amdp(sheet: Sheet) -> list[str]:
    parts = []
    for shape in sheet.shapes:
        found = {name: sheet.figures(shape, name) for name in sheet.taking_part([shape])}
        if shape.kind is Kind.ENVELOPES:
            parts += [f"### {shape.name}, a second", report_amdp.envelopes(shape, found, _rate_cell)]
        elif shape.kind is Kind.PAGE:
            parts += [f"### {shape.name}, ms to the first octet", report_amdp.page(shape, found)]
        elif shape.kind is Kind.DOWNLOAD:
            parts += [f"### {shape.name}", report_amdp.download(shape, found)]
    return parts


def _clusters(sheet: Sheet) -> list[str]:
    parts = []
    for shape in sheet.shapes:
        if shape.kind is Kind.CLUSTER:
            found = {name: sheet.figures(shape, name) for name in sheet.taking_part([shape])}
            parts += [f"### {shape.name}", report_cluster.nodes(shape, found, _rate_cell)]
    return parts


def _bulk(sheet: Sheet, shape: Shape) -> str:
    """Each feed, and how MT2 stands to it, with seals verified and without."""
    medians = {name: sheet.median(shape, name, lambda one: one.rate) for name in sheet.taking_part([shape])}
    columns = ("messages/s", "CPU ms", *(f"{name} to it" for name in BULK_OURS))
    rows = [_row("feed", *columns), "| --- |" + " ---: |" * len(columns)]
    for name, rate in medians.items():
        figures = sheet.figures(shape, name)
        cpu = f"{_median(figures, lambda one: one.cpu_ms):.2f}"
        ratios = (_ratio(medians.get(ours), rate) for ours in BULK_OURS)
        rows.append(_row(name, _rate_cell(figures), cpu, *ratios))
    return "\n".join([*rows, "", f"Target: {shape.target}."])


def _far(sheet: Sheet, shapes: list[Shape]) -> str:
    columns = ("messages/s", "to no delay")
    rows = [_row("load", *columns), "| --- |" + " ---: |" * len(columns)]
    for name in sheet.taking_part(shapes):
        near = next((shape for shape in shapes if not shape.delay_s), None)
        reference = sheet.median(near, name, lambda one: one.rate) if near is not None else None
        for shape in shapes:
            figures = sheet.figures(shape, name)
            if figures:
                target = f" (target {FAR_TARGET})" if shape.delay_s else ""
                ratio = _ratio(_median(figures, lambda one: one.rate), reference, digits=2)
                rows.append(_row(shape.name, _rate_cell(figures), f"{ratio}{target}"))
    return "\n".join(rows)


def _million(sheet: Sheet, shape: Shape) -> str:
    columns = {
        "s until ready": "ready_s",
        "s until a new message is accepted": "accepted_s",
        "s until the first old one is delivered": "delivered_s",
        "MiB (PSS) when ready": "ready_mib",
        "MiB at most": "",
    }
    rows = [_row("server", *columns), "| --- |" + " ---: |" * len(columns)]
    for server in sheet.servers:
        figures = sheet.figures(shape, server)
        if figures:
            values = [
                _median(figures, lambda one, name=name: one.extra[name] if name else one.peak_mib)  # type: ignore[misc]
                for name in columns.values()
            ]
            rows.append(_row(server, *(f"{value:.1f}" for value in values)))
    return "\n".join(rows)


def _targets(sheet: Sheet) -> str:
    """How Outrider stands to Postfix and to the best peer, where rates are compared."""
    rated = sheet.taking_part(shape for shape in sheet.shapes if shape.kind in RATED)
    ours = [name for name in rated if name.startswith("Outrider")]
    peers = [name for name in rated if name not in ours]
    columns = [f"{name} to {other}" for other in ("Postfix", "the best peer") for name in ours]
    rows = [_row("load", "target", *columns), "| --- | --- |" + " ---: |" * len(columns)]
    for shape in sheet.shapes:
        rates = {name: sheet.median(shape, name, lambda one: one.rate) for name in sheet.servers}
        if shape.kind not in RATED or not ours or not any(rates[name] for name in peers):
            continue
        best = max((rates[name] or 0.0, name) for name in peers)
        cells = [_ratio(rates[name], rates.get("Postfix")) for name in ours]
        cells += [f"{_ratio(rates[name], best[0])} ({best[1]})" for name in ours]
        rows.append(_row(shape.name, shape.target or "-", *cells))
    return "\n".join(rows) if len(rows) > 2 else ""


def _ratio(ours: float | None, theirs: float | None, digits: int = 1) -> str:
    return f"{ours / theirs:.{digits}f}" if ours and theirs else "-"


def drawing(record: Record) -> str:
    """The rates as a chart (SVG)."""
    sheet = Sheet(record)
    rated = [shape for shape in sheet.shapes if shape.kind in RATED]
    groups = []
    for shape in rated:
        medians = {name: sheet.median(shape, name, lambda one: one.rate) for name in sheet.servers}
        bars = [Bar(name, value) for name, value in medians.items() if value is not None]
        groups.append(Group(shape.name, tuple(bars)))
    return chart("Messages a second, medians", groups, sheet.taking_part(rated))


def put_between(page: str, text: str) -> str:
    """The page with what stood between the marks replaced. Raises ValueError without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def publish(record: Record, page: Path = PAGE, picture: Path = CHART) -> None:
    """Write tables and chart into the documents."""
    picture.write_text(drawing(record), "utf-8")
    text = f"![Messages a second]({picture.name})\n\n{tables(record)}"
    page.write_text(put_between(page.read_text("utf-8"), text), "utf-8")


def main() -> int:
    """Publish what is on record."""
    publish(read_record(RECORD))
    return 0


if __name__ == "__main__":
    sys.exit(main())
