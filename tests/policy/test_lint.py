"""The linter: what is in vain or dangerous is found, and what is not is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.config.schema import Policy, Rule
from outrider.model.facts import Fact, Facts, Provenance
from outrider.policy.conditions import compile_condition
from outrider.policy.lint import Surroundings, lint
from outrider.policy.overlap import exclude_each_other, implies, never_holds
from outrider.policy.policy import compile_policy
from outrider.routing.ways import parse_way

ALL = Surroundings(
    lists=frozenset({("zen", "dnsbl"), ("dbl", "rhsbl"), ("friends", "vouch-file")}),
    partners=frozenset({"bank"}),
)


def found(*rules: Rule, around: Surroundings = ALL) -> list[tuple[str, str]]:
    """(kind, rule) of each finding."""
    policy = compile_policy(Policy(rules=rules), parse_way)
    return [(one.kind, one.rule.name) for one in lint(policy, around)]


def refuse(name: str, when: dict[str, object], **more: object) -> Rule:
    return Rule(name=name, action="refuse", when=when, **more)  # type: ignore[arg-type]


ORDINARY = (
    Rule(name="partners", action="accept", when={"tls.client.name": "*.partner.example"}),
    refuse("net", {"client.address": "203.0.113.0/24"}, unless={"client.address": "203.0.113.7"}),
    refuse("more nets", {"client.address": ["203.0.113.0/24", "192.0.2.0/24"]}),
    refuse("ads", {"mpc": ["com/optout", "*/optin"]}),
    refuse("more ads", {"mpc": "com/*"}),
    Rule(name="hold", action="hold", when={"sender": "@a.example", "sender.domain": "a.example"}),
    Rule(name="tag", action="tag", value="x", when={"login": {"present": False}}),
    Rule(name="wait", action="defer", when={"trust.score": {"min": 3}, "trust.listed": "zen"}),
    refuse("score", {"trust.score": {"min": 5}}),
    refuse("forger", {"partner": "bank", "host": {"present": False}}),
)


def test_ordinary_rules_are_left_alone() -> None:
    assert found(*ORDINARY) == []


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (refuse("a", {}), refuse("b", {"sender": "x@y.example"})),
        (refuse("a", {"sender.domain": "*.example"}), refuse("b", {"sender.domain": "x.example"})),
        (refuse("a", {"sender": "@x.example"}), refuse("b", {"sender": "ann@x.example"})),
        (refuse("a", {"sender": "@*.example"}), refuse("b", {"sender": "@x.example", "login": "ann"})),
        (refuse("a", {"mpc": ["com/*", "*/optin"]}), refuse("b", {"mpc": ["net/optin", "com/confirmed"]})),
        (refuse("a", {"client.address": "10.0.0.0/8"}), refuse("b", {"client.address": "10.1.0.0/16"})),
        (refuse("a", {"message.size": {"min": 5}}), refuse("b", {"message.size": {"min": 9, "max": 12}})),
        (refuse("a", {"header.x": {"contains": "y"}}), refuse("b", {"header.x": {"contains": "y"}})),
        (
            refuse("a", {"sender": "@x.example"}, unless={"login": "ann", "host": "h.example"}),
            refuse("b", {"sender": "@x.example"}, unless={"login": "ann"}),
        ),
        (
            refuse("a", {"client.address": "10.0.0.0/8"}),
            refuse("b", {"client.address": "10.1.0.0/16", "sender.null": True}),
        ),
        (
            Rule(name="a", action="accept", when={"client.address": "10.0.0.0/8"}),
            refuse("b", {"client.address": "10.0.0.1", "header.subject": "x"}),
        ),
    ],
)
def test_a_rule_that_is_never_asked(before: Rule, after: Rule) -> None:
    assert found(before, after) == [("never-asked", "b")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (refuse("a", {"sender": "ann@x.example"}), refuse("b", {"sender": "@x.example"})),
        (
            refuse("a", {"sender": "@x.example"}, unless={"login": "ann"}),
            refuse("b", {"sender": "@x.example"}),
        ),
        (
            refuse("a", {"tls.client.name": {"is": "h.example", "provenance": "proven"}}),
            refuse("b", {"tls.client.name": "h.example"}),
        ),
        (refuse("a", {"header.x": {"matches": "y"}}), refuse("b", {"header.x": "y"})),
        (Rule(name="a", action="tag", value="t"), refuse("b", {"sender": "@x.example"})),
        (
            Rule(name="a", action="hold", when={"sender": "@x.example"}),
            refuse("b", {"sender": "@x.example", "header.x": "y"}),
        ),
        (refuse("a", {"mpc": "com/*"}), Rule(name="b", action="hold", when={"mpc": "com/optin"})),
    ],
)
def test_a_rule_that_is_asked_sometimes(before: Rule, after: Rule) -> None:
    assert ("never-asked", "b") not in found(before, after)


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    "rule",
    [
        refuse("x", {"protocol": "smpt"}),
        refuse("x", {"amtp.connection": "secret"}),
        refuse("x", {"time.weekday": "monday"}),
        refuse("x", {"time.hour": 24}),
        refuse("x", {"time.hour": {"min": 24}}),
        refuse("x", {"message.size": {"max": -1}}),
        refuse("x", {"login": {"is": "ann", "contains": "bob"}}),
        refuse("x", {"message.size": {"is": 5, "min": 6}}),
        refuse("x", {"sender": {"present": False}}),
        refuse("x", {"sender.null": True, "sender.domain": "a.example"}),
        refuse("x", {"sender.null": True, "sender": "@a.example"}),
        refuse("x", {"sender": "ann@a.example", "sender.domain": "b.example"}),
        refuse("x", {"recipient": "@a.example", "recipient.domain": "b.example"}),
        refuse("x", {"host": "a.example", "protocol": "smtp"}),
        refuse("x", {"login": {"present": False}, "login.mechanism": "PLAIN"}),
        refuse("x", {"tls.version": {"present": False}, "tls.client.name": "a.example"}),
        refuse("x", {"trust.listed": {"present": False}, "trust.score": {"min": 1}}),
        refuse("x", {"sender": "ann@a.example"}, unless={"sender": "@a.example"}),
        refuse("x", {"mpc": "com/optin"}, unless={"mpc": "com/*"}),
        refuse("x", {"recipient": "@a.example", "header.x": "y"}),
        refuse("x", {"recipient.local": True}, stage="body"),
    ],
)
def test_a_rule_that_never_applies(rule: Rule) -> None:
    assert set(found(rule)) == {("never-applies", "x")}


@pytest.mark.covers("ITP-4b")
def test_a_refusal_for_a_code_that_comes_too_late_to_be_announced() -> None:
    late = refuse("x", {"mpc": "com/*", "header.list-id": {"present": False}})
    assert found(late) == [("not-announced", "x")]
    assert found(refuse("x", {"mpc": "com/*"}, stage="body")) == [("not-announced", "x")]
    assert found(refuse("x", {"mpc": "com/*"}, stage="recipient")) == []


@pytest.mark.covers("ITP-3")
def test_facts_that_nobody_supplies() -> None:
    listed = refuse("x", {"trust.listed": "zen"})
    assert found(listed) == []
    assert found(listed, around=Surroundings()) == [("nobody-supplies", "x")]
    assert found(refuse("x", {"trust.listed": "spam"})) == [("nobody-supplies", "x")]
    assert found(refuse("x", {"trust.listed": "spam*"})) == []
    assert found(refuse("x", {"client.listed": "dbl"})) == [("nobody-supplies", "x")]
    assert found(refuse("x", {"sender.null": False}, unless={"sender.domain.vouched": "zen"})) == [
        ("nobody-supplies", "x")
    ]
    assert found(refuse("x", {"partner": "bnak"})) == [("nobody-supplies", "x")]
    no_dns = Surroundings(has_dns=False)
    assert found(refuse("x", {"client.ptr": "*.dyn.example"}), around=no_dns) == [("nobody-supplies", "x")]


@pytest.mark.covers("ITP-1")
def test_admission_on_claims() -> None:
    assert found(Rule(name="x", action="accept", when={"client.name": "mx.friend.example"})) == [
        ("claims-only", "x")
    ]


# -- the certainty of what is said --------------------------------------------------------------------------

_DOMAINS = st.sampled_from(
    ["*", "*.example", "a.example", "*.a.example", "b.a.example", "x*.example", "b.test"]
)
_MAILBOXES = st.sampled_from(
    ["@a.example", "ann@a.example", "@*.example", "ann@*", "<>", "bob@b.test", "a*@a.example"]
)
_NETWORKS = st.sampled_from(
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0"]
)
_PATTERNS = {
    "client.name": (
        _DOMAINS,
        st.sampled_from(["a.example", "b.a.example", "xy.example", "b.test", "c.b.a.example"]),
    ),
    "sender": (
        _MAILBOXES,
        st.sampled_from(["ann@a.example", "bob@b.test", "<>", "abe@a.example", "ann@b.a.example"]),
    ),
    "client.address": (
        _NETWORKS,
        st.sampled_from(["10.1.2.3", "10.1.9.9", "10.9.9.9", "2001:db8::1", "192.0.2.1"]),
    ),
    "mpc": (
        st.sampled_from(["com/*", "*/optin", "com/optin", "*/*", "net/optout"]),
        st.sampled_from(["com/optin", "net/optout", "gov/optin"]),
    ),
    "login": (
        st.sampled_from(["ann", "a*", "*", "bob", "A*N"]),
        st.sampled_from(["ann", "bob", "alan", "Ann"]),
    ),
}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, object, object, str]:
    """A fact, two conditions on it, and a value."""
    name = draw(st.sampled_from(sorted(_PATTERNS)))
    patterns, values = _PATTERNS[name]
    wanted = patterns | st.lists(patterns, min_size=1, max_size=3) | st.just({"present": True})
    return name, draw(wanted), draw(wanted), draw(values)


@pytest.mark.covers("ITP-4a")
@settings(max_examples=500)
@given(pairs())
def test_what_is_called_implied_is(pair: tuple[str, object, object, str]) -> None:
    name, narrow, wide, value = pair
    one, other = compile_condition(name, narrow), compile_condition(name, wide)
    facts = Facts([Fact(name, value, Provenance.CLAIMED)])
    if implies(one, other) and one.holds(facts):
        assert other.holds(facts)
    assert implies(one, one)


@given(
    st.integers(-3, 3) | st.none(),
    st.integers(-3, 3) | st.none(),
    st.integers(-3, 3) | st.none(),
    st.integers(-5, 5),
)
def test_ranges(low: int | None, high: int | None, least: int | None, value: int) -> None:
    def table(least: int | None, most: int | None) -> dict[str, object]:
        bounds = {"min": least, "max": most}
        return {key: bound for key, bound in bounds.items() if bound is not None} or {"present": True}

    if low is not None and high is not None and low > high:
        return
    one = compile_condition("trust.score", table(low, high))
    other = compile_condition("trust.score", table(least, None))
    facts = Facts([Fact("trust.score", value, Provenance.VOUCHED)])
    if implies(one, other) and one.holds(facts):
        assert other.holds(facts)
    assert not (never_holds(one) and one.holds(facts))


def test_what_is_called_impossible_on_one_side_is_on_the_other() -> None:
    null = compile_condition("sender.null", True)
    domain = compile_condition("sender.domain", "a.example")
    assert exclude_each_other(null, domain) == exclude_each_other(domain, null) != ""
    assert exclude_each_other(compile_condition("sender.null", False), domain) == ""
    assert exclude_each_other(null, compile_condition("sender", "<>")) == ""
