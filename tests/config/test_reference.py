"""The reference says what the code does, of every setting."""

from __future__ import annotations

from pathlib import Path

import msgspec

from outrider.config import schema
from outrider.config.reference import _texts, reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == reference(), "run `make reference`"


def test_every_setting_has_a_meaning() -> None:
    texts = _texts()
    structs = [
        kind
        for kind in vars(schema).values()
        if isinstance(kind, type) and issubclass(kind, schema.Section) and kind is not schema.Section
    ]
    missing = [
        (struct.__name__, field.name)
        for struct in structs
        for field in msgspec.structs.fields(struct)
        if not texts.get((struct.__name__, field.name))
    ]
    assert not missing
