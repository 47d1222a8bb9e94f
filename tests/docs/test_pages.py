"""Links lead somewhere, every page is listed, lines can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import GENERATED, PROJECT, anchors, links, page_name, pages, prose

LONGEST_LINE = 120
_UNFINISHED = re.compile(r"\b(?:TODO|TBD|FIXME|XXX)\b|@[A-Z]+@")
LOCAL_LINKS = [(page, link) for page in pages() for link in links(page) if "://" not in link]


@pytest.mark.parametrize(("page", "link"), LOCAL_LINKS, ids=lambda value: str(value)[-60:])
def test_a_link_leads_to_a_file_and_a_heading(page: Path, link: str) -> None:
    path, _, fragment = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{page_name(page)}: {link} does not exist"
    if fragment:
        assert fragment in anchors(target), f"{page_name(page)}: {link} names no heading"


def test_every_page_is_listed() -> None:
    listed = {
        (index.parent / link.partition("#")[0]).resolve()
        for index in (PROJECT / "docs" / "README.md", PROJECT / "docs" / "decisions" / "README.md")
        for link in links(index)
    }
    missing = [page_name(page) for page in pages() if "docs" in page.parts and page not in listed]
    assert missing == ["docs/README.md"]


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_lines_are_wrapped(page: Path) -> None:
    if page.name in GENERATED:
        return
    long = [line for line in prose(page).split("\n") if len(line) > LONGEST_LINE and not line.startswith("|")]
    assert not long


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_nothing_was_left_to_be_filled_in(page: Path) -> None:
    assert not _UNFINISHED.findall(page.read_text("utf-8"))
