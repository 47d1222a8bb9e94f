"""Which shapes a run takes, and what it may put into the published pages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.choosing import Choice, NothingChosen, grouped, objections, selected, servers, taking_part
from bench.records import Record
from bench.subjects import SUBJECTS, OpenSmtpd, OutriderOne, OutriderTwo, Postfix, PostfixBulk
from bench.work import SHAPES, Kind, Shape

from tests.bench.test_report import EXIM, OURS, POSTFIX, figure, record

ACCEPT = next(shape for shape in SHAPES if shape.kind is Kind.ACCEPT)
KNOWN = record(*(figure(Kind.ACCEPT, name, 1.0) for name in (OURS, POSTFIX, EXIM)))


def names(pattern: str) -> list[str]:
    return [shape.name for shape in selected(pattern)]


def choice(shapes: list[Shape], words: str = "", rounds: int = 5, quick: bool = False) -> Choice:
    return Choice(shapes, servers(words), rounds, quick)


def test_words_choose_shapes_and_servers() -> None:
    assert names("MiB, 10 sessions; IDLE") == ["accept 1 MiB, 10 sessions kept", "1,000 idle sessions"]
    assert servers("postfix") == [PostfixBulk, Postfix]
    assert selected("") == list(SHAPES)
    assert servers("") == list(SUBJECTS)


def test_numbers_and_ranges_are_those_of_the_list() -> None:
    assert names("1; 3-4; 9") == [SHAPES[number - 1].name for number in (1, 3, 4, 9)]


def test_a_whole_name_chooses_no_other_that_contains_it() -> None:
    for shape in SHAPES:
        assert {one.name for one in selected(shape.name)} == {
            one.name for one in SHAPES if (one.beside or one.name) == (shape.beside or shape.name)
        }


def test_a_shape_brings_what_it_is_held_against() -> None:
    (together,) = grouped(selected("AMTP"))
    assert [shape.kind for shape in together] == [Kind.CLEAR, Kind.AMTP]
    assert [len(group) for group in grouped(selected("relay of 25 ms; idle"))] == [1, 2]


@pytest.mark.parametrize("pattern", ["acept", "0", str(len(SHAPES) + 1), "relay; 9-8"])
def test_a_word_that_fits_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(NothingChosen):
        selected(pattern)


def test_a_server_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NothingChosen, match="sendmail"):
        servers("postfix; sendmail")


def test_some_shapes_are_measured_with_few_servers() -> None:
    (shape,) = selected("accept 1 MiB, 100 sessions kept")
    assert taking_part(shape, SUBJECTS) == [OutriderTwo, OutriderOne, Postfix]
    assert not OpenSmtpd.takes_part(replace(ACCEPT, sessions=1000))
    assert OpenSmtpd.takes_part(next(shape for shape in SHAPES if shape.kind is Kind.IDLE))


def test_a_whole_row_may_be_kept() -> None:
    assert objections(choice([ACCEPT]), KNOWN) == []
    assert objections(choice(list(SHAPES)), KNOWN) == []


def test_a_row_that_would_lose_a_server_may_not() -> None:
    (said,) = objections(choice([ACCEPT], "outrider; postfix"), KNOWN)
    assert said.startswith(f"{ACCEPT.name}: {EXIM} would lose")
    assert objections(choice([ACCEPT], "outrider; postfix; exim"), KNOWN) == []
    # Nobody stands in a row that is not there.
    assert objections(choice([ACCEPT], "outrider; postfix"), Record([])) == []


def test_too_little_may_not_be_kept() -> None:
    (few,) = objections(choice([ACCEPT], rounds=4), KNOWN)
    assert few == "4 rounds are too few to be kept; it takes 5"
    (quick,) = objections(choice([ACCEPT], rounds=1, quick=True), KNOWN)
    assert "--quick" in quick
    (nobody,) = objections(choice([ACCEPT], "openssl"), Record([]))
    assert "none of the servers" in nobody


def test_a_copy_of_the_pages_takes_few_rounds_and_still_whole_rows() -> None:
    assert objections(choice([ACCEPT], rounds=1, quick=True), KNOWN, tried=True) == []
    assert objections(choice([ACCEPT], "outrider", rounds=1, quick=True), KNOWN, tried=True)
