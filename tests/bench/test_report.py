"""Tables and chart from figures."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.chart import Bar, Group, chart
from bench.records import Facts, Record, Row, Server, read_record
from bench.report import BLOCKS, CHART, DOCS, NOTHING, RECORD, drawing, filled, publish, put_between, tables
from bench.sheet import Sheet
from bench.work import SHAPES, Figure, Kind

MACHINE: Facts = {
    "processor": "AMD EPYC",
    "cores": 2,
    "memory_mib": 24105,
    "kernel": "Linux 6.18",
    "python": "3.11.7",
    "file_system": "ext4 rw",
}
OURS, POSTFIX, EXIM = "Outrider, 2 workers", "Postfix", "Exim"


def figure(
    kind: Kind, subject: str, seconds: float, number: int = 1, *, shape: str = "", **extra: float
) -> Figure:
    name = shape or next(shape.name for shape in SHAPES if shape.kind is kind)
    return Figure(name, subject, number, 1000, seconds, 0.5, 50.0, extra)


def record(
    *figures: Figure,
    began: str = "2026-01-01T00:00:00Z",
    commit: str = "abcdef0",
    minutes: float = 1.5,
    machine: Facts = MACHINE,
) -> Record:
    """Rows of these figures, of one run."""
    rows = []
    for shape in SHAPES:
        mine = [one for one in figures if one.shape == shape.name]
        servers = [Server(name, "1.0", "the file synced") for name in {one.subject: None for one in mine}]
        if mine:
            rounds = len({one.round for one in mine})
            rows.append(Row(shape.name, began, minutes, rounds, commit, machine, servers, mine, []))
    return Record(rows)


RATES = record(
    *(figure(Kind.ACCEPT, OURS, seconds, number) for number, seconds in enumerate((0.1, 0.25, 0.2))),
    figure(Kind.ACCEPT, POSTFIX, 1.0),
    figure(Kind.ACCEPT, EXIM, 0.5),
)


def test_rates_are_medians_with_their_range() -> None:
    assert (
        "| accept, 1 session kept | 5,000 (4,000-10,000) | 1,000 (1,000-1,000), 1 round "
        "| 2,000 (2,000-2,000), 1 round | 2026-01-01 00:00, abcdef0, 3 rounds |"
    ) in tables(RATES)


def test_ratios_are_of_medians() -> None:
    assert "| accept, 1 session kept | 5.0 | 2.5 (Exim) |" in tables(RATES)


def test_a_server_that_took_no_part_has_a_dash() -> None:
    text = tables(record(figure(Kind.TLS, OURS, 1.0), figure(Kind.ACCEPT, EXIM, 1.0)))
    assert re.search(r"^\| STARTTLS, .* \| 1,000 \(1,000-1,000\) \| - \| 2026-[^|]* \|$", text, re.MULTILINE)


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
    text = tables(record(*figures))
    assert f"| {ours} | 500 (500-500) | 0.50 | 0.50 (target 0.4) |" in text
    assert f"| {plain} | 1,000 (1,000-1,000) | 0.50 | - |" in text
    assert f"| {ours} | 1.5 | 2.5 | 5.2 | 0.5 |" in text
    assert f"| {ours} | 100 | 40.0 | 50 | 70 |" in text


def test_what_could_not_be_measured_is_said() -> None:
    (row,) = record(figure(Kind.RELAY, OURS, 1.0)).rows
    row.failures.append("Exim, relay: the queue does not empty")
    assert "- Exim, relay: the queue does not empty" in tables(Record([row]))


def test_each_row_says_when_it_was_measured_and_of_what() -> None:
    old = record(figure(Kind.ACCEPT, OURS, 1.0), began="2026-01-01T07:08:09Z", commit="abcdef0-dirty")
    new = record(figure(Kind.RELAY, OURS, 1.0), began="2026-02-03T04:05:06Z")
    text = tables(Record([*old.rows, *new.rows]))
    assert re.search(r"^\| accept, 1 .* \| 2026-01-01 07:08, abcdef0\+, 1 round \|$", text, re.MULTILINE)
    assert re.search(r"^\| relay, 20 .* \| 2026-02-03 04:05, abcdef0, 1 round \|$", text, re.MULTILINE)
    assert "2 cores of AMD EPYC" in text


def test_machines_have_letters_where_there_are_several() -> None:
    old = record(figure(Kind.ACCEPT, OURS, 1.0))
    new = record(figure(Kind.RELAY, OURS, 1.0), machine={**MACHINE, "python": "3.13.1"})
    text = tables(Record([*old.rows, *new.rows]))
    assert "- A: 2 cores of AMD EPYC, 24,105 MiB, Linux 6.18, ext4, Python 3.11.7" in text
    assert "- B: 2 cores of AMD EPYC, 24,105 MiB, Linux 6.18, ext4, Python 3.13.1" in text
    assert "| 2026-01-01 00:00, abcdef0, A, 1 round |" in text
    assert "| 2026-01-01 00:00, abcdef0, B, 1 round |" in text


def test_a_server_has_all_versions_that_its_figures_are_of() -> None:
    (old,), (new,) = (record(figure(kind, OURS, 1.0)).rows for kind in (Kind.ACCEPT, Kind.RELAY))
    new.servers[:] = [Server(OURS, "1.1", "the file synced")]
    assert f"| {OURS} | 1.0, 1.1 | the file synced |" in tables(Record([old, new]))


def test_the_chart_is_xml_and_shows_each_median_once() -> None:
    root = ElementTree.fromstring(drawing(RATES))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in ("5,000", "1,000", "2,000")] == ["5,000", "1,000", "2,000"]


def test_bars_are_as_long_as_their_values() -> None:
    picture = chart("a < b", [Group("g & h", (Bar("one", 50.0), Bar("two", 100.0)))], ["one", "two"])
    widths = [float(text) for text in re.findall(r'<rect [^>]*width="([0-9.]+)"', picture)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.1)
    assert ElementTree.fromstring(picture) is not None


def test_pages_are_changed_between_their_marks_only(tmp_path: Path) -> None:
    for name, blocks in BLOCKS.items():
        marks = (f"<!-- figures, {one}: begin -->\nold\n<!-- figures, {one}: end -->\n" for one in blocks)
        (tmp_path / name).write_text(f"before\n{''.join(marks)}after\n")
    publish(RATES, tmp_path)
    publish(RATES, tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert text.startswith("before\n<!-- figures, machine: begin -->\n2 cores of AMD EPYC")
    assert text.endswith("-->\nafter\n")
    assert text.count("### Messages a second") == text.count(f"![Messages a second]({CHART})") == 1
    assert "\nold\n" not in text
    assert NOTHING in (tmp_path / "scaling.md").read_text()
    assert (tmp_path / CHART).read_text() == drawing(RATES)


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="lacks"):
        put_between("no marks", "mail", "text")


@pytest.mark.parametrize("name", BLOCKS)
def test_the_published_pages_are_made_from_the_published_figures(name: str) -> None:
    known = read_record(DOCS / RECORD)
    page = (DOCS / name).read_text("utf-8")
    assert filled(page, BLOCKS[name], Sheet(known)) == page
    assert (DOCS / CHART).read_text("utf-8") == drawing(known)


def test_amtp_stands_beside_the_clear_with_its_ratio() -> None:
    text = tables(record(figure(Kind.CLEAR, OURS, 1.0), figure(Kind.AMTP, OURS, 1.25)))
    assert "beside SMTP in the clear" in text
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
    text = tables(record(*figures))
    assert "| INN, traditional spool | 1,000 (1,000-1,000) | 0.50 | 2.0 | 4.0 |" in text
    assert f"| {ours[0]} | 2,000 (2,000-2,000) | 0.50 | 1.0 | 2.0 |" in text


def test_distance_is_a_ratio_to_none() -> None:
    near, far = (shape.name for shape in SHAPES if shape.kind is Kind.BULK_FAR)
    ours = "Outrider, MT2, seals verified"
    made = record(
        *(Figure(name, ours, 1, 1000, seconds, 0.5, 50.0) for name, seconds in ((near, 1.0), (far, 1.25)))
    )
    assert f"| {far} | 800 (800-800) | 0.80 (target 0.5) |" in tables(made)
