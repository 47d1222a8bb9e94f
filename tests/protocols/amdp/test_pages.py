"""The specification and the critic's table name every field; the examples in them are ones that are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider.protocols.amdp.envelope_fields import FIELDS
from outrider.protocols.amdp.report_reader import parse_report

DOCS = Path(__file__).parent.parent.parent.parent / "docs" / "protocols"
_ROW = re.compile(r"^\| (.+?) \|", re.MULTILINE)


def rows(page: str) -> str:
    """First cells of all tables of a page."""
    return "\n".join(_ROW.findall((DOCS / page).read_text()))


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_is_specified_and_answered_for(name: str) -> None:
    assert f"`AMDP-{name}`" in rows("amdp.md")
    assert f"`AMDP-{name}`" in rows("amdp-fields.md")


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize("key", re.findall(r"`([A-Z][A-Z_-]{2,})`", rows("amdp.md")))
def test_a_key_of_the_report_that_is_specified_is_known(key: str) -> None:
    assert not parse_report(f"{key} x\n".encode()).unknown
    assert parse_report(f"X{key} x\n".encode()).unknown
