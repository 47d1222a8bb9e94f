"""The figures as people read them: tables and a chart, put between the marks of the pages.

python -m bench.report          # anew from docs/performance.json
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from string import ascii_uppercase

from tests.peers.images import PROJECT

from bench.chart import Bar, Group, chart
from bench.records import Record, read_record
from bench.report_amdp import amdp
from bench.report_amtp import amtp
from bench.report_cluster import costs, nodes
from bench.report_mail import mail, rated
from bench.report_mt2 import bulk
from bench.sheet import Sheet, median, rate, table
from bench.targets import beside

DOCS = PROJECT / "docs"
RECORD, CHART = "performance.json", "performance.svg"
NOTHING = "Not measured yet."


def machines(sheet: Sheet) -> str:
    """Where the figures come from, with a letter each where there are several places."""
    if len(sheet.machines) == 1:
        return f"{sheet.machines[0]}."
    return "\n".join(
        f"- {letter}: {text}" for letter, text in zip(ascii_uppercase, sheet.machines, strict=False)
    )


def servers(sheet: Sheet) -> str:
    """Who took part."""
    rows = [(server.name, server.version, server.durability) for server in sheet.versions()]
    return table(["server", "version", "before its 250"], [], rows)


def missing(sheet: Sheet) -> str:
    """What could not be measured, and why."""
    failures = [text for row in sheet.record.rows for text in row.failures]
    return "\n".join(f"- {text}" for text in failures) if failures else "- nothing"


Block = Callable[[Sheet], str]
BLOCKS: Mapping[str, Mapping[str, Block]] = {
    "performance.md": {
        "machine": machines,
        "targets": beside,
        "mail": lambda sheet: f"![Messages a second]({CHART})\n\n{mail(sheet)}",
        "AMTP": amtp,
        "MT2": bulk,
        "AMDP": amdp,
        "cluster": nodes,
        "missing": missing,
        "servers": servers,
    },
    "scaling.md": {"cluster": costs},
}
"""The parts of each page that are made from the record, by the names in their marks."""


def tables(record: Record) -> str:
    """Everything, in Markdown."""
    sheet = Sheet(record)
    return "\n\n".join(text for make in BLOCKS["performance.md"].values() if (text := make(sheet)))


def drawing(record: Record) -> str:
    """The rates as a chart (SVG)."""
    sheet = Sheet(record)
    shapes = rated(sheet)
    groups = [
        Group(
            shape.name,
            tuple(Bar(name, median(figures, rate)) for name, figures in sheet.found(shape).items()),
        )
        for shape in shapes
    ]
    return chart("Messages a second, medians", groups, sheet.taking_part(shapes))


def put_between(page: str, name: str, text: str) -> str:
    """The page with what stood between the marks of that name replaced. Raises ValueError without marks."""
    begin, end = f"<!-- figures, {name}: begin -->", f"<!-- figures, {name}: end -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page lacks {begin} or {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def filled(page: str, blocks: Mapping[str, Block], sheet: Sheet) -> str:
    """The page with all its parts made anew."""
    for name, make in blocks.items():
        page = put_between(page, name, make(sheet) or NOTHING)
    return page


def publish(record: Record, docs: Path = DOCS) -> None:
    """Write tables and chart into the documents."""
    sheet = Sheet(record)
    new = {
        docs / name: filled((docs / name).read_text("utf-8"), blocks, sheet)
        for name, blocks in BLOCKS.items()
    }
    for path, text in {**new, docs / CHART: drawing(record)}.items():
        path.write_text(text, "utf-8")


def main() -> int:
    """Publish what is on record."""
    publish(read_record(DOCS / RECORD))
    return 0


if __name__ == "__main__":
    sys.exit(main())
