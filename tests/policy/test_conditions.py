"""Conditions: what the configuration says becomes what is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.facts import Fact, Facts, FactValue, Provenance
from outrider.policy.conditions import ConditionError, compile_condition
from outrider.policy.fact_names import CATALOGUE, FactType, fact_kind
from outrider.trust.assessment import TRUST_FACTS


def known(name: str, value: FactValue, provenance: Provenance = Provenance.PROVEN) -> Facts:
    return Facts([Fact(name, value, provenance)])


@pytest.mark.covers("ITP-4a")
@pytest.mark.parametrize(
    ("name", "wanted", "value", "expected"),
    [
        ("login", "ANN", "ann", True),
        ("login", ["bob", "a*"], "ann", True),
        ("login", ["bob"], "ann", False),
        ("sender.null", True, True, True),
        ("sender.null", True, False, False),
        ("message.size", 5, 5, True),
        ("message.size", {"min": 5, "max": 9}, 9, True),
        ("message.size", {"min": 5, "max": 9}, 10, False),
        ("message.size", {"max": 9}, 0, True),
        ("client.port", [25, 26], 26, True),
        ("tls.client.name", "*.b.example", ("x.c.example", "hub.b.example"), True),
        ("tls.client.name", "*.b.example", (), False),
        ("header.Subject", {"contains": "Viagra"}, ("hello", "buy viagra"), True),
        ("header.subject", {"matches": "^buy"}, ("hello", "buy viagra"), True),
        ("header.subject", {"matches": ["^x", "^y"]}, ("hello",), False),
        ("login", {"present": True}, "ann", True),
        ("login", {"present": False}, "ann", False),
        ("sender", {"is": ["@a.example", "<>"]}, "<>", True),
        ("mpc", "com/*", "com/optin", True),
        ("mpc", "COM/OptIn", "com/optin", True),
        ("mpc", ["*/optout", "net/*"], "gov/optout", True),
        ("mpc", ["*/optout", "net/*"], "gov/optin", False),
        ("mpc", {"present": False}, "com/optin", False),
        ("trust.score", {"max": -1}, -3, True),
        ("trust.listed", "zen", ("dbl", "zen"), True),
        ("trust.listed", {"present": False}, (), True),
    ],
)
def test_values(name: str, wanted: object, value: FactValue, expected: bool) -> None:
    condition = compile_condition(name, wanted)
    assert condition.holds(known(name.lower(), value)) is expected


@pytest.mark.covers("ITP-4a")
def test_an_unknown_fact_fulfils_nothing_but_absence() -> None:
    assert not compile_condition("login", "*").holds(Facts())
    assert not compile_condition("login", {"present": True}).holds(Facts())
    assert compile_condition("login", {"present": False}).holds(Facts())


@pytest.mark.covers("ITP-1")
def test_a_rule_can_demand_a_provenance() -> None:
    condition = compile_condition("client.ptr", {"is": "*.b.example", "provenance": "proven"})
    assert condition.holds(known("client.ptr", ("mx.b.example",)))
    assert not condition.holds(known("client.ptr", ("mx.b.example",), Provenance.CLAIMED))
    assert not condition.holds(known("client.ptr", ("mx.b.example",), Provenance.VOUCHED))
    assert compile_condition("client.ptr", "*.b.example").holds(
        known("client.ptr", ("mx.b.example",), Provenance.CLAIMED)
    )


@pytest.mark.parametrize(
    ("name", "wanted", "because"),
    [
        ("clinet.address", "x", "there is no fact"),
        ("header.", "x", "there is no fact"),
        ("header.a b", "x", "there is no fact"),
        ("login", [], "could never apply"),
        ("login", {}, "empty"),
        ("login", {"like": "x"}, "unknown key 'like'.*known are"),
        ("login", 5, "quotation marks"),
        ("login", {"min": 1}, "for numbers"),
        ("message.size", "big", "whole number"),
        ("message.size", True, "whole number"),
        ("message.size", {"min": 9, "max": 1}, "greater than"),
        ("message.size", {"min": "1"}, "whole numbers"),
        ("message.size", {"matches": "1"}, "is for texts"),
        ("sender.null", "yes", "true or false"),
        ("client.address", "300.1.1.1", "no IP address"),
        ("sender", {"provenance": "proven"}, "never better than claimed"),
        ("login", {"provenance": "sure"}, "claimed, vouched or proven"),
        ("login", {"present": "no"}, "true or false"),
        ("login", {"present": False, "is": "ann"}, "no other condition"),
        ("header.subject", {"matches": "(a+)+"}, "repeats a group"),
    ],
)
def test_mistakes_are_named_with_a_remedy(name: str, wanted: object, because: str) -> None:
    with pytest.raises(ConditionError, match=because):
        compile_condition(name, wanted)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["is", "min", "max", "matches", "contains", "present", "provenance"]), inner
        )
    ),
    max_leaves=6,
)
VALUES = (
    st.integers()
    | st.booleans()
    | st.text(max_size=20)
    | st.lists(st.text(max_size=9), max_size=4).map(tuple)
)


@pytest.mark.covers("ITP-4a")
@given(st.sampled_from([*CATALOGUE, "header.x"]), JUNK, VALUES)
def test_whatever_is_written_compiles_or_is_refused(name: str, wanted: object, value: FactValue) -> None:
    try:
        condition = compile_condition(name, wanted)
    except ConditionError:
        return
    assert condition.holds(known(name, value)) in (True, False)
    assert condition.holds(Facts()) is condition.wants_absence


def test_the_catalogue_is_complete_and_explained() -> None:
    for name, kind in CATALOGUE.items():
        assert fact_kind(name) is kind
        assert kind.meaning.endswith(".")
    assert {kind.name for kind in CATALOGUE.values() if kind.looked_up} == {
        "client.ptr",
        "sender.domain.takes-mail",
        *TRUST_FACTS,
    }
    subject = fact_kind("header.Subject")
    assert subject is not None
    assert (subject.name, subject.type, subject.worth) == (
        "header.subject",
        FactType.TEXT,
        Provenance.CLAIMED,
    )
