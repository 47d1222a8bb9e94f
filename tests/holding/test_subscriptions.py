"""What people's rules say of mail: which of them decides, and which are none."""

from __future__ import annotations

import pytest

from outrider.holding.subscriptions.wishes import (
    Rule,
    RuleError,
    Standing,
    Subject,
    canonical_pattern,
    decide,
    parse_subject,
)
from outrider.model.address import parse_address

ANN = parse_address("ann@alpha.example")
SENDER = parse_address("Offers@news.example")


def rule(number: int, standing: Standing, sender: str, pattern: str) -> Rule:
    return Rule(number, ANN, Subject(sender, pattern), standing, 0.0, "test")


def decided(rules: list[Rule], mail_class: str = "Agent::Bulk::letter", *, vouched: bool = False) -> int:
    """The number of the rule that decides, 0 for none."""
    found = decide(rules, SENDER, mail_class, vouched=vouched)
    return 0 if found is None else found.id


@pytest.mark.covers("AMDP-19")
def test_the_address_decides_before_its_domain_before_anybody() -> None:
    rules = [
        rule(1, Standing.DENY, "*", "*::Bulk::*"),
        rule(2, Standing.ACCEPT, "news.example", "*"),
        rule(3, Standing.DENY, "offers@news.example", "*"),
    ]
    assert [decided(rules[:count]) for count in (1, 2, 3)] == [1, 2, 3]
    assert decided([rule(1, Standing.ACCEPT, "other.example", "*")]) == 0
    assert decided([rule(1, Standing.ACCEPT, "example", "*")]) == 0


@pytest.mark.covers("AMDP-19", "AMDP-17")
def test_among_classes_the_most_specific_decides_and_deny_where_they_are_equal() -> None:
    rules = [
        rule(1, Standing.ACCEPT, "news.example", "*"),
        rule(2, Standing.DENY, "news.example", "*::Bulk::*"),
        rule(3, Standing.ACCEPT, "news.example", "Agent::Bulk::letter"),
    ]
    assert decided(rules) == 3
    assert decided(rules, "Agent::Bulk::offers") == 2
    assert decided(rules, "Agent::Personal::note") == 1
    both = [
        rule(4, Standing.ACCEPT, "news.example", "Agent::*"),
        rule(5, Standing.DENY, "news.example", "Agent::*"),
    ]
    assert decided(both) == decided(both[::-1]) == 5


@pytest.mark.covers("AMDP-19", "AMDP-18")
def test_to_accept_anybodys_mail_of_a_class_counts_only_where_the_class_is_vouched_for() -> None:
    """A spammer would lie here."""
    accept = [rule(1, Standing.ACCEPT, "*", "*::Bulk::*")]
    assert decided(accept) == 0
    assert decided(accept, vouched=True) == 1
    assert decided([rule(2, Standing.DENY, "*", "*::Bulk::*")]) == 2


@pytest.mark.covers("AMDP-19")
def test_a_class_that_is_none_meets_only_rules_for_all_mail_and_what_was_left_says_nothing() -> None:
    rules = [rule(1, Standing.DENY, "news.example", "*::*::*"), rule(2, Standing.ACCEPT, "*", "*")]
    assert decided(rules, "nonsense") == 0
    assert decided([rule(3, Standing.DENY, "news.example", "*")], "nonsense") == 3
    assert decided([rule(4, Standing.LEFT, "news.example", "*")]) == 0


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize(
    ("sender", "pattern", "canonical"),
    [
        (" News.Example ", "", "news.example *"),
        ("Offers@NEWS.example", "agent::bulk::Letter", "offers@news.example Agent::Bulk::letter"),
        ("münchen.example", "*::gov::*", "xn--mnchen-3ya.example *::Government::*"),
        ("", "*::Commerce::*", "* *::Commerce::*"),
    ],
)
def test_the_same_rule_is_the_same_text(sender: str, pattern: str, canonical: str) -> None:
    subject = parse_subject(sender, pattern)
    assert str(subject) == canonical
    assert parse_subject(subject.sender, subject.pattern) == subject
    assert canonical_pattern(subject.pattern) == subject.pattern


@pytest.mark.covers("AMDP-19", "SEC-196")
@pytest.mark.parametrize(
    ("sender", "pattern"),
    [
        ("", ""),
        ("*", "*"),
        ("a b", ""),
        ("x@", ""),
        ("<script>alert(1)</script>", ""),
        ("a\r\nBcc: all@alpha.example", ""),
        ("a" * 400 + ".example", ""),
        ("news.example", "a::b"),
        ("news.example", "Agent::Bulk::a\r\nX: y"),
        ("news.example", "Agent::Bulk::www.pills.example"),
        ("news.example", "a::" * 20 + "*"),
        ("news.example", "Agent::Bulk::" + "x" * 300),
    ],
)
def test_what_is_no_rule_is_refused(sender: str, pattern: str) -> None:
    with pytest.raises(RuleError):
        parse_subject(sender, pattern)
