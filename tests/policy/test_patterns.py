"""Matchers say what the operator means, and take their time from nobody."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.policy.patterns import (
    PatternError,
    address_matcher,
    containing_matcher,
    domain_matcher,
    mailbox_matcher,
    regex_matcher,
    text_matcher,
)


@given(st.text("ab*", min_size=1, max_size=8), st.text("abAB", max_size=10))
def test_globs_agree_with_an_independent_matcher(pattern: str, value: str) -> None:
    assert text_matcher(pattern)(value) == fnmatch.fnmatchcase(value.lower(), pattern)


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("example.com", "EXAMPLE.com", True),
        ("example.com", "example.com.", True),
        ("example.com", "notexample.com", False),
        ("*.example.com", "mx.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("mail*.example.com", "mail7.example.com", True),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "BÜCHER.example", True),
        ("example.com", "<script>", False),
        ("*", "anything at all", True),
    ],
)
def test_domains(pattern: str, value: str, expected: bool) -> None:
    assert domain_matcher(pattern)(value) is expected


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("ann@a.example", "Ann@A.example", True),
        ("ann@a.example", "anna@a.example", False),
        ("@a.example", "who@a.example", True),
        ("@a.example", "who@b.a.example", False),
        ("@*.example", "who@b.a.example", True),
        ("postmaster@*", "postmaster@x.y", True),
        ("news-*@a.example", "news-7@a.example", True),
        ("<>", "<>", True),
        ("<>", "ann@a.example", False),
        ("@a.example", "<>", False),
        ("@a.example", '"x@b.example"@a.example', True),
    ],
)
def test_mailboxes(pattern: str, value: str, expected: bool) -> None:
    assert mailbox_matcher(pattern)(value) is expected


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "192.0.2.1", False),
        ("0.0.0.0/0", "nonsense", False),
    ],
)
def test_networks(pattern: str, value: str, expected: bool) -> None:
    assert address_matcher(pattern)(value) is expected


@pytest.mark.parametrize(
    ("matcher", "pattern", "because"),
    [
        (address_matcher, "192.0.2.1/24", "host bits"),
        (address_matcher, "a.example", "no IP address"),
        (domain_matcher, "a..example", "no domain"),
        (mailbox_matcher, "a.example", "no address"),
        (containing_matcher, "", "must not be empty"),
        (regex_matcher, "(", "no regular expression"),
        (regex_matcher, "[[a]", "nested set"),
        (regex_matcher, "x" * 501, "longer than"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(matcher: object, pattern: str, because: str) -> None:
    assert callable(matcher)
    with pytest.raises(PatternError, match=because):
        matcher(pattern)


BOUNDED = [
    "^urgent",
    "invoice.*overdue",
    "(?:cheap|free) pills",
    r"\d{1,4}[.,]\d\d",
    "colou?r",
    "[*+(]{2}",
    r"\*\+",
    "(?i)x",
    "a{2,}b",
]
UNBOUNDED = [
    "(a+)+$",
    "(a*)*b",
    "(a|aa)+$",
    "((a|b)c)*",
    "(?:x{0,9}){0,9}",
    "(?:a|a)*+x",
    "(a+){2,}",
    r"(a)\1",
    "(?P<x>a)(?P=x)",
    "a*b*c*",
    "a?" * 30 + "a" * 30,
    "(a|a)" * 20,
    "a{0,500}a{0,500}",
    "(a)(?(1)b|c)",
]


@pytest.mark.parametrize("pattern", BOUNDED)
def test_ordinary_expressions_are_taken(pattern: str) -> None:
    assert regex_matcher(pattern)("zz") is (re.search(pattern, "zz", re.IGNORECASE) is not None)


@pytest.mark.covers("SEC-116")
@pytest.mark.parametrize("pattern", UNBOUNDED)
def test_expressions_that_can_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        regex_matcher(pattern)


def test_only_the_beginning_of_a_value_is_searched() -> None:
    assert regex_matcher("b")("a" * 499 + "b")
    assert not regex_matcher("b")("a" * 500 + "b")


@given(st.text("ab()|*+?{},0123[]\\.^$", max_size=30))
def test_any_text_is_a_pattern_or_an_error(pattern: str) -> None:
    try:
        matches = regex_matcher(pattern)
    except PatternError:
        return
    matches("abababab")
