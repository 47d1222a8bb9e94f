"""Classes, patterns and which of several wins: the conformance vectors, and what must hold for all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.amdp.examples import classes
from tests.protocols.amdp.vectors import vectors

from outrider.protocols.amdp.mail_class import (
    Agent,
    ClassError,
    ClassPattern,
    MailType,
    Ranked,
    Ranking,
    matches_any,
    parse_class,
    parse_pattern,
)

CASES = vectors("mail_class")
parts = st.sampled_from(["*", "Agent", "Public", "Bulk", "gov", "x", "y"])
patterns = st.lists(parts, min_size=3, max_size=5).map(lambda one: parse_pattern("::".join(one)))


@pytest.mark.covers("AMDP-17")
@pytest.mark.parametrize("case", CASES["classes"], ids=lambda case: case["text"])
def test_classes(case: Any) -> None:
    mail_class = parse_class(case["text"])
    assert str(mail_class) == case["canonical"]
    assert mail_class.agent is Agent[case["agent"]]
    assert mail_class.mail_type is MailType[case["type"]]
    assert mail_class.message_type == case["message"]
    assert parse_class(str(mail_class)) == mail_class


@pytest.mark.covers("AMDP-17")
@pytest.mark.parametrize(
    "text", [*CASES["no_classes"], "a::b::" + "x" * 65, "a::b::" + "x" * 10_000_000], ids=repr
)
def test_what_is_no_class(text: str) -> None:
    with pytest.raises(ClassError):
        parse_class(text)


@pytest.mark.covers("AMDP-17")
@pytest.mark.parametrize("text", CASES["no_patterns"], ids=repr)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ClassError):
        parse_pattern(text)


@pytest.mark.covers("AMDP-17")
@pytest.mark.parametrize("case", CASES["matches"], ids=lambda case: f"{case['pattern']} {case['class']}")
def test_matches(case: Any) -> None:
    pattern, mail_class = parse_pattern(case["pattern"]), parse_class(case["class"])
    assert pattern.matches(mail_class) is case["matches"]
    assert matches_any([pattern], mail_class) is case["matches"]


@pytest.mark.covers("AMDP-17")
@pytest.mark.parametrize("case", CASES["rankings"], ids=lambda case: case["name"])
def test_which_of_several_wins(case: Any) -> None:
    entries = [Ranked(parse_pattern(text), True, price) for text, price in case["accept"].items()]
    entries += [Ranked(parse_pattern(text), False) for text in case["deny"]]
    for order in (entries, entries[::-1]):
        best = Ranking(tuple(order)).best(parse_class(case["class"]))
        if case["accepted"] is None:
            assert best is None
        else:
            assert best is not None
            assert (best.accepted, str(best.pattern), best.price) == (
                case["accepted"],
                case["pattern"],
                case["price"],
            )


@pytest.mark.covers("AMDP-17")
def test_only_bulk_and_commerce_are_kept_to_hours() -> None:
    unsolicited = {
        one for one in MailType if one.value and parse_class(f"Agent::{one.value}::x").is_unsolicited
    }
    assert unsolicited == {MailType.BULK, MailType.COMMERCE}
    assert not parse_class("Agent::Whatever::x").is_unsolicited


@settings(max_examples=200, deadline=None)
@given(classes)
def test_every_class_is_matched_by_itself_and_by_everything(mail_class: Any) -> None:
    assert ClassPattern(mail_class.parts).matches(mail_class)
    assert parse_pattern("*").matches(mail_class)
    assert parse_class(str(mail_class)) == mail_class


@pytest.mark.covers("AMDP-17")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(patterns, st.booleans()), max_size=6), classes, st.randoms())
def test_the_order_of_the_lines_never_matters(lines: Any, mail_class: Any, random: Any) -> None:
    entries = [Ranked(pattern, accepted, 3 if accepted else 0) for pattern, accepted in lines]
    first = Ranking(tuple(entries)).best(mail_class)
    random.shuffle(entries)
    second = Ranking(tuple(entries)).best(mail_class)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.accepted == second.accepted
        assert first.pattern.specificity == second.pattern.specificity
        assert all(
            one.pattern.specificity <= first.pattern.specificity
            for one in entries
            if one.pattern.matches(mail_class)
        )
