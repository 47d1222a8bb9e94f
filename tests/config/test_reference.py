"""The reference says what the code does, of every setting."""

from __future__ import annotations

from pathlib import Path

import msgspec

from outrider.config import amdp_schema, schema
from outrider.config.reference import _texts, reference
from outrider.config.setting_types import Section

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == reference(), "run `make reference`"


def test_every_setting_has_a_meaning() -> None:
    texts = _texts()
    structs = [
        kind
        for kind in (*vars(schema).values(), *vars(amdp_schema).values())
        if isinstance(kind, type) and issubclass(kind, Section) and kind is not Section
    ]
    missing = [
        (struct.__name__, field.name)
        for struct in structs
        for field in msgspec.structs.fields(struct)
        if not texts.get((struct.__name__, field.name))
    ]
    assert not missing


def test_tables_within_tables_have_sections_too() -> None:
    assert "\n## `[amdp.policy]`\n" in reference()
    assert "\n## `[mt2.extensions]`\n" in reference()
