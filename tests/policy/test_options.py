"""MT2's option lists are generated from the rules, and agree with their verdicts (ITP-4d)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.config.schema import Policy, Rule
from outrider.model.facts import Fact, Facts, Provenance
from outrider.model.verdict import Stage
from outrider.policy.policy import CompiledPolicy, compile_policy

HOST = "mx.b.example"


def compiled(*rules: Rule) -> CompiledPolicy:
    """Rules in order."""
    return compile_policy(Policy(rules=rules))


def rule(name: str, action: str = "refuse", unless: dict[str, object] | None = None, **when: object) -> Rule:
    """A rule; `__` in a fact's name stands for a dot."""
    facts = {key.replace("__", "."): value for key, value in when.items()}
    value = "x" if action == "tag" else ""
    return Rule(name=name, when=facts, unless=unless or {}, action=action, value=value)  # type: ignore[arg-type]


def session(host: str = HOST) -> Facts:
    """What is known when the options are listed."""
    facts = Facts()
    facts.prove("host", host, "test")
    facts.prove("protocol", "mt2", "test")
    return facts


LEVELS = ("none", "headers")
NAMES = ("hashcash", "allow-list", "notify")


def levels(*rules: Rule, host: str = HOST) -> tuple[str, ...]:
    """Which encryption is offered."""
    return compiled(*rules).taken("mt2.encryption", LEVELS, session(host), many=False)


def extensions(*rules: Rule, host: str = HOST) -> tuple[str, ...]:
    """Which extensions are offered."""
    return compiled(*rules).taken("mt2.extensions", NAMES, session(host), many=True)


@pytest.mark.covers("ITP-4d")
def test_without_rules_everything_is_offered() -> None:
    assert levels() == LEVELS
    assert extensions() == NAMES


@pytest.mark.covers("ITP-4d")
def test_a_certain_refusal_is_not_offered() -> None:
    assert levels(rule("r", mt2__encryption="none")) == ("headers",)
    assert extensions(rule("r", mt2__extensions="hashcash")) == ("allow-list", "notify")
    assert levels(rule("r", mt2__encryption="none", host=HOST)) == ("headers",)
    assert levels(rule("r", mt2__encryption="none", host=HOST), host="mx.c.example") == LEVELS


@pytest.mark.covers("ITP-4d")
def test_what_hangs_on_the_message_is_offered() -> None:
    assert levels(rule("r", mt2__encryption="none", sender="ann@b.example")) == LEVELS
    assert levels(rule("a", "accept", sender="ann@b.example"), rule("r", mt2__encryption="none")) == LEVELS
    assert levels(rule("d", "defer", mt2__encryption="none")) == LEVELS, "later it may be taken"


@pytest.mark.covers("ITP-4d")
def test_exceptions() -> None:
    unless = {"mt2.encryption": "headers"}
    assert levels(rule("r", unless=unless, host=HOST)) == ("headers",)
    assert extensions(rule("r", unless={"mt2.extensions": "notify"}, mt2__extensions="hashcash")) == NAMES
    assert levels(rule("t", "tag", mt2__encryption="none"), rule("r", mt2__encryption="none")) == ("headers",)


@pytest.mark.covers("ITP-4d")
def test_a_refusal_of_everything_is_not_one_of_this() -> None:
    assert levels(rule("r", host=HOST)) == LEVELS
    assert extensions(rule("r", host=HOST)) == NAMES
    assert extensions(rule("r", mt2__extensions={"present": False})) == NAMES
    assert extensions(rule("none", mt2__extensions={"present": True})) == ()


CONDITIONS: list[dict[str, object]] = [
    {"mt2.encryption": "none"},
    {"mt2.encryption": "headers"},
    {"host": HOST},
    {"host": "mx.c.example"},
    {"sender": "ann@b.example"},
    {"mt2.encryption": "none", "host": HOST},
    {"mt2.encryption": {"present": True}},
]
_rules = st.lists(
    st.tuples(
        st.sampled_from(CONDITIONS),
        st.sampled_from([{}, *CONDITIONS]),
        st.sampled_from(["refuse", "accept", "defer", "tag"]),
    ),
    max_size=5,
)


@pytest.mark.covers("ITP-4d")
@settings(max_examples=300, deadline=None)
@given(_rules)
def test_what_is_not_offered_is_never_taken(
    drawn: list[tuple[dict[str, object], dict[str, object], str]],
) -> None:
    policy = compiled(
        *(
            Rule(name=f"r{n}", when=when, unless=unless, action=action, value="x" if action == "tag" else "")  # type: ignore[arg-type]
            for n, (when, unless, action) in enumerate(drawn)
        )
    )
    offered = policy.taken("mt2.encryption", LEVELS, session(), many=False)
    assert offered
    senders = ("ann@b.example", "bob@b.example")
    for level, sender in itertools.product(LEVELS, senders):
        message = Facts(parent=session())
        message.add(Fact("mt2.encryption", level, Provenance.PROVEN))
        message.claim("sender", sender)
        if level not in offered:
            assert not policy.evaluate(Stage.SENDER, message).admits
