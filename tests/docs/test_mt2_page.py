"""docs/protocols/mt2.md says what the code does: its table of codes, its limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import TABLE
from outrider.protocols.mt2.events import Limits
from outrider.protocols.mt2.lines import MAX_LINE
from outrider.protocols.mt2.options import DEFAULT_INFLIGHT, DEFAULT_MAXPART, DEFAULT_WINDOW

PAGE = (Path(__file__).parent.parent.parent / "docs" / "protocols" / "mt2.md").read_text()


@pytest.mark.covers("MT2-8")
def test_the_table_of_codes_is_the_codes() -> None:
    rows = re.findall(r"^\| ((?:99\.0|STAT)\.[2-5]\.\d+) \| ([^|]*) \| ([0-9.]*) ?\|", PAGE, re.MULTILINE)
    printed = {code: (text.strip(), status) for code, text, status in rows if text.strip()[-1:] == "."}
    expected = {row.code.replace(codes.STAT_BRANCH, "STAT"): (row.text, row.status) for row in TABLE}
    assert printed == expected
    assert codes.STAT_BRANCH in PAGE


@pytest.mark.covers("MT2-12", "MT2-18c")
def test_the_limits_are_the_defaults() -> None:
    limits = Limits()
    for name, value in {
        "silence": limits.idle_s,
        "a line frame or": limits.frame_s,
        "while data is due": limits.rate_s,
        "requests outstanding, and": limits.answer_s,
    }.items():
        assert re.search(rf"^\| {value:.0f} \|[^|]*{name}", PAGE, re.MULTILINE), name
    for value in (MAX_LINE, limits.certificate_size, limits.envelope_size, limits.transfers):
        assert f"| {value}" in PAGE
    assert f"| WINDOW | octets | {DEFAULT_WINDOW} |" in PAGE
    assert f"| MAXPART | octets | {DEFAULT_MAXPART} |" in PAGE
    assert re.search(rf"^\| INFLIGHT \|[^|]*\| {DEFAULT_INFLIGHT} \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(#([a-z0-9-]+)\)", PAGE))))
def test_every_section_named_exists(link: str) -> None:
    heads = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert link in {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
