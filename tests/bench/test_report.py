"""Tables and chart from figures."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.chart import Bar, Group, chart
from bench.records import Record, Server, read_record, write_record
from bench.report import BEGIN, CHART, END, PAGE, RECORD, drawing, publish, put_between, tables
from bench.work import SHAPES, Figure, Kind

MACHINE: dict[str, str | int] = {
    "processor": "AMD EPYC",
    "cores": 2,
    "memory_mib": 24105,
    "kernel": "Linux 6.18",
    "python": "3.11.7",
    "file_system": "ext4 rw",
}
OURS, POSTFIX, EXIM = "Outrider, 2 workers", "Postfix", "Exim"


def figure(kind: Kind, subject: str, seconds: float, number: int = 1, **extra: float) -> Figure:
    shape = next(shape for shape in SHAPES if shape.kind is kind)
    return Figure(shape.name, subject, number, 1000, seconds, 0.5, 50.0, extra)


def record(*figures: Figure) -> Record:
    servers = [Server(name, "1.0", "the file synced") for name in (OURS, POSTFIX, EXIM)]
    return Record(MACHINE, "2026-01-01T00:00:00Z", 12.5, 3, servers, list(figures), [])


RATES = record(
    *(figure(Kind.ACCEPT, OURS, seconds, number) for number, seconds in enumerate((0.1, 0.25, 0.2))),
    figure(Kind.ACCEPT, POSTFIX, 1.0),
    figure(Kind.ACCEPT, EXIM, 0.5),
)


def test_rates_are_medians_with_their_range() -> None:
    assert (
        "| accept, 1 session kept | 5,000 (4,000-10,000) | 1,000 (1,000-1,000) | 2,000 (2,000-2,000) |"
        in tables(RATES)
    )


def test_targets_are_ratios_of_medians() -> None:
    assert "| accept, 1 session kept | 2 x Postfix | 5.0 | 2.5 (Exim) |" in tables(RATES)


def test_a_server_that_took_no_part_has_a_dash() -> None:
    text = tables(record(figure(Kind.TLS, OURS, 1.0), figure(Kind.ACCEPT, EXIM, 1.0)))
    assert re.search(r"^\| STARTTLS, .* \| 1,000 \(1,000-1,000\) \| - \|$", text, re.MULTILINE)


def test_other_shapes_have_tables_of_their_own() -> None:
    latency = {f"{name}_ms": 1.5 for name in ("p50", "p90", "p95", "p99", "p999", "max")}
    moments = {"ready_s": 2.0, "accepted_s": 2.1, "delivered_s": 2.2, "ready_mib": 80.0}
    text = tables(
        record(
            figure(Kind.LATENCY, POSTFIX, 2.0, **latency),
            figure(Kind.IDLE, OURS, 0.0, before_mib=40.0, session_kib=25.5),
            figure(Kind.MILLION, OURS, 0.0, **moments),
        )
    )
    assert "| Postfix | 500 | 1.5 | 1.5 | 1.5 | 1.5 | 1.5 |" in text
    assert "| Outrider, 2 workers | 50 | 40 | 25.5 | 0.50 |" in text
    assert "| Outrider, 2 workers | 2.0 | 2.1 | 2.2 | 80.0 | 50.0 |" in text


def test_amdp_stands_beside_plain_mail_of_the_same_processes() -> None:
    ours, plain = "Outrider, AMDP, 1 process", "Outrider, plain SMTP, 1 process"
    figures = [
        figure(Kind.ENVELOPES, ours, 2.0),
        figure(Kind.ENVELOPES, plain, 1.0),
        figure(Kind.PAGE, ours, 1.0, p50_ms=1.5, p99_ms=2.5, new_ms=5.25),
        figure(Kind.DOWNLOAD, ours, 2.0, mib=200.0, first_ms=40.0, hold_mib=70.0),
    ]
    servers = [Server(name, "1.0", "the file synced") for name in (ours, plain)]
    text = tables(Record(MACHINE, "2026-01-01T00:00:00Z", 12.5, 3, servers, figures, []))
    assert f"| {ours} | 500 (500-500) | 0.50 | 0.50 (target 0.4) |" in text
    assert f"| {plain} | 1,000 (1,000-1,000) | 0.50 | - |" in text
    assert f"| {ours} | 1.5 | 2.5 | 5.2 | 0.5 |" in text
    assert f"| {ours} | 100 | 40.0 | 50 | 70 |" in text


def test_what_could_not_be_measured_is_said() -> None:
    lost = Record(MACHINE, "2026-01-01T00:00:00Z", 1, 1, [], [], ["Exim, relay: the queue does not empty"])
    assert "- Exim, relay: the queue does not empty" in tables(lost)


def test_the_chart_is_xml_and_shows_each_median_once() -> None:
    root = ElementTree.fromstring(drawing(RATES))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in ("5,000", "1,000", "2,000")] == ["5,000", "1,000", "2,000"]


def test_bars_are_as_long_as_their_values() -> None:
    picture = chart("a < b", [Group("g & h", (Bar("one", 50.0), Bar("two", 100.0)))], ["one", "two"])
    widths = [float(text) for text in re.findall(r'<rect [^>]*width="([0-9.]+)"', picture)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.1)
    assert ElementTree.fromstring(picture) is not None


def test_a_page_is_changed_between_its_marks_only(tmp_path: Path) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "chart.svg"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    publish(RATES, page, picture)
    publish(RATES, page, picture)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n![Messages a second](chart.svg)\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert text.count("### Messages a second") == 1
    assert "old" not in text


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="lacks"):
        put_between("no marks", "text")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(RATES, tmp_path / "figures.json")
    assert read_record(tmp_path / "figures.json") == RATES


def test_the_published_page_is_made_from_the_published_figures() -> None:
    known = read_record(RECORD)
    page = PAGE.read_text("utf-8")
    assert put_between(page, f"![Messages a second]({CHART.name})\n\n{tables(known)}") == page
    assert CHART.read_text("utf-8") == drawing(known)


def test_amtp_stands_beside_the_clear_with_its_ratio() -> None:
    text = tables(record(figure(Kind.CLEAR, OURS, 1.0), figure(Kind.AMTP, OURS, 1.25)))
    assert "### AMTP beside SMTP in the clear" in text
    assert (
        "| Outrider, 2 workers | 1,000 (1,000-1,000) | 800 (800-800) | 0.80 (target 0.7) | 0.50 | 0.50 |"
        in text
    )
    assert "### Messages a second" not in text


def test_handshakes_are_told_for_a_cpu_second() -> None:
    text = tables(record(figure(Kind.HANDSHAKE, OURS, 2.0)))
    assert "| Outrider, 2 workers | 500 (500-500) | 0.50 | 2,000 |" in text


def test_who_only_does_handshakes_has_no_column_among_those_who_take_mail() -> None:
    text = tables(record(figure(Kind.ACCEPT, OURS, 1.0), figure(Kind.HANDSHAKE, EXIM, 2.0)))
    assert f"| load | {OURS} |" in text
    assert f"| {EXIM} | 500" in text


def test_bulk_is_held_against_each_feed() -> None:
    ours = ("Outrider, MT2, seals verified", "Outrider, MT2, seals not verified")
    figures = [
        figure(Kind.BULK, ours[0], 0.5),
        figure(Kind.BULK, ours[1], 0.25),
        figure(Kind.BULK, "INN, traditional spool", 1.0),
    ]
    made = record(*figures)
    made.servers.extend(Server(one.subject, "1.0", "?") for one in figures)
    text = tables(made)
    assert "| INN, traditional spool | 1,000 (1,000-1,000) | 0.50 | 2.0 | 4.0 |" in text
    assert f"| {ours[0]} | 2,000 (2,000-2,000) | 0.50 | 1.0 | 2.0 |" in text


def test_distance_is_a_ratio_to_none() -> None:
    near, far = (shape.name for shape in SHAPES if shape.kind is Kind.BULK_FAR)
    ours = "Outrider, MT2, seals verified"
    made = record(
        *(Figure(name, ours, 1, 1000, seconds, 0.5, 50.0) for name, seconds in ((near, 1.0), (far, 1.25)))
    )
    made.servers.append(Server(ours, "1.0", "?"))
    assert f"| {far} | 800 (800-800) | 0.80 (target 0.5) |" in tables(made)
