"""The pages' languages, and what makes their markup."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

import pytest

from outrider.holding.pages.html import Html, Page, document, element, escaped, filled, joined, shown
from outrider.holding.pages.texts import LANGUAGES, Texts, texts_for
from outrider.holding.pages.values import size_words

ENGLISH = LANGUAGES["en"]


def strings(value: str | tuple[str, ...] | Mapping[str, str]) -> list[str]:
    if isinstance(value, str):
        return [value]
    return list(value.values() if isinstance(value, Mapping) else value)


@pytest.mark.covers("AMDP-13")
@pytest.mark.parametrize("texts", LANGUAGES.values(), ids=LANGUAGES)
def test_every_language_says_everything_and_fills_in_the_same(texts: Texts) -> None:
    for field in fields(Texts):
        ours, theirs = strings(getattr(texts, field.name)), strings(getattr(ENGLISH, field.name))
        assert all(one.strip() for one in ours), field.name
        assert len(ours) == len(theirs), field.name
        names = [sorted(set(re.findall(r"\{\w+\}", one))) for one in ours]
        assert names == [sorted(set(re.findall(r"\{\w+\}", one))) for one in theirs], field.name
        assert not any("<" in one or "&" in one for one in ours), field.name
    assert texts.kinds.keys() == ENGLISH.kinds.keys()


@pytest.mark.covers("AMDP-13")
@pytest.mark.parametrize(
    ("octets", "words"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_499, "999 kB"), (999_500, "1.0 MB")),
        *((9_960_000, "10 MB"), (209_715_200, "210 MB"), (10**13, "10000 GB"), (-5, "0 bytes")),
    ],
)
def test_sizes_as_people_write_them(octets: int, words: str) -> None:
    assert size_words(ENGLISH, octets).replace("\u00a0", " ") == words
    assert size_words(texts_for("de"), 1_400_000) == "1,4\u00a0MB"


@pytest.mark.covers("SEC-196")
def test_a_string_never_is_markup() -> None:
    nasty = "<b a=\"'&`>"
    plain = "&lt;b a=&quot;&#39;&amp;&#96;&gt;"
    assert escaped(nasty).markup == plain
    assert element("p", nasty, title=nasty).markup == f'<p title="{plain}">{plain}</p>'
    assert joined(nasty, Html("<i>")).markup == plain + "<i>"
    assert filled("{who} & {what}", who=nasty, what=Html("<i>")).markup == f"{plain} &amp; <i>"
    assert filled("{who}", who="{what}").markup == "{what}"
    assert f"<title>{plain}</title>" in document(Page(nasty, "en", Html("")))


@pytest.mark.covers("SEC-196", "SEC-75")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("\u202eabc\u2066\u200f", "\ufffdabc\ufffd\ufffd"),
        ("\x00\x1b\ud800\ue000", "\ufffd" * 4),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
        ("x" * 600, "x" * 500 + "…"),
    ],
)
def test_what_cannot_be_seen_is_seen_to_be_there(text: str, line: str) -> None:
    assert shown(text) == line
    assert escaped(text).markup.encode()


@pytest.mark.parametrize("name", ["onclick", "onLoad", "a b", "x>"])
def test_no_element_has_a_script(name: str) -> None:
    with pytest.raises(AssertionError):
        element("p", **{name: "x"})
